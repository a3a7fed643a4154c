"""The order compartment: who ordered what, to be sent where.

Why here: intake writes it and the offline side reads it; nothing between may import it (DESIGN.md, import rule 4).
Must not: contain anything of the card.
"""

from __future__ import annotations

import json
import struct
import unicodedata
from typing import Annotated

import msgspec

from keys.public.roll import Hex16, Hex32
from transfer.errors import TransferError

STEP = 512
COMPARTMENT_LIMIT = 16_384
_LENGTH = struct.Struct(">I")

Sku = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$(?!\n)")]
Currency = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}$(?!\n)")]
Country = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{2}$(?!\n)")]
Price = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
Amount = Annotated[int, msgspec.Meta(ge=1, le=10**12)]
Quantity = Annotated[int, msgspec.Meta(ge=1, le=999)]
Line = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``price`` is of one, in minor units."""

    sku: Sku
    quantity: Quantity
    price: Price


class Total(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``amount`` in minor units of ``currency`` (ISO 4217)."""

    amount: Amount
    currency: Currency


class Customer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who ordered."""

    name: Line
    email: Annotated[str, msgspec.Meta(min_length=3, max_length=254)]


class Delivery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to; ``country`` is ISO 3166-1 alpha-2."""

    lines: Annotated[list[Line], msgspec.Meta(min_length=1, max_length=4)]
    city: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    region: Annotated[str, msgspec.Meta(max_length=100)]
    postcode: Annotated[str, msgspec.Meta(max_length=20)]
    country: Country


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The order as the customer gave it, without the card."""

    items: Annotated[list[Item], msgspec.Meta(min_length=1, max_length=100)]
    total: Total
    customer: Customer
    delivery: Delivery


class OrderCompartment(Order, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An order with what binds it to its envelope: hex header digest and hex basket nonce."""

    header: Hex32
    nonce: Hex32


class SubjectRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person's request about their data; the order box of an envelope of kind 2."""

    header: Hex32
    request: Annotated[str, msgspec.Meta(pattern=r"^(export|erase|restrict)$(?!\n)")]
    email: Annotated[str, msgspec.Meta(min_length=3, max_length=254)]
    orders: Annotated[list[Hex16], msgspec.Meta(max_length=100)]


_encoder = msgspec.json.Encoder()
_order_decoder = msgspec.json.Decoder(OrderCompartment, strict=True)
_request_decoder = msgspec.json.Decoder(SubjectRequest, strict=True)


def pad(text: bytes) -> bytes:
    """u32 length || text || zeros to the next multiple of 512; ``ORDER-SIZE`` above 16,384 bytes."""
    size = -(-(_LENGTH.size + len(text)) // STEP) * STEP
    if size > COMPARTMENT_LIMIT:
        raise TransferError("ORDER-SIZE", "the order is too large to be sealed")
    return (_LENGTH.pack(len(text)) + text).ljust(size, b"\0")


def unpad(padded: bytes) -> bytes:
    """The text again; ``ORDER-PADDING`` unless the padding is the shortest possible and all zero."""
    if not _LENGTH.size <= len(padded) <= COMPARTMENT_LIMIT:
        raise TransferError("ORDER-PADDING", "the order compartment has an impossible size")
    (length,) = _LENGTH.unpack_from(padded)
    end = _LENGTH.size + length
    if len(padded) != -(-end // STEP) * STEP or padded.count(0, end) != len(padded) - end:
        raise TransferError("ORDER-PADDING", "the order compartment is not padded as FORMAT.md says")
    return padded[_LENGTH.size : end]


def encode_order_compartment(order: Order, *, header_digest: bytes, nonce: bytes) -> bytes:
    """The padded plaintext of an order box; ``ORDER-SIZE`` when the order is too large."""
    text = _encoder.encode(
        OrderCompartment(
            header=header_digest.hex(),
            nonce=nonce.hex(),
            items=order.items,
            total=order.total,
            customer=order.customer,
            delivery=order.delivery,
        )
    )
    return pad(text)


def decode_order_compartment(padded: bytes) -> OrderCompartment:
    """Parse an opened order box; refuses by ``ORDER-PADDING``, ``ORDER-FORM`` or ``ORDER-TEXT``."""
    text = unpad(padded)
    try:
        order = _order_decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise TransferError("ORDER-FORM", "the order does not have the form that FORMAT.md gives") from error
    _check_members(text, order)
    delivery = order.delivery
    texts = (order.customer.name, order.customer.email, delivery.city, delivery.region, delivery.postcode)
    _check_text("".join((*texts, *delivery.lines)))
    return order


def _check_members(text: bytes, read: msgspec.Struct) -> None:
    # A member that stands twice would be two orders to two readers. What we would write ourselves has none.
    if _encoder.encode(read) != text:
        json.loads(text, object_pairs_hook=_without_repeats)


def _without_repeats(members: list[tuple[str, object]]) -> None:
    if len({name for name, _ in members}) != len(members):
        raise TransferError("ORDER-FORM", "a member of the order stands there twice")


def _check_text(text: str) -> None:
    if not text.isprintable() and any(unicodedata.category(character) == "Cc" for character in text):
        raise TransferError("ORDER-TEXT", "a text of the order holds a control character")


def decode_subject_request(padded: bytes) -> SubjectRequest:
    """Parse the opened order box of a subject request; the rules are those of an order."""
    text = unpad(padded)
    try:
        request = _request_decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise TransferError(
            "ORDER-FORM", "the subject request does not have the form that FORMAT.md gives"
        ) from error
    _check_members(text, request)
    _check_text(request.email)
    return request


def encode_subject_request(request: SubjectRequest) -> bytes:
    """The padded plaintext of a subject request's order box."""
    return pad(_encoder.encode(request))
