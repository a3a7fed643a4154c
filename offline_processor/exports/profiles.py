"""Carrier profiles: which columns a carrier's file has, and what of an order goes into each.

Why here: a shop adds its carrier with a TOML file, not with code.
Must not: take an unknown key, or a field that the carrier purpose does not declare.
"""

from __future__ import annotations

import tomllib
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from offline_processor.errors import ProcessorError
from offline_processor.exports.letters import Encoding, Letters
from offline_processor.exports.purposes import PURPOSES, Field, Purpose
from transfer.wire.order import Country

SHIPPED: Final = ("royal-mail", "ups", "dpd")
_SIZE_LIMIT: Final = 64 * 1024
_COLUMNS_LIMIT: Final = 200


class Source(StrEnum):
    """Where a column's text comes from. ``rest`` of the lines: from line 3 on, in one column."""

    ORDER = "order"
    NAME = "name"
    LINE_1 = "line1"
    LINE_2 = "line2"
    LINE_3 = "line3"
    LINE_4 = "line4"
    LINES_REST = "lines-from-3"
    CITY = "city"
    REGION = "region"
    POSTCODE = "postcode"
    COUNTRY = "country"
    COUNTRY_3 = "country-alpha3"
    COUNTRY_NUMERIC = "country-numeric"
    VALUE = "value"
    CURRENCY = "currency"


FIELD_OF: Final[dict[Source, Field]] = {
    Source.ORDER: Field.ORDER,
    Source.NAME: Field.NAME,
    Source.LINE_1: Field.LINES,
    Source.LINE_2: Field.LINES,
    Source.LINE_3: Field.LINES,
    Source.LINE_4: Field.LINES,
    Source.LINES_REST: Field.LINES,
    Source.CITY: Field.CITY,
    Source.REGION: Field.REGION,
    Source.POSTCODE: Field.POSTCODE,
    Source.COUNTRY: Field.COUNTRY,
    Source.COUNTRY_3: Field.COUNTRY,
    Source.COUNTRY_NUMERIC: Field.COUNTRY,
    Source.VALUE: Field.VALUE,
    Source.CURRENCY: Field.VALUE,
}

_Name = Annotated[str, msgspec.Meta(pattern=r"^[ -~]{1,64}$(?!\n)")]
_Word = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$(?!\n)")]
_Value = Annotated[str, msgspec.Meta(pattern=r"^[ -~]{0,64}$(?!\n)")]


class Column(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One column: a ``field`` of the order, or the same ``value`` in every row; neither leaves it empty.

    A text longer than ``limit``, or none where one is ``required`` (everywhere, or in these countries), makes the row
    a reject. ``abroad``: only for parcels that leave the profile's ``home``.
    """

    name: _Name
    field: Source | None = None
    value: _Value = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 255
    required: bool = False
    required_in: tuple[Country, ...] = ()
    abroad: bool = False


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A carrier's file. ``carrier`` stands in the disclosure log; ``rows``: how many a file may have."""

    carrier: _Word
    title: _Name
    columns: Annotated[tuple[Column, ...], msgspec.Meta(min_length=1, max_length=_COLUMNS_LIMIT)]
    delimiter: Literal[",", ";", "|", "\t"] = ","
    header: bool = True
    encoding: Encoding = Encoding.UTF_8
    letters: Letters = Letters.ANY
    rows: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 10_000
    home: Country | None = None
    countries: tuple[Country, ...] = ()

    @property
    def fields(self) -> frozenset[Field]:
        """What of an order stands in the file."""
        return frozenset(FIELD_OF[column.field] for column in self.columns if column.field is not None)


def load_profile(named: str) -> Profile:
    """A shipped profile by its name, or the one in the TOML file at this path; ``CONFIG-CARRIER``."""
    if named in SHIPPED:
        return parse_profile(files(__package__).joinpath(f"carriers/{named}.toml").read_bytes(), named)
    try:
        with Path(named).open("rb") as file:
            raw = file.read(_SIZE_LIMIT + 1)
    except (OSError, ValueError) as error:
        raise ProcessorError(
            "CONFIG-CARRIER",
            f"there is no carrier profile {named}",
            f"name one of {', '.join(SHIPPED)}, or a TOML file",
        ) from error
    return parse_profile(raw, named)


def parse_profile(raw: bytes, named: str) -> Profile:
    """The profile in these bytes; ``CONFIG-CARRIER`` for anything that is not exactly one."""
    if len(raw) > _SIZE_LIMIT:
        raise _wrong(named, f"it is larger than {_SIZE_LIMIT} bytes")
    try:
        profile = msgspec.convert(tomllib.loads(raw.decode("utf-8")), Profile, strict=True)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise _wrong(named, "it is not TOML") from error
    except msgspec.ValidationError as error:
        raise _wrong(named, str(error)) from error
    names = [column.name for column in profile.columns]
    undeclared = profile.fields - PURPOSES[Purpose.CARRIER].fields
    if undeclared:
        raise _wrong(named, f"{', '.join(sorted(undeclared))} may not go to a carrier")
    if len(set(names)) != len(names):
        raise _wrong(named, "two columns have the same name")
    if any(column.field is not None and column.value for column in profile.columns):
        raise _wrong(named, "a column has either a field or a value")
    if profile.home is None and any(column.abroad for column in profile.columns):
        raise _wrong(named, "a column is only for parcels abroad, and no home is named")
    if not profile.fields & {Field.LINES, Field.NAME}:
        raise _wrong(named, "no column has a name or an address")
    return profile


def _wrong(named: str, why: str) -> ProcessorError:
    return ProcessorError(
        "CONFIG-CARRIER",
        f"the carrier profile {named} cannot be used: {why}",
        "correct it; offline_processor/exports/carriers has examples",
    )
