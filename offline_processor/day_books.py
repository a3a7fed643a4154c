"""What our ledger has of the transactions of a time, or of those that a report names: one entry for each.

Why here: attempts live in entries, what follows them in a table; a reconciliation needs both in one form.
Must not: change anything, or leave out what the acquirer might have booked.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from offline_processor.acquirers.report import ReportKind, ReportLine
from offline_processor.charging import AttemptState
from offline_processor.comparing import Entry, Ours
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.operations import OperationState
from offline_processor.schemes import scheme_of

_ATTEMPT: Final = {
    AttemptState.APPROVED: Ours.APPROVED,
    AttemptState.DECLINED: Ours.DECLINED,
    AttemptState.REVERSED: Ours.REVERSED,
    AttemptState.VOIDED: Ours.REVERSED,
    AttemptState.EXPIRED: Ours.REVERSED,
}
_OPERATION: Final = {
    OperationState.DONE: Ours.APPROVED,
    OperationState.FAILED: Ours.DECLINED,
    OperationState.PENDING: Ours.OPEN,
}


class _Facts(msgspec.Struct, frozen=True):
    """What the entries intent, attempt and reported say."""

    stan: int
    rrn: str = ""
    state: str = ""
    card: str = ""
    at: int = 0
    amount: int = 0
    currency: str = ""
    outcome: str = ""


_decoder = msgspec.json.Decoder(_Facts)


@dataclass(slots=True, kw_only=True)
class _Attempt:
    rrn: str
    stan: int
    at: int
    card: str
    state: Ours
    amount: int = 0
    currency: str = ""


def entries(ledger: Ledger, lines: Sequence[ReportLine], *, start: int, until: int) -> list[Entry]:
    """Our transactions of ``start`` to ``until`` (Unix seconds), and those of any time that ``lines`` name."""
    named = {line.key for line in lines}
    rrns = {line.rrn for line in lines if line.kind is ReportKind.AUTHORISATION}
    return [
        *_attempts(ledger, rrns, start=start, until=until),
        *_operations(ledger, named, start=start, until=until),
    ]


def _attempts(ledger: Ledger, rrns: Collection[str], *, start: int, until: int) -> list[Entry]:
    found: dict[tuple[str, int], _Attempt] = {}
    rows = ledger.rows(
        "SELECT at, kind, subject, facts FROM entry WHERE kind IN ('intent', 'attempt', 'reported') ORDER BY id"
    )
    for at, kind, order_id, text in rows:
        facts = _decoder.decode(text)
        key = (order_id, facts.stan)
        if kind == "attempt":
            if key in found:
                found[key].state = _ATTEMPT.get(AttemptState(facts.state), Ours.OPEN)
            continue
        sent_at = facts.at or at
        if facts.rrn in rrns or start <= sent_at <= until:
            found[key] = _Attempt(
                rrn=facts.rrn,
                stan=facts.stan,
                at=sent_at,
                card=facts.card,
                state=Ours(facts.outcome) if facts.outcome else Ours.OPEN,
                amount=facts.amount,
                currency=facts.currency,
            )
    return [_entry(ledger, order_id, attempt) for (order_id, _), attempt in found.items()]


def _entry(ledger: Ledger, order_id: str, attempt: _Attempt) -> Entry:
    row = ledger.row("SELECT amount, currency, card FROM orders WHERE order_id = ?", (order_id,))
    amount, currency, card = row or (0, "", "")
    return Entry(
        order_id=order_id,
        kind=ReportKind.AUTHORISATION,
        rrn=attempt.rrn,
        stan=attempt.stan,
        at=attempt.at,
        amount=attempt.amount or amount,
        currency=attempt.currency or currency,
        scheme=scheme_of(attempt.card or card),
        state=attempt.state,
    )


def _operations(
    ledger: Ledger, named: Collection[tuple[ReportKind, str, int]], *, start: int, until: int
) -> list[Entry]:
    rows = ledger.rows(
        "SELECT o.order_id, p.kind, p.rrn, p.stan, p.sent_at, p.amount, p.currency, p.state, o.card FROM operation AS p"
        " JOIN orders AS o USING (number) WHERE p.kind IN ('capture', 'refund') ORDER BY p.sent_at, p.stan"
    )
    return [
        Entry(
            order_id=order_id,
            kind=ReportKind(kind),
            rrn=rrn,
            stan=stan,
            at=at,
            amount=amount,
            currency=currency,
            scheme=scheme_of(card),
            state=_OPERATION[OperationState(state)],
        )
        for order_id, kind, rrn, stan, at, amount, currency, state, card in list(rows)
        if start <= at <= until or (ReportKind(kind), rrn, stan) in named
    ]
