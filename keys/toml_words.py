"""What is wrong with a value of a TOML file, in people's words: which field, and what is allowed there.

Why here: ceremony and configuration files are written by people who do not know the parser's type names.
Must not: decide what is allowed; the types of the files do, and their parser has refused already.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from enum import StrEnum

    import msgspec

_PLACE: Final = re.compile(r"(.*) - at `\$\.?([^`]*)`", re.DOTALL)
_KINDS: Final = {
    "array": "a list in [ ]",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "object": "a section",
    "str": "text in quotes",
}
_TYPE: Final = re.compile(r"Expected `(\w+)`, got `(\w+)`")
_BOUND: Final = re.compile(r"Expected `(\w+)` (of length )?(>=|<=) (-?\d+)")
_CHOICE: Final = re.compile(r"Invalid enum value (.*)", re.DOTALL)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(.*)`", re.DOTALL)


def in_words(error: msgspec.ValidationError, choices: Mapping[str, type[StrEnum]] | None = None) -> str:
    """The field's path (lists count from 1) and what is wanted there; ``choices`` by the name of a field.

    What the parser says in a form that is not known here is given as it is.
    """
    text, path = str(error), ""
    if found := _PLACE.fullmatch(text):
        text, path = found[1], found[2]
    shown = re.sub(r"\[(\d+)\]", lambda index: f" {int(index[1]) + 1}", path)
    inside = f"{shown}." if shown else ""
    if found := _UNKNOWN.fullmatch(text):
        return f"{inside}{found[1]} is not a field of it"
    if found := _MISSING.fullmatch(text):
        return f"{inside}{found[1]} is missing"
    return f"{shown}: {_wanted(text, path, choices or {})}" if shown else _wanted(text, path, choices or {})


def _wanted(text: str, path: str, choices: Mapping[str, type[StrEnum]]) -> str:
    if found := _TYPE.fullmatch(text):
        return f"{_kind(found[1])} is wanted, not {_kind(found[2])}"
    if found := _BOUND.fullmatch(text):
        bound = "at least" if found[3] == ">=" else "at most"
        unit = ""
        if found[2]:
            one, many = ("character", "characters") if found[1] == "str" else ("entry", "entries")
            unit = f" {one if found[4] == '1' else many}"
        return f"{bound} {found[4]}{unit}"
    if found := _CHOICE.fullmatch(text):
        allowed = choices.get(re.sub(r"\[\d+\]$", "", path).rpartition(".")[2])
        names = f"; allowed are {', '.join(allowed)}" if allowed is not None else ""
        return f"{found[1]} is not allowed{names}"
    return text


def _kind(name: str) -> str:
    return _KINDS.get(name, name)
