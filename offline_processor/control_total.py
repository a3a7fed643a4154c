"""The control total: how many orders and how much of each currency a run is about to charge.

Why here: a person compares it with the shop's own figure before any card is charged.
Must not: be computed from anything but what will be charged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from iso4217 import Currency

from offline_processor.errors import ProcessorError
from offline_processor.ledger.ledger import Ledger

_MONEY: Final = re.compile(
    r"(?P<code>[A-Za-z]{3}) ?(?P<whole>[0-9]{1,12})(?:\.(?P<part>[0-9]{1,4}))?", re.ASCII
)


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
    """Minor units as people write them: "EUR 12.50", "JPY 1250", "KWD 1.250".

    A currency that is none (a strange report may name one) is shown as it stands, with the amount in minor units.
    """
    try:
        exponent = Currency(currency).exponent or 0
    except ValueError:
        return f"{currency} {amount} (minor units)"
    whole, part = divmod(amount, 10**exponent)
    return f"{currency} {whole}.{part:0{exponent}d}" if exponent else f"{currency} {whole}"


def minor_units(text: str) -> tuple[int, str]:
    """The amount in minor units and the currency of "EUR 12.50"; ``USAGE-AMOUNT``."""
    found = _MONEY.fullmatch(text.strip())
    currency = None
    with suppress(ValueError):
        currency = Currency(found["code"].upper()) if found else None
    exponent = currency.exponent or 0 if currency else 0
    part = found["part"] or "" if found else ""
    if found is None or currency is None or len(part) not in (0, exponent):
        raise ProcessorError(
            "USAGE-AMOUNT", "an amount is a currency and a number with its decimals", "for example: EUR 12.50"
        )
    return int(found["whole"] + part.ljust(exponent, "0")), currency.code


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
