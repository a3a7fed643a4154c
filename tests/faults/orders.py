"""The customers of the fault sweeps: what each orders, and how it must end whatever breaks on the way.

Why here: world, judge and simulation must mean the same orders.
Must not: know how an order is taken or charged.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from keys.public.seal import seal
from transfer.wire.basket import basket_digest
from transfer.wire.card import Card, encode_card
from transfer.wire.header import Header, encode_header, header_digest
from transfer.wire.ids import basket_nonce, order_id
from transfer.wire.order import Customer, Delivery, Item, Order, Total, encode_order_compartment
from transfer.wire.sealing import SealingKeys, order_box_digest

_GOOD_CARD = "4242424242424242"
_DECLINED_CARD = "4000000000000002"
_LOST_ANSWER_CARD = "4000000000000341"
_PRICE = 2499
_SILENT_PRICE = 19_969
_CURRENCY = "EUR"

CATALOGUE = f"""\
[[record]]
sku = "LP-0001"
artist = "The Paper Lanterns"
title = "Harbour Lights at Noon"
medium = "LP"
year = 1974
prices = {{ {_CURRENCY} = {_PRICE} }}

[[record]]
sku = "LP-0002"
artist = "Nobody Answers"
title = "Ringing Tone"
medium = "LP"
year = 1981
prices = {{ {_CURRENCY} = {_SILENT_PRICE} }}
"""


class Fate(StrEnum):
    """What is special about an order."""

    GOOD = "good"
    DECLINED = "declined"
    LOST_ANSWER = "its first answer is lost"
    SILENT = "no answer ever comes"
    QUARANTINED = "its card compartment says another amount"
    UNREADABLE = "its card compartment does not open"


ENDS: Mapping[Fate, str] = {
    Fate.GOOD: "paid",
    Fate.DECLINED: "declined",
    Fate.LOST_ANSWER: "paid",
    Fate.SILENT: "held",
    Fate.QUARANTINED: "held",
    Fate.UNREADABLE: "order-again",
}
"""The status that an order's customer sees in the end."""

FIRST_DAY: tuple[tuple[Fate, ...], ...] = (
    (Fate.GOOD, Fate.DECLINED, Fate.LOST_ANSWER),
    (Fate.SILENT, Fate.QUARANTINED, Fate.GOOD),
    (Fate.UNREADABLE,),
)
"""Orders by the groups in which they arrive together."""

SECOND_DAY: tuple[tuple[Fate, ...], ...] = ((Fate.GOOD, Fate.GOOD),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One customer's order; the same ``number`` is always the same order."""

    number: int
    fate: Fate

    @property
    def key(self) -> str:
        """The Idempotency-Key, which a real customer's browser would draw at random."""
        return hashlib.sha256(b"wish %d" % self.number).hexdigest()[:40]

    @property
    def order_id(self) -> str:
        return order_id(self.key).hex()

    def body(self, keys: Mapping[str, Any]) -> bytes:
        """The JSON of ``POST /orders``; ``keys`` is what ``GET /keys`` answers."""
        order = self._order()
        document: dict[str, Any] = {
            "items": [{"sku": item.sku, "quantity": item.quantity} for item in order.items],
            "total": {"amount": order.total.amount, "currency": order.total.currency},
        }
        if self.fate in (Fate.QUARANTINED, Fate.UNREADABLE):
            document["sealed"] = self._sealed_by_a_browser_that_lies(order, keys)
        else:
            document["customer"] = {"name": order.customer.name, "email": order.customer.email}
            document["delivery"] = {
                "lines": order.delivery.lines,
                "city": order.delivery.city,
                "region": order.delivery.region,
                "postcode": order.delivery.postcode,
                "country": order.delivery.country,
            }
            document["card"] = {
                "number": self._card(),
                "expiry_month": 12,
                "expiry_year": 2035,
                "security_code": "123",
            }
        return json.dumps(document).encode()

    def _card(self) -> str:
        return {Fate.DECLINED: _DECLINED_CARD, Fate.LOST_ANSWER: _LOST_ANSWER_CARD}.get(self.fate, _GOOD_CARD)

    def _order(self) -> Order:
        silent = self.fate is Fate.SILENT
        price = _SILENT_PRICE if silent else _PRICE
        return Order(
            items=[Item(sku="LP-0002" if silent else "LP-0001", quantity=1, price=price)],
            total=Total(amount=price, currency=_CURRENCY),
            customer=Customer(name=f"Åsa Ölund {self.number}", email=f"asa{self.number}@example.org"),
            delivery=Delivery(
                lines=[f"Storgatan {self.number + 1}"],
                city="Växjö",
                region="",
                postcode="352 30",
                country="SE",
            ),
        )

    def _sealed_by_a_browser_that_lies(self, order: Order, keys: Mapping[str, Any]) -> dict[str, str]:
        sealing = sealing_keys(keys)
        nonce = basket_nonce(self.key)
        header = encode_header(
            Header(
                order_id=order_id(self.key),
                order_key_id=sealing.order_key_id,
                batch_key_id=sealing.batch_key_id,
                time=0,
                basket_digest=basket_digest(nonce=nonce, items=order.items, total=order.total),
            )
        )
        whose = header_digest(header)
        order_box = seal(encode_order_compartment(order, header_digest=whose, nonce=nonce), sealing.order_key)
        card = encode_card(
            Card(pan=_GOOD_CARD.encode(), cvv=b"123", expiry_month=12, expiry_year=2035),
            header_digest=whose,
            order_box_digest=order_box_digest(order_box),
            amount=order.total.amount + (self.fate is Fate.QUARANTINED),
            currency=order.total.currency,
        )
        card_box = bytearray(seal(bytes(card), sealing.batch_key))
        if self.fate is Fate.UNREADABLE:
            card_box[-1] ^= 1
        boxes = {"header": header, "order": order_box, "card": bytes(card_box)}
        return {name: base64.b64encode(box).decode() for name, box in boxes.items()}


def sealing_keys(keys: Mapping[str, Any]) -> SealingKeys:
    """The keys that a page seals to, from the answer of ``GET /keys``."""
    order, batch = keys["order_key"], keys["batch_key"]
    return SealingKeys.of(bytes.fromhex(order["public_key"]), bytes.fromhex(batch["public_key"]))


def wishes(groups: tuple[tuple[Fate, ...], ...], first: int) -> list[list[Wish]]:
    """Wishes numbered from ``first``, in the groups in which they arrive."""
    made, number = [], first
    for group in groups:
        made.append([Wish(number=number + place, fate=fate) for place, fate in enumerate(group)])
        number += len(group)
    return made


DAYS = (wishes(FIRST_DAY, 0), wishes(SECOND_DAY, sum(map(len, FIRST_DAY))))
WISHES: tuple[Wish, ...] = tuple(wish for day in DAYS for group in day for wish in group)
