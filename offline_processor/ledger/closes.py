"""Closes of day: which operations each one counted, the totals sent, and what the acquirer said of them.

Why here: a close is durable before it is sent, so that a crash repeats the same totals and never counts twice.
Must not: commit by itself, count an operation in two closes, or change what was answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from offline_processor.acquirers.protocol import BatchTotals
from offline_processor.ledger import orders
from offline_processor.ledger.ledger import Ledger, Row


class OpenMatters(NamedTuple):
    """What is not known yet: attempts of unknown outcome, and operations without an answer."""

    attempts: int
    operations: int

    @property
    def total(self) -> int:
        return self.attempts + self.operations


class CloseState(StrEnum):
    """What became of the totals of one currency. PENDING is sent until it is answered."""

    PENDING = "pending"
    IN_BALANCE = "in balance"
    OUT_OF_BALANCE = "out of balance"
    NOT_COMPARED = "not compared"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedBatch:
    """The totals of one currency in the close of this number."""

    close: int
    totals: BatchTotals
    state: CloseState


def begin(ledger: Ledger, *, now: int) -> list[ClosedBatch]:
    """Begin a close of all that was done since the last one, in the caller's transaction; by currency."""
    rows = list(
        ledger.rows(
            "SELECT currency, sum(kind = 'capture'), sum(iif(kind = 'capture', amount, 0)), sum(kind = 'refund'),"
            " sum(iif(kind = 'refund', amount, 0)) FROM operation WHERE state = 'done' AND closed = 0"
            " AND kind IN ('capture', 'refund') GROUP BY currency ORDER BY currency"
        )
    )
    if not rows:
        return []
    number = ledger.counter("close") + 1
    ledger.set_counter("close", number)
    ledger.execute(
        "UPDATE operation SET closed = ? WHERE state = 'done' AND closed = 0 AND kind IN ('capture', 'refund')",
        (number,),
    )
    stans = orders.next_stans(ledger, len(rows))
    begun = [_batch((number, *row, stan, now, "pending")) for row, stan in zip(rows, stans, strict=True)]
    ledger.execute_many(
        "INSERT INTO closed_batch (close, currency, captures, captured, refunds, refunded, stan, sent_at, state)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'pending')",
        [(number, *row, stan, now) for row, stan in zip(rows, stans, strict=True)],
    )
    return begun


def open_matters(ledger: Ledger) -> OpenMatters:
    """What a close of day must not hide."""
    attempts = ledger.row(
        "SELECT count(*) FROM live_attempt AS l JOIN orders AS o USING (number) WHERE o.state = 'held'"
        " AND l.state != 'approved'"
    )
    owed = ledger.row("SELECT count(*) FROM operation WHERE state = 'pending'")
    return OpenMatters(attempts=attempts[0] if attempts else 0, operations=owed[0] if owed else 0)


def pending(ledger: Ledger) -> list[ClosedBatch]:
    """The totals that were not answered, oldest first."""
    return _read(ledger, "WHERE state = 'pending'")


def between(ledger: Ledger, start: int, until: int) -> list[ClosedBatch]:
    """The totals of the closes of this time (Unix seconds)."""
    return _read(ledger, "WHERE sent_at BETWEEN ? AND ?", (start, until))


def newest(ledger: Ledger) -> int:
    """When the newest close was begun, Unix seconds; 0 for never."""
    row = ledger.row("SELECT max(sent_at) FROM closed_batch")
    return int(row[0] or 0) if row else 0


def answered(ledger: Ledger, batches: Sequence[tuple[ClosedBatch, CloseState]], *, now: int) -> None:
    """Record what the acquirer said of these totals."""
    ledger.execute_many(
        "UPDATE closed_batch SET state = ? WHERE close = ? AND currency = ? AND state = 'pending'",
        [(state.value, item.close, item.totals.currency) for item, state in batches],
    )
    for item, state in batches:
        totals = item.totals
        facts = {
            "close": item.close,
            "captures": totals.captures,
            "captured": totals.captured,
            "refunds": totals.refunds,
            "refunded": totals.refunded,
            "answer": state.value,
        }
        ledger.append("batch-closed", totals.currency, now, facts)


def _read(ledger: Ledger, where: str, values: Row = ()) -> list[ClosedBatch]:
    rows = ledger.rows(
        "SELECT close, currency, captures, captured, refunds, refunded, stan, sent_at, state FROM closed_batch "  # noqa: S608
        f"{where} ORDER BY close, currency",
        values,
    )
    return [_batch(row) for row in list(rows)]


def _batch(row: Row) -> ClosedBatch:
    close, currency, captures, captured, refunds, refunded, stan, sent_at, state = row
    totals = BatchTotals(
        currency=currency,
        captures=captures,
        captured=captured,
        refunds=refunds,
        refunded=refunded,
        stan=stan,
        sent_at=sent_at,
    )
    return ClosedBatch(close=close, totals=totals, state=CloseState(state))
