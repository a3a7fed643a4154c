"""The pages over HTTP: what they hold, what guards them, and what they never take."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from html.parser import HTMLParser

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake.errors import IntakeError
from intake.forms import OrderStatus
from intake.page import basket as baskets
from intake.page import inventory as inventories
from intake.page.address import ANYWHERE, countries, rules
from intake.page.assets import assets
from intake.page.basket import Basket
from intake.page.covers import cover
from intake.page.told import REASONS, STEPS, every, told, within
from intake.texts import COUNTRIES
from keys.public.seal import key_id
from tests.intake.node import Answer, Node
from tests.intake.orders import CATALOGUE
from transfer.spool import Spool
from transfer.wire.records import Reason

FULL = {"Cookie": "basket=EUR:LP-0001*1:CD-0101*2"}
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
PAGES = tuple(path.format(order_id="0" * 32, sku="LP-0001") for path in inventories.PAGES)


def page(node: Node, path: str, **headers: str) -> Answer:
    return node.request("GET", path, headers=HTML | FULL | headers)


def send(node: Node, body: str, **headers: str) -> Answer:
    given = {"Content-Type": "application/x-www-form-urlencoded"} | FULL | headers
    return node.request("POST", "/basket", body.encode(), given)


class Inputs(HTMLParser):
    """Every field of a page: its attributes by its id or name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fields: dict[str, dict[str, str | None]] = {}
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in {"input", "select", "textarea"}:
            self.fields[given.get("id") or given.get("name") or ""] = given
        self.links += [value or "" for name, value in attrs if name in {"href", "src", "action"}]


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_guarded_and_loads_nothing_of_anybody_else(node: Node, path: str) -> None:
    answer = page(node, path)
    # The newsletter's links do nothing without their token, and are guarded all the same.
    assert answer.status == (404 if path.startswith("/newsletter/") else 200)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    for directive in (
        "default-src 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "require-trusted-types-for 'script'",
    ):
        assert directive in policy.split("; ")
    assert "unsafe" not in policy
    assert "http" not in policy.replace("https", "http").replace("'", " ").split()
    assert answer.headers["integrity-policy"] == "blocked-destinations=(script)"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in answer.headers
    assert [link for link in Inputs(answer.body.decode()).links if not re.match(r"/(?!/)|#", link)] == []


def test_scripts_run_by_their_digest_only(node: Node) -> None:
    answer = page(node, "/checkout")
    script = assets()["checkout.js"]
    assert f"script-src '{script.integrity}';" in answer.headers["content-security-policy"]
    assert "form-action 'none'" in answer.headers["content-security-policy"]
    tag = f'<script type="module" src="{script.address}" integrity="{script.integrity}"></script>'
    assert answer.body.decode().count("<script") == answer.body.decode().count(tag) == 1
    served = node.get(script.address)
    assert served.body == script.content
    assert served.headers["content-type"] == "text/javascript; charset=utf-8"
    assert "immutable" in served.headers["cache-control"]
    packed = node.get(script.address, Accept_Encoding="gzip, br")
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == script.content
    assert "script-src 'none'" in page(node, "/").headers["content-security-policy"]


def test_no_field_of_the_checkout_can_be_posted_and_all_tell_the_browser_what_they_are(node: Node) -> None:
    fields = Inputs(page(node, "/checkout").body.decode()).fields
    assert {name: field["autocomplete"] for name, field in fields.items()} == {
        "name": "name",
        "email": "email",
        "country": "country",
        "line1": "address-line1",
        "line2": "address-line2",
        "district": "address-level3",
        "city": "address-level2",
        "region": "address-level1",
        "region-text": "address-level1",
        "postcode": "postal-code",
        "number": "cc-number",
        "expiry": "cc-exp",
        "code": "cc-csc",
    }
    assert [name for name, field in fields.items() if "name" in field or "value" in field] == []
    assert {fields[name]["inputmode"] for name in ("number", "expiry", "code")} == {"numeric"}


def test_a_form_in_clear_is_taken_by_no_page(node: Node) -> None:
    for path in ("/checkout", "/", "/thanks", f"/orders/{'0' * 32}"):
        answer = node.request(
            "POST", path, b"number=4242424242424242", {"Content-Type": "application/x-www-form-urlencoded"}
        )
        assert answer.status == 405, path
    answer = node.request(
        "POST",
        "/orders",
        b"number=42",
        {"Content-Type": "application/x-www-form-urlencoded", "Idempotency-Key": "a" * 22},
    )
    assert answer.status == 415


def test_the_basket_is_a_cookie_that_only_a_customers_click_sets(node: Node) -> None:
    answer = send(node, "do=add&sku=LP-0002&currency=EUR")
    assert (answer.status, answer.headers["location"]) == (303, "/basket")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("basket=EUR:LP-0001*1:CD-0101*2:LP-0002*1;")
    for attribute in ("HttpOnly", "Path=/", "SameSite=lax"):
        assert attribute in cookie.split("; ")
    assert "Secure" not in cookie  # [intake] is_https
    for body, wanted in (
        ("do=set&sku=LP-0001&quantity=3", "EUR:LP-0001*3:CD-0101*2"),
        ("do=set&sku=LP-0001&quantity=0", "EUR:CD-0101*2"),
        ("do=set&sku=LP-0001&quantity=-1", "EUR:LP-0001*1:CD-0101*2"),
        ("do=set&sku=LP-0001&quantity=%D9%A1", "EUR:LP-0001*1:CD-0101*2"),
        ("do=remove&sku=CD-0101", "EUR:LP-0001*1"),
        ("do=currency&currency=JPY", "JPY:LP-0001*1:CD-0101*2"),
        ("do=currency&currency=XXX", "EUR:LP-0001*1:CD-0101*2"),
        ("do=add&sku=nothing", "EUR:LP-0001*1:CD-0101*2"),
        ("do=empty", "EUR"),
        ("do=replace&basket=GBP%3ALP-0003%2A2", "GBP:LP-0003*2"),
    ):
        assert send(node, body).headers["set-cookie"].startswith(f"basket={wanted};"), body


def test_another_sites_form_changes_no_basket(node: Node) -> None:
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ):
        answer = send(node, "do=empty", **headers)
        assert answer.status == 403, headers
        assert "set-cookie" not in answer.headers
    assert send(node, "do=empty", Origin=node.url).status == 303
    assert send(node, "do=empty", **{"Sec-Fetch-Site": "same-origin"}).status == 303


@pytest.mark.parametrize("body", ["", "do", "do=add&" * 11, "x" * 40_000, "do=é"])
def test_what_is_not_one_of_our_forms_changes_nothing(node: Node, body: str) -> None:
    answer = send(node, body)
    assert answer.status == 400
    assert "set-cookie" not in answer.headers


def test_the_checkout_is_closed_while_there_are_no_keys(new_node: Callable[[], Node]) -> None:
    node = new_node().configure().enrol(1).start()
    assert page(node, "/checkout").status == 200
    keys = node.get("/keys").json
    Spool(node.state / "spool").close(key_id(bytes.fromhex(keys["batch_key"]["public_key"])))
    answer = page(node, "/checkout")
    assert answer.status == 503
    assert answer.headers["retry-after"]
    assert b"No cards are taken at the moment" in answer.body
    assert b"<input" not in answer.body


def test_people_and_programs_get_their_own_answer_at_the_same_address(node: Node) -> None:
    path = f"/orders/{'0' * 32}"
    assert node.get(path).headers["content-type"] == "application/problem+json"
    assert page(node, path).headers["content-type"].startswith("text/html")
    assert "accept" in page(node, path).headers["vary"]
    assert node.get("/nowhere").headers["content-type"] == "application/problem+json"
    nowhere = page(node, "/nowhere")
    assert (nowhere.status, nowhere.headers["content-type"]) == (404, "text/html; charset=utf-8")
    # An order's page is the same for everybody: what differs is behind the token.
    assert page(node, path).body.replace(b"0" * 32, b"") == page(node, f"/orders/{'1' * 32}").body.replace(
        b"1" * 32, b""
    )


def test_what_stands_in_an_address_is_shown_as_text(node: Node) -> None:
    answer = page(node, "/orders/%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E")
    assert b"<script>alert" not in answer.body
    assert b"alert(1)" not in page(node, "/", Cookie="basket=%22><script>alert(1)</script>").body


def test_prices_of_the_page_are_the_catalogues(node: Node) -> None:
    for currency, price in (("EUR", "EUR 24.99"), ("JPY", "JPY 4050"), ("KWD", "KWD 8.250")):
        body = page(node, "/", Cookie=f"basket={currency}").body.decode()
        assert price in body
        assert body.count("Add to basket") == len(CATALOGUE.records)


def test_pages_go_out_packed_to_those_who_can_unpack_them(node: Node) -> None:
    plain = page(node, "/checkout")
    packed = page(node, "/checkout", **{"Accept-Encoding": "gzip, br"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "accept-encoding" in packed.headers["vary"].lower()
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body) / 3
    assert "content-encoding" not in plain.headers


def test_pages_are_small(node: Node) -> None:
    def weight(*paths: str) -> int:
        return sum(len(gzip.compress(page(node, path).body)) for path in paths)

    assert weight("/") < 6_000
    assert weight("/checkout", assets()["checkout.js"].address, assets()["shop.css"].address) < 40_000


def test_covers_are_drawn_alike_everywhere_and_escape_their_text(node: Node) -> None:
    for sku, record in CATALOGUE.records.items():
        answer = node.get(f"/covers/{sku}.svg")
        assert answer.headers["content-type"] == "image/svg+xml"
        assert answer.body == cover(record) == cover(record)
    odd = msgspec.structs.replace(record, title="<script>&\"'")
    assert b"<script" not in cover(odd)
    assert node.get("/covers/nothing.svg").status == 404
    assert node.get("/static/..%2Fpages.py").status == 404


def test_every_country_has_rules_that_fit_the_wire_format() -> None:
    assert {code for code, _ in countries()} == set(rules()) == set(COUNTRIES)
    for code, country in [*rules().items(), ("", ANYWHERE)]:
        ids = [field.id for field in country.fields]
        assert len(set(ids)) == len(ids), code
        assert set(ids) <= {"line1", "line2", "district", "city", "region", "postcode"}, code
        required = {field.id for field in country.fields if field.required}
        assert "line1" in required, code
        assert "city" in required or country.city, code
        assert "region" in ids or not country.regions, code
        re.compile(country.postcode)


def test_every_state_and_reason_is_told(node: Node) -> None:
    texts = told(24, 3)
    assert set(texts) == set(OrderStatus)
    assert set(REASONS) == set(Reason)
    assert max(one.step for one in texts.values()) == len(STEPS)
    body = page(node, "/thanks").body.decode()
    assert all(f'data-state="{state}"' in body for state in OrderStatus)
    assert [every(hours) for hours in (1, 6, 24, 48)] == [
        "once an hour",
        "every 6 hours",
        "once a day",
        "every 2 days",
    ]
    assert [within(days) for days in (1, 3)] == ["within a day", "within 3 days"]


def test_the_inventory_gives_a_reason_for_every_script(node: Node) -> None:
    listed = node.get("/.well-known/page-inventory.json").json
    assert listed == msgspec.to_builtins(inventories.inventory())
    assert {script["name"] for script in listed["scripts"]} == {"checkout.js", "recent.js", "status.js"}
    assert all(len(script["justification"]) > 50 for script in listed["scripts"])
    for entry in listed["pages"]:
        path = entry["path"].format(order_id="0" * 32, sku="LP-0001")
        headers = page(node, path).headers
        assert {name: headers[name] for name in entry["headers"]} == entry["headers"]


def test_a_script_without_a_justification_is_not_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(inventories.JUSTIFICATIONS, "status.js")
    with pytest.raises(IntakeError) as refusal:
        inventories.inventory()
    assert refusal.value.rule == "PAGE-INVENTORY"


@given(st.text(max_size=300))
def test_no_cookie_makes_a_basket_that_the_shop_cannot_sell(text: str) -> None:
    basket = baskets.read(text, CATALOGUE, currency="EUR")
    assert set(basket.quantities) <= set(CATALOGUE.records)
    assert basket.total(CATALOGUE) >= 0
    assert baskets.read(baskets.write(basket), CATALOGUE, currency="EUR") == basket


@given(st.lists(st.tuples(st.sampled_from(sorted(CATALOGUE.records)), st.integers(-2, 2000))))
def test_a_basket_survives_its_cookie_whatever_was_clicked(clicks: list[tuple[str, int]]) -> None:
    basket = Basket(currency="KWD")
    for sku, quantity in clicks:
        basket = basket.with_quantity(sku, quantity)
    text = baskets.write(basket)
    assert re.fullmatch(r"[A-Za-z0-9._:*-]*", text)
    assert len(text) < 3900
    assert baskets.read(text, CATALOGUE, currency="EUR") == basket
