"""The basket: what a customer has chosen so far, as the text of one cookie.

Why here: a cookie lets the shop work without JavaScript; it is set only when somebody puts a record into the basket.
Must not: hold a price (the catalogue has them) or anything about the customer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from intake.catalogue import Catalogue, Record
from intake.forms import QUANTITY_MAXIMUM

COOKIE = "basket"
LINES_MAXIMUM = 40
_TEXT_LIMIT = 3800  # browsers keep a cookie of 4096 bytes, its name and attributes included
_LINE = re.compile(r"([A-Za-z0-9._-]{1,64})\*([0-9]{1,3})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One record in the basket; ``price`` of one piece and ``amount`` of all in minor units."""

    record: Record
    quantity: int
    price: int

    @property
    def amount(self) -> int:
        return self.quantity * self.price


@dataclass(frozen=True, slots=True, kw_only=True)
class Basket:
    """SKUs and how many of each, in the order in which they were chosen."""

    currency: str
    quantities: Mapping[str, int] = field(default_factory=dict)

    @property
    def pieces(self) -> int:
        return sum(self.quantities.values())

    def lines(self, catalogue: Catalogue) -> Sequence[Line]:
        """The basket at the catalogue's prices."""
        prices = catalogue.prices[self.currency]
        return [
            Line(record=catalogue.records[sku], quantity=quantity, price=prices[sku])
            for sku, quantity in self.quantities.items()
        ]

    def total(self, catalogue: Catalogue) -> int:
        """Minor units."""
        return sum(line.amount for line in self.lines(catalogue))

    def with_added(self, sku: str) -> Basket:
        """One more of ``sku``; the same basket when it is full."""
        return self.with_quantity(sku, self.quantities.get(sku, 0) + 1)

    def with_quantity(self, sku: str, quantity: int) -> Basket:
        """``quantity`` of ``sku``, none for 0; the same basket when that is more than one holds."""
        if quantity > QUANTITY_MAXIMUM:
            return self
        kept = {**self.quantities, sku: quantity}
        if quantity <= 0:
            del kept[sku]
        changed = Basket(currency=self.currency, quantities=kept)
        is_full = len(kept) > LINES_MAXIMUM or len(write(changed)) > _TEXT_LIMIT
        return self if is_full and quantity > 0 else changed


def write(basket: Basket) -> str:
    """The cookie's value: ``EUR:LP-0001*1:CD-0101*2``."""
    return ":".join([basket.currency, *(f"{sku}*{count}" for sku, count in basket.quantities.items())])


def read(text: str, catalogue: Catalogue, *, currency: str) -> Basket:
    """The basket in a cookie; what is no longer sold, or was never written by us, is left out.

    ``currency`` holds where the cookie names none that the catalogue has.
    """
    named, _, rest = text[:_TEXT_LIMIT].partition(":")
    quantities: dict[str, int] = {}
    for part in rest.split(":")[:LINES_MAXIMUM]:
        line = _LINE.fullmatch(part)
        if line and line[1] in catalogue.records and int(line[2]) > 0:
            quantities[line[1]] = int(line[2])
    return Basket(currency=named if named in catalogue.prices else currency, quantities=quantities)
