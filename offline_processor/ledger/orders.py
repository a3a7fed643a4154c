"""Orders in the ledger: staged when screened, charged by attempts, settled once.

Why here: the SQL of an order's life in one place, each function one part of a caller's transaction.
Must not: commit by itself, or see a card beyond BIN and last four.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from keys.public.digest import digest, equal
from offline_processor.charging import FINISHED, AttemptState, Event, Reference, advance
from offline_processor.ledger.ledger import Ledger, Row
from offline_processor.stages import OrderState, Quarantined, ScreenedOrder, Settled
from transfer.wire.ids import OrderId
from transfer.wire.records import Reason

STAN_LIMIT = 999_999
_SALT_SIZE = 16
_STAGE = (
    "INSERT INTO orders (order_id, node, sequence, position, basket_digest, amount, currency, state, reason, rule,"
    " card, attempts, changed_at, told) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', 0, ?, 0)"
)
_PERSON = "INSERT INTO person (order_id, person, salt) VALUES (?, ?, ?)"
_STRAY = "INSERT INTO stray (node, sequence, position, order_id, rule) VALUES (?, ?, ?, ?, ?)"
_SETTLE = "UPDATE orders SET state = ?, reason = ?, rule = ?, changed_at = ?, told = 0 WHERE order_id = ?"
_INTENT = (
    "INSERT INTO live_attempt (order_id, attempt, state, stan, rrn, sent_at, amount, currency, vault)"
    " VALUES (?, ?, 'intent', ?, ?, ?, ?, ?, ?)"
)
_person_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingOrder:
    """An order that is screened and waits for its charge."""

    order_id: str
    position: int
    amount: int
    currency: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """An attempt about to be sent: its reference, BIN and last four for people, and the vault's sealed PAN."""

    reference: Reference
    card: str
    vault: bytes


def stage(
    ledger: Ledger, judged: Sequence[ScreenedOrder | Quarantined], *, node: str, sequence: int, now: int
) -> int:
    """Record a window of judged orders; return how many were known already.

    The same id with the same basket is the same order again and changes nothing; with another basket it is
    quarantined beside it (``ORDER-ID-CONFLICT``).
    """
    known = _known(ledger, judged)
    orders: list[Row] = []
    people: list[Row] = []
    strays: list[Row] = []
    repeated = 0
    for order in judged:
        order_id = order.order_id
        if order_id is None:
            strays.append((node, sequence, order.position, "", order.rule))
            ledger.append("stray", f"{node}/{sequence}/{order.position}", now, {"rule": order.rule})
            continue
        if order_id in known:
            if isinstance(order, ScreenedOrder) and equal(known[order_id], order.basket_digest):
                repeated += 1
                ledger.execute(
                    "INSERT OR REPLACE INTO repeat (order_id, node, told) VALUES (?, ?, 0)", (order_id, node)
                )
                ledger.append("repeated", order_id, now, {"node": node, "sequence": sequence})
            else:
                rule = "ORDER-ID-CONFLICT"
                strays.append((node, sequence, order.position, order_id, rule))
                ledger.append("stray", f"{node}/{sequence}/{order.position}", now, {"order": order_id, "rule": rule})
            continue
        known[order_id] = order.basket_digest
        place = (order_id, node, sequence, order.position, order.basket_digest)
        if isinstance(order, Quarantined):
            orders.append(
                (*place, 0, "", OrderState.QUARANTINED.value, Reason.UNDER_REVIEW.value, order.rule, now)
            )
            ledger.append("quarantined", order_id, now, {"node": node, "sequence": sequence, "rule": order.rule})
            continue
        orders.append((*place, order.amount, order.currency, OrderState.SCREENED.value, Reason.NONE.value, "", now))
        salt = os.urandom(_SALT_SIZE)
        person = _person_encoder.encode(
            (order.compartment.items, order.compartment.customer, order.compartment.delivery)
        )
        people.append((order_id, person.decode(), salt))
        ledger.append(
            "screened",
            order_id,
            now,
            {
                "node": node,
                "sequence": sequence,
                "amount": order.amount,
                "currency": order.currency,
                "person": digest("person", salt, person, size=16).hex(),
            },
        )
    ledger.execute_many(_STAGE, orders)
    ledger.execute_many(_PERSON, people)
    ledger.execute_many(_STRAY, strays)
    return repeated


def _known(ledger: Ledger, judged: Iterable[ScreenedOrder | Quarantined]) -> dict[str, bytes]:
    ids = [order.order_id for order in judged if order.order_id is not None]
    marks = ",".join("?" * len(ids))
    query = f"SELECT order_id, basket_digest FROM orders WHERE order_id IN ({marks})"  # noqa: S608  only marks
    return dict(ledger.rows(query, tuple(ids)))


def waiting(ledger: Ledger, *, node: str, sequence: int, after: int, limit: int) -> list[WaitingOrder]:
    """The next screened orders of a bundle beyond position ``after`` that have no attempt yet."""
    rows = ledger.rows(
        "SELECT order_id, position, amount, currency, attempts FROM orders WHERE node = ? AND sequence = ? AND position > ?"
        " AND state = 'screened' ORDER BY position LIMIT ?",
        (node, sequence, after, limit),
    )
    return [_waiting(row) for row in rows]


def _waiting(row: Row) -> WaitingOrder:
    order_id, position, amount, currency, attempts = row
    return WaitingOrder(
        order_id=order_id, position=position, amount=amount, currency=currency, attempts=attempts
    )


def without_attempt(ledger: Ledger) -> list[tuple[WaitingOrder, str]]:
    """Held orders with no live attempt (reversed), each with the state of its bundle."""
    rows = ledger.rows(
        "SELECT o.order_id, o.position, o.amount, o.currency, o.attempts, b.state FROM orders AS o"
        " JOIN bundle AS b ON b.node = o.node AND b.sequence = o.sequence"
        " WHERE o.state = 'held' AND NOT EXISTS (SELECT 1 FROM live_attempt AS l WHERE l.order_id = o.order_id)"
        " ORDER BY o.order_id"
    )
    return [(_waiting(row[:5]), str(row[5])) for row in rows]


def stage_expired(
    ledger: Ledger, headers: Sequence[tuple[int, str, bytes]], *, node: str, sequence: int, now: int
) -> None:
    """Record (position, order id, basket digest) of a bundle whose key is destroyed: order again, if never known."""
    expired = [
        Quarantined(position=position, order_id=OrderId(order_id), basket_digest=basket, rule="KEY-DESTROYED")
        for position, order_id, basket in headers
    ]
    known = _known(ledger, expired)
    fresh = [order for order in expired if order.order_id not in known]
    stage(ledger, fresh, node=node, sequence=sequence, now=now)
    again = [
        Settled(
            order_id=order.order_id, state=OrderState.ORDER_AGAIN, reason=Reason.EXPIRED, rule="KEY-DESTROYED"
        )
        for order in fresh
        if order.order_id is not None
    ]
    settle(ledger, again, now=now)


def reopen(ledger: Ledger, order_id: str, *, now: int) -> None:
    """A reversed order whose bundle is not settled yet waits for its charge again."""
    ledger.execute("UPDATE orders SET state = 'screened', changed_at = ? WHERE order_id = ?", (now, order_id))
    ledger.append("reopened", order_id, now, {})


def next_references(
    ledger: Ledger, orders: Sequence[tuple[str, int, int, str]], *, epoch: int, now: int
) -> list[Reference]:
    """Give (order id, attempt, amount, currency) tuples their trace numbers, which wrap, and retrieval references."""
    stan, retrieval = ledger.counter("stan"), ledger.counter("rrn")
    references = []
    for order_id, attempt, amount, currency in orders:
        stan = stan % STAN_LIMIT + 1
        retrieval += 1
        references.append(
            Reference(
                order_id=order_id,
                attempt=attempt,
                stan=stan,
                rrn=f"{epoch % 100:02d}{retrieval:010d}",
                sent_at=now,
                amount=amount,
                currency=currency,
            )
        )
    ledger.set_counter("stan", stan)
    ledger.set_counter("rrn", retrieval)
    return references


def record_intents(ledger: Ledger, intents: Sequence[Intent], *, now: int) -> None:
    """Make a window's intents: the primary key refuses a second live attempt of any order."""
    rows: list[Row] = []
    for intent in intents:
        sent = intent.reference
        rows.append(
            (
                sent.order_id,
                sent.attempt,
                sent.stan,
                sent.rrn,
                sent.sent_at,
                sent.amount,
                sent.currency,
                intent.vault,
            )
        )
        facts = {"attempt": sent.attempt, "stan": sent.stan, "rrn": sent.rrn, "card": intent.card}
        ledger.append("intent", sent.order_id, now, facts)
    ledger.execute_many(_INTENT, rows)
    ledger.execute_many(
        "UPDATE orders SET card = ?, attempts = ? WHERE order_id = ?",
        [(intent.card, intent.reference.attempt, intent.reference.order_id) for intent in intents],
    )


def record_events(
    ledger: Ledger, moves: Sequence[tuple[Reference, AttemptState, Event, str]], *, now: int
) -> list[AttemptState]:
    """Move attempts by one event each (reference, state, event, response code) and return their new states.

    A finished attempt leaves the table and takes its vault row with it; so does the vault row of a captured one.
    """
    finished: list[Row] = []
    captured: list[Row] = []
    moved: list[Row] = []
    states = []
    for sent, state, event, code in moves:
        after = advance(state, event)
        states.append(after)
        facts = {"attempt": sent.attempt, "stan": sent.stan, "state": after.value, "code": code}
        ledger.append("attempt", sent.order_id, now, facts)
        if after in FINISHED:
            finished.append((sent.order_id,))
        elif after is AttemptState.APPROVED:
            captured.append((sent.order_id,))
        else:
            moved.append((after.value, sent.order_id))
    ledger.execute_many("DELETE FROM live_attempt WHERE order_id = ?", finished)
    # Authorised and captured at once: nothing later in this version can need the PAN.
    ledger.execute_many("UPDATE live_attempt SET state = 'approved', vault = NULL WHERE order_id = ?", captured)
    ledger.execute_many("UPDATE live_attempt SET state = ? WHERE order_id = ?", moved)
    return states


def settle(ledger: Ledger, outcomes: Sequence[Settled], *, now: int) -> None:
    """Give orders their new state; each is told to its node in the next return."""
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
    if ledger.row("SELECT 1 FROM repeat LIMIT 1") is not None:
        ledger.execute_many(
            "UPDATE repeat SET told = 0 WHERE order_id = ?", [(outcome.order_id,) for outcome in outcomes]
        )


def open_attempts(ledger: Ledger, *states: AttemptState) -> Iterator[tuple[Reference, AttemptState]]:
    """The live attempts in one of ``states``."""
    marks = ",".join("?" * len(states))
    rows = ledger.rows(
        "SELECT order_id, attempt, state, stan, rrn, sent_at, amount, currency FROM live_attempt"
        f" WHERE state IN ({marks}) ORDER BY order_id",  # noqa: S608  only marks
        tuple(state.value for state in states),
    )
    for order_id, attempt, state, stan, rrn, sent_at, amount, currency in rows:
        yield (
            Reference(
                order_id=order_id,
                attempt=attempt,
                stan=stan,
                rrn=rrn,
                sent_at=sent_at,
                amount=amount,
                currency=currency,
            ),
            AttemptState(state),
        )
