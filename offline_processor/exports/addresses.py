"""Addresses as the countries of the world write them, line by line.

Why here: slip and label set the same lines, and the post reads the last ones first.
Must not: leave out anything that the customer gave.
"""

from __future__ import annotations

import unicodedata
from typing import Final

import iso3166

from offline_processor.exports.people import Person

_POSTCODE_ALONE: Final = frozenset({"GB", "GG", "IM", "JE", "IE", "UA", "RU", "KZ", "KE", "CO"})
_CITY_FIRST: Final = frozenset(
    {
        *(
            "US",
            "CA",
            "AU",
            "NZ",
            "IN",
            "PK",
            "BD",
            "LK",
            "NP",
            "TH",
            "SG",
            "TW",
            "HK",
            "ID",
            "MM",
            "KH",
            "VN",
        ),
        *("BR", "ZA", "NG", "SA", "JO", "LB", "BH", "EG", "IQ", "KR", "JP", "PH", "MT", "LV"),
    }
)
# Where the standard's name is for lists and not for parcels.
_NAMES: Final = {
    "BO": "Bolivia",
    "CD": "Congo (DR)",
    "FM": "Micronesia",
    "GB": "United Kingdom",
    "IR": "Iran",
    "KP": "North Korea",
    "KR": "South Korea",
    "LA": "Laos",
    "MD": "Moldova",
    "NL": "Netherlands",
    "RU": "Russia",
    "SY": "Syria",
    "TW": "Taiwan",
    "TZ": "Tanzania",
    "US": "United States of America",
    "VE": "Venezuela",
    "VN": "Viet Nam",
}


def address_lines(person: Person) -> list[str]:
    """Name, street and place in the country's order, and the country last, in capitals (UPU S42)."""
    place: list[str]
    if person.country in _POSTCODE_ALONE:
        place = [person.city, person.region, person.postcode]
    elif person.country in _CITY_FIRST:
        place = [" ".join(part for part in (person.city, person.region, person.postcode) if part)]
    else:
        place = [" ".join(part for part in (person.postcode, person.city) if part), person.region]
    lines = [person.name, *person.lines, *place, country_name(person.country).upper()]
    return [line for line in lines if line.strip()]


def country_name(country: str) -> str:
    """The country's English name; the code itself for one that ISO 3166 does not have."""
    found = iso3166.countries_by_alpha2.get(country)
    return _NAMES.get(country) or (found.name if found is not None else country)


def is_right_to_left(person: Person) -> bool:
    """True when the address is written from right to left: decided by the first letter of its street, then its name."""
    for character in "".join((*person.lines, person.name)):
        match unicodedata.bidirectional(character):
            case "R" | "AL":
                return True
            case "L":
                return False
    return False
