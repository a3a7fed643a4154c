"""Captures, refunds and voids in the ledger: owed, sent until answered, done or failed.

Why here: the SQL of what follows an approval; the database itself bounds what is taken and given back.
Must not: commit by itself, or change an operation that was answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from keys.public.digest import digest
from offline_processor.charging import Reference
from offline_processor.ledger import orders
from offline_processor.ledger.ledger import Ledger, Row

WHOLE: Final = "whole"
"""The reference of the one capture of an order that is taken at once."""

_ID_SIZE: Final = 16
_COLUMNS: Final = (
    "p.id, p.number, o.order_id, p.attempt, p.kind, p.reference, p.amount, p.currency, p.final, p.stan, p.sent_at,"
    " p.rrn, p.original_stan, p.original_at, p.original_amount, p.approval, p.state, p.code, p.tries"
)
_FROM: Final = f"SELECT {_COLUMNS} FROM operation AS p JOIN orders AS o USING (number)"  # noqa: S608
_INSERT: Final = (
    "INSERT INTO operation (id, number, attempt, kind, reference, amount, currency, final, stan, sent_at, rrn,"
    " original_stan, original_at, original_amount, approval, state, code, tries, closed)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', '', 0, 0)"
)


class OperationKind(StrEnum):
    """What follows an approval. A void releases all of what is reserved and not captured."""

    CAPTURE = "capture"
    REFUND = "refund"
    VOID = "void"


REFUSED: Final = {
    OperationKind.CAPTURE: "CAPTURE-REFUSED",
    OperationKind.REFUND: "REFUND-REFUSED",
    OperationKind.VOID: "VOID-REFUSED",
}
"""The rule by which an operation that the acquirer refused is a person's case."""


class OperationState(StrEnum):
    """Where an operation stands."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


TRANSITIONS: Final = {
    (OperationState.PENDING, True): OperationState.DONE,
    (OperationState.PENDING, False): OperationState.FAILED,
}
"""A pending operation that the acquirer accepts (true) or refuses; what is answered does not change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation. ``original`` is the approved authorisation; ``amount`` minor units; ``stan`` its own."""

    id: str
    original: Reference
    kind: OperationKind
    reference: str
    amount: int
    final: bool
    stan: int
    sent_at: int
    approval: str
    state: OperationState = OperationState.PENDING
    code: str = ""
    tries: int = 0

    @property
    def sent(self) -> Reference:
        """The operation's own reference: its amount, trace number and time, the authorisation's retrieval reference."""
        return replace(self.original, amount=self.amount, stan=self.stan, sent_at=self.sent_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An operation to be owed: of which authorisation, with its approval code, named by ``reference``."""

    original: Reference
    approval: str
    kind: OperationKind
    reference: str
    amount: int
    final: bool = field(default=True)


def whole(sent: Reference, approval: str) -> Wanted:
    """The capture of all of an authorisation at once."""
    return Wanted(
        original=sent, approval=approval, kind=OperationKind.CAPTURE, reference=WHOLE, amount=sent.amount
    )


def owe(
    ledger: Ledger, wanted: Sequence[Wanted], *, now: int, stans: Sequence[int] | None = None
) -> list[Operation]:
    """Make operations owed, in the caller's transaction; the database refuses one that takes or gives too much.

    ``stans``: the trace numbers that they had, of operations that only the acquirer knows.
    """
    stans = orders.next_stans(ledger, len(wanted)) if stans is None else stans
    made = [
        Operation(
            id=operation_id(item.original.order_id, item.kind, item.reference),
            original=item.original,
            kind=item.kind,
            reference=item.reference,
            amount=item.amount,
            final=item.final,
            stan=stan,
            sent_at=now,
            approval=item.approval,
        )
        for item, stan in zip(wanted, stans, strict=True)
    ]
    ledger.execute_many(_INSERT, [_row(item) for item in made])
    for item in made:
        facts = {"id": item.id, "kind": item.kind.value, "amount": item.amount, "stan": item.stan}
        ledger.append("operation", item.original.order_id, now, facts)
    return made


def operation_id(order_id: str, kind: OperationKind, reference: str) -> str:
    """The id that the same wish always gets, so that it is never made twice."""
    return digest(
        "operation", bytes.fromhex(order_id), kind.encode(), reference.encode(), size=_ID_SIZE
    ).hex()


def answered(ledger: Ledger, operation: Operation, *, accepted: bool, code: str, now: int) -> None:
    """Record the acquirer's answer, in the caller's transaction."""
    after = TRANSITIONS[operation.state, accepted]
    ledger.execute(
        "UPDATE operation SET state = ?, code = ?, tries = tries + 1 WHERE id = ?",
        (after.value, code, operation.id),
    )
    facts = {"id": operation.id, "kind": operation.kind.value, "state": after.value, "code": code}
    ledger.append("operation-answered", operation.original.order_id, now, facts)


def accepted(ledger: Ledger, done: Sequence[tuple[Operation, str]], *, now: int) -> None:
    """The same for many that were accepted, each with its code, in one statement."""
    ledger.execute_many(
        "UPDATE operation SET state = 'done', code = ?, tries = tries + 1 WHERE id = ?",
        [(code, operation.id) for operation, code in done],
    )
    for operation, code in done:
        facts = {"id": operation.id, "kind": operation.kind.value, "state": "done", "code": code}
        ledger.append("operation-answered", operation.original.order_id, now, facts)


def unanswered(ledger: Ledger, tried: Iterable[Operation]) -> None:
    """Count a try that got no answer."""
    ledger.execute_many("UPDATE operation SET tries = tries + 1 WHERE id = ?", [(item.id,) for item in tried])


def pending(ledger: Ledger, *kinds: OperationKind) -> list[Operation]:
    """What is owed, oldest first; of these kinds, or of all."""
    wanted = [kind.value for kind in (kinds or tuple(OperationKind))]
    marks = ",".join("?" * len(wanted))
    query = f"{_FROM} WHERE p.state = 'pending' AND p.kind IN ({marks}) ORDER BY p.sent_at, p.stan"
    return [_operation(row) for row in list(ledger.rows(query, tuple(wanted)))]


def failed(ledger: Ledger) -> list[Operation]:
    """What the acquirer has refused: each is a person's case."""
    return [
        _operation(row) for row in list(ledger.rows(f"{_FROM} WHERE p.state = 'failed' ORDER BY p.sent_at"))
    ]


def of_order(ledger: Ledger, number: int) -> list[Operation]:
    """The operations of the order of this number, oldest first."""
    rows = ledger.rows(f"{_FROM} WHERE p.number = ? ORDER BY p.sent_at, p.stan", (number,))
    return [_operation(row) for row in list(rows)]


def total(found: Iterable[Operation], kind: OperationKind, *states: OperationState) -> int:
    """The amount of those of this kind in these states, minor units."""
    return sum(item.amount for item in found if item.kind is kind and item.state in states)


def _row(item: Operation) -> Row:
    sent = item.original
    return (
        item.id,
        sent.number,
        sent.attempt,
        item.kind.value,
        item.reference,
        item.amount,
        sent.currency,
        int(item.final),
        item.stan,
        item.sent_at,
        sent.rrn,
        sent.stan,
        sent.sent_at,
        sent.amount,
        item.approval,
    )


def _operation(row: Row) -> Operation:
    key, number, order_id, attempt, kind, reference, amount, currency, final, stan, sent_at, *rest = row
    rrn, original_stan, original_at, original_amount, approval, state, code, tries = rest
    original = Reference(
        number=number,
        order_id=order_id,
        attempt=attempt,
        stan=original_stan,
        rrn=rrn,
        sent_at=original_at,
        amount=original_amount,
        currency=currency,
    )
    return Operation(
        id=key,
        original=original,
        kind=OperationKind(kind),
        reference=reference,
        amount=amount,
        final=bool(final),
        stan=stan,
        sent_at=sent_at,
        approval=approval,
        state=OperationState(state),
        code=code,
        tries=tries,
    )
