"""Making an envelope from an order and a card: two compartments that fit only each other.

Why here: the one writer of envelopes on the Python side; the browser's page does the same steps.
Must not: keep the card; the plaintext buffer is wiped as soon as the box is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keys.public.digest import digest
from keys.public.seal import key_id, seal
from transfer.wire.basket import basket_digest
from transfer.wire.card import Card, encode_card
from transfer.wire.envelope import Envelope
from transfer.wire.header import ZERO_KEY_ID, Header, Kind, encode_header, header_digest
from transfer.wire.order import Order, SubjectRequest, encode_order_compartment, encode_subject_request


@dataclass(frozen=True, slots=True, kw_only=True)
class SealingKeys:
    """The public keys in use: 32 bytes each, with their ids."""

    order_key: bytes
    order_key_id: bytes
    batch_key: bytes
    batch_key_id: bytes

    @classmethod
    def of(cls, order_key: bytes, batch_key: bytes) -> SealingKeys:
        return cls(
            order_key=order_key,
            order_key_id=key_id(order_key),
            batch_key=batch_key,
            batch_key_id=key_id(batch_key),
        )


def order_box_digest(order_box: bytes) -> bytes:
    """What a card compartment carries to say which order box it belongs to."""
    return digest("order-box", order_box)


def seal_order(
    order: Order, card: Card, *, order_id: bytes, nonce: bytes, keys: SealingKeys, now: int
) -> Envelope:
    """Seal both compartments; ``order_id`` 16 bytes, ``nonce`` 32, ``now`` Unix seconds. ``ORDER-SIZE``."""
    header = encode_header(
        Header(
            order_id=order_id,
            order_key_id=keys.order_key_id,
            batch_key_id=keys.batch_key_id,
            time=now,
            basket_digest=basket_digest(nonce=nonce, items=order.items, total=order.total),
        )
    )
    whose = header_digest(header)
    order_box = seal(encode_order_compartment(order, header_digest=whose, nonce=nonce), keys.order_key)
    plaintext = encode_card(
        card,
        header_digest=whose,
        order_box_digest=order_box_digest(order_box),
        amount=order.total.amount,
        currency=order.total.currency,
    )
    try:
        card_box = seal(bytes(plaintext), keys.batch_key)
    finally:
        plaintext[:] = bytes(len(plaintext))
    return Envelope(header=header, order_box=order_box, card_box=card_box)


def seal_request(
    *, kind: str, email: str, orders: Sequence[str], request_id: bytes, order_key: bytes, now: int
) -> Envelope:
    """Seal what a person asks about their data; ``kind``: export, erase or restrict; the id: 16 random bytes."""
    header = encode_header(
        Header(
            kind=Kind.SUBJECT_REQUEST,
            order_id=request_id,
            order_key_id=key_id(order_key),
            batch_key_id=ZERO_KEY_ID,
            time=now,
            basket_digest=bytes(32),
        )
    )
    asked = SubjectRequest(header=header_digest(header).hex(), request=kind, email=email, orders=list(orders))
    return Envelope(header=header, order_box=seal(encode_subject_request(asked), order_key), card_box=b"")
