"""The control total: how many orders and how much of each currency a run is about to charge.

Why here: a person compares it with the shop's own figure before any card is charged.
Must not: be computed from anything but what will be charged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from iso4217 import Currency

from offline_processor.ledger.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlTotal:
    """``amounts`` maps a currency to minor units."""

    orders: int
    amounts: Mapping[str, int]

    def __str__(self) -> str:
        count = "1 order" if self.orders == 1 else f"{self.orders} orders"
        if not self.amounts:
            return count
        return f"{count}: " + ", ".join(money(self.amounts[code], code) for code in sorted(self.amounts))


def money(amount: int, currency: str) -> str:
    """Minor units as people write them: "EUR 12.50", "JPY 1250", "KWD 1.250"."""
    exponent = Currency(currency).exponent or 0
    whole, part = divmod(amount, 10**exponent)
    return f"{currency} {whole}.{part:0{exponent}d}" if exponent else f"{currency} {whole}"


def same(total: ControlTotal, typed: str) -> bool:
    """True when what a person typed is this total, whatever its case and spaces."""
    return str(total).casefold().split() == typed.casefold().split()


def waiting_total(ledger: Ledger) -> ControlTotal:
    """The total of all orders that are screened and wait in bundles that nobody has confirmed yet."""
    rows = list(
        ledger.rows(
            "SELECT o.currency, count(*), sum(o.amount) FROM orders AS o JOIN bundle AS b"
            " ON b.node = o.node AND b.sequence = o.sequence"
            " WHERE b.state = 'screened' AND b.confirmed = '' AND o.state = 'screened' GROUP BY o.currency"
        )
    )
    return ControlTotal(
        orders=sum(count for _, count, _ in rows), amounts={currency: total for currency, _, total in rows}
    )
