"""Orders in the ledger: staged when screened, charged by attempts, settled once.

Why here: the SQL of an order's life in one place, each function one part of a caller's transaction.
Must not: commit by itself, or see a card beyond BIN and last four.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from offline_processor.charging import FINISHED, AttemptState, Event, Reference, advance
from offline_processor.ledger.ledger import Ledger, Row
from offline_processor.stages import OrderState, Settled
from transfer.wire.ids import OrderId
from transfer.wire.records import Reason

STAN_LIMIT = 999_999
_AFTER_NO_CHARGE = frozenset({OrderState.ORDER_AGAIN, OrderState.DECLINED})
_NEXT_RETURN = "(SELECT return_number + 1 FROM node WHERE node.node = orders.node)"
_SETTLE = (
    f"UPDATE orders SET state = ?, reason = ?, rule = ?, changed_at = ?, told = {_NEXT_RETURN}"  # noqa: S608
    " WHERE order_id = ?"
)
_CHARGED = (
    "UPDATE orders SET state = ?, reason = ?, rule = ?, card = ?, attempts = ?, changed_at = ?,"  # noqa: S608
    f" told = {_NEXT_RETURN} WHERE number = ?"
)
_INTENT = (
    "INSERT INTO live_attempt (number, attempt, state, stan, rrn, sent_at, amount, currency, vault, vault_until)"
    " VALUES (?, ?, 'intent', ?, ?, ?, ?, ?, ?, ?)"
)
# What is open is held; a window that is being sent has just been given its numbers.
_STANS_IN_USE = (
    "SELECT l.stan FROM orders AS o JOIN live_attempt AS l USING (number)"
    " WHERE o.state = 'held' AND l.stan BETWEEN ?1 AND ?2 UNION ALL"
    " SELECT l.operation_stan FROM orders AS o JOIN live_attempt AS l USING (number)"
    " WHERE o.state = 'held' AND l.operation_stan BETWEEN ?1 AND ?2 UNION ALL"
    " SELECT stan FROM operation WHERE state = 'pending' AND stan BETWEEN ?1 AND ?2 UNION ALL"
    " SELECT stan FROM reported_following WHERE stan BETWEEN ?1 AND ?2"
)
WAITING = "o.number, o.order_id, o.position, o.amount, o.currency, o.attempts, o.release_at, o.capture"
_ATTEMPTS = (
    "SELECT l.number, o.order_id, l.attempt, l.state, l.stan, l.rrn, l.sent_at, l.amount, l.currency"
    " FROM live_attempt AS l JOIN orders AS o USING (number)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingOrder:
    """An order that is screened and waits for its charge; ``number`` is the ledger's own.

    ``release_at``: when its goods can go at the earliest (Unix seconds); 0 for at once. ``capture``: when a person
    wants it taken, "" where nobody said (capturing.py).
    """

    number: int
    order_id: str
    position: int
    amount: int
    currency: str
    attempts: int
    release_at: int
    capture: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """An attempt about to be sent: its reference, BIN and last four for people, and the vault's sealed PAN.

    The box is erased when nothing can need it any more, and at ``vault_until`` (Unix seconds) whatever happens.
    """

    reference: Reference
    card: str
    vault: bytes
    vault_until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One event of an attempt in ``state``; ``keep_vault``: a capture of it will need the card again."""

    sent: Reference
    state: AttemptState
    event: Event
    code: str = ""
    approval: str = ""
    late: bool = False
    keep_vault: bool = False


def waiting(
    ledger: Ledger, *, node: str, sequence: int, again: bool, after: int, limit: int
) -> list[WaitingOrder]:
    """The next screened orders of a bundle beyond position ``after``: never attempted, or to be attempted again."""
    rows = ledger.rows(
        f"SELECT {WAITING} FROM orders AS o WHERE node = ? AND sequence = ?"  # noqa: S608
        " AND position > ? AND state = 'screened' AND (attempts > 0) = ? ORDER BY position LIMIT ?",
        (node, sequence, after, again, limit),
    )
    return [waiting_order(row) for row in rows]


def count_waiting(ledger: Ledger, *, node: str, sequence: int) -> int:
    """How many orders of a bundle are screened and not charged yet."""
    row = ledger.row(
        "SELECT count(*) FROM orders WHERE node = ? AND sequence = ? AND state = 'screened'", (node, sequence)
    )
    return int(row[0]) if row else 0


def waiting_order(row: Row) -> WaitingOrder:
    """The order in a row of ``WAITING``."""
    number, order_id, position, amount, currency, attempts, release_at, capture = row
    return WaitingOrder(
        number=number,
        order_id=order_id,
        position=position,
        amount=amount,
        currency=currency,
        attempts=attempts,
        release_at=release_at,
        capture=capture,
    )


def without_attempt(ledger: Ledger) -> list[tuple[WaitingOrder, str]]:
    """Held orders with no live attempt (reversed), each with the batch key of its bundle (hex)."""
    rows = ledger.rows(
        f"SELECT {WAITING}, b.batch_key FROM orders AS o"  # noqa: S608
        " JOIN bundle AS b ON b.node = o.node AND b.sequence = o.sequence"
        " WHERE o.state = 'held' AND NOT EXISTS (SELECT 1 FROM live_attempt AS l WHERE l.number = o.number)"
        " AND NOT EXISTS (SELECT 1 FROM retry AS r WHERE r.number = o.number) ORDER BY o.number"
    )
    return [(waiting_order(row[:-1]), str(row[-1])) for row in rows]


def expire(ledger: Ledger, *, node: str, sequence: int, now: int) -> int:
    """The bundle's key is destroyed: what was never sent, or is reversed, is to be ordered again. Returns how many."""
    rows = ledger.rows(
        "SELECT order_id FROM orders WHERE node = ? AND sequence = ?"
        " AND (state = 'screened' OR (state = 'quarantined' AND rule = 'KEY-DESTROYED'))",
        (node, sequence),
    )
    again = [
        Settled(
            order_id=OrderId(row[0]),
            state=OrderState.ORDER_AGAIN,
            reason=Reason.EXPIRED,
            rule="KEY-DESTROYED",
        )
        for row in list(rows)
    ]
    settle(ledger, again, now=now)
    return len(again)


def reopen(ledger: Ledger, order_id: str, *, now: int) -> None:
    """A reversed order whose bundle is not settled yet waits for its charge again."""
    ledger.execute(
        "UPDATE orders SET state = 'screened', changed_at = ?, told = 0 WHERE order_id = ?", (now, order_id)
    )
    ledger.append("reopened", order_id, now, {})


def next_references(
    ledger: Ledger, waiting_orders: Sequence[WaitingOrder], *, epoch: int, now: int
) -> list[Reference]:
    """Give the next attempt of each order its trace number and its retrieval reference."""
    retrieval = ledger.counter("rrn")
    references = []
    for order, stan in zip(waiting_orders, next_stans(ledger, len(waiting_orders)), strict=True):
        retrieval += 1
        references.append(
            Reference(
                number=order.number,
                order_id=order.order_id,
                attempt=order.attempts + 1,
                stan=stan,
                rrn=f"{epoch % 100:02d}{retrieval:010d}",
                sent_at=now,
                amount=order.amount,
                currency=order.currency,
            )
        )
    ledger.set_counter("rrn", retrieval)
    return references


def next_stans(ledger: Ledger, count: int) -> list[int]:
    """The next trace numbers, which wrap.

    Never one that a message without an answer still has, or one whose use was lost with the ledger that it was in: the
    acquirer would take a second capture with the number of the first for the first again.
    """
    stan, stans = ledger.counter("stan"), list[int]()
    while len(stans) < count:
        first = stan % STAN_LIMIT + 1
        stan = min(STAN_LIMIT, first + count - len(stans) - 1)
        in_use = {used for (used,) in list(ledger.rows(_STANS_IN_USE, (first, stan)))}
        stans += [free for free in range(first, stan + 1) if free not in in_use]
    ledger.set_counter("stan", stan)
    return stans


def record_intents(ledger: Ledger, intents: Sequence[Intent], *, now: int) -> None:
    """Make a window's intents: the primary key refuses a second live attempt of any order."""
    rows: list[Row] = []
    for intent in intents:
        sent = intent.reference
        rows.append(
            (
                sent.number,
                sent.attempt,
                sent.stan,
                sent.rrn,
                sent.sent_at,
                sent.amount,
                sent.currency,
                intent.vault,
                intent.vault_until,
            )
        )
        facts = {"attempt": sent.attempt, "stan": sent.stan, "rrn": sent.rrn, "card": intent.card}
        ledger.append("intent", sent.order_id, now, facts)
    ledger.execute_many(_INTENT, rows)


def record_events(ledger: Ledger, moves: Sequence[Move], *, now: int) -> list[AttemptState]:
    """Move attempts by one event each and return their new states.

    A finished attempt leaves the table and takes its vault box with it; so does the box of an approved one that
    nothing can need any more.
    """
    finished: list[Row] = []
    approved: list[Row] = []
    moved: list[Row] = []
    states = []
    for move in moves:
        sent = move.sent
        after = advance(move.state, move.event)
        states.append(after)
        facts = {"attempt": sent.attempt, "stan": sent.stan, "state": after.value, "code": move.code}
        facts |= {"approval": move.approval} if move.approval else {}
        facts |= {"late": True} if move.late else {}
        ledger.append("attempt", sent.order_id, now, facts)
        if after in FINISHED:
            finished.append((sent.number,))
        elif after is AttemptState.APPROVED:
            approved.append((move.approval, move.keep_vault, move.keep_vault, sent.number))
        else:
            moved.append((after.value, move.approval, sent.number))
    ledger.execute_many("DELETE FROM live_attempt WHERE number = ?", finished)
    ledger.execute_many(
        "UPDATE live_attempt SET state = 'approved', approval = ?, vault = iif(?, vault, NULL),"
        " vault_until = iif(?, vault_until, 0) WHERE number = ?",
        approved,
    )
    ledger.execute_many(
        "UPDATE live_attempt SET state = ?, approval = coalesce(nullif(?, ''), approval) WHERE number = ?",
        moved,
    )
    return states


def settle_charged(ledger: Ledger, outcomes: Sequence[tuple[Reference, str, Settled]], *, now: int) -> None:
    """Give orders the state that their attempt's event, recorded in the same transaction, has brought.

    Each comes with its reference and its BIN and last four ("" when a crash has lost them).
    """
    ledger.execute_many(
        _CHARGED,
        [
            (
                outcome.state.value,
                outcome.reason.value,
                outcome.rule,
                card,
                sent.attempt,
                now,
                sent.number,
            )
            for sent, card, outcome in outcomes
        ],
    )
    _end_tries(ledger, [outcome for _, _, outcome in outcomes])
    _retell(ledger, [outcome.order_id for _, _, outcome in outcomes])


def settle(ledger: Ledger, outcomes: Sequence[Settled], *, now: int) -> None:
    """Give orders their new state; each is told to its node in the next return.

    An order that the acquirer's report shows charged is never told to order again: a person decides
    (``RECONCILE-ORDER``).
    """
    outcomes = _charged_is_not_ordered_again(ledger, outcomes)
    for outcome in outcomes:
        facts = {"state": outcome.state.value, "reason": outcome.reason.value, "rule": outcome.rule}
        ledger.append("settled", outcome.order_id, now, facts)
    ledger.execute_many(
        _SETTLE,
        [
            (outcome.state.value, outcome.reason.value, outcome.rule, now, outcome.order_id)
            for outcome in outcomes
        ],
    )
    _end_tries(ledger, outcomes)
    _retell(ledger, [outcome.order_id for outcome in outcomes])


def _charged_is_not_ordered_again(ledger: Ledger, outcomes: Sequence[Settled]) -> Sequence[Settled]:
    none_charged = not any(outcome.state in _AFTER_NO_CHARGE for outcome in outcomes)
    if none_charged or ledger.row("SELECT 1 FROM reported LIMIT 1") is None:
        return outcomes
    charged = {order_id for (order_id,) in list(ledger.rows("SELECT order_id FROM reported"))}
    return [
        replace(outcome, state=OrderState.QUARANTINED, reason=Reason.UNDER_REVIEW, rule="RECONCILE-ORDER")
        if outcome.state in _AFTER_NO_CHARGE and outcome.order_id in charged
        else outcome
        for outcome in outcomes
    ]


def _end_tries(ledger: Ledger, outcomes: Sequence[Settled]) -> None:
    """Only what is held is tried again; the box in the vault of any other goes, whoever has settled it."""
    if ledger.row("SELECT 1 FROM retry LIMIT 1") is not None:
        ledger.execute_many(
            "DELETE FROM retry WHERE number = (SELECT number FROM orders WHERE order_id = ?)",
            [(outcome.order_id,) for outcome in outcomes if outcome.state is not OrderState.HELD],
        )


def _retell(ledger: Ledger, order_ids: Sequence[str]) -> None:
    """The nodes from which these orders came again are told as well."""
    if ledger.row("SELECT 1 FROM repeat LIMIT 1") is not None:
        ledger.execute_many(
            "UPDATE repeat SET told = (SELECT return_number + 1 FROM node WHERE node.node = repeat.node)"
            " WHERE order_id = ?",
            [(order_id,) for order_id in order_ids],
        )


def open_attempts(ledger: Ledger, *states: AttemptState) -> Iterator[tuple[Reference, AttemptState]]:
    """The live attempts in one of ``states``."""
    marks = ",".join("?" * len(states))
    # An attempt is open only while its order is held or its bundle is at work; both are indexed, attempts are many.
    rows = ledger.rows(
        f"{_ATTEMPTS} WHERE l.state IN ({marks}) AND l.number IN ("  # noqa: S608
        " SELECT number FROM orders WHERE state = 'held' UNION"
        " SELECT number FROM bundle AS b JOIN orders AS w ON w.node = b.node AND w.sequence = b.sequence"
        " WHERE b.state != 'settled') ORDER BY l.number",
        tuple(state.value for state in states),
    )
    yield from map(_attempt, rows)


def live_attempt(ledger: Ledger, number: int) -> tuple[Reference, AttemptState] | None:
    """The live attempt of the order of this number, or None."""
    row = ledger.row(f"{_ATTEMPTS} WHERE l.number = ?", (number,))
    return None if row is None else _attempt(row)


def _attempt(row: Row) -> tuple[Reference, AttemptState]:
    number, order_id, attempt, state, stan, rrn, sent_at, amount, currency = row
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
    return sent, AttemptState(state)
