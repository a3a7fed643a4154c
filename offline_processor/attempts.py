"""Running attempts: intents durable before the first byte, outcomes durable after, cards wiped between windows.

Why here: the one path by which a card reaches an acquirer.
Must not: send an authorisation whose intent is not committed, or send one twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from keys.private.locked import LockedBuffer
from offline_processor.acquirers.protocol import Acquirer, Authorisation
from offline_processor.cards import CardTable
from offline_processor.charging import (
    APPROVED_CODE,
    AttemptState,
    Event,
    Reference,
    decline_class,
    decline_reason,
    event_of,
    is_reversed,
)
from offline_processor.ledger import orders
from offline_processor.ledger.ledger import Ledger
from offline_processor.stages import OrderState, Settled
from transfer.wire.card import CardView
from transfer.wire.ids import OrderId
from transfer.wire.records import Reason

MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyOrder:
    """An order whose card is open in ``slot`` and may be sent."""

    order: orders.WaitingOrder
    slot: int
    card: CardView = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Till:
    """What charging needs: the books, the link, the vault's key and the epoch."""

    ledger: Ledger
    acquirer: Acquirer
    vault_key: LockedBuffer = field(repr=False)
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedWindow:
    """A window of orders: those ``ready`` with their ``cards``, and what was ``decided`` of the others."""

    orders: Sequence[orders.WaitingOrder]
    ready: Sequence[ReadyOrder]
    decided: Sequence[Settled]
    cards: CardTable


def charge(till: Till, window: OpenedWindow, *, now: int) -> list[Settled]:
    """Charge a window and record it; returns the outcome of every order, those decided before first.

    The window's cards are wiped when this returns or raises.
    """
    ledger, ready, decided = till.ledger, window.ready, window.decided
    try:
        with ledger.atomic():
            references = orders.next_references(
                ledger, [item.order for item in ready], epoch=till.epoch, now=now
            )
            intents = [
                orders.Intent(
                    reference=reference,
                    card=f"{item.card.bin}*{item.card.last_four}",
                    vault=window.cards.vault_box(item.slot, item.order.order_id, till.vault_key),
                )
                for item, reference in zip(ready, references, strict=True)
            ]
            orders.record_intents(ledger, intents, now=now)
            orders.settle(ledger, decided, now=now)
        answers = till.acquirer.authorise(
            [
                Authorisation(reference=reference, card=item.card)
                for item, reference in zip(ready, references, strict=True)
            ]
        )
    finally:
        window.cards.wipe()
    moves = [
        (sent, AttemptState.INTENT, event_of(sent, answer), "" if answer is None else answer.code)
        for sent, answer in zip(references, answers, strict=True)
    ]
    outcomes = [_settled(sent, event, code) for sent, _, event, code in moves]
    with ledger.atomic():
        orders.record_events(ledger, moves, now=now)
        charged = zip(references, (intent.card for intent in intents), outcomes, strict=True)
        orders.settle_charged(ledger, list(charged), now=now)
    return [*decided, *outcomes]


def _settled(sent: Reference, event: Event, code: str) -> Settled:
    if event is Event.APPROVAL:
        return Settled(order_id=_id(sent), state=OrderState.PAID)
    if event is Event.DECLINE:
        decline = decline_class(code)
        return Settled(
            order_id=_id(sent), state=OrderState.DECLINED, reason=decline_reason(decline), rule=f"DE39 {code}"
        )
    return Settled(order_id=_id(sent), state=OrderState.HELD, reason=Reason.NONE, rule="CHARGE-NO-ANSWER")


def recover_intents(ledger: Ledger, *, now: int) -> int:
    """After a crash, every intent without an outcome is unknown: it is held, and reversed next. Returns how many."""
    found = list(orders.open_attempts(ledger, AttemptState.INTENT))
    with ledger.atomic():
        orders.record_events(ledger, [(sent, state, Event.NO_ANSWER, "") for sent, state in found], now=now)
        held = [(sent, "", _settled(sent, Event.NO_ANSWER, "")) for sent, _ in found]
        orders.settle_charged(ledger, held, now=now)
    return len(found)


def reverse_unknown(ledger: Ledger, acquirer: Acquirer, *, window: int, now: int) -> int:
    """Send a reversal for every attempt of unknown outcome, once a run until answered. Returns how many were."""
    found = list(orders.open_attempts(ledger, AttemptState.UNKNOWN, AttemptState.REVERSAL_PENDING))
    answered = 0
    for start in range(0, len(found), window):
        sent = found[start : start + window]
        with ledger.atomic():
            orders.record_events(
                ledger, [(reference, state, Event.REVERSAL_SENT, "") for reference, state in sent], now=now
            )
        answers = acquirer.reverse([reference for reference, _ in sent])
        done = [
            (reference, AttemptState.REVERSAL_PENDING, Event.REVERSAL_ANSWERED, APPROVED_CODE)
            for (reference, _), answer in zip(sent, answers, strict=True)
            if is_reversed(reference, answer)
        ]
        with ledger.atomic():
            orders.record_events(ledger, done, now=now)
        answered += len(done)
    return answered


def _id(sent: Reference) -> OrderId:
    return OrderId(sent.order_id)
