"""Buying while keys are cut, answers are lost, lines are dead and tabs are two: taken once, and said how it is."""

from __future__ import annotations

import re
from pathlib import Path
from threading import Event
from time import sleep

import pytest

from intake.catalogue import SHIPPED
from keys.public.seal import key_id
from tests.browser.chromium import Browser
from tests.browser.customer import CARD, MUELLER, fill, go_to_checkout, opened, order_number, pay
from tests.browser.road import Road, Seen
from tests.intake.answers import stored
from tests.intake.node import Node
from tests.intake.orders import good_order, new_key
from transfer.spool import Spool

pytestmark = pytest.mark.needs_tool("chromium", "chromedriver", "page_js")

AL_SABAH = {
    "name": "فاطمة الصباح",
    "email": "fatima.alsabah@example.com.kw",
    "country": "Kuwait",
    "line1": "شارع الخليج العربي",
    "line2": "قطعة 4، منزل 12",
    "city": "مدينة الكويت",
}
MONONYM = {
    "name": "Suharto",
    "email": "s@example.com",
    "country": "Singapore",
    "line1": "1 " + "Very Long Street Name " * 6,
    "postcode": "546080",
}
AMEX = {"number": "378282246310005", "expiry": "0131", "code": "1234"}


def cut_current_key(node: Node) -> None:
    """What the cutter does first."""
    keys = node.get("/keys").json
    Spool(node.state / "spool").close(key_id(bytes.fromhex(keys["batch_key"]["public_key"])))


def test_a_key_that_is_cut_meanwhile_is_not_noticed(browser: Browser, road: Road, node: Node) -> None:
    go_to_checkout(browser, road)
    fill(browser, AL_SABAH, AMEX | {"code": "١٢٣٤"})  # as her phone's number pad has them
    assert "on the front" in browser.one("#code-hint").text
    assert (browser.value("number"), browser.one("#brand").text) == ("3782 822463 10005", "American Express")
    old = node.get("/keys").json["batch_key"]["number"]
    road.before_order = lambda: cut_current_key(node)
    pay(browser)
    order_id = order_number(browser)
    assert [order.status for order in road.orders] == [409, 202]
    first, second = road.orders
    assert first.sent["idempotency-key"] == second.sent["idempotency-key"]
    assert node.get("/keys").json["batch_key"]["number"] > old
    found = opened(node, order_id)
    assert found.order["customer"]["name"] == AL_SABAH["name"]
    assert found.order["delivery"]["lines"] == [AL_SABAH["line1"], AL_SABAH["line2"]]
    assert found.card[75:91] == b"\x0f378282246310005"
    assert found.card[95:103] == b"\x01\x07\xef\x041234"


def test_a_lost_answer_is_fetched_with_the_same_bytes(browser: Browser, road: Road, node: Node) -> None:
    go_to_checkout(browser, road)
    fill(browser, MONONYM, CARD)
    before = len(stored(node))
    road.lose = 1
    pay(browser)
    order_id = order_number(browser)
    first, second = road.orders
    assert first.body == second.body
    assert len(stored(node)) == before + 1
    assert opened(node, order_id).order["delivery"]["city"] == "Singapore"


def test_an_order_without_an_answer_is_safe_to_send_again(browser: Browser, road: Road, node: Node) -> None:
    go_to_checkout(browser, road)
    fill(browser, MUELLER, CARD)
    before = len(stored(node))
    road.lose = 3
    pay(browser)
    said = browser.wait("We did not get an answer", "#message")
    assert "you will not be charged twice" in said
    assert browser.focused.get_attribute("id") == "message"
    browser.picture("no-answer")
    cut_current_key(node)
    browser.fill({"name": "Somebody Else"})
    pay(browser)
    order_id = order_number(browser)
    assert "It stands as it was then" in browser.one("#first").text
    *sent, asked = road.orders
    assert len({order.body for order in sent}) == 1
    assert b'"sealed":{}' in asked.body
    assert len({order.sent["idempotency-key"] for order in road.orders}) == 1
    assert len(stored(node)) == before + 1
    assert opened(node, order_id).order["customer"]["name"] == MUELLER["name"]


def test_what_is_changed_after_an_order_that_never_arrived_is_in_the_order(
    browser: Browser, road: Road, node: Node
) -> None:
    go_to_checkout(browser, road)
    fill(browser, MUELLER, CARD)
    road.lose_on_the_way = 3
    pay(browser)
    browser.wait("We did not get an answer", "#message")
    browser.fill({"line1": "Neue Straße 9"})
    pay(browser)
    order_id = order_number(browser)
    assert not browser.one("#first").is_displayed()
    assert opened(node, order_id).order["delivery"]["lines"] == ["Neue Straße 9"]


def test_a_key_that_is_cut_is_not_noticed_when_the_answers_about_it_are_lost_too(
    browser: Browser, road: Road, node: Node
) -> None:
    go_to_checkout(browser, road)
    fill(browser, MUELLER, CARD)
    before = len(stored(node))
    road.before_order = lambda: cut_current_key(node)
    road.lose = 1
    pay(browser)
    order_number(browser)
    assert [order.status for order in road.orders] == [409, 409, 202]
    assert road.orders[0].body == road.orders[1].body != road.orders[2].body
    assert len({order.sent["idempotency-key"] for order in road.orders}) == 1
    assert len(stored(node)) == before + 1


def test_an_order_whose_answer_was_lost_before_its_key_was_cut_is_answered(
    browser: Browser, road: Road, node: Node
) -> None:
    go_to_checkout(browser, road)
    fill(browser, MUELLER, CARD)
    before = len(stored(node))
    road.lose = 3
    pay(browser)
    browser.wait("We did not get an answer", "#message")
    cut_current_key(node)
    pay(browser)
    order_number(browser)
    assert [order.status for order in road.orders] == [202] * 4
    assert len({order.body for order in road.orders}) == 1
    assert len(stored(node)) == before + 1


def test_a_page_that_is_loaded_again_after_a_lost_answer_finds_its_order(
    browser: Browser, road: Road, node: Node
) -> None:
    go_to_checkout(browser, road)
    fill(browser, MUELLER, CARD)
    road.lose = 3
    pay(browser)
    browser.wait("We did not get an answer", "#message")
    before = len(stored(node))
    browser.driver.refresh()
    order_number(browser)
    assert len(stored(node)) == before


def lost_order(browser: Browser, road: Road, node: Node) -> str:
    """The id of an order that was taken; its customer was told that no answer came."""
    before = set(stored(node))
    go_to_checkout(browser, road)
    fill(browser, MUELLER, CARD)
    road.lose = 3
    pay(browser)
    browser.wait("We did not get an answer", "#message")
    (lost,) = set(stored(node)) - before
    return lost


def keys_of(orders: list[Seen]) -> set[str]:
    return {order.sent["idempotency-key"] for order in orders}


def test_another_basket_is_not_sent_while_an_order_without_an_answer_is_asked_about(
    browser: Browser, road: Road, node: Node
) -> None:
    lost = lost_order(browser, road, node)
    before = len(stored(node))
    is_pressed = Event()

    def slow() -> None:
        is_pressed.wait(10)

    road.before_order = slow
    go_to_checkout(browser, road, "LP-0002")
    fill(browser, MUELLER, CARD)
    pay(browser)
    browser.wait("Encrypting and sending", "#pay")
    sleep(0.5)  # as long as it takes to send an order
    is_pressed.set()
    assert order_number(browser) == lost
    assert "what you changed afterwards is not in it" in browser.one("#first").text
    assert len(stored(node)) == before
    assert len(keys_of(road.orders)) == 1
    # The other basket is as it was, and is bought once.
    browser.get(f"{road.url}/checkout")
    browser.wait("Pay", "#pay")
    fill(browser, MUELLER, CARD)
    pay(browser)
    browser.wait_for_path("/thanks")
    second = order_number(browser)
    assert [item["sku"] for item in opened(node, second).order["items"]] == ["LP-0002"]
    assert len(stored(node)) == before + 1


def test_an_answer_about_an_order_that_never_arrived_leaves_the_next_order_its_key(
    browser: Browser, road: Road, node: Node
) -> None:
    before = set(stored(node))
    go_to_checkout(browser, road)
    fill(browser, MUELLER, CARD)
    road.lose_on_the_way = 3
    pay(browser)
    browser.wait("We did not get an answer", "#message")
    is_pressed = Event()

    def slow() -> None:
        is_pressed.wait(10)
        road.before_order = lose_answers

    def lose_answers() -> None:
        road.lose = 3

    road.before_order = slow
    go_to_checkout(browser, road, "LP-0002")
    fill(browser, MUELLER, CARD)
    pay(browser)
    browser.wait("Encrypting and sending", "#pay")
    sleep(0.5)
    is_pressed.set()
    browser.wait("We did not get an answer", "#message")
    (taken,) = set(stored(node)) - before
    browser.driver.refresh()
    assert order_number(browser) == taken
    assert set(stored(node)) - before == {taken}


def test_another_basket_waits_until_somebody_says_what_became_of_the_order_before(
    browser: Browser, road: Road, node: Node
) -> None:
    lost = lost_order(browser, road, node)
    before = len(stored(node))
    sent = len(road.orders)
    road.replaced["/orders"] = b"a portal's page"
    go_to_checkout(browser, road, "LP-0002")
    fill(browser, MUELLER, CARD)
    browser.until(lambda: len(road.orders) == sent + 1, "was not asked as the page opened")
    pay(browser)
    browser.wait("We did not get an answer", "#message")
    road.replaced.clear()
    pay(browser)
    assert order_number(browser) == lost
    assert len(stored(node)) == before
    assert len(keys_of(road.orders)) == 1


def test_an_address_that_is_changed_after_a_reload_without_an_answer_is_told_not_to_be_in_the_order(
    browser: Browser, road: Road, node: Node
) -> None:
    lost = lost_order(browser, road, node)
    before = len(stored(node))
    sent = len(road.orders)
    road.replaced["/orders"] = b"a portal's page"
    browser.driver.refresh()
    browser.wait("Pay", "#pay")
    fill(browser, MUELLER | {"line1": "Neue Straße 9"}, CARD)
    browser.until(lambda: len(road.orders) == sent + 1, "was not asked as the page opened")
    road.replaced.clear()
    pay(browser)
    assert order_number(browser) == lost
    assert "It stands as it was then" in browser.one("#first").text
    assert b'"sealed":{}' in road.orders[-1].body
    assert len(stored(node)) == before
    assert opened(node, lost).order["delivery"]["lines"] == [MUELLER["line1"]]


def test_an_order_that_stands_at_older_prices_is_told_before_it_is_bought_again(
    browser: Browser, road: Road, tmp_path: Path
) -> None:
    shop = Node(tmp_path / "shop").configure().enrol(3)
    prices = shop.root / "catalogue.toml"
    prices.write_text(SHIPPED.read_text("utf-8"), "utf-8")
    shop.config.write_text(shop.config.read_text() + 'catalogue = "catalogue.toml"\n')
    shop.start()
    try:
        road.target = shop.port
        go_to_checkout(browser, road)
        fill(browser, MUELLER, CARD)
        road.lose = 3
        pay(browser)
        browser.wait("We did not get an answer", "#message")
        shop.stop()
        prices.write_text(prices.read_text("utf-8").replace("EUR = 2499", "EUR = 2599"), "utf-8")
        shop.start()
        browser.driver.refresh()
        assert "That order stands as it was then" in browser.wait("sent before with another basket")
        assert browser.one("#pay").text == "Pay EUR 25.99"
        assert len(stored(shop)) == 1
    finally:
        shop.stop()


def test_a_dead_line_takes_nothing_and_keeps_what_was_typed(browser: Browser, road: Road, node: Node) -> None:
    go_to_checkout(browser, road)
    fill(browser, MUELLER, CARD)
    road.is_cut = True
    pay(browser)
    assert "Nothing was sent" in browser.wait("We could not reach the shop", "#message")
    assert browser.value("number") == "4242 4242 4242 4242"
    road.is_cut = False
    pay(browser)
    order_number(browser)


def test_keys_of_another_identity_are_not_sealed_to(browser: Browser, road: Road, tmp_path: Path) -> None:
    go_to_checkout(browser, road)
    fill(browser, MUELLER, CARD)
    impostor = Node(tmp_path / "impostor").configure().enrol(1).start()
    try:
        road.target = impostor.port  # same name, same catalogue, other keys
        pay(browser)
        browser.wait("This page cannot encrypt safely", "#message")
        assert road.orders == []
        # The same server once its keys have run out: no form, and a reason.
        cut_current_key(impostor)
        browser.get(f"{road.url}/checkout")
        assert "No cards are taken at the moment" in browser.wait("Your basket is kept")
        assert browser.all("input") == []
        browser.picture("closed")
    finally:
        impostor.stop()


def test_keys_that_run_out_while_the_form_is_filled_in_cost_nothing_that_was_typed(
    browser: Browser, road: Road, tmp_path: Path
) -> None:
    shop = Node(tmp_path / "shop").configure().enrol(1).start()
    try:
        road.target = shop.port
        go_to_checkout(browser, road)
        fill(browser, MUELLER, CARD)
        cut_current_key(shop)
        pay(browser)
        assert "What you typed is still here" in browser.wait("No cards are taken at the moment", "#message")
        assert browser.value("number") == "4242 4242 4242 4242"
        shop.new_roll(2, first=2)
        pay(browser)
        order_number(browser)
        assert len(stored(shop)) == 1
    finally:
        shop.stop()


def test_a_limit_is_told_with_its_time_and_takes_nothing(
    browser: Browser, road: Road, tmp_path: Path
) -> None:
    shop = Node(tmp_path / "shop").configure().enrol(3)
    shop.config.write_text(shop.config.read_text() + "[limits]\norders_per_hour = 1\n")
    shop.start()
    try:
        road.target, road.client = shop.port, "203.0.113.7"
        assert shop.post(good_order(), new_key(), **{"X-Forwarded-For": road.client}).status == 202
        go_to_checkout(browser, road)
        fill(browser, MUELLER, CARD)
        pay(browser)
        said = browser.wait("Too many orders from your connection", "#message")
        assert re.search(r"Please wait \d+ minutes\.", said)
        assert len(stored(shop)) == 1
        assert browser.value("code") == CARD["code"]
    finally:
        shop.stop()


def test_a_second_tab_does_not_buy_the_same_basket_again(browser: Browser, road: Road) -> None:
    go_to_checkout(browser, road)
    first = browser.driver.current_window_handle
    browser.driver.switch_to.new_window("tab")
    second = browser.driver.current_window_handle
    browser.get(f"{road.url}/checkout")
    browser.wait("Pay", "#pay")
    fill(browser, MUELLER, CARD)
    browser.driver.switch_to.window(first)
    fill(browser, MUELLER, CARD)
    road.lose = 1  # so that the first is still under way when the second button is pressed
    pay(browser)
    browser.driver.switch_to.window(second)
    pay(browser)
    assert "Nothing was sent" in browser.wait("Your basket has changed", "#message")
    assert len({order.sent["idempotency-key"] for order in road.orders}) == 1
    browser.driver.switch_to.window(first)
    order_number(browser)
