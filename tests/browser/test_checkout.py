"""Buying in the shop with a real browser, through what a customer sees."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path

import pytest
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.keys import Keys

from tests.browser.chromium import Browser
from tests.browser.customer import CARD, MUELLER, fill, go_to_checkout, opened, order_number, pay
from tests.browser.road import Road
from tests.intake.node import NODE, Node
from tests.intake.orders import good_order, new_key
from tests.transfer.house import NODE as HOUSE_NODE
from tests.transfer.house import NOW, House
from transfer.wire.records import Reason, StatusRecord, StatusState

pytestmark = pytest.mark.needs_tool("chromium", "chromedriver", "page_js")


def test_a_record_is_bought_with_the_keyboard_alone(browser: Browser, road: Road, node: Node) -> None:
    browser.get(f"{road.url}/")
    browser.press(Keys.TAB, Keys.ENTER)  # past the header
    browser.tab_to('form:has([value="LP-0001"]) button')
    browser.press(Keys.ENTER)
    browser.wait_for_path("/basket")
    browser.tab_to('a[href="/checkout"]')
    browser.press(Keys.ENTER)
    browser.wait_for_path("/checkout")
    browser.wait("Pay", "#pay")
    for field, text in (
        ("name", MUELLER["name"]),
        ("email", MUELLER["email"]),
        ("country", "Germ"),
        ("line1", MUELLER["line1"]),
        ("postcode", MUELLER["postcode"]),
        ("city", MUELLER["city"]),
        ("number", "4242424242424242"),
        ("expiry", "12/35"),
        ("code", "737"),
    ):
        browser.tab_to(f"#{field}")
        browser.press(*text)
        if field == "country":
            browser.wait("Postcode\n", "#address")
    assert browser.value("number") == "4242 4242 4242 4242"
    assert browser.one("#brand").text == "Visa"
    browser.press(Keys.ENTER)
    order_id = order_number(browser)
    found = opened(node, order_id)
    assert found.order["customer"] == {"name": MUELLER["name"], "email": MUELLER["email"]}
    assert found.order["delivery"] == {
        "lines": [MUELLER["line1"]],
        "city": "Köln",
        "region": "",
        "postcode": "50667",
        "country": "DE",
    }
    assert found.order["items"] == [{"sku": "LP-0001", "quantity": 1, "price": 2499}]
    assert found.card[75:103] == b"\x104242424242424242\0\0\0\x0c\x07\xf3\x03737\0"
    # Nothing that was typed has left the browser in clear, in a body, an address or a header.
    sent = "".join(seen.path + seen.body.decode("latin-1") + str(seen.sent) for seen in road.seen)
    for secret in (
        "4242424242424242",
        "4242 4242",
        "737",
        "Zoë",
        "zoe.mueller",
        "Hauptstra",
        "50667",
        "Köln",
    ):
        assert secret not in sent.replace(order_id, ""), secret
    token = browser.driver.current_url.partition("#")[2].split(".")[1]
    assert token not in "".join(seen.path for seen in road.seen)


def test_faults_are_told_at_the_top_and_at_the_field_in_the_same_words(browser: Browser, road: Road) -> None:
    go_to_checkout(browser, road)
    title = browser.driver.title
    fill(
        browser,
        MUELLER | {"postcode": "506", "email": "zoe"},
        CARD | {"number": "4242424242424241", "expiry": "1/20"},
    )
    pay(browser)
    browser.wait("There is a problem", "#summary")
    told = [link.text for link in browser.all("#summary a")]
    assert told == [
        "Email address must look like name@example.com",
        "Postcode does not fit the country; it looks like 26133",
        "Card number is mistyped: its digits do not fit together",
        "Expiry date: the card has expired",
    ]
    assert told == [fault.text for fault in browser.all(".fault") if fault.is_displayed()]
    assert browser.focused.get_attribute("id") == "summary"
    assert browser.driver.title == f"Error: {title}"
    assert browser.accessibility() == []
    browser.picture("faults")
    browser.all("#summary a")[1].send_keys(Keys.ENTER)
    assert browser.focused.get_attribute("id") == "postcode"
    assert browser.focused.get_attribute("aria-describedby") == "postcode-fault"
    assert browser.focused.get_attribute("aria-invalid") == "true"
    assert road.orders == []
    fill(browser, MUELLER, CARD)
    pay(browser)
    order_number(browser)
    assert len(road.orders) == 1


def test_a_record_is_bought_on_a_phone(browser: Browser, road: Road, node: Node) -> None:
    browser.size(390, 844, mobile=True)
    browser.command("Emulation.setTouchEmulationEnabled", enabled=True)
    browser.get(f"{road.url}/")
    browser.tap(browser.one('form:has([value="LP-0001"]) button'))
    browser.wait_for_path("/basket")
    browser.tap(browser.one('a[href="/checkout"]'))
    browser.wait("Pay", "#pay")
    # A smaller letter makes phones zoom into the page at every field.
    sizes = {field.value_of_css_property("font-size") for field in browser.all("main input, main select")}
    assert {float(size.removesuffix("px")) >= 16 for size in sizes} == {True}
    fill(browser, MUELLER, CARD)
    browser.tap(browser.one("#pay"))
    assert opened(node, order_number(browser)).order["customer"]["name"] == MUELLER["name"]
    browser.command("Emulation.setTouchEmulationEnabled", enabled=False)


def test_going_back_does_not_lead_to_a_form_of_an_order_that_was_made(browser: Browser, road: Road) -> None:
    browser.get(f"{road.url}/")
    go_to_checkout(browser, road)
    fill(browser, MUELLER, CARD)
    pay(browser)
    order_number(browser)
    browser.driver.back()
    browser.wait("Records")
    browser.get(f"{road.url}/checkout")
    browser.wait("there is nothing to pay")
    assert browser.all("input") == []


def test_a_declined_order_can_be_paid_again(browser: Browser, road: Road, tmp_path: Path) -> None:
    house = House(root=tmp_path / "house")
    shop = Node(house.root).configure()
    shop.config.write_text(shop.config.read_text().replace(f'"{NODE}"', f'"{HOUSE_NODE}"'))
    shop.start()
    try:
        road.target = shop.port
        go_to_checkout(browser, road, "CD-0101")
        fill(browser, MUELLER, CARD)
        pay(browser)
        order_id = order_number(browser)
        browser.one("#own").click()
        browser.wait_for_path(f"/orders/{order_id}")
        browser.wait("We have received your order")
        house.push()
        look_again(browser, "on its way to our offline server")
        bring_back(house, 1, order_id, StatusState.DECLINED, Reason.CARD_DECLINED)
        said = look_again(browser, "Your payment was declined")
        assert "Another card may work" in said
        assert "Your card was not charged" in said
        assert browser.accessibility() == []
        browser.picture("declined")
        browser.one("#order-again").click()
        browser.wait_for_path("/checkout")
        browser.wait("Pay", "#pay")
        assert "Minutes of the Last Meeting" in browser.one(".aside").text
        fill(browser, MUELLER, CARD | {"number": "5555 5555 5555 4444"})
        pay(browser)
        again = order_number(browser)
        assert again != order_id
        house.push()
        bring_back(house, 2, again, StatusState.PAID, Reason.NONE)
        assert "security code has been destroyed" in look_again(browser, "Your order is paid")
        bring_back(house, None, again, StatusState.DISPATCHED, Reason.NONE)
        look_again(browser, "on their way to you")
        browser.picture("dispatched")
    finally:
        shop.stop()
        house.close()


def look_again(browser: Browser, what: str) -> str:
    browser.driver.refresh()
    return browser.wait(what)


def bring_back(house: House, sequence: int | None, order_id: str, state: StatusState, reason: Reason) -> None:
    """A return with this status, signed and carried over, taken in by spool-sync."""
    receipts = [] if sequence is None else [house.receipt(sequence)]
    house.give_return([*receipts, StatusRecord(order=order_id, state=state, reason=reason, changed_at=NOW)])
    house.pull()


def test_a_status_is_shown_only_with_its_own_token(browser: Browser, road: Road) -> None:
    browser.get(f"{road.url}/orders/{'0' * 32}#{'A' * 32}")
    browser.wait("We cannot show this order")
    browser.get(f"{road.url}/orders/{'0' * 32}")
    browser.driver.refresh()
    browser.wait("The address is not complete")
    assert browser.one("#keep").is_displayed() is False


def test_without_javascript_the_page_says_so_and_takes_no_card(browser: Browser, road: Road) -> None:
    browser.scripts(allowed=False)
    browser.get(f"{road.url}/")
    browser.one(".records button").click()
    browser.wait_for_path("/basket")
    browser.one("a.button").click()
    browser.wait_for_path("/checkout")
    assert "Without JavaScript it cannot do that, so it takes no card" in browser.wait(
        "JavaScript is switched off"
    )
    assert [field for field in browser.all("main input, main button") if field.is_displayed()] == []
    assert [field for field in browser.all("fieldset") if not field.get_attribute("disabled")] == []
    time.sleep(3.2)  # after which a page whose program did not come says so
    assert "could not start" not in browser.one("main").text
    browser.picture("no-javascript")


def test_a_script_that_was_altered_on_the_way_does_not_run(browser: Browser, road: Road, node: Node) -> None:
    page = node.request("GET", "/checkout", headers={"Cookie": "basket=EUR:LP-0001*1"}).body.decode()
    address = re.findall(r'src="(/static/checkout[^"]*)"', page)[0]
    road.replaced[address] = node.get(address).body + b"\nalert(1)"
    browser.get(f"{road.url}/")
    browser.one(".records button").click()
    browser.wait_for_path("/basket")
    browser.get(f"{road.url}/checkout")
    browser.wait("This page could not start")
    assert browser.one("#order").is_displayed() is False
    browser.listen()
    assert any("digest" in text and "integrity" in text for text in browser.complaints)
    browser.complaints.clear()


def test_a_browser_fills_in_what_it_knows_of_its_owner(browser: Browser, road: Road, node: Node) -> None:
    go_to_checkout(browser, road)
    browser.command("Autofill.enable")
    card = {"number": "4242424242424242", "name": "Zoë Müller", "expiryMonth": "12", "expiryYear": "2035"}
    browser.autofill("number", card=card | {"cvc": "737"})
    address = {
        "NAME_FULL": "Mary-Jo O'Connell",
        "EMAIL_ADDRESS": "mj@example.com",
        "ADDRESS_HOME_COUNTRY": "US",
        "ADDRESS_HOME_LINE1": "1420 Maple Ave",
        "ADDRESS_HOME_CITY": "Portland",
        "ADDRESS_HOME_STATE": "OR",
        "ADDRESS_HOME_ZIP": "97201",
    }
    fields = [{"name": name, "value": value} for name, value in address.items()]
    browser.autofill("name", address={"fields": fields})
    browser.until(lambda: browser.value("region") == "OR", "the state was not filled in")
    assert (browser.value("number"), browser.one("#brand").text) == ("4242 4242 4242 4242", "Visa")
    pay(browser)
    found = opened(node, order_number(browser))
    assert found.order["customer"] == {"name": "Mary-Jo O'Connell", "email": "mj@example.com"}
    assert found.order["delivery"] == {
        "lines": ["1420 Maple Ave"],
        "city": "Portland",
        "region": "OR",
        "postcode": "97201",
        "country": "US",
    }
    assert found.card[75:103] == b"\x104242424242424242\0\0\0\x0c\x07\xf3\x03737\0"


def test_a_digit_put_in_between_keeps_the_caret(browser: Browser, road: Road) -> None:
    go_to_checkout(browser, road)
    number = browser.one("#number")
    number.send_keys("424242424242424")
    number.send_keys(*[Keys.LEFT] * 8, "9", "1")
    assert browser.value("number") == "4242 4242 9142 4242 4"
    number.send_keys(Keys.BACKSPACE, Keys.BACKSPACE)
    assert browser.value("number") == "4242 4242 4242 424"


def test_spaces_do_not_stop_the_keys_that_delete(browser: Browser, road: Road) -> None:
    go_to_checkout(browser, road)
    number = browser.one("#number")
    number.send_keys("123456789")
    assert browser.value("number") == "1234 5678 9"
    number.send_keys(Keys.HOME, *[Keys.RIGHT] * 4, Keys.DELETE, Keys.DELETE)
    assert browser.value("number") == "1234 6789"
    number.send_keys(Keys.RIGHT, Keys.BACKSPACE, Keys.BACKSPACE)
    assert browser.value("number") == "1236 789"


def test_the_server_never_holds_a_browser_sealed_card_or_address(
    browser: Browser, road: Road, node: Node
) -> None:
    person = MUELLER | {
        "name": "Quendoline Vasterival",
        "line1": "Obstgartenweg 7731",
        "email": "qv@example.org",
    }
    texts = ("4773021988461003", "4773 0219 8846 1003", "Quendoline", "Obstgartenweg", "qv@example.org")
    # As bytes, and as Python holds a text beside characters of other scripts.
    secrets = tuple(text.encode(way) for text in texts for way in ("utf-8", "utf-16-le", "utf-32-le"))
    go_to_checkout(browser, road)
    fill(browser, person, CARD | {"number": "4773021988461003"})
    pay(browser)
    order_number(browser)
    found = memory_of(node, secrets)
    assert found == dict.fromkeys(secrets, 0)
    # The same look finds what a server-sealed order leaves behind.
    order = good_order()
    order["customer"]["name"] = "Quendoline Vasterival"
    order["card"]["number"] = "4773021988461003"
    assert node.post(order, new_key()).status == 202
    after = memory_of(node, secrets)
    assert after[b"Quendoline"] > 0
    assert after[b"4773021988461003"] > 0


def memory_of(node: Node, needles: tuple[bytes, ...]) -> dict[bytes, int]:
    """How often each stands in the memory of the intake's processes."""
    assert node.process
    group = node.process.pid
    counts = dict.fromkeys(needles, 0)
    looked = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) != group:
            continue
        for line in (stat.parent / "maps").read_text().splitlines():
            place, rights, *_ = line.split()
            if not rights.startswith("rw") or "[v" in line:
                continue
            start, end = (int(text, 16) for text in place.split("-"))
            try:
                with (stat.parent / "mem").open("rb") as memory:
                    memory.seek(start)
                    content = memory.read(end - start)
            except OSError:
                continue
            looked += len(content)
            for needle in needles:
                counts[needle] += content.count(needle)
    assert looked > 1_000_000
    return counts


def test_the_look_for_foreign_requests_and_broken_policies_can_fail(
    browser: Browser, road: Road, node: Node
) -> None:
    page = node.request("GET", "/scripts", headers={"Accept": "text/html"}).body
    bad = b'<script>document.title = "run"</script><img src="https://evil.example/x.gif"></main>'
    road.replaced["/scripts"] = page.replace(b"</main>", bad)
    browser.get(f"{road.url}/scripts")
    assert browser.driver.title != "run"
    with contextlib.suppress(WebDriverException):
        browser.get("http://evil.example/")  # no such name on this machine
    browser.listen()
    assert "http://evil.example/" in browser.requests
    assert len([text for text in browser.complaints if "Content Security Policy" in text]) >= 2
    browser.requests.clear()
    browser.complaints.clear()
