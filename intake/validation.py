"""Judging an order's form: every faulty field is named at once, in words of ours.

Why here: the one gate between what a client sent and what is sealed; API and pages use it alike.
Must not: put a value that was sent into a fault; pointers hold our field names and positions only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from intake import forms, words
from intake.cards import YEARS_AHEAD, brand_of, number_fault, security_code_fault, without_spacing
from intake.catalogue import Catalogue
from intake.problems import Fault
from intake.sealed_form import SealedParts, read_sealed
from intake.texts import COUNTRIES, clean, email_address, is_harmful
from transfer.wire.card import Card
from transfer.wire.order import Customer, Delivery, Item, Order, Total

_SKU = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_DECEMBER = 12
_AMOUNT = "must be a whole number of minor units, and not too large"
_MISSING = object()


@dataclass(frozen=True, slots=True)
class _Members:
    """The members that an object may have."""

    names: frozenset[str]
    shown: str

    @classmethod
    def of(cls, *names: str) -> _Members:
        return cls(frozenset(names), "holds a member that is not known; known are " + ", ".join(names))


_PLAIN = _Members.of("items", "total", "customer", "delivery", "card")
_SEALED = _Members.of("items", "total", "sealed")
_ITEM = _Members.of("sku", "quantity")
_TOTAL = _Members.of("amount", "currency")
_CUSTOMER = _Members.of("name", "email")
_DELIVERY = _Members.of("lines", "city", "region", "postcode", "country")
_CARD = _Members.of("number", "expiry_month", "expiry_year", "security_code")
_BOXES = _Members.of("header", "order", "card")


# Structs, not dataclasses: a frozen dataclass costs a microsecond and a half to make, and each order makes several.
class Basket(msgspec.Struct, frozen=True, kw_only=True):
    """What was ordered at the catalogue's prices; the only part of an order that intake may know in both modes."""

    items: Sequence[Item]
    total: Total


class PlainContents(msgspec.Struct, frozen=True, kw_only=True):
    """An order in clear and its card, to be sealed at once and dropped."""

    order: Order
    card: Card

    def __repr__(self) -> str:
        return "PlainContents()"


class CheckedForm(msgspec.Struct, frozen=True, kw_only=True):
    """``basket`` is None when a field of it is faulty; ``contents`` is None when any field at all is."""

    basket: Basket | None
    contents: PlainContents | SealedParts | None
    faults: Sequence[Fault]


class _Reader:
    """Walks a decoded body and collects faults."""

    __slots__ = ("catalogue", "faults", "month", "year")

    def __init__(self, catalogue: Catalogue, year: int, month: int) -> None:
        self.catalogue = catalogue
        self.year = year
        self.month = month
        self.faults: list[Fault] = []

    def fault(self, pointer: str, detail: str) -> None:
        self.faults.append(Fault(pointer=pointer, detail=detail))

    def members(self, value: object, pointer: str, known: _Members) -> dict[str, Any] | None:
        """``value`` as an object with no members but ``known``; one that is missing counts as empty."""
        if value is _MISSING:
            return {}  # so that each of its fields is named as missing
        if type(value) is not dict:
            self.fault(pointer, "must be an object")
            return None
        if not known.names.issuperset(value):
            # The name of an unknown member is something the client sent, so it is not shown.
            self.fault(pointer, known.shown)
        return value

    def integer(
        self, holder: dict[str, Any], name: str, pointer: str, low: int, high: int, wanted: str = ""
    ) -> int | None:
        value = holder.get(name, _MISSING)
        if type(value) is int and low <= value <= high:
            return value
        wanted = wanted or f"must be a whole number from {low} to {high}"
        self.fault(f"{pointer}/{name}", words.MISSING if value is _MISSING else wanted)
        return None

    def string(self, holder: dict[str, Any], name: str, pointer: str) -> str | None:
        value = holder.get(name, _MISSING)
        if type(value) is str:
            return value
        self.fault(f"{pointer}/{name}", words.MISSING if value is _MISSING else "must be a string")
        return None

    def text(self, value: object, pointer: str, low: int, high: int) -> str:
        """A cleaned text of ``low`` to ``high`` characters; the fault is collected and the text useless otherwise."""
        if type(value) is not str:
            self.fault(pointer, words.MISSING if value is _MISSING else "must be a string")
            return ""
        cleaned = clean(value)
        if len(cleaned) < low:
            self.fault(pointer, words.EMPTY)
        elif len(cleaned) > high:
            self.fault(pointer, words.at_most(high))
        elif is_harmful(cleaned):
            self.fault(pointer, words.CONTROL)
        return cleaned

    def basket(self, body: dict[str, Any]) -> Basket | None:
        before = len(self.faults)
        currency, amount = self.total(body.get("total", _MISSING))
        prices = self.catalogue.prices.get(currency) if currency else None
        items = self.items(body.get("items", _MISSING), prices)
        if len(self.faults) > before or amount is None or currency is None:
            return None
        if sum(item.quantity * item.price for item in items) != amount:
            self.fault("/total/amount", "is not what the items cost at the catalogue's prices")
            return None
        return Basket(items=items, total=Total(amount=amount, currency=currency))

    def total(self, value: object) -> tuple[str | None, int | None]:
        holder = self.members(value, "/total", _TOTAL)
        if holder is None:
            return None, None
        amount = self.integer(holder, "amount", "/total", 1, forms.AMOUNT_MAXIMUM, _AMOUNT)
        currency = self.string(holder, "currency", "/total")
        if currency is not None and currency not in self.catalogue.prices:
            self.fault("/total/currency", "must be one of " + ", ".join(self.catalogue.prices))
            currency = None
        return currency, amount

    def items(self, value: object, prices: Mapping[str, int] | None) -> list[Item]:
        items: list[Item] = []
        if type(value) is not list:
            self.fault("/items", words.MISSING if value is _MISSING else "must be a list")
            return items
        if not 1 <= len(value) <= forms.ITEMS_MAXIMUM:
            self.fault("/items", f"must have 1 to {forms.ITEMS_MAXIMUM} items")
            return items
        for position, entry in enumerate(value):
            if item := self.item(entry, f"/items/{position}", prices):
                items.append(item)
        return items

    def item(self, entry: object, pointer: str, prices: Mapping[str, int] | None) -> Item | None:
        holder = self.members(entry, pointer, _ITEM)
        if holder is None:
            return None
        sku = self.string(holder, "sku", pointer)
        quantity = self.integer(holder, "quantity", pointer, 1, forms.QUANTITY_MAXIMUM)
        if sku is not None and sku not in self.catalogue.records:
            self.fault(f"{pointer}/sku", "is not in the catalogue")
        elif sku is not None and quantity is not None and prices is not None:
            return Item(sku=sku, quantity=quantity, price=prices[sku])
        return None

    def customer(self, value: object) -> Customer | None:
        holder = self.members(value, "/customer", _CUSTOMER)
        if holder is None:
            return None
        name = self.text(holder.get("name", _MISSING), "/customer/name", 1, forms.TEXT_MAXIMUM)
        typed = self.string(holder, "email", "/customer")
        email = None if typed is None else email_address(typed.strip(" "))
        if typed is not None and email is None:
            self.fault("/customer/email", words.EMAIL)
        return Customer(name=name, email=email or "")

    def delivery(self, value: object) -> Delivery | None:
        holder = self.members(value, "/delivery", _DELIVERY)
        if holder is None:
            return None
        lines = holder.get("lines", _MISSING)
        cleaned: list[str] = []
        if type(lines) is not list:
            self.fault("/delivery/lines", words.MISSING if lines is _MISSING else "must be a list of strings")
        elif not 1 <= len(lines) <= forms.LINES_MAXIMUM:
            self.fault("/delivery/lines", f"must have 1 to {forms.LINES_MAXIMUM} lines")
        else:
            cleaned = [
                self.text(line, f"/delivery/lines/{position}", 1, forms.TEXT_MAXIMUM)
                for position, line in enumerate(lines)
            ]
        city = self.text(holder.get("city", _MISSING), "/delivery/city", 1, forms.CITY_MAXIMUM)
        region = self.text(holder.get("region", ""), "/delivery/region", 0, forms.CITY_MAXIMUM)
        postcode = self.text(holder.get("postcode", ""), "/delivery/postcode", 0, forms.POSTCODE_MAXIMUM)
        country = self.string(holder, "country", "/delivery")
        if country is not None and country not in COUNTRIES:
            self.fault("/delivery/country", words.COUNTRY)
        return Delivery(lines=cleaned, city=city, region=region, postcode=postcode, country=country or "")

    def card(self, value: object) -> Card | None:
        holder = self.members(value, "/card", _CARD)
        if holder is None:
            return None
        typed = self.string(holder, "number", "/card")
        digits = None if typed is None else without_spacing(typed)
        brand = brand_of(digits or "")
        if typed is not None and (wrong := number_fault(digits, brand)):
            self.fault("/card/number", wrong)
        month = self.integer(holder, "expiry_month", "/card", 1, _DECEMBER)
        year = self.integer(holder, "expiry_year", "/card", 2000, 9999)
        if year is not None and (year < self.year or year > self.year + YEARS_AHEAD):
            past = year < self.year
            self.fault("/card/expiry_year", words.EXPIRED if past else words.TOO_FAR)
        elif year == self.year and month is not None and month < self.month:
            # A card holds to the last moment of the month printed on it.
            self.fault("/card/expiry_month", words.EXPIRED)
        code = self.string(holder, "security_code", "/card")
        if code is not None and (wrong := security_code_fault(code, brand)):
            self.fault("/card/security_code", wrong)
        if self.faults or digits is None or code is None or month is None or year is None:
            return None
        return Card(pan=digits.encode(), cvv=code.encode(), expiry_month=month, expiry_year=year)


def check_form(body: object, *, catalogue: Catalogue, year: int, month: int) -> CheckedForm:
    """Judge a decoded body. ``year`` and ``month`` are of now, for the card's expiry."""
    reader = _Reader(catalogue, year, month)
    if type(body) is not dict:
        reader.fault("", "must be an object")
        return CheckedForm(basket=None, contents=None, faults=reader.faults)
    is_sealed = "sealed" in body
    reader.members(body, "", _SEALED if is_sealed else _PLAIN)
    basket = reader.basket(body)
    contents: PlainContents | SealedParts | None = None
    if is_sealed:
        contents = read_sealed(reader.members(body["sealed"], "/sealed", _BOXES), reader.fault)
    else:
        customer = reader.customer(body.get("customer", _MISSING))
        delivery = reader.delivery(body.get("delivery", _MISSING))
        card = reader.card(body.get("card", _MISSING))
        if basket and customer and delivery and card and not reader.faults:
            order = Order(items=list(basket.items), total=basket.total, customer=customer, delivery=delivery)
            contents = PlainContents(order=order, card=card)
    return CheckedForm(basket=basket, contents=None if reader.faults else contents, faults=reader.faults)
