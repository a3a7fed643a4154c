"""Reversals in the ledger: which are owed, under which number they go, and which a person has to phone about.

Why here: a reversal is repeated over days and runs under one id and one trace number, both durable before it goes.
Must not: commit by itself, or let an attempt leave the books without an answer or a person's word.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from offline_processor.charging import AttemptState, Event, Reference
from offline_processor.ledger import orders
from offline_processor.ledger.ledger import Ledger, Row
from offline_processor.ledger.orders import Move

_ID_SIZE = 16
_OPEN = (
    "SELECT l.number, o.order_id, l.attempt, l.state, l.stan, l.rrn, l.sent_at, l.amount, l.currency, l.approval,"
    " l.operation, l.operation_stan, l.operation_at, l.tries, l.vault, o.card, o.rule"
    " FROM orders AS o JOIN live_attempt AS l USING (number) WHERE o.state = 'held' AND l.state IN ({states})"
    " ORDER BY o.number"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenReversal:
    """An attempt that is to be reversed, or was given up: all that a person needs to phone the acquirer.

    ``sent`` is the authorisation; ``operation`` the reversal's own id ("" before it was first sent) with ``stan`` and
    ``at``; ``tries`` how often it was sent; ``card`` BIN and last four; ``rule`` why the order is held.
    """

    sent: Reference
    state: AttemptState
    approval: str
    operation: str
    stan: int
    at: int
    tries: int
    vault: bytes | None = field(repr=False)
    card: str
    rule: str

    @property
    def reference(self) -> Reference:
        """The reversal's own reference: its trace number and time, the authorisation's retrieval reference."""
        return replace(self.sent, stan=self.stan, sent_at=self.at)


def owed(ledger: Ledger) -> list[OpenReversal]:
    """The attempts of unknown outcome, in the order of their orders."""
    return _read(ledger, AttemptState.UNKNOWN, AttemptState.REVERSAL_PENDING)


def given_up(ledger: Ledger) -> list[OpenReversal]:
    """The attempts that wait for a person's word: their reversal was never answered."""
    return _read(ledger, AttemptState.MANUAL)


def begin(ledger: Ledger, found: Sequence[OpenReversal], *, now: int) -> list[OpenReversal]:
    """Count one more try of each and give those that have none their id, trace number and time."""
    new = iter(orders.next_stans(ledger, sum(not item.operation for item in found)))
    begun = [_begun(item, new, now) for item in found]
    ledger.execute_many(
        "UPDATE live_attempt SET operation = ?, operation_stan = ?, operation_at = ?, tries = ? WHERE number = ?",
        [(item.operation, item.stan, item.at, item.tries, item.sent.number) for item in begun],
    )
    moves = [Move(sent=item.sent, state=item.state, event=Event.REVERSAL_SENT) for item in found]
    orders.record_events(ledger, moves, now=now)
    return [replace(item, state=AttemptState.REVERSAL_PENDING) for item in begun]


def give_up(ledger: Ledger, found: Sequence[OpenReversal], *, now: int) -> None:
    """Leave these to a person; the order stays held, by the rule that says what was wrong with its answer."""
    moves = [Move(sent=item.sent, state=item.state, event=Event.REVERSAL_GIVEN_UP) for item in found]
    orders.record_events(ledger, moves, now=now)
    ledger.execute_many(
        "UPDATE orders SET changed_at = ? WHERE number = ?", [(now, item.sent.number) for item in found]
    )


def _begun(item: OpenReversal, stans: Iterator[int], now: int) -> OpenReversal:
    if item.operation:
        return replace(item, tries=item.tries + 1)
    return replace(item, operation=os.urandom(_ID_SIZE).hex(), stan=next(stans), at=now, tries=1)


def _read(ledger: Ledger, *states: AttemptState) -> list[OpenReversal]:
    marks = ",".join("?" * len(states))
    rows = ledger.rows(_OPEN.format(states=marks), tuple(state.value for state in states))
    return [_open(row) for row in list(rows)]


def _open(row: Row) -> OpenReversal:
    number, order_id, attempt, state, stan, rrn, sent_at, amount, currency, *rest = row
    approval, operation, own_stan, own_at, tries, vault, card, rule = rest
    sent = Reference(
        number=number,
        order_id=order_id,
        attempt=attempt,
        stan=stan,
        rrn=rrn,
        sent_at=sent_at,
        amount=amount,
        currency=currency,
    )
    return OpenReversal(
        sent=sent,
        state=AttemptState(state),
        approval=approval,
        operation=operation,
        stan=own_stan,
        at=own_at,
        tries=tries,
        vault=vault,
        card=card,
        rule=rule,
    )
