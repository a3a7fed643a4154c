"""Captures and refunds that only the acquirer's report knows, taken over by their orders.

Why here: after a restore they must count as taken and given back, or more would be; they come by the same transaction.
Must not: commit by itself, count one twice that our ledger has too, or leave beside one what we only meant to take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from offline_processor.charging import AttemptState, Reference
from offline_processor.ledger import operations, orders
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.operations import Operation, OperationKind, OperationState, Wanted
from offline_processor.stages import OrderState, Settled
from transfer.wire.ids import OrderId


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """One capture or refund that the acquirer did. ``at`` Unix seconds; minor units; ``stan`` its own trace number."""

    kind: OperationKind
    rrn: str
    stan: int
    at: int
    amount: int
    currency: str


def remember(ledger: Ledger, found: Sequence[Following]) -> None:
    """Keep them until their orders are there, in the caller's transaction."""
    ledger.execute_many(
        "INSERT OR IGNORE INTO reported_following (kind, rrn, stan, at, amount, currency) VALUES (?, ?, ?, ?, ?, ?)",
        [(item.kind.value, item.rrn, item.stan, item.at, item.amount, item.currency) for item in found],
    )


def taken(ledger: Ledger, rrn: str) -> int:
    """What the report shows captured of the authorisation of this retrieval reference, minor units."""
    return sum(item.amount for item in _of(ledger, rrn) if item.kind is OperationKind.CAPTURE)


def orders_followed(ledger: Ledger) -> list[tuple[int, str]]:
    """Number and id of the orders whose authorisation, also one before the report, was followed by something in it."""
    rows = ledger.rows(
        "SELECT DISTINCT o.number, o.order_id FROM orders AS o JOIN live_attempt AS l USING (number)"
        " JOIN reported_following AS f USING (rrn) ORDER BY o.number"
    )
    return [(number, order_id) for number, order_id in list(rows)]


def adopt(ledger: Ledger, number: int, *, now: int) -> bool:
    """Take over what followed the order's approved authorisation; nothing when there is none, or nothing is known.

    False: the report shows taken, or given back, what cannot have been, or was refused; it is left out, and a person's.
    """
    live = orders.live_attempt(ledger, number)
    row = ledger.row(
        "SELECT l.approval, o.state FROM orders AS o JOIN live_attempt AS l USING (number) WHERE number = ?",
        (number,),
    )
    if live is None or row is None or live[1] is not AttemptState.APPROVED:
        return True
    sent, (approval, state) = live[0], row
    ours = {(item.kind, item.stan): item for item in _of_attempt(ledger, sent)}
    reported = _of(ledger, sent.rrn)
    unknown_kinds = {item.kind for item in reported if (item.kind, item.stan) not in ours}
    shown = {(item.kind, item.stan) for item in reported}
    for key, owed in ours.items():
        # It was not done by then, and something else was: whether it still must be is a person's question.
        if owed.state is OperationState.PENDING and owed.kind in unknown_kinds and key not in shown:
            operations.answered(ledger, owed, accepted=False, code="", now=now)
    fitted = True
    for item in reported:
        known = ours.get((item.kind, item.stan))
        if known is None:
            if not _fits(_of_attempt(ledger, sent), item, sent):
                fitted = False
                continue
            wanted = Wanted(
                original=sent,
                approval=approval,
                kind=item.kind,
                reference=f"reported {item.stan}",
                amount=item.amount,
            )
            (known,) = operations.owe(ledger, [wanted], now=now, stans=[item.stan])
        if known.state is OperationState.FAILED:
            fitted = False  # refused here, done there
        elif known.state is OperationState.PENDING:
            operations.answered(ledger, known, accepted=True, code="00", now=now)
    end = _end(_of_attempt(ledger, sent), OrderState(state), sent.amount)
    if end is not None:
        orders.settle(ledger, [Settled(order_id=OrderId(sent.order_id), state=end)], now=now)
    return fitted


def _of_attempt(ledger: Ledger, sent: Reference) -> list[Operation]:
    """What followed this attempt; an earlier one of its order was released, and bounds nothing of it."""
    found = operations.of_order(ledger, sent.number)
    return [item for item in found if item.original.attempt == sent.attempt]


def _of(ledger: Ledger, rrn: str) -> list[Following]:
    rows = ledger.rows(
        "SELECT kind, rrn, stan, at, amount, currency FROM reported_following WHERE rrn = ? ORDER BY kind, at, stan",
        (rrn,),
    )
    return [
        Following(kind=OperationKind(kind), rrn=rrn, stan=stan, at=at, amount=amount, currency=currency)
        for kind, rrn, stan, at, amount, currency in list(rows)
    ]


def _fits(found: Sequence[Operation], item: Following, sent: Reference) -> bool:
    """What the database itself refuses: more taken than was authorised, or after its release; more back than taken."""
    standing = (OperationState.PENDING, OperationState.DONE)
    if item.currency != sent.currency:
        return False
    if item.kind is OperationKind.REFUND:
        taken = operations.total(found, OperationKind.CAPTURE, OperationState.DONE)
        return operations.total(found, OperationKind.REFUND, *standing) + item.amount <= taken
    released = any(one.kind is OperationKind.VOID and one.state in standing for one in found)
    taken = operations.total(found, OperationKind.CAPTURE, *standing)
    return not released and taken + item.amount <= sent.amount


def _end(found: Sequence[Operation], state: OrderState, authorised: int) -> OrderState | None:
    captured = operations.total(found, OperationKind.CAPTURE, OperationState.DONE)
    back = operations.total(found, OperationKind.REFUND, OperationState.DONE)
    whole = captured >= authorised and state is OrderState.AUTHORISED
    if captured and back >= captured and (whole or state in (OrderState.PAID, OrderState.DISPATCHED)):
        return OrderState.REFUNDED
    if whole:
        return OrderState.DISPATCHED
    return None
