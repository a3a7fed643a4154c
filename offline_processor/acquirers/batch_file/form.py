"""What the authorisation file and the answer file share: comma lines, totals, trailer (FORMAT.md, section 1).

Why here: both directions are proved whole by the same figures, so both are read and written by one code.
Must not: do I/O, or take a file for whole before its trailer agreed with every line.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from offline_processor.acquirers.report import in_seconds, in_words
from offline_processor.errors import ProcessorError

FORM: Final = "1"
SIZE_LIMIT: Final = 256 * 1024 * 1024
RECORD_LIMIT: Final = 500_000
_LINE_LIMIT: Final = 512
_HASH_MODULUS: Final = 10**15
TRAILER: Final = "TRAILER"
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII)
PRINTABLE: Final = re.compile(r"[ -+\--~]*", re.ASCII)
"""Printable ASCII without the comma."""


class Kind(StrEnum):
    """What a record asks for."""

    AUTHORISE = "A"
    CAPTURE = "C"
    REVERSE = "V"
    REFUND = "R"


class Mode(StrEnum):
    """Whether money moves. A file of one mode is never answered by one of the other."""

    LIVE = "LIVE"
    REHEARSAL = "REHEARSAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What of a record goes into the totals: kind, currency, minor units, retrieval reference (12 digits)."""

    kind: Kind
    currency: str
    amount: int
    rrn: str


def totals(records: Iterable[Counted]) -> tuple[str, str, str]:
    """Count, sums by kind and currency (``A-EUR-3-7497 C-EUR-1-2499``), and the hash total of all references."""
    count, hashed = 0, 0
    counts: Counter[tuple[str, str]] = Counter()
    sums: Counter[tuple[str, str]] = Counter()
    for record in records:
        count += 1
        hashed += int(record.rrn)
        counts[record.kind.value, record.currency] += 1
        sums[record.kind.value, record.currency] += record.amount
    parts = [
        f"{kind}-{currency}-{counts[kind, currency]}-{sums[kind, currency]}"
        for kind, currency in sorted(sums)
    ]
    return str(count), " ".join(parts), f"{hashed % _HASH_MODULUS:015d}"


def close(lines: Sequence[str], records: Iterable[Counted]) -> bytes:
    """The whole file: ``lines`` (header first) and the trailer that proves them."""
    body = "".join(f"{line}\n" for line in lines).encode("ascii")
    trailer = ",".join((TRAILER, *totals(records), hashlib.sha256(body).hexdigest()))
    return body + trailer.encode("ascii") + b"\n"


def rows_of(raw: bytes, *, what: str) -> tuple[list[list[str]], list[str]]:
    """The fields of every line but the last, and those of the trailer, whose digest has been checked.

    ``BATCH-FILE-FORM`` or ``BATCH-FILE-DAMAGED``.
    """
    if len(raw) > SIZE_LIMIT:
        raise refused(f"{what} has more than {SIZE_LIMIT} bytes")
    body, _, last = raw.removesuffix(b"\n").rpartition(b"\n")
    trailer = _fields(last, what)
    if not raw.endswith(b"\n") or trailer[0] != TRAILER or len(trailer) != 5:  # noqa: PLR2004  as `close` writes it
        raise damaged(f"{what} has no trailer: it was cut short, or is not finished")
    if trailer[4] != hashlib.sha256(body + b"\n").hexdigest():
        raise damaged(f"{what} was altered on the way: its digest differs")
    rows = [_fields(line, what) for line in body.split(b"\n")]
    if len(rows) > RECORD_LIMIT + 1:
        raise refused(f"{what} has more than {RECORD_LIMIT} records")
    return rows, trailer


def check_totals(trailer: Sequence[str], records: Iterable[Counted], *, what: str) -> None:
    """``BATCH-FILE-TOTALS`` unless count, sums and hash total of the trailer are those of the records."""
    if tuple(trailer[1:4]) != totals(records):
        raise ProcessorError(
            "BATCH-FILE-TOTALS",
            f"the totals of {what} are not those of its records; nothing of it was taken",
            "ask for the file again; if it comes the same, its writer counts wrongly",
        )


def number(text: str, what: str, *, limit: int) -> int:
    """A number without leading zeros, at most ``limit``."""
    if not _NUMBER.fullmatch(text) or int(text) > limit:
        raise refused(f"{what} is not a number up to {limit}")
    return int(text)


def matching(pattern: re.Pattern[str], text: str, what: str) -> str:
    """``text``, when it has the form that ``pattern`` wants."""
    if not pattern.fullmatch(text):
        raise refused(f"{what} is not of its form")
    return text


def moment(text: str) -> int:
    """Unix seconds of a time."""
    try:
        if _TIME.fullmatch(text) and in_words(in_seconds(text)) == text:
            return in_seconds(text)
    except (ValueError, OverflowError):
        pass
    raise refused("a time is not of its form")


def refused(why: str) -> ProcessorError:
    """``BATCH-FILE-FORM``."""
    return ProcessorError(
        "BATCH-FILE-FORM", f"{why}; nothing of it was taken", "compare the file with FORMAT.md of batch_file"
    )


def damaged(why: str) -> ProcessorError:
    """``BATCH-FILE-DAMAGED``."""
    return ProcessorError("BATCH-FILE-DAMAGED", f"{why}; nothing of it was taken", "take another copy of it")


def _fields(line: bytes, what: str) -> list[str]:
    if len(line) > _LINE_LIMIT or not line.isascii():
        raise refused(f"a line of {what} is too long or not ASCII")
    return line.decode("ascii").split(",")
