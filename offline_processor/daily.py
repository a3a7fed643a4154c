"""The reconciliation of a day: our ledger, the acquirer's report and the batch totals, and what does not agree.

Why here: the three ways meet here; how each is read and how they are compared lies elsewhere.
Must not: settle an order by a report (after a restore ``reconciliation`` does), or leave a difference unsaid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from offline_processor.acquirers.report import Report, ReportKind
from offline_processor.comparing import (
    TOTALS,
    Comparison,
    Finding,
    Row,
    Sum,
    by_currency,
    compare,
    keys_explained,
)
from offline_processor.day_books import entries
from offline_processor.errors import ProcessorError
from offline_processor.ledger import closes, exceptions
from offline_processor.ledger.closes import ClosedBatch, CloseState
from offline_processor.ledger.ledger import Ledger

RECONCILED_UNTIL: Final = "reconciled-until"


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalsRow:
    """The sums of one currency and kind in all three books; ``closed`` is what the closes of day counted."""

    currency: str
    kind: ReportKind
    ours: Sum
    theirs: Sum
    closed: Sum


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What a reconciliation found. ``new``: exceptions first found now; ``explained``: those that it has explained.

    ``exceptions`` counts all that are open now, also those of earlier days; ``still_open`` the transactions whose
    outcome is not known here.
    """

    start: int
    until: int
    lines: int
    agreed: int
    still_open: int
    new: int
    explained: int
    exceptions: int
    findings: list[Finding]
    rows: list[Row]
    totals: list[TotalsRow]

    def as_document(self) -> dict[str, Any]:
        """For ``--json``. Amounts in minor units, by scheme, currency and kind."""
        return {
            "from": self.start,
            "until": self.until,
            "lines": self.lines,
            "agreed": self.agreed,
            "still_open": self.still_open,
            "new": self.new,
            "explained": self.explained,
            "open_exceptions": self.exceptions,
            "findings": [
                {
                    "rule": item.rule,
                    "what": item.what,
                    "order": item.order_id,
                    "rrn": item.rrn,
                    "stan": item.stan,
                    "ours": item.ours,
                    "theirs": item.theirs,
                    "currency": item.currency,
                }
                for item in self.findings
            ],
            "sums": [
                {
                    "scheme": row.scheme,
                    "currency": row.currency,
                    "kind": row.kind.value,
                    "ours": [row.ours.count, row.ours.amount],
                    "theirs": [row.theirs.count, row.theirs.amount],
                }
                for row in self.rows
            ],
            "totals": [
                {
                    "currency": row.currency,
                    "kind": row.kind.value,
                    "ours": [row.ours.count, row.ours.amount],
                    "theirs": [row.theirs.count, row.theirs.amount],
                    "closed": [row.closed.count, row.closed.amount],
                }
                for row in self.totals
            ],
        }


def period(ledger: Ledger, start: int | None, until: int | None) -> tuple[int, int]:
    """From when until when: as said, else from the last reconciliation to the newest close of day. ``USAGE-TIME``."""
    begins = _begins(ledger) if start is None else start
    ends = closes.newest(ledger) if until is None else until
    if not ends or begins > ends:
        raise ProcessorError(
            "USAGE-TIME",
            "no time is left to reconcile: there was no close of day since the last reconciliation",
            "close the day first (offline-processor close-day), or say --from and --until",
        )
    return begins, ends


def _begins(ledger: Ledger) -> int:
    """The first second that no reconciliation has covered."""
    until = ledger.counter(RECONCILED_UNTIL)
    return until + 1 if until else 0


def reconcile_day(
    ledger: Ledger, report: Report, *, start: int, until: int, who: str, now: int
) -> Reconciled:
    """Compare, and keep what does not agree; one transaction."""
    if until > now:
        raise ProcessorError(
            "REPORT-PERIOD",
            "the report is said to reach into the time to come",
            "state from when until when it reaches",
        )
    ours = entries(ledger, report.lines, start=start, until=until)
    done = compare(ours, report.lines, start=start, until=until)
    whole = _begins(ledger) == start and closes.newest(ledger) == until
    batches = closes.between(ledger, start, until)
    totals = _totals(done, batches)
    done.findings += _out_of_balance(batches)
    if whole and batches:
        done.findings += _differing(totals, start=start, until=until)
    with ledger.atomic():
        new = exceptions.note(ledger, done.findings, now=now)
        explained = exceptions.explained(ledger, keys_explained(done), now=now)
        if until > ledger.counter(RECONCILED_UNTIL):
            ledger.set_counter(RECONCILED_UNTIL, until)
        facts = {
            "report": report.sha256,
            "from": start,
            "until": until,
            "lines": len(report.lines),
            "agreed": len(done.agreed),
            "exceptions": len(done.findings),
        }
        ledger.append("day-reconciled", who, now, facts)
    return Reconciled(
        start=start,
        until=until,
        lines=len(report.lines),
        agreed=len(done.agreed),
        still_open=done.still_open,
        new=new,
        explained=explained,
        exceptions=len(exceptions.opened(ledger)),
        findings=done.findings,
        rows=done.rows,
        totals=totals,
    )


def _totals(done: Comparison, batches: list[ClosedBatch]) -> list[TotalsRow]:
    closed: dict[tuple[str, ReportKind], Sum] = {}
    for item in batches:
        told = item.totals
        for kind, count, amount in (
            (ReportKind.CAPTURE, told.captures, told.captured),
            (ReportKind.REFUND, told.refunds, told.refunded),
        ):
            before = closed.get((told.currency, kind), Sum())
            if count:
                closed[told.currency, kind] = Sum(count=before.count + count, amount=before.amount + amount)
    both = by_currency(done.rows)
    return [
        TotalsRow(
            currency=currency,
            kind=kind,
            ours=both.get((currency, kind), (Sum(), Sum()))[0],
            theirs=both.get((currency, kind), (Sum(), Sum()))[1],
            closed=closed.get((currency, kind), Sum()),
        )
        for currency, kind in sorted({*both, *closed})
    ]


def out_of_balance(item: ClosedBatch) -> Finding:
    """The acquirer's own totals are others than those of this close."""
    told = item.totals
    return Finding(
        key=f"{TOTALS} close {item.close} {told.currency}",
        rule=TOTALS,
        what=f"close of day {item.close} in {told.currency} is out of balance, says the acquirer"
        f" ({told.captures} captures, {told.refunds} refunds here)",
        order_id="",
        rrn="",
        stan=told.stan,
        ours=max(0, told.captured - told.refunded),
        theirs=-1,
        currency=told.currency,
    )


def _out_of_balance(batches: list[ClosedBatch]) -> list[Finding]:
    return [out_of_balance(item) for item in batches if item.state is CloseState.OUT_OF_BALANCE]


def _differing(totals: list[TotalsRow], *, start: int, until: int) -> list[Finding]:
    return [
        Finding(
            key=f"{TOTALS} {row.currency} {row.kind.value} {start} {until}",
            rule=TOTALS,
            what=f"{row.kind.value}s of {row.currency}: {row.closed.count} in the closes of day, {row.theirs.count} in"
            " the report",
            order_id="",
            rrn="",
            stan=0,
            ours=row.closed.amount,
            theirs=row.theirs.amount,
            currency=row.currency,
        )
        for row in totals
        if row.closed != row.theirs
    ]
