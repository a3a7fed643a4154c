"""What a reconciliation found that does not agree: each finding once, open until it is explained.

Why here: an exception outlives the command that found it, and a report read twice must not find it twice.
Must not: commit by itself, or forget a finding.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from offline_processor.comparing import Finding
from offline_processor.ledger.ledger import Ledger, Row

_COLUMNS: Final = "number, key, rule, what, order_id, rrn, stan, ours, theirs, currency, at"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFinding:
    """A finding with its number and the time at which it was found (Unix seconds)."""

    number: int
    finding: Finding
    at: int


def note(ledger: Ledger, found: Sequence[Finding], *, now: int) -> int:
    """Keep findings that are new, or were explained once and are here again; returns how many are.

    What a person has closed stays closed.
    """
    new: list[Finding] = []
    again = 0
    for item in found:
        row = ledger.row(
            "SELECT number, closed_at, EXISTS (SELECT 1 FROM case_closed WHERE id = 'X' || number)"
            " FROM reconcile_exception WHERE key = ?",
            (item.key,),
        )
        if row is None:
            new.append(item)
        elif row[1] and not row[2]:
            ledger.execute(
                "UPDATE reconcile_exception SET closed_at = 0, ours = ?, theirs = ? WHERE number = ?",
                (item.ours, item.theirs, row[0]),
            )
            ledger.append("exception-again", item.order_id, now, {"number": row[0]})
            again += 1
    first = ledger.counter("exception") + 1
    ledger.execute_many(
        "INSERT INTO reconcile_exception (number, key, rule, what, order_id, rrn, stan, ours, theirs, currency, at,"
        " closed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
        [
            (
                number,
                item.key,
                item.rule,
                item.what,
                item.order_id,
                item.rrn,
                item.stan,
                item.ours,
                item.theirs,
                item.currency,
                now,
            )
            for number, item in enumerate(new, first)
        ],
    )
    ledger.set_counter("exception", first + len(new) - 1)
    for item in new:
        facts = {"rule": item.rule, "what": item.what, "rrn": item.rrn, "stan": item.stan}
        ledger.append("exception", item.order_id, now, facts)
    return len(new) + again


def explained(ledger: Ledger, keys: Collection[str], *, now: int) -> int:
    """Close findings that a later report has explained; returns how many."""
    closed = 0
    for item in opened(ledger):
        if item.finding.key in keys:
            close(ledger, item.number, now=now)
            ledger.append("exception-explained", item.finding.order_id, now, {"number": item.number})
            closed += 1
    return closed


def opened(ledger: Ledger) -> list[OpenFinding]:
    """The findings that nobody has explained yet, oldest first."""
    rows = ledger.rows(
        f"SELECT {_COLUMNS} FROM reconcile_exception WHERE closed_at = 0 ORDER BY number"  # noqa: S608
    )
    return [_open(row) for row in list(rows)]


def close(ledger: Ledger, number: int, *, now: int) -> None:
    """A finding is explained."""
    ledger.execute(
        "UPDATE reconcile_exception SET closed_at = ? WHERE number = ? AND closed_at = 0", (now, number)
    )


def _open(row: Row) -> OpenFinding:
    number, key, rule, what, order_id, rrn, stan, ours, theirs, currency, at = row
    finding = Finding(
        key=key,
        rule=rule,
        what=what,
        order_id=order_id,
        rrn=rrn,
        stan=stan,
        ours=ours,
        theirs=theirs,
        currency=currency,
    )
    return OpenFinding(number=number, finding=finding, at=at)
