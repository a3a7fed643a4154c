"""Envelopes that are wrong in one place and right in all others.

Why here: a rule is shown only when nothing but it can refuse; so each layer is made anew around the falsified one.
Must not: falsify anything that was not asked for.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from keys.public.seal import seal
from tests.offline_processor.shop import VISA, Shop, a_card, an_order, key_text
from transfer.wire.basket import basket_digest
from transfer.wire.card import encode_card
from transfer.wire.envelope import Envelope, encode_envelope
from transfer.wire.header import Header, encode_header, header_digest
from transfer.wire.ids import basket_nonce, order_id
from transfer.wire.order import Order, pad
from transfer.wire.sealing import SealingKeys, order_box_digest

Edit = Callable[[dict[str, Any]], object]
"""Changes an order compartment's JSON in place."""


def forge(
    shop: Shop,
    number: int,
    *,
    keys: SealingKeys | None = None,
    order: Order | None = None,
    header: Mapping[str, Any] | None = None,
    edit: Edit = lambda document: None,
    text: bytes | None = None,
    padded: Callable[[bytes], bytes] = lambda right: right,
    card: Mapping[str, Any] | None = None,
    compartment: Callable[[bytearray], object] = lambda right: None,
) -> Envelope:
    """The order of this number with what was asked falsified: header fields, JSON, padding, card fields or bytes."""
    keys = keys or shop.keys_for()
    order = order or an_order(number)
    nonce = basket_nonce(key_text(number))
    right = Header(
        order_id=order_id(key_text(number)),
        order_key_id=keys.order_key_id,
        batch_key_id=keys.batch_key_id,
        time=shop.now,
        basket_digest=basket_digest(nonce=nonce, items=order.items, total=order.total),
    )
    raw_header = encode_header(dataclasses.replace(right, **(header or {})))
    whose = header_digest(raw_header)
    document = {**msgspec.to_builtins(order), "header": whose.hex(), "nonce": nonce.hex()}
    edit(document)
    written = json.dumps(document, ensure_ascii=False).encode() if text is None else text
    order_box = seal(padded(pad(written)), keys.order_key)
    fields = {
        "header_digest": whose,
        "order_box_digest": order_box_digest(order_box),
        "amount": order.total.amount,
        "currency": order.total.currency,
        **(card or {}),
    }
    plaintext = encode_card(a_card(VISA), **fields)
    compartment(plaintext)
    return Envelope(header=raw_header, order_box=order_box, card_box=seal(bytes(plaintext), keys.batch_key))


def with_byte_changed(raw: bytes, place: int, change: int = 1) -> bytes:
    """``raw`` with one byte changed by exclusive or."""
    changed = bytearray(raw)
    changed[place] ^= change
    return bytes(changed)


def with_header_byte(envelope: Envelope, place: int, value: int) -> bytes:
    """An encoded envelope whose header has another byte, which nothing else knows of."""
    raw = bytearray(encode_envelope(envelope))
    raw[place] = value
    return bytes(raw)
