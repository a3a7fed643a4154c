"""Charges that only the acquirer's report knows, and the orders that they belong to.

Why here: the ledger's own side of a reconciliation; staging and settling must see it in the same transaction.
Must not: let an order that was charged be charged again, or its customer be told to order again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from offline_processor.capturing import Capture, at_dispatch
from offline_processor.charging import UNWANTED, AttemptState, Event, Reference, advance
from offline_processor.ledger import following, operations, orders
from offline_processor.ledger.ledger import Ledger, Row
from offline_processor.ledger.operations import OperationKind, OperationState
from offline_processor.ledger.orders import Move
from offline_processor.stages import OrderState, Settled
from transfer.wire.ids import OrderId
from transfer.wire.records import Reason

_APPROVED = (
    "INSERT INTO live_attempt (number, attempt, state, stan, rrn, sent_at, amount, currency, vault)"
    " VALUES (?, ?, 'approved', ?, ?, ?, ?, ?, NULL)"
)
_OPEN = frozenset(
    {
        AttemptState.INTENT,
        AttemptState.SUBMITTED,
        AttemptState.UNKNOWN,
        AttemptState.REVERSAL_PENDING,
        AttemptState.MANUAL,
    }
)

CHARGED = frozenset({OrderState.AUTHORISED, OrderState.PAID, OrderState.DISPATCHED, OrderState.REFUNDED})
"""An order in these has its outcome: a report settles it no other way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charged:
    """An approved authorisation that stands, by the acquirer's report. ``at`` Unix seconds; minor units."""

    order_id: str
    rrn: str
    stan: int
    at: int
    amount: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownOrder:
    """What the ledger has of an order that a report names."""

    number: int
    state: OrderState
    rule: str
    amount: int
    currency: str
    attempts: int
    release_at: int
    capture: str


def remember(ledger: Ledger, charge: Charged) -> None:
    """Keep a charge until its order comes, or a person has decided; in the caller's transaction."""
    ledger.execute(
        "INSERT OR REPLACE INTO reported (rrn, order_id, stan, at, amount, currency) VALUES (?, ?, ?, ?, ?, ?)",
        (charge.rrn, charge.order_id, charge.stan, charge.at, charge.amount, charge.currency),
    )


def forget(ledger: Ledger, order_id: str) -> None:
    """A person has had the charges of this order given back; in the caller's transaction."""
    ledger.execute("DELETE FROM reported WHERE order_id = ?", (order_id,))


def pending(ledger: Ledger) -> list[Charged]:
    """The charges that no order of this ledger accounts for yet, by time."""
    rows = ledger.rows("SELECT order_id, rrn, stan, at, amount, currency FROM reported ORDER BY at, rrn")
    return [_charged(row) for row in list(rows)]


def unknown_orders(ledger: Ledger) -> list[str]:
    """The ids of charged orders that never came to this ledger."""
    rows = ledger.rows(
        "SELECT DISTINCT r.order_id FROM reported AS r WHERE NOT EXISTS (SELECT 1 FROM orders AS o"
        " WHERE o.order_id = r.order_id) ORDER BY r.order_id"
    )
    return [order_id for (order_id,) in list(rows)]


def pending_ids(ledger: Ledger) -> frozenset[str]:
    """The ids of the orders that these charges are for."""
    return frozenset(order_id for (order_id,) in list(ledger.rows("SELECT DISTINCT order_id FROM reported")))


def known_order(ledger: Ledger, order_id: str) -> KnownOrder | None:
    """The order of this id, or None."""
    row = ledger.row(
        "SELECT number, state, rule, amount, currency, attempts, release_at, capture FROM orders WHERE order_id = ?",
        (order_id,),
    )
    if row is None:
        return None
    number, state, rule, amount, currency, attempts, release_at, capture = row
    return KnownOrder(
        number=number,
        state=OrderState(state),
        rule=rule,
        amount=amount,
        currency=currency,
        attempts=attempts,
        release_at=release_at,
        capture=capture,
    )


def stands_beside(ledger: Ledger, order: KnownOrder, charge: Charged) -> bool:
    """True when the order is charged already, by another authorisation than this one."""
    attempt = orders.live_attempt(ledger, order.number)
    return order.state in CHARGED and attempt is not None and attempt[0].rrn != charge.rrn


def supersedes(ledger: Ledger, order: KnownOrder, charge: Charged) -> bool:
    """True when a charge that this ledger never made shows that the order's own authorisation has ended.

    One of which nothing was taken is released before another is made: a pre-order's, when its goods come.
    """
    attempt = orders.live_attempt(ledger, order.number)
    if attempt is None or order.state is not OrderState.AUTHORISED:
        return False
    sent, found = attempt[0], operations.of_order(ledger, order.number)
    standing = (OperationState.PENDING, OperationState.DONE)
    taken = operations.total(found, OperationKind.CAPTURE, *standing) + following.taken(ledger, sent.rrn)
    fits = (charge.amount, charge.currency) == (order.amount, order.currency)
    return fits and not taken and sent.sent_at < charge.at


def end_superseded(ledger: Ledger, order: KnownOrder, *, now: int) -> None:
    """End the order's own authorisation, and its release if that is still owed; in the caller's transaction."""
    attempt = orders.live_attempt(ledger, order.number)
    if attempt is None:
        return
    for item in operations.of_order(ledger, order.number):
        if item.state is OperationState.PENDING:
            operations.answered(ledger, item, accepted=True, code="", now=now)
    ended = Move(sent=attempt[0], state=attempt[1], event=Event.TIME_RAN_OUT)
    orders.record_events(ledger, [ended], now=now)


def stays_held(ledger: Ledger, order: KnownOrder, charges: Sequence[Charged]) -> bool:
    """True when a charge of the report is the approval that must not be taken: its reversal goes on.

    Any other charge is kept, so that the order is not told declined beside it; in the caller's transaction.
    """
    attempt = orders.live_attempt(ledger, order.number)
    if order.state is not OrderState.HELD or order.rule not in UNWANTED or attempt is None:
        return False
    sent, state = attempt
    if state not in _OPEN or all(charge.rrn != sent.rrn for charge in charges):
        return False
    for charge in charges:
        if charge.rrn != sent.rrn:
            remember(ledger, charge)
    return True


def settle_staged(
    ledger: Ledger, order_ids: Iterable[str], *, capture: Capture, now: int
) -> dict[str, Settled]:
    """Give orders that have just been staged as screened the outcome that the report shows, if it shows one."""
    charges: dict[str, list[Charged]] = {}
    wanted = set(order_ids)
    if wanted and ledger.row("SELECT 1 FROM reported LIMIT 1") is not None:
        for charge in pending(ledger):
            if charge.order_id in wanted:
                charges.setdefault(charge.order_id, []).append(charge)
    settled = {}
    for order_id, found in charges.items():
        order = known_order(ledger, order_id)
        if order is not None and order.state is OrderState.SCREENED:
            settled[order_id] = settle_paid(ledger, order, found, capture=capture, now=now)
    return settled


def settle_paid(
    ledger: Ledger, order: KnownOrder, charges: Sequence[Charged], *, capture: Capture, now: int
) -> Settled:
    """Settle an order by the charges of the report: paid, authorised, or quarantined (``RECONCILE-AMOUNT``).

    Authorised is one that is taken when its goods go (a person's word, its goods, ``capture`` as configured), and
    whatever the report does not show taken whole: nobody knows any more when it was to be, so it is when the goods go.
    """
    attempt = orders.live_attempt(ledger, order.number)
    fitting = [
        charge for charge in charges if (charge.amount, charge.currency) == (order.amount, order.currency)
    ]
    chosen = next(
        (charge for charge in fitting if attempt is not None and attempt[0].rrn == charge.rrn), None
    )
    chosen = chosen or next(iter(fitting), None)
    order_id = OrderId(charges[0].order_id)
    if chosen is None:
        for charge in charges:
            remember(ledger, charge)
        outcome = Settled(
            order_id=order_id,
            state=OrderState.QUARANTINED,
            reason=Reason.UNDER_REVIEW,
            rule="RECONCILE-AMOUNT",
        )
    else:
        open_rest = following.taken(ledger, chosen.rrn) < chosen.amount
        later = at_dispatch(order, capture) or open_rest
        _adopt(ledger, order, attempt, chosen, keep_vault=later, now=now)
        ledger.execute("DELETE FROM reported WHERE order_id = ?", (order_id,))
        outcome = Settled(order_id=order_id, state=OrderState.AUTHORISED if later else OrderState.PAID)
    orders.settle(ledger, [outcome], now=now)
    if chosen is not None:
        following.adopt(ledger, order.number, now=now)
    return outcome


def _adopt(
    ledger: Ledger,
    order: KnownOrder,
    attempt: tuple[Reference, AttemptState] | None,
    charge: Charged,
    *,
    keep_vault: bool,
    now: int,
) -> None:
    """Make the reported charge the order's live attempt; an open one of our own moves by what the report says."""
    ours = attempt is not None and attempt[0].rrn == charge.rrn
    if attempt is not None:
        sent, state = attempt
        if state not in _OPEN:
            return
        event = Event.REPORTED_APPROVED if ours else Event.REPORTED_OTHERWISE
        after = advance(state, event)
        facts = {"attempt": sent.attempt, "stan": sent.stan, "state": after.value, "code": ""}
        ledger.append("attempt", charge.order_id, now, facts)
        if ours:
            ledger.execute(
                "UPDATE live_attempt SET state = 'approved', vault = iif(?, vault, NULL),"
                " vault_until = iif(?, vault_until, 0) WHERE number = ?",
                (keep_vault, keep_vault, order.number),
            )
        else:
            ledger.execute("DELETE FROM live_attempt WHERE number = ?", (order.number,))
    if not ours:
        number = order.attempts + 1
        ledger.execute(
            _APPROVED,
            (order.number, number, charge.stan, charge.rrn, charge.at, charge.amount, charge.currency),
        )
        ledger.execute("UPDATE orders SET attempts = ? WHERE number = ?", (number, order.number))


def _charged(row: Row) -> Charged:
    order_id, rrn, stan, at, amount, currency = row
    return Charged(order_id=order_id, rrn=rrn, stan=stan, at=at, amount=amount, currency=currency)
