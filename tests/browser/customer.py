"""What a customer does in the shop, and what the offline side would read of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import nacl.exceptions
import nacl.public

from tests.browser.chromium import Browser
from tests.browser.road import Road
from tests.intake.answers import stored
from tests.intake.node import Node
from transfer.wire.envelope import decode_envelope
from transfer.wire.order import COMPARTMENT_LIMIT

MUELLER = {
    "name": "Zoë Müller",
    "email": "zoe.mueller@example.com",
    "country": "Germany",
    "line1": "Hauptstraße 5",
    "postcode": "50667",
    "city": "Köln",
}
CARD = {"number": "4242 4242 4242 4242", "expiry": "12/35", "code": "737"}


def go_to_checkout(browser: Browser, road: Road, sku: str = "LP-0001") -> None:
    """With a record in the basket (put there by its cookie: who tests the shop front clicks), the checkout's form."""
    browser.command("Network.setCookie", name="basket", value=f"EUR:{sku}*1", url=road.url, httpOnly=True)
    browser.get(f"{road.url}/checkout")
    browser.wait("Pay", "#pay")


def fill(browser: Browser, person: dict[str, str], card: dict[str, str]) -> None:
    """Country first: it decides which fields there are."""
    browser.fill({"country": person["country"]})
    known = "Postcode" if "postcode" in person else "Address line 1"
    browser.wait(known, "#address")
    browser.fill(person | card)


def pay(browser: Browser) -> None:
    browser.one("#pay").click()


def order_number(browser: Browser) -> str:
    """From the thank-you page."""
    browser.wait_for_path("/thanks")
    browser.wait("We have received your order")
    return browser.one("#number").text.replace(" ", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    order: dict[str, Any]
    card: bytes


def opened(node: Node, order_id: str) -> Opened:
    """The order as the offline side would open it: the keys of the test's own offline side."""
    raw = stored(node)[order_id]
    envelope = decode_envelope(raw)
    order_key = node.offline.order_key
    padded = nacl.public.SealedBox(order_key).decrypt(envelope.order_box)
    assert len(padded) <= COMPARTMENT_LIMIT
    size = int.from_bytes(padded[:4], "big")
    for batch_key in node.offline.batch_keys:
        try:
            card = nacl.public.SealedBox(batch_key).decrypt(envelope.card_box)
        except nacl.exceptions.CryptoError:
            continue
        return Opened(order=msgspec.json.decode(padded[4 : 4 + size]), card=card)
    raise AssertionError("no batch key opens the card")
