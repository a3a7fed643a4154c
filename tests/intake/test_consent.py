"""Cookies: nothing before a choice, a no as easy as a yes, Sec-GPC obeyed, no advertising near cards and orders."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from http.cookies import SimpleCookie

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake.consent import advertising, choices
from intake.consent.choices import Answer, Choices
from intake.page.inventory import PAGES
from tests.intake.node import Answer as HttpAnswer
from tests.intake.node import Node
from tests.intake.orders import CATALOGUE

HTML = {"Accept": "text/html"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
ASKING = ("/", "/basket", "/records/LP-0001")
YES, NO = "choices=1.ads-yes.recent-no", "choices=1.ads-no.recent-no"


def address(path: str) -> str:
    return path.replace("{order_id}", "0" * 32).replace("{sku}", "LP-0001")


def page(node: Node, path: str, cookie: str = "", **headers: str) -> HttpAnswer:
    given = HTML | ({"Cookie": cookie} if cookie else {}) | headers
    return node.request("GET", address(path), headers=given)


def choose(node: Node, form: str, cookie: str = "", **headers: str) -> HttpAnswer:
    return node.request("POST", "/cookies", form.encode(), FORM | {"Cookie": cookie} | headers)


class Buttons(HTMLParser):
    """The buttons of each form that is sent to /cookies: all their attributes, by what they choose."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[dict[str, dict[str, str | None]]] = []
        self.is_in = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self.is_in = given.get("action") == "/cookies"
            if self.is_in:
                self.forms.append({})
        elif tag == "button" and self.is_in:
            self.forms[-1][f"{given.pop('name')}={given.pop('value')}"] = given


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("cookie", ["", NO])
def test_no_page_sets_anything_without_a_yes(node: Node, path: str, cookie: str) -> None:
    answer = page(node, path, cookie)
    assert "set-cookie" not in answer.headers
    assert b"Advertisement" not in answer.body


@pytest.mark.parametrize("path", ["/checkout", "/thanks", "/orders/{order_id}"])
def test_checkout_and_status_have_no_advertising_and_no_question_even_after_a_yes(
    node: Node, path: str
) -> None:
    for cookie in ("", f"{YES}; interest=LP-0002"):
        answer = page(node, path, f"basket=EUR:LP-0001*1; {cookie}")
        assert "set-cookie" not in answer.headers
        assert b"dvertis" not in answer.body
        assert b'action="/cookies"' not in answer.body
        assert b"recent" not in answer.body
    assert not address(path).startswith(advertising.PATH)


@pytest.mark.parametrize("path", [*ASKING, "/cookies"])
def test_refusing_is_as_easy_as_accepting(node: Node, path: str) -> None:
    forms = Buttons(page(node, path).body.decode()).forms
    asked = [form for form in forms if "advertising=yes" in form]
    assert len(asked) == 1
    assert set(asked[0]) == {"advertising=yes", "advertising=no"}
    # The same kind of button, in the same form: one click, the same size, neither is set off.
    assert asked[0]["advertising=yes"] == asked[0]["advertising=no"] == {}


@pytest.mark.parametrize("path", ASKING)
def test_who_has_answered_is_not_asked_again(node: Node, path: str) -> None:
    for answered in (YES, NO):
        forms = Buttons(page(node, path, answered).body.decode()).forms
        assert not any("advertising=yes" in form for form in forms)
    # "Recently viewed" is another question: its answer is not taken for one about advertising.
    forms = Buttons(page(node, path, "choices=1.ads-open.recent-yes").body.decode()).forms
    assert any("advertising=yes" in form for form in forms)


def test_a_choice_is_kept_and_can_be_changed(node: Node) -> None:
    for form, cookie, wanted in (
        ("advertising=no", "", "1.ads-no.recent-no"),
        ("advertising=yes", "", "1.ads-yes.recent-no"),
        ("advertising=no", "choices=1.ads-yes.recent-yes", "1.ads-no.recent-yes"),
        ("recent=yes", "", "1.ads-open.recent-yes"),
        ("recent=no", "choices=1.ads-yes.recent-yes", "1.ads-yes.recent-no"),
    ):
        answer = choose(node, form, cookie)
        assert (answer.status, answer.headers["location"]) == (303, "/cookies")
        assert f"choices={wanted};" in answer.headers["set-cookie"], form


def test_a_no_takes_the_advertising_cookie_away(node: Node) -> None:
    dead = re.compile(r'interest="?"?; .*Max-Age=0; Path=/records;')
    assert dead.search(choose(node, "advertising=no", YES).headers["set-cookie"])
    assert dead.search(page(node, "/records/LP-0001", f"{NO}; interest=LP-0002").headers["set-cookie"])
    assert "interest" not in choose(node, "advertising=yes").headers["set-cookie"]


def test_advertising_after_a_yes_is_of_our_own_and_says_what_it_is(node: Node) -> None:
    first = page(node, "/records/LP-0001", YES)
    assert b"Advertisement" not in first.body  # nothing was looked at yet
    cookie = SimpleCookie(first.headers["set-cookie"])["interest"]
    assert (cookie.value, cookie["path"], cookie["httponly"], cookie["samesite"]) == (
        "LP-0001",
        "/records",
        True,
        "lax",
    )
    second = page(node, "/records/LP-0002", f"{YES}; interest=LP-0001").body.decode()
    assert "Advertisement, because you looked at" in second
    assert CATALOGUE.records["LP-0001"].title in second
    for path in ("/", "/basket", "/cookies", "/checkout"):
        assert b"Advertisement" not in page(node, path, f"{YES}; interest=LP-0001").body


def test_global_privacy_control_is_a_no_whatever_was_clicked(node: Node) -> None:
    for cookie in ("", YES):
        for path in ASKING:
            answer = page(node, path, f"{cookie}; interest=LP-0002", **{"Sec-GPC": "1"})
            assert b"dvertis" not in answer.body, path
            if path.startswith("/records"):
                assert "Max-Age=0" in answer.headers["set-cookie"]
        assert b"Global Privacy Control" in page(node, "/cookies", cookie, **{"Sec-GPC": "1"}).body
    assert "sec-gpc" in page(node, "/").headers["vary"]
    assert node.get("/.well-known/gpc.json").json["gpc"] is True
    assert node.get("/.well-known/gpc.json").headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ("", 400),
        ("advertising=maybe", 400),
        ("advertising=yes&recent=yes", 400),
        ("advertising=YES", 400),
        ("x=y", 400),
        ("advertising=yes&" * 20, 400),
    ],
)
def test_what_is_not_one_of_our_forms_chooses_nothing(node: Node, form: str, status: int) -> None:
    answer = choose(node, form)
    assert answer.status == status
    assert "set-cookie" not in answer.headers


def test_another_site_cannot_consent_for_a_customer(node: Node) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        answer = choose(node, "advertising=yes", **headers)
        assert (answer.status, "set-cookie" in answer.headers) == (403, False)


def test_a_choice_leads_back_to_our_own_pages_only(node: Node) -> None:
    for back, target in (
        ("/", "/"),
        ("/records/LP-0001", "/records/LP-0001"),
        ("/basket", "/basket"),
        ("//evil.example", "/cookies"),
        ("/\\evil.example", "/cookies"),
        ("/records/..", "/records/.."),  # the browser makes / of it, on this shop
        ("https://evil.example/", "/cookies"),
        ("/basket%0d%0aX: y", "/cookies"),
        ("", "/cookies"),
    ):
        answer = choose(node, f"advertising=no&back={back}")
        assert answer.headers["location"] == target


@given(st.text(max_size=60), st.text(max_size=5))
def test_no_other_text_is_a_yes(cookie: str, gpc: str) -> None:
    read = choices.read(cookie, gpc)
    assert not read.advertises or cookie in {"1.ads-yes.recent-no", "1.ads-yes.recent-yes"}
    assert not read.advertises or gpc.strip() != "1"


@given(st.sampled_from(Answer), st.booleans())
def test_a_choice_survives_its_cookie(answer: Answer, remembers: bool) -> None:
    made = Choices(advertising=answer, remembers=remembers)
    assert choices.read(choices.write(made)) == made


@given(st.one_of(st.text(max_size=30), st.sampled_from(sorted(CATALOGUE.records))))
def test_what_is_advertised_is_another_record_of_the_same_kind(cookie: str) -> None:
    found = None
    for shown in CATALOGUE.records.values():
        found = advertising.promotion(cookie, shown, CATALOGUE.records)
        if found is not None:
            assert found.record.sku not in {cookie, shown.sku}
            assert found.record.medium.split(",")[0] == CATALOGUE.records[cookie].medium.split(",")[0]
    assert cookie in CATALOGUE.records or found is None


def test_recently_viewed_is_off_until_it_is_switched_on(node: Node) -> None:
    for path in ("/records/LP-0001", "/cookies"):
        assert b'data-remember="no"' in page(node, path).body
        assert b'data-remember="no"' in page(node, path, YES).body
        assert b'data-remember="yes"' in page(node, path, "choices=1.ads-no.recent-yes").body


def test_a_record_that_is_not_sold_has_no_page(node: Node) -> None:
    assert page(node, "/records/nothing").status == 404
    body = page(node, "/records/%3Cscript%3E").body
    assert b"<script>" not in body
