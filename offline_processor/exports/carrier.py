"""The carrier's file: one row a parcel, in the carrier's columns and letters.

Why here: a profile and the people of an export make its rows and its rejects.
Must not: cut a text to make it fit, or write a column that its profile does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import iso3166
from iso4217 import Currency

from offline_processor.exports.cells import csv_bytes, defused, has_controls
from offline_processor.exports.letters import in_letters
from offline_processor.exports.people import Person, Reject
from offline_processor.exports.profiles import FIELD_OF, Column, Profile, Source
from offline_processor.exports.purposes import Field


@dataclass(slots=True, kw_only=True)
class Sheet:
    """What goes into one file: its bytes are made last. ``changed``: orders of which letters were transliterated."""

    people: list[Person] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list, repr=False)
    fields: set[Field] = field(default_factory=set)
    changed: int = 0


def sheets_of(profile: Profile, people: Sequence[Person]) -> tuple[list[Sheet], list[Reject]]:
    """The files for these people, each with as many rows as the carrier takes, and whom they cannot have."""
    sheets: list[Sheet] = []
    rejects: list[Reject] = []
    for person in people:
        row, refused, changed = _row(profile, person)
        if refused is not None:
            rejects.append(refused)
            continue
        if not sheets or len(sheets[-1].rows) >= profile.rows:
            sheets.append(Sheet())
        sheets[-1].people.append(person)
        sheets[-1].rows.append(row)
        sheets[-1].fields |= _fields(profile, row)
        sheets[-1].changed += changed
    return sheets, rejects


def sheet_bytes(profile: Profile, sheet: Sheet) -> bytes:
    """The file."""
    header = [[column.name for column in profile.columns]] if profile.header else []
    return csv_bytes([*header, *sheet.rows], delimiter=profile.delimiter, encoding=profile.encoding.value)


def _fields(profile: Profile, row: Sequence[str]) -> set[Field]:
    """What of the person stands in this row: columns that are empty disclose nothing."""
    cells = zip(profile.columns, row, strict=True)
    return {FIELD_OF[column.field] for column, cell in cells if cell and column.field is not None}


def _row(profile: Profile, person: Person) -> tuple[list[str], Reject | None, bool]:
    """The row, or why there is none; and whether it has other letters than the person wrote."""
    if profile.countries and person.country not in profile.countries:
        why = f"{profile.title} does not go to {person.country}"
        return [], _reject(person, "EXPORT-ROW-COUNTRY", why), False
    row: list[str] = []
    changed = False
    for column in profile.columns:
        text = column.value if column.field is None else _text(column, profile, person)
        written = None if text is None else in_letters(text, profile.letters, profile.encoding)
        cell = None if written is None else defused(written)
        refused = _refused(column, profile, person, text, cell)
        if refused is not None:
            return [], refused, False
        changed = changed or written != (text or "").strip()
        row.append(cell or "")
    return row, None, changed


def _refused(
    column: Column, profile: Profile, person: Person, text: str | None, cell: str | None
) -> Reject | None:
    """Why this text, written as ``cell``, cannot go into this column; None when it can."""
    if text is None:
        why = f"{person.country} has no such code for {column.name}"
        return _reject(person, "EXPORT-ROW-COUNTRY", why)
    if cell is None or has_controls(cell):
        why = f"{column.name} has a character that {profile.title} cannot take"
        return _reject(person, "EXPORT-ROW-LETTERS", why)
    if not cell and (column.required or person.country in column.required_in):
        return _reject(person, "EXPORT-ROW-EMPTY", f"{column.name} is empty")
    if len(cell) > column.limit:
        why = f"{column.name} has {len(cell)} characters, {column.limit} at most"
        return _reject(person, "EXPORT-ROW-LENGTH", why)
    return None


def _text(column: Column, profile: Profile, person: Person) -> str | None:
    """What the column takes from the order; None for a country that has no code of the kind."""
    if column.field is None or (column.abroad and person.country == profile.home):
        return ""
    return _TEXTS[column.field](person)


def _line(person: Person, place: int) -> str:
    return person.lines[place] if place < len(person.lines) else ""


@lru_cache(maxsize=512)
def _country_code(country: str, *, numeric: bool) -> str | None:
    found = iso3166.countries_by_alpha2.get(country)
    if found is None:
        return None
    return found.numeric if numeric else found.alpha3


def decimal(amount: int, currency: str) -> str:
    """Minor units as a plain number: "12.50", "1250", "1.250"."""
    exponent = Currency(currency).exponent or 0
    whole, part = divmod(amount, 10**exponent)
    return f"{whole}.{part:0{exponent}d}" if exponent else str(whole)


_TEXTS: Final[dict[Source, Callable[[Person], str | None]]] = {
    Source.ORDER: lambda person: person.order_id,
    Source.NAME: lambda person: person.name,
    Source.LINE_1: lambda person: _line(person, 0),
    Source.LINE_2: lambda person: _line(person, 1),
    Source.LINE_3: lambda person: _line(person, 2),
    Source.LINE_4: lambda person: _line(person, 3),
    Source.LINES_REST: lambda person: ", ".join(person.lines[2:]),
    Source.CITY: lambda person: person.city,
    Source.REGION: lambda person: person.region,
    Source.POSTCODE: lambda person: person.postcode,
    Source.COUNTRY: lambda person: person.country,
    Source.COUNTRY_3: lambda person: _country_code(person.country, numeric=False),
    Source.COUNTRY_NUMERIC: lambda person: _country_code(person.country, numeric=True),
    Source.VALUE: lambda person: decimal(person.amount, person.currency),
    Source.CURRENCY: lambda person: person.currency,
}


def _reject(person: Person, rule: str, why: str) -> Reject:
    return Reject(order_id=person.order_id, rule=rule, why=why)
