"""Running attempts: intents durable before the first byte, outcomes durable after, cards wiped between windows.

Why here: the one path by which a card reaches an acquirer.
Must not: send an authorisation whose intent is not committed, or send one twice.

The acquirer fetches a window's authorisations as many at a time as it may have unanswered, and whenever it comes for
more, one transaction holds what was heard so far and the intents of what it gets. So a crash leaves without an outcome
what is in flight, what was just fetched, and what was heard since: three times ``in_flight`` at most.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from keys.private.locked import LockedBuffer
from offline_processor.acquirers.protocol import Acquirer, Authorisation, HandedOver, Verb
from offline_processor.authorisations import taken_until
from offline_processor.capturing import at_dispatch
from offline_processor.cards import CardTable
from offline_processor.charging import (
    Answer,
    AttemptState,
    DeclineClass,
    Event,
    Reference,
    decline_class,
    decline_reason,
)
from offline_processor.config import ChargingConfig
from offline_processor.ledger import operations, orders, vault
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.operations import Operation
from offline_processor.outcomes import RETRY, Outcome, outcome_of
from offline_processor.stages import OrderState, Settled
from transfer.wire.card import CardView
from transfer.wire.ids import OrderId

MAX_ATTEMPTS = 3
DAY = 86_400
HOUR = 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyOrder:
    """An order whose card is open in ``slot`` and may be sent."""

    order: orders.WaitingOrder
    slot: int
    card: CardView = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Till:
    """What charging needs: the books, the link, the vault's key, the epoch and the limits."""

    ledger: Ledger
    acquirer: Acquirer
    vault_key: LockedBuffer = field(repr=False)
    epoch: int
    charging: ChargingConfig

    def keeps_card(self, order: orders.WaitingOrder) -> bool:
        """True when an approved order's card is needed again: by a capture, a release, a refund, or a new try."""
        acquirer = self.acquirer
        later = self.at_dispatch(order) and (order.release_at > 0 or acquirer.needs_card(Verb.REVERSE))
        return later or acquirer.needs_card(Verb.CAPTURE) or acquirer.needs_card(Verb.REFUND)

    def at_dispatch(self, order: orders.WaitingOrder) -> bool:
        """True when the order is captured when its goods go, not at once."""
        return at_dispatch(order, self.charging.capture)

    def vault_until(self, order: orders.WaitingOrder, card_bin: str, sent: Reference) -> int:
        """When the card leaves the vault whatever happens (Unix seconds).

        Not before the authorisation's own end, and the time that its release may take to be answered.
        """
        limits = self.charging
        kept = max(sent.sent_at, order.release_at) + limits.vault_days * DAY
        if not self.at_dispatch(order):
            return kept
        ends = taken_until(card_bin, sent.sent_at, attempt=sent.attempt, charging=limits)
        return max(kept, ends + limits.reversal_days * DAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedWindow:
    """A window of orders: those ``ready`` with their ``cards``, and what was ``decided`` of the others."""

    orders: Sequence[orders.WaitingOrder]
    ready: Sequence[ReadyOrder]
    decided: Sequence[Settled]
    cards: CardTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Charged:
    """What became of a window: the outcomes, those decided before first, and the captures now owed.

    ``unsent``: so many orders the acquirer did not fetch, for its line is gone; they wait as before.
    """

    outcomes: Sequence[Settled]
    owed: Sequence[Operation]
    unsent: int


def charge(till: Till, window: OpenedWindow, *, now: int) -> Charged:
    """Charge a window and record it, with the captures of what is taken at once.

    The window's cards are wiped when this returns or raises. When it raises, what was heard is recorded all the same;
    but a transaction that failed is not tried again, and what it held counts as not answered.
    """
    course = _Course(till=till, window=window, now=now, decided=window.decided)
    try:
        with closing(till.acquirer.authorise(course.authorisations())) as answers:
            for place, answer in answers:
                course.hear(place, answer)
        course.hear_no_more()
    finally:
        window.cards.wipe()
        course.record()
    return Charged(
        outcomes=[*window.decided, *course.settled],
        owed=course.owed,
        unsent=len(window.ready) - len(course.settled),
    )


@dataclass(slots=True, kw_only=True)
class _Course:
    """A window on its way. ``begun``: by place, what has an intent and no answer; ``heard``: answers to be recorded."""

    till: Till
    window: OpenedWindow
    now: int
    decided: Sequence[Settled]
    begun: dict[int, orders.Intent] = field(default_factory=dict)
    heard: list[tuple[orders.Intent, Outcome]] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)
    owed: list[Operation] = field(default_factory=list)

    def authorisations(self) -> Iterator[Authorisation]:
        """What is to be sent; whatever is fetched has a durable intent."""
        ready = self.window.ready
        step = self.till.acquirer.in_flight or len(ready)
        for start in range(0, len(ready), step or 1):
            self.record(range(start, min(start + step, len(ready))))
            for place, item in enumerate(ready[start : start + step], start):
                yield Authorisation(
                    reference=self.begun[place].reference,
                    card=item.card,
                    only_reserves=self.till.at_dispatch(item.order),
                )

    def hear(self, place: int, answer: Answer | HandedOver | None) -> None:
        """What the acquirer said, once for each."""
        intent, order = self.begun.pop(place), self.window.ready[place].order
        outcome = outcome_of(
            intent.reference,
            answer,
            at_dispatch=self.till.at_dispatch(order),
            keep_vault=self.till.keeps_card(order),
        )
        self.heard.append((intent, outcome))

    def hear_no_more(self) -> None:
        """The acquirer is done: what it said nothing of was not answered."""
        for place in list(self.begun):
            self.hear(place, None)

    def record(self, places: range = range(0)) -> None:
        """One transaction: what was heard since the last, and the intents of what is sent next."""
        ledger, now = self.till.ledger, self.now
        heard, self.heard = self.heard, []
        decided, self.decided = self.decided, ()
        if not (heard or decided or places):
            return
        with ledger.atomic():
            orders.settle(ledger, decided, now=now)
            settled, owed = self._record_outcomes(heard)
            begun = self._record_intents(places)
        self.settled += settled
        self.owed += owed
        self.begun |= begun

    def _record_outcomes(
        self, heard: Sequence[tuple[orders.Intent, Outcome]]
    ) -> tuple[list[Settled], Sequence[Operation]]:
        ledger, now = self.till.ledger, self.now
        settled = [_kept_for_later(self.till, outcome, intent, now=now) for intent, outcome in heard]
        orders.record_events(ledger, [outcome.move for _, outcome in heard], now=now)
        charged = [
            (intent.reference, intent.card, state) for (intent, _), state in zip(heard, settled, strict=True)
        ]
        orders.settle_charged(ledger, charged, now=now)
        taken = [
            operations.whole(outcome.move.sent, outcome.move.approval)
            for _, outcome in heard
            if outcome.settled.state is OrderState.PAID
        ]
        return settled, operations.owe(ledger, taken, now=now)

    def _record_intents(self, places: range) -> dict[int, orders.Intent]:
        if not places:
            return {}
        ledger, now, till = self.till.ledger, self.now, self.till
        items = [self.window.ready[place] for place in places]
        references = orders.next_references(ledger, [item.order for item in items], epoch=till.epoch, now=now)
        intents = [
            orders.Intent(
                reference=reference,
                card=f"{item.card.bin}*{item.card.last_four}",
                vault=self.window.cards.vault_box(item.slot, item.order.order_id, till.vault_key),
                vault_until=till.vault_until(item.order, item.card.bin, reference),
            )
            for item, reference in zip(items, references, strict=True)
        ]
        orders.record_intents(ledger, intents, now=now)
        return dict(zip(places, intents, strict=True))


def _kept_for_later(till: Till, outcome: Outcome, intent: orders.Intent, *, now: int) -> Settled:
    """A decline that says "later" is kept for another try while its limits allow; any other answer ends the tries."""
    number, limits = intent.reference.number, till.charging
    if not limits.retry_declines and outcome.move.sent.attempt == 1:
        return outcome.settled  # nothing of it can be in the vault's table
    later = (
        outcome.move.event is Event.DECLINE and decline_class(outcome.move.code) is DeclineClass.RETRY_LATER
    )
    if later and vault.declined_before(till.ledger, number) < limits.retry_declines:
        vault.keep(
            till.ledger,
            number,
            intent.vault,
            not_before=now + limits.retry_after_hours * HOUR,
            deadline=now + limits.retry_days * DAY,
        )
        return Settled(order_id=outcome.settled.order_id, state=OrderState.HELD, rule=RETRY)
    if outcome.move.event in (Event.APPROVAL, Event.DECLINE, Event.APPROVAL_UNWANTED):
        vault.forget(till.ledger, [number])
    return outcome.settled


def open_stored(till: Till, cards: CardTable, window: Sequence[vault.Retry]) -> OpenedWindow:
    """Open declined orders' cards out of the vault, without a CVV: it was sent once, and is gone."""
    ready: list[ReadyOrder] = []
    decided: list[Settled] = []
    for item in window:
        card = cards.open_vault(len(ready), item.order.order_id, item.vault, till.vault_key)
        if card is None:
            decided.append(_declined(item.order.order_id))
        else:
            ready.append(ReadyOrder(order=item.order, slot=len(ready), card=card))
    return OpenedWindow(orders=[item.order for item in window], ready=ready, decided=decided, cards=cards)


def end_retries(ledger: Ledger, *, now: int) -> int:
    """Decline for good what came to its deadline; returns how many."""
    over = vault.over(ledger, now=now)
    if over:
        with ledger.atomic():
            orders.settle(ledger, [_declined(order_id) for _, order_id in over], now=now)
            vault.forget(ledger, [number for number, _ in over])
    return len(over)


def _declined(order_id: str) -> Settled:
    reason = decline_reason(DeclineClass.RETRY_LATER)
    return Settled(order_id=OrderId(order_id), state=OrderState.DECLINED, reason=reason, rule=RETRY)


def recover_intents(ledger: Ledger, *, now: int) -> int:
    """After a crash, every intent without an outcome is unknown: it is held, and reversed next. Returns how many."""
    found = list(orders.open_attempts(ledger, AttemptState.INTENT))
    outcomes = [outcome_of(sent, None) for sent, _ in found]
    with ledger.atomic():
        orders.record_events(ledger, [outcome.move for outcome in outcomes], now=now)
        held = [(sent, "", outcome.settled) for (sent, _), outcome in zip(found, outcomes, strict=True)]
        orders.settle_charged(ledger, held, now=now)
    return len(found)
