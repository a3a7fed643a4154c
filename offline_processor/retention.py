"""Retention on this side of the gap: what the schedule says is over is erased, and said to be.

Why here: the one place that applies transfer/retention.py to the ledger.
Must not: erase what is open, owed, or held by law; know a time of its own; delete an entry.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from offline_processor import erasure_proof
from offline_processor.erasure_proof import Proof
from offline_processor.ledger import erasure, subject_requests
from offline_processor.ledger.erasure import Against
from offline_processor.ledger.ledger import Ledger
from transfer.retention import RULES, Kept
from transfer.wire.records import SubjectState

WINDOW: Final = 500
_OVER: Final = (
    "SELECT o.number, o.order_id FROM person AS p JOIN orders AS o USING (number) WHERE"
    " (o.state IN ('dispatched', 'refunded', 'paid') AND o.changed_at <= ?)"
    " OR (o.state IN ('declined', 'order-again') AND o.changed_at <= ?) ORDER BY o.number"
)


@dataclass(slots=True, kw_only=True)
class Report:
    """What a retention run erased, or would (``dry``), by kind; and what had to stay, by reason."""

    dry: bool = False
    erased: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    proof: Proof | None = None

    def anything(self) -> bool:
        return bool(sum(self.erased.values()) or self.requests)

    def as_document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "dry_run": self.dry,
            "erased": dict(self.erased),
            "kept": dict(self.kept),
            "requests_answered": self.requests,
            "proof": None if self.proof is None else self.proof.as_document(),
        }


def run(ledger: Ledger, *, who: str, now: int, dry: bool) -> Report:
    """Erase what is over, erasures that waited first; safe to repeat at any point.

    Windows of their own transactions: a crash leaves whole windows erased and the rest for the next run.
    """
    report = Report(dry=dry)
    due = _due(ledger, report, now=now)
    traces = None if dry or not due else erasure_proof.look_for(ledger, [number for number, _, _ in due])
    for start in range(0, len(due), WINDOW):
        _erase_window(ledger, report, due[start : start + WINDOW], who=who, now=now)
    _answer_requests(ledger, report, who=who, now=now)
    _disclosures(ledger, report, now=now)
    if traces is not None:
        report.proof = erasure_proof.search_again(ledger, traces)
    if not dry and report.anything():
        with ledger.atomic():
            facts = {"who": who, **{kind: count for kind, count in report.erased.items() if count}}
            ledger.append("retention", "run", now, facts)
    return report


def is_due(ledger: Ledger, *, now: int) -> bool:
    """True when a run would erase somebody."""
    return bool(_due(ledger, Report(dry=True), now=now))


def _due(ledger: Ledger, report: Report, *, now: int) -> list[tuple[int, str, str]]:
    """Number, order id and why of every person that goes now; counts what has to stay although its time is over."""
    found: dict[int, tuple[int, str, str]] = {}
    for wish in erasure.wishes(ledger):
        found[wish.number] = (wish.number, wish.order_id, wish.request or "asked")
    limits = (now - RULES[Kept.PERSON].seconds, now - RULES[Kept.PERSON_UNSOLD].seconds)
    over = set()
    for number, order_id in list(ledger.rows(_OVER, limits)):
        over.add(number)
        found.setdefault(number, (number, order_id, "retention"))
    due = []
    for one in sorted(found.values()):
        blocked = erasure.against(ledger, one[0])
        # Goods that nobody marked as sent in two years are not owed any more, whoever else asked for the erasure.
        if blocked is Against.NOTHING or (blocked is Against.GOODS_OWED and one[0] in over):
            due.append(one)
        else:
            report.kept[blocked.value] += 1
    return due


def _erase_window(
    ledger: Ledger, report: Report, window: list[tuple[int, str, str]], *, who: str, now: int
) -> None:
    if report.dry:
        report.erased[Kept.PERSON.value] += len(window)
        return
    with ledger.atomic():
        for number, order_id, why in window:
            report.erased[Kept.PERSON.value] += erasure.erase(
                ledger, number, order_id, who=who, why=why, now=now
            )


def _answer_requests(ledger: Ledger, report: Report, *, who: str, now: int) -> None:
    """An erasure that somebody asked for is answered once nothing of it waits."""
    over = erasure.over_requests(ledger)
    for request in subject_requests.waiting(ledger):
        if request.kind == "erase" and request.request in over:
            report.requests += 1
            if not report.dry:
                with ledger.atomic():
                    subject_requests.answer(
                        ledger, request, SubjectState.DONE, who=who, why="erased", now=now
                    )


def _disclosures(ledger: Ledger, report: Report, *, now: int) -> None:
    limit = (now - RULES[Kept.DISCLOSURE].seconds,)
    row = ledger.row(
        "SELECT count(*) FROM disclosure WHERE export IN (SELECT id FROM export WHERE made_at <= ?)", limit
    )
    report.erased[Kept.DISCLOSURE.value] += 0 if row is None else int(row[0])
    if report.erased[Kept.DISCLOSURE.value] and not report.dry:
        with ledger.atomic():
            ledger.execute(
                "DELETE FROM disclosure WHERE export IN (SELECT id FROM export WHERE made_at <= ?)", limit
            )
