"""Reconciliation after a restore: what the acquirer charged since the backup is brought into the ledger.

Why here: until it is done nothing may be charged, and nobody told to order again (DESIGN, section 6, point 5).
Must not: settle by anything but the report's own words, or leave half of a report in the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import msgspec

from offline_processor.acquirers.report import Report, ReportKind, ReportLine, ReportOutcome
from offline_processor.acquirers.report import in_words as time_in_words
from offline_processor.capturing import Capture
from offline_processor.errors import ProcessorError
from offline_processor.ledger import following, reports
from offline_processor.ledger.following import Following
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.operations import OperationKind
from offline_processor.ledger.reports import Charged
from offline_processor.stages import OrderState

UNRECONCILED = "unreconciled"
FORGOTTEN = "forgotten-before-epoch"
_SINCE = "unreconciled-since"
CLOCKS_APART = 3600
"""Seconds by which the acquirer's clock may be behind ours: its report must begin so much earlier."""
_TOLD_OTHERWISE = (
    "Charged, though this ledger had them declined or to be ordered again; now paid. Whoever ordered again since may"
    " have paid twice: look, and give back"
)


@dataclass(slots=True, kw_only=True)
class Reconciled:
    """What a reconciliation did. Each list holds order ids (hex).

    ``paid`` are authorised where the money is taken when the goods go; ``reversing`` stay held, for what was approved
    must not be taken.
    """

    lines: int = 0
    unknown: int = 0
    paid: list[str] = field(default_factory=list)
    reversing: list[str] = field(default_factory=list)
    to_come: list[str] = field(default_factory=list)
    amount_differs: list[str] = field(default_factory=list)
    told_otherwise: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    not_at_the_acquirer: list[str] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)

    def needs_person(self) -> bool:
        named = (self.amount_differs, self.told_otherwise, self.twice, self.not_at_the_acquirer, self.beyond)
        return any(named)


def in_words(done: Reconciled) -> list[str]:
    """What a person has to know of it, and to do."""
    lines = [
        f"{done.lines} transactions in the report, {done.unknown} of them new to this ledger.",
        f"{len(done.paid)} orders that waited here are paid, or authorised.",
        f"{len(done.to_come)} charged orders have not come yet: they are settled so when their bundles come.",
    ]
    if done.reversing:
        lines.append(
            f"{len(done.reversing)} orders stay held: what was approved must not be taken, and its reversal goes on."
        )
    found = (
        (
            done.amount_differs,
            "Charged with another amount than the order's; each waits for you (RECONCILE-AMOUNT)",
        ),
        (done.told_otherwise, _TOLD_OTHERWISE),
        (done.twice, "Charged more than once, by the report: give the rest back through the acquirer"),
        (done.not_at_the_acquirer, "Paid here, but not approved in the report: ask the acquirer"),
        (
            done.beyond,
            "Taken or given back, by the report, what was refused here or cannot have been; ask the acquirer",
        ),
    )
    for order_ids, what in found:
        if order_ids:
            lines.append(f"{what} ({len(order_ids)}):")
            lines += [f"  {order_id}" for order_id in order_ids]
    lines.append("This ledger is reconciled: offline-processor run goes on.")
    return lines


def require(ledger: Ledger, *, now: int) -> None:
    """From now on nothing is charged or answered until a report has been reconciled; in the caller's transaction.

    What the report must cover begins with the newest entry that there is and ends ``now``.
    """
    if not is_required(ledger):  # a backup of an unreconciled ledger misses what that one missed
        ledger.set_counter(_SINCE, ledger.newest)
    ledger.set_counter(UNRECONCILED, now)


def is_required(ledger: Ledger) -> bool:
    """True between a restore and its reconciliation."""
    return bool(ledger.counter(UNRECONCILED))


def check_reconciled(ledger: Ledger) -> None:
    """Refuse (``LEDGER-UNRECONCILED``) to work with a restored ledger that does not know what was charged since."""
    if is_required(ledger):
        needed = needed_from(ledger)
        since = time_in_words(needed) if needed else "the first order"
        raise ProcessorError(
            "LEDGER-UNRECONCILED",
            "this ledger was restored, or its keystore was recovered, and it does not know yet what was charged since",
            "ask the acquirer for its report of transactions from"
            f" {since} until now, then: offline-processor reconcile REPORT."
            " Nothing was received, charged or answered, so that nobody pays twice",
        )


def reconcile(
    ledger: Ledger,
    report: Report,
    *,
    start: int,
    until: int,
    who: str,
    epoch: int,
    capture: Capture = "sale",
    now: int,
) -> Reconciled:
    """Bring a report that covers ``start`` to ``until`` (Unix seconds, as ``who`` states) into the ledger, or refuse.

    ``capture``: when what is charged is taken, as configured. One transaction: all of it, or nothing.
    ``REPORT-PERIOD`` when the report cannot cover what is missing.
    """
    _check_period(ledger, report, start=start, until=until, now=now)
    lines = report.authorisations
    done = Reconciled(lines=len(lines))
    known = _known_references(ledger)
    _check_epoch(report, known, epoch)
    with ledger.atomic():
        for line in lines:
            if line.rrn not in known:
                done.unknown += 1
                ledger.append("reported", line.order_id, now, _facts(line))
        following.remember(ledger, _following(report.lines))
        for order_id, charges in _approved(lines).items():
            _settle(ledger, order_id, charges, done, known=known, capture=capture, now=now)
        for number, order_id in following.orders_followed(ledger):
            if not following.adopt(ledger, number, now=now):
                done.beyond.append(order_id)
        _find_missing(ledger, lines, done, start=start, until=until)
        ledger.set_counter(UNRECONCILED, 0)
        ledger.set_counter("behind", 0)
        ledger.set_counter(FORGOTTEN, epoch)
        facts = {
            "report": report.sha256,
            "from": start,
            "until": until,
            "lines": done.lines,
            "unknown": done.unknown,
            "paid": len(done.paid),
            "to-come": len(done.to_come),
            "persons": len(done.amount_differs)
            + len(done.told_otherwise)
            + len(done.twice)
            + len(done.beyond),
        }
        ledger.append("reconciled", who, now, facts)
    return done


def _settle(
    ledger: Ledger,
    order_id: str,
    charges: Sequence[Charged],
    done: Reconciled,
    *,
    known: AbstractSet[str],
    capture: Capture,
    now: int,
) -> None:
    if len(charges) > 1:
        done.twice.append(order_id)
    order = reports.known_order(ledger, order_id)
    if order is not None and len(charges) == 1 and reports.stands_beside(ledger, order, charges[0]):
        if charges[0].rrn not in known and reports.supersedes(ledger, order, charges[0]):
            reports.end_superseded(ledger, order, now=now)
            reports.settle_paid(ledger, order, charges, capture=capture, now=now)
            done.paid.append(order_id)
            return
        done.twice.append(order_id)
    if order is None:
        for charge in charges:
            reports.remember(ledger, charge)
        done.to_come.append(order_id)
    elif reports.stays_held(ledger, order, charges):
        done.reversing.append(order_id)
    elif order.state not in reports.CHARGED:
        told_otherwise = order.state in (OrderState.ORDER_AGAIN, OrderState.DECLINED)
        settled = reports.settle_paid(ledger, order, charges, capture=capture, now=now)
        (done.amount_differs if settled.state is OrderState.QUARANTINED else done.paid).append(order_id)
        if told_otherwise:
            done.told_otherwise.append(order_id)


def _check_period(ledger: Ledger, report: Report, *, start: int, until: int, now: int) -> None:
    begins, needed_until = needed_from(ledger), ledger.counter(UNRECONCILED)
    fault = ""
    if start > begins:
        fault = f"it begins on {time_in_words(start)}, but is needed from {time_in_words(begins)} on"
    elif until < needed_until:
        fault = (
            f"it ends on {time_in_words(until)}, but is needed until {time_in_words(needed_until)} at least"
        )
    elif until > now:
        fault = f"it is said to reach until {time_in_words(until)}, which is still to come"
    elif any(not start <= line.at <= until for line in report.lines):
        fault = f"it has transactions outside {time_in_words(start)} to {time_in_words(until)}"
    if fault:
        raise ProcessorError(
            "REPORT-PERIOD",
            f"the report does not cover the time that this ledger is missing: {fault}",
            "ask the acquirer for a report of the whole time; state from when until when it reaches",
        )


def _check_epoch(report: Report, known: set[str], epoch: int) -> None:
    """Nothing was charged in this epoch yet: a reference of it shows that there was such an epoch before."""
    prefix = f"{epoch % 100:02d}"
    if any(line.rrn.startswith(prefix) and line.rrn not in known for line in report.lines):
        raise ProcessorError(
            "RECONCILE-EPOCH",
            f"the report has transactions of epoch {epoch}, but the ledger that knew them is lost: their references"
            " would be used again, and intake nodes would take this machine's returns for old ones",
            f"move keystore and ledger away and restore once more, with --epoch-above {epoch}",
        )


def needed_from(ledger: Ledger) -> int:
    """From when on a report is needed: the newest entry from before the restore, or the oldest that is still open."""
    oldest = ledger.row(
        "SELECT min(sent_at) FROM (SELECT sent_at FROM live_attempt"
        " WHERE state IN ('intent', 'submitted', 'unknown', 'reversal-pending', 'manual')"
        " UNION ALL SELECT sent_at FROM operation WHERE state = 'pending')"
    )
    since = ledger.counter(_SINCE)
    ours = since if oldest is None or oldest[0] is None else min(since, oldest[0])
    return max(0, ours - CLOCKS_APART)


def _known_references(ledger: Ledger) -> set[str]:
    """The retrieval references of every intent and of every report that this ledger knows."""
    facts = ledger.rows("SELECT facts FROM entry WHERE kind IN ('intent', 'reported')")
    return {_decode_rrn(text).rrn for (text,) in facts}


class _Rrn(msgspec.Struct, frozen=True):
    rrn: str


def _decode_rrn(text: str) -> _Rrn:
    return msgspec.json.decode(text, type=_Rrn)


def _approved(lines: Iterable[ReportLine]) -> dict[str, list[Charged]]:
    found: dict[str, list[Charged]] = {}
    for line in lines:
        if line.outcome is ReportOutcome.APPROVED:
            charge = Charged(
                order_id=line.order_id,
                rrn=line.rrn,
                stan=line.stan,
                at=line.at,
                amount=line.amount,
                currency=line.currency,
            )
            found.setdefault(line.order_id, []).append(charge)
    return found


def _following(lines: Iterable[ReportLine]) -> list[Following]:
    """What the acquirer took and gave back."""
    return [
        Following(
            kind=OperationKind(line.kind.value),
            rrn=line.rrn,
            stan=line.stan,
            at=line.at,
            amount=line.amount,
            currency=line.currency,
        )
        for line in lines
        if line.kind is not ReportKind.AUTHORISATION and line.outcome is ReportOutcome.APPROVED
    ]


def _find_missing(
    ledger: Ledger, lines: Iterable[ReportLine], done: Reconciled, *, start: int, until: int
) -> None:
    """Orders that are paid here, by an authorisation of this time that the report does not show approved."""
    approved = {line.rrn for line in lines if line.outcome is ReportOutcome.APPROVED}
    rows = ledger.rows(
        "SELECT o.order_id, l.rrn FROM live_attempt AS l JOIN orders AS o USING (number)"
        " WHERE l.state = 'approved' AND l.sent_at BETWEEN ? AND ? ORDER BY o.number",
        (start, until),
    )
    done.not_at_the_acquirer += [order_id for order_id, rrn in list(rows) if rrn not in approved]


def _facts(line: ReportLine) -> dict[str, str | int]:
    return {
        "rrn": line.rrn,
        "stan": line.stan,
        "at": line.at,
        "amount": line.amount,
        "currency": line.currency,
        "outcome": line.outcome.value,
    }
