"""The acquirer's report of transactions, as CSV: what it booked, told by nobody of ours.

Why here: after a restore only the acquirer knows what was charged, and its report is input like any other.
Must not: guess at a line; one that is not of the form refuses the report whole.

One line a transaction, ASCII, after the line ``order_reference,rrn,stan,time,amount,currency,outcome,kind,scheme``: our
order reference (the order id, 32 hexadecimal digits), retrieval reference (12), trace number, time in UTC
(2026-11-22T21:19:10Z), amount in minor units, ISO 4217 code; approved, declined or reversed; authorisation, capture or
refund (what follows an authorisation has a trace number of its own and the retrieval reference of that), and whose card
it is. A report without what was taken and given back could let it be taken, or given back, again: there is none.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from offline_processor.errors import ProcessorError

HEADER: Final = "order_reference,rrn,stan,time,amount,currency,outcome,kind,scheme"
SIZE_LIMIT: Final = 64 * 1024 * 1024
_LINE_LIMIT: Final = 200
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
_LINE: Final = re.compile(
    r"(?P<order>[0-9a-f]{32}),(?P<rrn>[0-9A-Z]{12}),(?P<stan>[1-9][0-9]{0,5}),"
    r"(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z),"
    r"(?P<amount>0|[1-9][0-9]{0,14}),(?P<currency>[A-Z]{3}),(?P<outcome>approved|declined|reversed),"
    r"(?P<kind>authorisation|capture|refund),(?P<scheme>[a-z]{2,16})",
    re.ASCII,
)


class ReportKind(StrEnum):
    """What a line is about."""

    AUTHORISATION = "authorisation"
    CAPTURE = "capture"
    REFUND = "refund"


class ReportOutcome(StrEnum):
    """What became of an authorisation, by the acquirer's books. REVERSED: it is not, or no longer, charged."""

    APPROVED = "approved"
    DECLINED = "declined"
    REVERSED = "reversed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportLine:
    """One authorisation, capture or refund. ``at`` Unix seconds; ``amount`` in minor units; ``scheme`` whose card."""

    order_id: str
    rrn: str
    stan: int
    at: int
    amount: int
    currency: str
    outcome: ReportOutcome
    kind: ReportKind = ReportKind.AUTHORISATION
    scheme: str = "other"

    @property
    def key(self) -> tuple[ReportKind, str, int]:
        """What names one transaction: an authorisation by its retrieval reference, what follows by trace number too."""
        return self.kind, self.rrn, 0 if self.kind is ReportKind.AUTHORISATION else self.stan


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report read whole, and the SHA-256 (hex) of its file."""

    lines: tuple[ReportLine, ...]
    sha256: str

    @property
    def authorisations(self) -> tuple[ReportLine, ...]:
        """The lines about authorisations."""
        return tuple(line for line in self.lines if line.kind is ReportKind.AUTHORISATION)


def read_report(path: Path, *, repeated: bool = False) -> Report:
    """Read and check a report; ``REPORT-FORM``, ``REPORT-SIZE``, or ``REPORT-REPEATED`` unless that may be."""
    try:
        with path.open("rb") as file:
            raw = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise _form(f"{path} cannot be read: {error.strerror}") from error
    return parse_report(raw, repeated=repeated)


def parse_report(raw: bytes, *, repeated: bool = False) -> Report:
    """The report in these bytes."""
    if len(raw) > SIZE_LIMIT:
        raise ProcessorError(
            "REPORT-SIZE",
            f"the report has more than {SIZE_LIMIT} bytes",
            "ask the acquirer for the report in parts: one that covers the time since the backup is enough",
        )
    rows = raw.split(b"\n")
    if rows.pop() != b"":
        raise _form("its last line is not complete: it may have been cut short")
    header = _text(rows[0], 1) if rows else ""
    if header != HEADER:
        raise _form(f"its first line must be {HEADER}")
    lines = tuple(_line(_text(row, number), number) for number, row in enumerate(rows[1:], 2))
    seen: set[tuple[ReportKind, str, int]] = set()
    for line in [] if repeated else lines:
        if line.key in seen:
            raise ProcessorError(
                "REPORT-REPEATED",
                f"the report has two transactions with the retrieval reference {line.rrn}",
                "two reports may have been joined: ask the acquirer for one that covers the whole time",
            )
        seen.add(line.key)
    return Report(lines=lines, sha256=hashlib.sha256(raw).hexdigest())


def write_report(lines: Iterable[ReportLine]) -> bytes:
    """The same form, for the simulated acquirer."""
    rows = [HEADER]
    for line in lines:
        what = f"{line.order_id},{line.rrn},{line.stan},{in_words(line.at)},{line.amount},{line.currency}"
        rows.append(f"{what},{line.outcome},{line.kind},{line.scheme}")
    return ("\n".join(rows) + "\n").encode("ascii")


def in_words(at: int) -> str:
    """Unix seconds as the report and the commands write them."""
    return datetime.fromtimestamp(at, UTC).strftime(_TIME)


def in_seconds(text: str) -> int:
    """Unix seconds of a time in that form; ``ValueError`` when there is no such time."""
    return int(datetime.strptime(text, _TIME).replace(tzinfo=UTC).timestamp())


def _text(row: bytes, number: int) -> str:
    row = row.removesuffix(b"\r")
    if len(row) > _LINE_LIMIT or not row.isascii():
        raise _form(f"line {number} is too long or not ASCII")
    return row.decode("ascii")


def _line(text: str, number: int) -> ReportLine:
    found = _LINE.fullmatch(text)
    if found is None:
        raise _form(f"line {number} is not of the form {HEADER}")
    try:
        at = in_seconds(found["time"])
    except ValueError as error:
        raise _form(f"line {number} has an impossible time") from error
    return ReportLine(
        order_id=found["order"],
        rrn=found["rrn"],
        stan=int(found["stan"]),
        at=at,
        amount=int(found["amount"]),
        currency=found["currency"],
        outcome=ReportOutcome(found["outcome"]),
        kind=ReportKind(found["kind"]),
        scheme=found["scheme"],
    )


def _form(what: str) -> ProcessorError:
    return ProcessorError(
        "REPORT-FORM",
        f"this is not an acquirer's report that can be relied on: {what}",
        "nothing was changed; ask for the report again, or have its form corrected as the message says",
    )
