"""CSV that no spreadsheet runs: cells are quoted, and what would be read as a formula is defused.

Why here: names and addresses are typed by strangers, and people open these files with a click.
Must not: change a cell that nothing would run.

The rule: an apostrophe goes before ``= + - @`` (their full-width forms too), a tab or a carriage return where they
begin a cell, blanks, quotes and unseen marks before them or not; and where they follow a separator (``, ; |`` tab) or
a line break inside a cell, because a program that splits by another separator sees a cell begin there. Other control
characters are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

# The last four are full-width = + - @, which spreadsheets in East Asian locales read as the plain ones.
_RUN: Final = r"[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]"
_UNSEEN: Final = r"(?:[^\S\t\r\n]|[\"\u200b\u200e\u200f\ufeff])*"  # blanks, quotes and marks, in any order
_BEGINNING: Final = re.compile(rf"(?P<before>(?:^|[,;|\t\r\n]){_UNSEEN})(?={_RUN})")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def defused(text: str) -> str:
    """The text, with an apostrophe wherever a spreadsheet would begin to run it."""
    return _BEGINNING.sub(r"\g<before>'", text)


def is_harmless(text: str) -> bool:
    """True when nothing has to be changed in ``text``."""
    return defused(text) == text and not has_controls(text)


def has_controls(text: str) -> bool:
    """True for text with a character that belongs into no cell."""
    return _CONTROL.search(text) is not None


def csv_bytes(rows: Iterable[Sequence[str]], *, delimiter: str = ",", encoding: str = "utf-8") -> bytes:
    """RFC 4180: every cell quoted, every line ended by CR LF. UnicodeEncodeError: ``encoding`` lacks a letter."""
    lines = (delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) + "\r\n" for row in rows)
    return "".join(lines).encode(encoding)
