"""Vectors of sealed orders: what only the offline side can judge.

Why here: a sealed box is random, so these are made once and then kept; the maker copies them unless told otherwise.
Must not: hold more than one fault in a vector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from msgspec.structs import replace as changed

from keys.public.seal import key_id, seal
from tests.vectors import cast
from tests.vectors.form import OK, Vector
from transfer.wire.basket import basket_digest
from transfer.wire.card import CARD_SIZE, encode_card
from transfer.wire.envelope import Envelope, encode_envelope
from transfer.wire.header import Header, Kind, encode_header, header_digest
from transfer.wire.order import Order, Total, encode_order_compartment
from transfer.wire.sealing import order_box_digest

FILE = "sealed-orders.json"
_ORDER_KEY, _BATCH_KEY = cast.SEALING.order_key, cast.SEALING.batch_key
Change = Callable[[bytes], bytes]


def same(raw: bytes) -> bytes:
    """No change."""
    return raw


def _flip_last(raw: bytes) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 1])


def _seal(  # one argument for each thing that a vector can falsify
    name: str,
    what: str,
    expect: str = OK,
    *,
    header: Header = cast.HEADER,
    order: Order = cast.ORDER,
    written_in_order: Header | None = None,
    written_in_card: Header | None = None,
    amount: int | None = None,
    currency: str = "EUR",
    order_plaintext: Change = same,
    card_plaintext: Change = same,
    order_box: Change = same,
    card_box: Change = same,
    bound_box: Change = same,
    batch_key: bytes = _BATCH_KEY,
    order_key: bytes = _ORDER_KEY,
) -> Vector:
    raw_header = encode_header(header)
    plain_order = order_plaintext(
        encode_order_compartment(
            order, header_digest=header_digest(encode_header(written_in_order or header)), nonce=cast.NONCE
        )
    )
    sealed_order = seal(plain_order, order_key)
    plain_card = card_plaintext(
        bytes(
            encode_card(
                cast.CARD,
                header_digest=header_digest(encode_header(written_in_card or header)),
                order_box_digest=order_box_digest(bound_box(sealed_order)),
                amount=order.total.amount if amount is None else amount,
                currency=currency,
            )
        )
    )
    envelope = Envelope(
        header=raw_header,
        order_box=order_box(sealed_order),
        card_box=card_box(seal(plain_card, batch_key)),
    )
    output = {"order": plain_order.hex(), "card": plain_card.hex()} if expect == OK else {}
    return Vector(
        name=name,
        kind="sealed-order",
        what=what,
        inputs={
            "envelope": encode_envelope(envelope).hex(),
            "order_private": bytes(cast.ORDER_KEY).hex(),
            "batch_private": bytes(cast.BATCH_KEY).hex(),
        },
        expect=expect,
        output=output,
    )


def sealed_orders() -> list[Vector]:
    """The cast's order, sealed anew, and one fault at a time."""
    later = replace(cast.HEADER, time=cast.NOW + 1)
    other_key = bytes(cast.OTHER_KEY.public_key)
    too_much = changed(cast.ORDER, total=Total(amount=4999, currency="EUR"))
    wrong_sum = replace(cast.HEADER, basket_digest=_digest_of(too_much))
    return [
        _seal("sealed-order", "opens, and everything agrees"),
        _seal(
            "sealed-order-box-damaged", "one bit of the order box", "ORDER-UNREADABLE", order_box=_flip_last
        ),
        _seal(
            "sealed-order-box-cut",
            "one byte of it is missing",
            "ORDER-UNREADABLE",
            order_box=lambda box: box[:-1],
        ),
        _seal("sealed-order-box-empty", "no order box", "ORDER-UNREADABLE", order_box=lambda box: b""),
        _seal(
            "sealed-order-to-another-key",
            "not sealed to the key named",
            "ORDER-UNREADABLE",
            order_key=other_key,
        ),
        _seal("sealed-card-box-damaged", "one bit of the card box", "CARD-UNREADABLE", card_box=_flip_last),
        _seal(
            "sealed-card-box-cut",
            "one byte of it is missing",
            "CARD-UNREADABLE",
            card_box=lambda box: box[:-1],
        ),
        _seal("sealed-card-box-empty", "no card box", "CARD-UNREADABLE", card_box=lambda box: b""),
        _seal(
            "sealed-card-to-another-key",
            "not sealed to the key named",
            "CARD-UNREADABLE",
            batch_key=other_key,
        ),
        _seal(
            "sealed-order-of-another-header",
            "written for a later header",
            "ORDER-HEADER",
            written_in_order=later,
        ),
        _seal(
            "sealed-card-of-another-header",
            "written for a later header",
            "CARD-HEADER",
            written_in_card=later,
        ),
        _seal(
            "sealed-card-of-another-address",
            "bound to another order box",
            "CARD-ORDER-BOX",
            bound_box=_flip_last,
        ),
        _seal(
            "sealed-basket-exchanged",
            "the header's basket digest is another basket's",
            "ORDER-BASKET-DIGEST",
            header=replace(cast.HEADER, basket_digest=bytes(32)),
        ),
        _seal(
            "sealed-total-wrong", "the total is not the sum", "ORDER-TOTAL", order=too_much, header=wrong_sum
        ),
        _seal("sealed-amount-differs", "the card is to pay one cent less", "ORDER-AMOUNT", amount=4997),
        _seal(
            "sealed-currency-differs",
            "the card is to pay in another currency",
            "ORDER-AMOUNT",
            currency="USD",
        ),
        _seal("sealed-suite-2", "an unknown suite", "ORDER-SUITE", header=replace(cast.HEADER, suite=2)),
        _seal(
            "sealed-order-key-unknown",
            "an order key that is not ours",
            "ORDER-KEY",
            header=replace(cast.HEADER, order_key_id=key_id(other_key)),
        ),
        _seal(
            "sealed-batch-key-of-another-bundle",
            "a batch key that is not the manifest's",
            "ORDER-BATCH-KEY",
            header=replace(cast.HEADER, batch_key_id=key_id(other_key)),
        ),
        _seal(
            "sealed-request-among-orders",
            "a subject request with a card",
            "ORDER-KIND",
            header=replace(cast.HEADER, kind=Kind.SUBJECT_REQUEST),
        ),
        _seal("sealed-order-badly-padded", "the last byte is 1", "ORDER-PADDING", order_plaintext=_flip_last),
        _seal(
            "sealed-order-not-json",
            "a brace is missing",
            "ORDER-FORM",
            order_plaintext=lambda raw: raw.replace(b"{", b" ", 1),
        ),
        _seal("sealed-card-not-padded", "the last byte is 1", "CARD-FORM", card_plaintext=_flip_last),
        _seal("sealed-card-of-zeros", "all zero", "CARD-FORM", card_plaintext=lambda raw: bytes(CARD_SIZE)),
    ]


def _digest_of(order: Order) -> bytes:
    return basket_digest(nonce=cast.NONCE, items=order.items, total=order.total)
