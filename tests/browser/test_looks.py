"""Every page in every state: fits a small screen, can be pressed with a finger, and axe-core has nothing to say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from intake.forms import OrderStatus
from intake.page.inventory import PAGES
from intake.page.told import STEPS, told
from tests.browser.chromium import Browser
from tests.browser.customer import CARD, MUELLER, fill, go_to_checkout, pay
from tests.browser.road import Road
from tests.intake.node import Node
from tests.intake.orders import good_order, new_key

pytestmark = pytest.mark.needs_tool("chromium", "chromedriver", "page_js")

PHONE, FINGER = (
    320,
    44,
)  # the narrowest screen of WCAG 2.2 (1.4.10); 44 pixels of 2.5.5, more than 2.5.8 asks for
OVER = (OrderStatus.DECLINED, OrderStatus.ORDER_AGAIN)
AN_ORDER = {"order_id": "0" * 32, "sku": "LP-0001"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    order_id: str
    token: str


@pytest.fixture(scope="module")
def taken(node: Node) -> Taken:
    answer = node.post(good_order(), new_key()).json
    return Taken(order_id=answer["order_id"], token=answer["access_token"])


@pytest.fixture
def look(browser: Browser) -> Iterator[Callable[[str], None]]:
    """Judge the page as it stands, on a phone and on a dark screen."""

    def judged(name: str) -> None:
        for width, is_dark in ((1200, True), (PHONE, False)):
            browser.size(width, 640)
            browser.dark(is_dark)
            across = browser.driver.execute_script("return document.documentElement.scrollWidth")
            assert across <= width, name
            assert browser.accessibility() == [], (name, width)
        for one in browser.all("main button, main .button, main input:not([type=hidden]), main select"):
            if one.is_displayed() and one.get_attribute("type") not in ("checkbox", "radio"):
                assert one.size["height"] >= FINGER, (name, one.get_attribute("outerHTML"))
        browser.picture(f"phone-{name}")

    yield judged
    browser.dark(False)


@pytest.mark.parametrize("path", [*PAGES, "/no-such-page"])
def test_every_page_fits_a_phone_and_is_accessible(
    browser: Browser, road: Road, look: Callable[[str], None], path: str
) -> None:
    browser.command("Network.setCookie", name="basket", value="EUR:LP-0001*1:LP-0010*2", url=road.url)
    browser.get(road.url + path.format(**AN_ORDER))
    if path == "/checkout":
        browser.wait("Pay", "#pay")
    look(path.strip("/").replace("/", "-").partition("{")[0] or "shop")


def test_an_empty_basket_and_its_checkout_are_accessible(
    browser: Browser, road: Road, look: Callable[[str], None]
) -> None:
    for path in ("basket", "checkout"):
        browser.get(f"{road.url}/{path}")
        browser.wait("Your basket is empty")
        look(f"empty-{path}")


def test_the_checkout_is_accessible_in_every_state_of_trouble(
    browser: Browser, road: Road, look: Callable[[str], None]
) -> None:
    go_to_checkout(browser, road)
    pay(browser)
    browser.wait("There is a problem", "#summary")
    look("faults")
    browser.size(1200, 900)
    fill(browser, MUELLER, CARD)
    road.is_cut = True
    pay(browser)
    browser.wait("We could not reach the shop", "#message")
    look("unreached")


@pytest.mark.parametrize(
    "country", ["Japan", "United States", "United Arab Emirates", "Hong Kong", "Ireland"]
)
def test_every_kind_of_address_form_is_accessible(
    browser: Browser, road: Road, look: Callable[[str], None], country: str
) -> None:
    go_to_checkout(browser, road)
    before = browser.one("#address").text
    browser.fill({"country": country})
    browser.until(lambda: browser.one("#address").text != before, f"{country}'s form did not come")
    look(f"address-{country}")


@pytest.mark.parametrize(
    ("state", "is_known"), [*((state, True) for state in OrderStatus), *((state, False) for state in OVER)]
)
def test_every_state_of_an_order_is_told_and_accessible(
    browser: Browser,
    road: Road,
    taken: Taken,
    look: Callable[[str], None],
    state: OrderStatus,
    is_known: bool,
) -> None:
    is_over = state in OVER
    status = {"order_id": taken.order_id, "status": state, "reason": "none", "changed_at": 1_795_000_000}
    road.replaced[f"/orders/{taken.order_id}"] = json.dumps(status).encode()
    browser.get(f"{road.url}/thanks")
    if is_known:
        browser.driver.execute_script(
            "localStorage.setItem('orders', JSON.stringify({[arguments[0]]: 'EUR:LP-0001*1'}))",
            taken.order_id,
        )
    browser.get("about:blank")
    browser.get(f"{road.url}/thanks#{taken.order_id}.{taken.token}")
    text = told(24, 3)[state]
    said = browser.wait(text.heading)
    assert text.text in said
    now = [" ".join(item.text.split()) for item in browser.all("#steps li.now")]
    assert now == ([f"{STEPS[text.step - 1]} (now)"] if text.step else [])
    assert ("Thank you" in said) == (state in {OrderStatus.RECEIVED, OrderStatus.IN_TRANSIT})
    assert ("Order the same and pay again" in said) == (is_over and is_known)
    assert ("this one does not" in said) == (is_over and not is_known)
    look(f"status-{state}{'' if is_known else '-elsewhere'}")


def test_axe_and_the_small_screen_can_object(browser: Browser, road: Road, node: Node) -> None:
    page = node.request("GET", "/scripts", headers={"Accept": "text/html"}).body
    road.replaced["/scripts"] = page.replace(
        b"</main>", b'<img src="/covers/LP-0001.svg" width="900"></main>'
    )
    browser.get(f"{road.url}/scripts")
    assert any(found.startswith("image-alt") for found in browser.accessibility())
