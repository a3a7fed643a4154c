"""Money: minor units and the words for them, and the control total of many orders.

Why here: catalogue, sample and reports must show an amount alike.
Must not: compute with anything but integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import iso4217

CURRENCIES: Mapping[str, int] = {
    currency.code: currency.exponent for currency in iso4217.Currency if currency.exponent is not None
}
"""Every ISO 4217 currency that has minor units, with its exponent."""


def money(amount: int, currency: str) -> str:
    """``amount`` minor units as people write it: EUR 24.99, JPY 1200, KWD 3.500."""
    exponent = CURRENCIES[currency]
    whole, part = divmod(amount, 10**exponent)
    return f"{currency} {whole}.{part:0{exponent}d}" if exponent else f"{currency} {whole}"


def control_total(totals: Iterable[tuple[int, str]]) -> str:
    """The count of orders and the sum of each currency: ``40 orders: EUR 123.45, JPY 1200``."""
    sums: dict[str, int] = {}
    count = 0
    for amount, currency in totals:
        count += 1
        sums[currency] = sums.get(currency, 0) + amount
    orders = "1 order" if count == 1 else f"{count} orders"
    parts = ", ".join(money(sums[currency], currency) for currency in sorted(sums))
    return f"{orders}: {parts}" if parts else orders
