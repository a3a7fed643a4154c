"""Consent and the letters in a real Chromium: what is kept in the browser, what is sent, and without JavaScript."""

from __future__ import annotations

import json

import pytest

from tests.browser.chromium import Browser
from tests.browser.road import Road
from tests.intake.node import Node
from tests.intake.orders import CATALOGUE

pytestmark = pytest.mark.needs_tool("chromium", "chromedriver", "page_js")


def kept(browser: Browser) -> dict[str, str]:
    found: dict[str, str] = browser.driver.execute_script("return {...localStorage}")
    return found


def cookies(browser: Browser) -> dict[str, str]:
    return {one["name"]: one["value"] for one in browser.command("Network.getAllCookies")["cookies"]}


def press(browser: Browser, name: str, value: str) -> None:
    browser.one(f'button[name="{name}"][value="{value}"]').click()


def test_recently_viewed_stays_in_the_browser_and_goes_when_it_is_switched_off(
    browser: Browser, road: Road
) -> None:
    browser.get(f"{road.url}/records/LP-0001")
    browser.wait("Off. When you switch it on")
    assert (kept(browser), cookies(browser)) == ({}, {})
    press(browser, "recent", "yes")
    browser.wait("are remembered in this browser")
    browser.get(f"{road.url}/records/CD-0101")
    browser.wait(CATALOGUE.records["LP-0001"].title, "#recent ul")
    browser.picture("recently-viewed")
    assert [one["sku"] for one in json.loads(kept(browser)["recently-viewed"])] == ["CD-0101", "LP-0001"]
    browser.one("#recent ul a").click()
    browser.wait(CATALOGUE.records["CD-0101"].title, "#recent ul")
    # What was looked at before is in no request but in the addresses of what was opened, and of covers shown.
    for seen in road.seen:
        assert "recently" not in str(seen.sent) + seen.body.decode()
        assert seen.sent.get("Cookie", "choices=1.ads-open.recent-yes") == "choices=1.ads-open.recent-yes"
    press(browser, "recent", "no")
    browser.wait("Off. When you switch it on")
    assert kept(browser) == {}


@pytest.mark.parametrize(
    "written",
    ["", "{", "null", "7", '{"sku": 1}', '[null, 1, {"sku": "../x", "title": "t"}, {"sku": "LP-0002"}]'],
)
def test_what_another_hand_wrote_into_the_memory_is_left_out(
    browser: Browser, road: Road, written: str
) -> None:
    browser.command("Network.setCookie", name="choices", value="1.ads-no.recent-yes", url=road.url)
    browser.get(f"{road.url}/scripts")
    browser.driver.execute_script("localStorage.setItem('recently-viewed', arguments[0])", written)
    browser.get(f"{road.url}/records/LP-0001")
    browser.until(lambda: '"LP-0001"' in kept(browser)["recently-viewed"], "the script did not run")
    assert browser.all("#recent li") == []


def test_advertising_cookie_never_reaches_checkout_and_status(browser: Browser, road: Road) -> None:
    browser.scripts(allowed=False)  # all of this works without JavaScript
    browser.get(f"{road.url}/")
    press(browser, "advertising", "yes")
    browser.wait("Records")
    assert set(cookies(browser)) == {"choices"}
    for sku in ("LP-0001", "LP-0002"):
        browser.get(f"{road.url}/records/{sku}")
    browser.wait("Advertisement, because you looked at", ".promotion")
    browser.picture("advertisement")
    assert cookies(browser)["interest"] == "LP-0002"
    for path in ("/checkout", "/thanks", f"/orders/{'0' * 32}", "/", "/cookies"):
        browser.get(road.url + path)
        assert browser.all(".promotion") == []
    sent = {seen.path: seen.sent.get("Cookie", "") for seen in road.seen}
    assert {path for path, cookie in sent.items() if "interest" in cookie} == {"/records/LP-0002"}
    press(browser, "advertising", "no")
    browser.wait("refused")
    assert set(cookies(browser)) == {"choices"}


def test_a_faulty_letter_is_accessible_and_says_what_is_wrong(
    browser: Browser, road: Road, node: Node
) -> None:
    browser.scripts(allowed=False)
    browser.get(f"{road.url}/enquiries")
    browser.fill({"name": "Åsa", "email": "nobody", "text": "My card is 4242 4242 4242 4242."})
    browser.one("main button").click()
    browser.wait("There is a problem", ".summary")
    browser.scripts(allowed=True)
    assert browser.accessibility() == []
    browser.picture("enquiry-faults")
    assert browser.value("name") == "Åsa"
    browser.fill({"email": "asa@example.org", "text": "Är sida B i stereo?"})
    browser.one("main button").click()
    browser.wait("We have your question")
    browser.get(f"{road.url}/newsletter")
    browser.fill({"email": "asa@example.org"})
    browser.one("main button").click()
    browser.wait("Look into your mailbox")
    assert browser.accessibility() == []
    assert cookies(browser) == {}
