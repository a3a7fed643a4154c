"""Delivery addresses by country: which fields there are, in which order, under which names.

Why here: the page shows and judges them by these rules before it seals; they come from Google's address data.
Must not: fetch anything; the rules are a file of ours that a test makes anew from the library.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import iso3166
import msgspec

_RULES = Path(__file__).with_name("address_rules.json")


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One field of an address: ``id`` (line1, line2, district, city, region, postcode) and its name."""

    id: str
    label: str
    required: bool = False


class Rules(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One country's. ``postcode``: a regular expression for the whole of it; ``city``: where no city is written.

    ``regions``: what to write and what to show.
    """

    fields: list[Field]
    postcode: str = ""
    example: str = ""
    city: str = ""
    regions: list[tuple[str, str]] = []


ANYWHERE = Rules(
    fields=[
        Field(id="line1", label="Address line 1", required=True),
        Field(id="line2", label="Address line 2"),
        Field(id="postcode", label="Postcode"),
        Field(id="city", label="Town or city", required=True),
    ]
)
"""What is shown until a country is chosen."""


@cache
def rules() -> Mapping[str, Rules]:
    """The rules of every country, by its ISO 3166-1 code."""
    return msgspec.json.decode(_RULES.read_bytes(), type=dict[str, Rules])


@cache
def countries() -> list[tuple[str, str]]:
    """Code and name of every country, by name."""
    return sorted(
        ((code, entry.apolitical_name) for code, entry in iso3166.countries_by_alpha2.items()),
        key=lambda pair: unicodedata.normalize("NFKD", pair[1]),
    )
