"""The catalogue: what the shop sells, and the only source of prices.

Why here: an order's amounts must equal these, whatever its sender wrote.
Must not: read a price from a request, or guess one for a currency that the file does not give.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from intake.errors import IntakeError
from intake.money import CURRENCIES

SHIPPED = Path(__file__).with_name("catalogue.toml")
"""The small record shop that comes with the project."""

_SIZE_LIMIT = 1024 * 1024
_SKU = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_Price = Annotated[int, msgspec.Meta(ge=1, le=10**9)]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing for sale. ``prices``: minor units of one piece by currency."""

    sku: _Text
    artist: _Text
    title: _Text
    medium: _Text
    year: int
    prices: dict[str, _Price]


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    record: Annotated[list[Record], msgspec.Meta(min_length=1, max_length=10_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """``prices`` maps a currency to the price of each SKU; every record has a price in every currency."""

    records: Mapping[str, Record]
    prices: Mapping[str, Mapping[str, int]]


def load_catalogue(path: Path) -> Catalogue:
    """Read a catalogue file whole; ``CONFIG-CATALOGUE`` when it is missing, not TOML, or holds something impossible."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise IntakeError("CONFIG-CATALOGUE", f"cannot read {path}: {error.strerror}") from error
    if len(raw) > _SIZE_LIMIT:
        raise IntakeError("CONFIG-CATALOGUE", f"{path} is larger than {_SIZE_LIMIT} bytes")
    try:
        content = msgspec.convert(tomllib.loads(raw.decode("utf-8")), _File)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise IntakeError("CONFIG-CATALOGUE", f"{path}: {error}") from error
    return _checked(path, content.record)


def _checked(path: Path, records: list[Record]) -> Catalogue:
    by_sku: dict[str, Record] = {}
    currencies = set(records[0].prices)
    for record in records:
        if not _SKU.fullmatch(record.sku) or record.sku in by_sku:
            raise IntakeError(
                "CONFIG-CATALOGUE", f"{path}: {record.sku} is there twice or is not a possible SKU"
            )
        if set(record.prices) != currencies or not currencies:
            remedy = "give every record a price in the same currencies"
            raise IntakeError(
                "CONFIG-CATALOGUE", f"{path}: {record.sku} has other currencies than the rest", remedy
            )
        by_sku[record.sku] = record
    for currency in currencies:
        if currency not in CURRENCIES:
            raise IntakeError("CONFIG-CATALOGUE", f"{path}: {currency} is not an ISO 4217 currency")
    prices = {
        currency: {sku: record.prices[currency] for sku, record in by_sku.items()}
        for currency in sorted(currencies)
    }
    return Catalogue(records=by_sku, prices=prices)
