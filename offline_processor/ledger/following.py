"""Captures and refunds that only the acquirer's report knows, taken over with the authorisation that they followed.

Why here: after a restore they must count as taken and given back, or more would be; they come by the same transaction.
Must not: commit by itself, or count one twice that our ledger has too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from offline_processor.charging import AttemptState
from offline_processor.ledger import operations, orders
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.operations import Operation, OperationKind, OperationState, Wanted
from offline_processor.stages import OrderState, Settled
from transfer.wire.ids import OrderId

FULL_REPORT = "reported-following"


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """One capture or refund that the acquirer did. ``at`` Unix seconds; minor units; ``stan`` its own trace number."""

    kind: OperationKind
    rrn: str
    stan: int
    at: int
    amount: int
    currency: str


def remember(ledger: Ledger, found: Sequence[Following], *, full: bool) -> None:
    """Keep them until their orders are there, in the caller's transaction. ``full``: there are no others."""
    ledger.execute_many(
        "INSERT OR IGNORE INTO reported_following (kind, rrn, stan, at, amount, currency) VALUES (?, ?, ?, ?, ?, ?)",
        [(item.kind.value, item.rrn, item.stan, item.at, item.amount, item.currency) for item in found],
    )
    ledger.set_counter(FULL_REPORT, int(full))


def taken(ledger: Ledger, rrn: str) -> int:
    """What the report shows captured of the authorisation of this retrieval reference, minor units."""
    return sum(item.amount for item in _of(ledger, rrn) if item.kind is OperationKind.CAPTURE)


def adopt(ledger: Ledger, number: int, *, now: int) -> None:
    """Take over what followed the order's approved authorisation; nothing when there is none, or nothing is known.

    What was authorised and not taken, of an order that is paid at once, is owed its capture.
    """
    live = orders.live_attempt(ledger, number)
    row = ledger.row(
        "SELECT l.approval, o.state FROM orders AS o JOIN live_attempt AS l USING (number) WHERE number = ?",
        (number,),
    )
    if live is None or row is None or live[1] is not AttemptState.APPROVED:
        return
    sent, (approval, state) = live[0], row
    ours = {(item.kind, item.stan): item for item in operations.of_order(ledger, number)}
    for item in _of(ledger, sent.rrn):
        known = ours.get((item.kind, item.stan))
        if known is None:
            wanted = Wanted(
                original=sent,
                approval=approval,
                kind=item.kind,
                reference=f"reported {item.stan}",
                amount=item.amount,
            )
            (known,) = operations.owe(ledger, [wanted], now=now, stans=[item.stan])
        if known.state is OperationState.PENDING:
            operations.answered(ledger, known, accepted=True, code="00", now=now)
    found = operations.of_order(ledger, number)
    if ledger.counter(FULL_REPORT) and not found and state == OrderState.PAID:
        operations.owe(ledger, [operations.whole(sent, approval)], now=now)
    end = _end(found, OrderState(state), sent.amount)
    if end is not None:
        orders.settle(ledger, [Settled(order_id=OrderId(sent.order_id), state=end)], now=now)


def _of(ledger: Ledger, rrn: str) -> list[Following]:
    rows = ledger.rows(
        "SELECT kind, rrn, stan, at, amount, currency FROM reported_following WHERE rrn = ? ORDER BY kind, at, stan",
        (rrn,),
    )
    return [
        Following(kind=OperationKind(kind), rrn=rrn, stan=stan, at=at, amount=amount, currency=currency)
        for kind, rrn, stan, at, amount, currency in list(rows)
    ]


def _end(found: Sequence[Operation], state: OrderState, authorised: int) -> OrderState | None:
    captured = operations.total(found, OperationKind.CAPTURE, OperationState.DONE)
    back = operations.total(found, OperationKind.REFUND, OperationState.DONE)
    whole = captured >= authorised and state is OrderState.AUTHORISED
    if captured and back >= captured and (whole or state in (OrderState.PAID, OrderState.DISPATCHED)):
        return OrderState.REFUNDED
    if whole:
        return OrderState.DISPATCHED
    return None
