"""The documents of the HTTP interface, as types: what a shop's developer sends and gets.

Why here: the OpenAPI document is made from these, so that it cannot say something else than the code.
Must not: be used to judge a request; a typed decoder stops at the first fault, and validation names all of them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from keys.public.roll import KeyEntry
from transfer.wire.records import Reason

ITEMS_MAXIMUM = 100
QUANTITY_MAXIMUM = 999
AMOUNT_MAXIMUM = 10**12
LINES_MAXIMUM = 4
TEXT_MAXIMUM = 200
CITY_MAXIMUM = 100
POSTCODE_MAXIMUM = 20
EMAIL_MAXIMUM = 254

_Text = Annotated[str, Meta(min_length=1, max_length=TEXT_MAXIMUM)]
_Base64 = Annotated[str, Meta(extra_json_schema={"contentEncoding": "base64"})]
_Hex16 = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class ItemForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the basket; the price is the catalogue's."""

    sku: Annotated[str, Meta(pattern="^[A-Za-z0-9._-]{1,64}$", examples=["LP-0001"])]
    quantity: Annotated[int, Meta(ge=1, le=QUANTITY_MAXIMUM, examples=[1])]


class TotalForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Amount in minor units (ISO 4217 exponent); must be the sum of the catalogue's prices."""

    amount: Annotated[int, Meta(ge=1, le=AMOUNT_MAXIMUM, examples=[2499])]
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$", examples=["EUR"])]


class CustomerForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who orders."""

    name: Annotated[_Text, Meta(examples=["Zoë Müller"])]
    email: Annotated[str, Meta(min_length=3, max_length=EMAIL_MAXIMUM, examples=["zoe.mueller@example.com"])]


class DeliveryForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to send it. ``country`` is an ISO 3166-1 code of two letters."""

    lines: Annotated[list[_Text], Meta(min_length=1, max_length=LINES_MAXIMUM, examples=[["Hauptstraße 5"]])]
    city: Annotated[str, Meta(min_length=1, max_length=CITY_MAXIMUM, examples=["Köln"])]
    country: Annotated[str, Meta(pattern="^[A-Z]{2}$", examples=["DE"])]
    region: Annotated[str, Meta(max_length=CITY_MAXIMUM)] = ""
    postcode: Annotated[str, Meta(max_length=POSTCODE_MAXIMUM, examples=["50667"])] = ""


class CardForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The card. It is sealed at once and kept nowhere in clear."""

    number: Annotated[str, Meta(examples=["4242 4242 4242 4242"])]
    expiry_month: Annotated[int, Meta(ge=1, le=12, examples=[12])]
    expiry_year: Annotated[int, Meta(ge=2000, le=9999, examples=[2030])]
    security_code: Annotated[str, Meta(pattern="^[0-9]{3,4}$", examples=["123"])]


class SealedForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An envelope that the browser sealed (FORMAT.md, section 4), each part in base64 with padding."""

    header: _Base64
    order: _Base64
    card: _Base64


class PlainOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An order in plain fields, sealed by this server at once."""

    items: Annotated[list[ItemForm], Meta(min_length=1, max_length=ITEMS_MAXIMUM)]
    total: TotalForm
    customer: CustomerForm
    delivery: DeliveryForm
    card: CardForm


class SealedOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An order that the customer's browser sealed; only the basket is in clear."""

    items: Annotated[list[ItemForm], Meta(min_length=1, max_length=ITEMS_MAXIMUM)]
    total: TotalForm
    sealed: SealedForm


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The order is sealed and durable. ``access_token`` opens its status, and nothing else."""

    order_id: _Hex16
    status: Literal["received"]
    access_token: str


class OrderStatus(StrEnum):
    """The states that an order's status has: two before the first return, then those of FORMAT.md, section 11."""

    RECEIVED = "received"
    IN_TRANSIT = "in-transit"
    HELD = "held"
    AUTHORISED = "authorised"
    PAID = "paid"
    DECLINED = "declined"
    ORDER_AGAIN = "order-again"
    DISPATCHED = "dispatched"
    REFUNDED = "refunded"


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Where an order is. ``changed_at``: seconds since 1970."""

    order_id: _Hex16
    status: OrderStatus
    reason: Reason
    changed_at: int


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """What to seal to now: both entries as the offline identity signed them (FORMAT.md, section 9)."""

    node: str
    order_key: KeyEntry
    batch_key: KeyEntry


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """The process answers."""

    status: Literal["live"] = "live"


class NoticeForm(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the administrator must see to, with its rule id and what to do."""

    rule: str
    message: str
    remedy: str


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Orders can be taken. ``warnings`` are for the administrator; ``notices`` are the same with what to do."""

    status: Literal["ready"] = "ready"
    keys_left: int
    warnings: list[str] = []
    notices: list[NoticeForm] = []
