"""Asking the second implementation: its programs, the orders that it is given, and the keys.

Why here: the tests of sealing, of judging and of the vectors all ask it.
Must not: give it any bytes that our own code made for it to copy.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any

import msgspec

from keys.private.locked import LockedBuffer
from keys.private.unseal import SealingKey, open_box, open_box_into
from keys.public.digest import digest
from tests.tools.known import WIRE_JS, find
from tests.transfer.house import NOW
from transfer.wire.card import CARD_SIZE, Card
from transfer.wire.envelope import Envelope
from transfer.wire.ids import basket_nonce, order_id
from transfer.wire.order import Order
from transfer.wire.sealing import SealingKeys, seal_order

Json = dict[str, Any]
SAMPLE = {
    "items": [{"sku": "LP-0001", "quantity": 1, "price": 2499}],
    "total": {"amount": 2499, "currency": "EUR"},
    "customer": {"name": "Anna Muster", "email": "anna@example.org"},
    "delivery": {
        "lines": ["Hauptstraße 1"],
        "city": "Köln",
        "region": "",
        "postcode": "50667",
        "country": "DE",
    },
}
VISA = {"number": "4242424242424242", "expiry_month": 12, "expiry_year": 2031, "security_code": "123"}
AMEX = {"number": "378282246310005", "expiry_month": 1, "expiry_year": 2030, "security_code": "1234"}
NINETEEN = {"number": "6304000000000000006", "expiry_month": 9, "expiry_year": 2099, "security_code": "000"}
TWELVE = {"number": "500000000009", "expiry_month": 2, "expiry_year": 2031, "security_code": "999"}


def javascript(program: str, questions: list[Json]) -> list[Json]:
    """Ask a program of the second implementation many things at once."""
    node = find("node")
    assert node is not None
    result = subprocess.run(
        [node, WIRE_JS / program],
        input=json.dumps(questions).encode(),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr.decode()
    answers: list[Json] = json.loads(result.stdout)
    return answers


def verify(check: str, **question: Any) -> Json:
    return javascript("verify.mjs", [{"check": check, **question}])[0]


def changed(order: Json, **members: Json) -> Json:
    return {**order, **{name: {**order[name], **value} for name, value in members.items()}}


def bought(currency: str, *items: tuple[str, int, int]) -> Json:
    wanted = [{"sku": sku, "quantity": quantity, "price": price} for sku, quantity, price in items]
    amount = sum(quantity * price for _, quantity, price in items)
    return {**SAMPLE, "items": wanted, "total": {"amount": amount, "currency": currency}}


NOTE = "\U0001f3b6"  # four bytes of UTF-8, one character, two of JavaScript's


def of_size(size: int) -> Json:
    """An order whose length and JSON have exactly this many bytes together."""
    order = changed(SAMPLE, customer={"name": "A"}, delivery={"lines": ["x"] * 4, "city": "K"})
    if size > 4096:
        goods = bought("IDR", *[("S" * 64, 10, 10**9)] * 99, ("X", 1, 1))
        order |= {"items": goods["items"], "total": goods["total"]}
        order = changed(order, customer={"name": NOTE * 200, "email": NOTE * 254})
        order = changed(order, delivery={"city": NOTE * 100, "region": NOTE * 100})
    missing = size - 4 - len(written(order))
    lines = []
    for _ in range(4):
        grown = min(missing, 199 * 4)
        lines.append("x" + NOTE * (grown // 4) + "y" * (grown % 4))
        missing -= grown
    assert missing == 0, (size, missing)
    return changed(order, delivery={"lines": lines})


def written(order: Json) -> bytes:
    """The JSON of an order compartment, its digests zero, as both sides would write it."""
    bound = {"header": "0" * 64, "nonce": "0" * 64, **order}
    return json.dumps(bound, separators=(",", ":"), ensure_ascii=False).encode()


ORDERS: dict[str, tuple[Json, Json]] = {
    "plain": (SAMPLE, VISA),
    "amex": (SAMPLE, AMEX),
    "pan of 19": (SAMPLE, NINETEEN),
    "pan of 12": (SAMPLE, TWELVE),
    "yen": (bought("JPY", ("LP-0001", 2, 3200)), VISA),
    "dinars": (bought("KWD", ("CD-0001", 1, 12_345), ("BOX.9_z", 3, 7)), VISA),
    "greatest": (bought("IDR", ("X", 1, 10**12)), VISA),
    "free record": (bought("EUR", ("X", 999, 0), ("Y", 1, 1)), VISA),
    "hundred items": (bought("EUR", *[(f"LP-{n:04d}", n + 1, 100 + n) for n in range(100)]), VISA),
    "greek": (
        changed(SAMPLE, customer={"name": "Ἀλέξανδρος Παπαδόπουλος"}, delivery={"country": "GR"}),
        VISA,
    ),
    "arabic": (changed(SAMPLE, customer={"name": "\u0645\u062d\u0645\u062f \u200f\u0639\u0644\u064a"}), VISA),
    "japanese": (
        changed(SAMPLE, delivery={"lines": ["千代田区千代田1番1号"], "city": "東京都", "country": "JP"}),
        VISA,
    ),
    "combining": (changed(SAMPLE, customer={"name": "A\u030asa O\u0308lund"}), VISA),
    "outside the first plane": (changed(SAMPLE, customer={"name": NOTE * 200}), VISA),
    "escapes": (changed(SAMPLE, customer={"name": 'Zoë "Z" \\ O\'Neil </b> \u2028 &'}), VISA),
    "long lines": (changed(SAMPLE, delivery={"lines": ["ü" * 200] * 4, "region": "r" * 100}), VISA),
    "longest": (changed(SAMPLE, customer={"name": "n" * 200, "email": "e" * 254}), VISA),
    **{f"{size} bytes": (of_size(size), VISA) for size in (511, 512, 513, 1024, 1025, 16_383, 16_384)},
}


def key_text(name: str) -> str:
    return digest("test", name.encode()).hex()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Key pairs of ours; JavaScript gets the public halves to seal, and test keys' private halves to open."""

    order: SealingKey
    batch: SealingKey

    @property
    def public(self) -> SealingKeys:
        return SealingKeys.of(self.order.public_key, self.batch.public_key)

    def question(self, name: str, order: Json, card: Json) -> Json:
        return {
            "idempotency_key": key_text(name),
            "order_key": self.order.public_key.hex(),
            "batch_key": self.batch.public_key.hex(),
            "time": NOW,
            "order": order,
            "card": card,
        }

    def order_text(self, envelope: Envelope) -> bytes:
        return open_box(envelope.order_box, self.order.public_key, self.order.private)

    def card_text(self, envelope: Envelope) -> bytes:
        with LockedBuffer(CARD_SIZE) as card:
            open_box_into(envelope.card_box, self.batch.public_key, self.batch.private, card.view)
            return bytes(card.view)


def ours(keys: Keys, name: str) -> Envelope:
    order, card = ORDERS[name]
    return seal_order(
        msgspec.convert(order, Order),
        as_card(card),
        order_id=order_id(key_text(name)),
        nonce=basket_nonce(key_text(name)),
        keys=keys.public,
        now=NOW,
    )


def as_card(card: Json) -> Card:
    return Card(
        pan=card["number"].encode(),
        cvv=card["security_code"].encode(),
        expiry_month=card["expiry_month"],
        expiry_year=card["expiry_year"],
    )


def flipped(raw: bytes, place: int) -> bytes:
    return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
