"""One order placed as a customer does it: in a real browser, through the visible page.

Why here: the policy says that the browser encrypts, and only a browser can show that.
Must not: install a browser, or call an order shown that no browser placed.
"""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus

from intake.catalogue import SHIPPED, load_catalogue
from intake.money import money
from intake.sample_people import CARDS, PEOPLE
from tests.end_to_end.browser import Browser, NoBrowserError, Sent, open_browser
from tests.end_to_end.commands import Shell
from tests.end_to_end.orders import Receipt
from tests.end_to_end.places import Places

PICTURE = "thank-you-page.png"
_SKU, _CURRENCY = "LP-0001", "EUR"
_CODE = "737"
_YEARS_AHEAD = 3
_COUNTRY = "Germany"
_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOrder:
    """How it went. ``receipt`` is None where there is no browser; ``why`` says so then.

    ``foreign``: requests to anybody but the shop; ``in_clear``: texts of the form that were sent readable;
    ``sealed``: whether the request with the order was seen at all, and held two boxes.
    """

    receipt: Receipt | None = None
    why: str = ""
    browser: str = ""
    requests: int = 0
    foreign: tuple[str, ...] = ()
    in_clear: tuple[str, ...] = field(default=(), repr=False)
    sealed: bool = False
    complaints: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        return self.sealed and not (self.foreign or self.in_clear or self.complaints)


def place(shell: Shell, places: Places, url: str) -> PageOrder:
    """Buy one record, if this machine has a browser."""
    try:
        with open_browser(shell, places.browser, places.logs / "browser.log") as browser:
            receipt = _buy(browser, places, url)
            browser.listen()
            orders = [sent for sent in browser.sent if sent.url == f"{url}/orders"]
            return PageOrder(
                receipt=receipt,
                browser=browser.version,
                requests=len(browser.sent),
                foreign=tuple(
                    sent.url for sent in browser.sent if not sent.url.startswith((f"{url}/", "about:"))
                ),
                in_clear=in_clear(browser.sent, receipt.order_id),
                sealed=any('"sealed":{"header":"' in sent.text and _SKU in sent.text for sent in orders),
                complaints=tuple(browser.complaints),
            )
    except NoBrowserError as error:
        return PageOrder(why=str(error))


def in_clear(sent: list[Sent], order_id: str) -> tuple[str, ...]:
    """Which of the texts that the customer types stand in a request, as they are or in base64."""
    found = []
    everything = "\n".join(f"{one.url}\n{one.text}" for one in sent).replace(order_id, "")
    for text in SECRETS:
        raw = text.encode()
        # Base64 of a text within a text begins at one of three places in its first group of four.
        coded = [_inner_base64(raw, shift) for shift in range(3)]
        ways = [text, quote(text), quote_plus(text), json.dumps(text)[1:-1], *coded]
        found += [text for way in ways if way in everything]
    return tuple(sorted(set(found)))


def _inner_base64(raw: bytes, shift: int) -> str:
    """The characters of base64 that only ``raw`` decides, when ``shift`` bytes (of three) come before it."""
    text = base64.b64encode(bytes(shift) + raw).decode("ascii")
    return text[-(-8 * shift // 6) : 8 * (shift + len(raw)) // 6]


def _secrets() -> tuple[str, ...]:
    person, card = PEOPLE[0], CARDS[0]
    first, *_ = person.lines.split("|")
    return (person.name, person.email, first, person.city, card, card.replace(" ", ""))


SECRETS = _secrets()
"""What the customer types and nobody online may read; a code of three digits stands everywhere, so it is not sought."""


def _buy(browser: Browser, places: Places, url: str) -> Receipt:
    person, price = PEOPLE[0], load_catalogue(SHIPPED).prices[_CURRENCY][_SKU]
    first, second = person.lines.split("|")
    browser.get(f"{url}/")
    browser.click(f'form:has([value="{_SKU}"]) button')
    browser.wait("location.pathname === '/basket'", "the basket")
    browser.click('a[href="/checkout"]')
    words = f"Pay {money(price, _CURRENCY)}"
    browser.wait(f"document.querySelector('#pay:enabled')?.innerText === '{words}'", f"the button {words}")
    for _ in range(_TRIES):
        browser.type(
            "#country", _COUNTRY
        )  # a list forgets what was typed a second ago, and a machine may be slow
        if browser.look("document.querySelector('#country').selectedOptions[0].innerText") == _COUNTRY:
            break
    browser.wait(
        "document.querySelector('#postcode-field label').innerText === 'Postcode'", "the country's address"
    )
    for name, text in (
        ("name", person.name),
        ("email", person.email),
        ("line1", first),
        ("line2", second),
        ("postcode", person.postcode),
        ("city", person.city),
        ("number", CARDS[0].replace(" ", "")),
        ("expiry", f"12/{time.localtime().tm_year % 100 + _YEARS_AHEAD}"),
        ("code", _CODE),
    ):
        browser.type(f"#{name}", text)
    browser.wait(f"document.querySelector('#number').value === '{CARDS[0]}'", "the number in its groups")
    browser.click("#pay")
    browser.wait("location.pathname === '/thanks'", "the thank-you page")
    browser.wait(
        "document.querySelector('main').innerText.includes('We have received your order')", "the status"
    )
    browser.picture(places.logs / PICTURE)
    order_id, token, *_ = str(browser.look("location.hash")).removeprefix("#").split(".")
    return Receipt(order_id=order_id, token=token, amount=price, currency=_CURRENCY, by="page")
