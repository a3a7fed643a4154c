"""Reversals: every attempt of unknown outcome is taken back, however often it takes, or left to a person aloud.

Why here: what follows when no answer came is the same in every run and every command that opens the link.
Must not: let an attempt be forgotten, or send a reversal that is not durable under its own id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from offline_processor.acquirers.protocol import HandedOver, Reversal, Verb
from offline_processor.attempts import DAY, Till
from offline_processor.cards import CardTable
from offline_processor.charging import APPROVED_CODE, UNWANTED, Event, is_reversed
from offline_processor.errors import ProcessorError
from offline_processor.ledger import operations, orders, reversals
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.orders import Move
from offline_processor.ledger.reversals import OpenReversal
from offline_processor.outcomes import after_reversal
from offline_processor.stages import OrderState, Settled
from transfer.wire.ids import OrderId
from transfer.wire.records import Reason


def reverse_unknown(till: Till, cards: CardTable, *, window: int, now: int) -> int:
    """Send a reversal for every attempt of unknown outcome, once a run until answered. Returns how many were."""
    owed = _leave_to_a_person(till, reversals.owed(till.ledger), now=now)
    return sum(
        _reverse(till, cards, owed[start : start + window], now=now) for start in range(0, len(owed), window)
    )


def _leave_to_a_person(till: Till, owed: Sequence[OpenReversal], *, now: int) -> list[OpenReversal]:
    limits = till.charging
    in_vain = [
        item
        for item in owed
        if item.tries >= limits.reversal_tries and now - item.at >= limits.reversal_days * DAY
    ]
    if in_vain:
        with till.ledger.atomic():
            reversals.give_up(till.ledger, in_vain, now=now)
    return [item for item in owed if item not in in_vain]


def _reverse(till: Till, cards: CardTable, found: Sequence[OpenReversal], *, now: int) -> int:
    ledger = till.ledger
    with ledger.atomic():
        begun = reversals.begin(ledger, found, now=now)
    try:
        answers = till.acquirer.reverse(
            [_message(till, cards, slot, item) for slot, item in enumerate(begun)]
        )
    finally:
        cards.wipe()
    done = [
        item
        for item, answer in zip(begun, answers, strict=True)
        if not isinstance(answer, HandedOver) and is_reversed(item.reference, answer)
    ]
    moves = [
        Move(sent=item.sent, state=item.state, event=Event.REVERSAL_ANSWERED, code=APPROVED_CODE)
        for item in done
    ]
    ends = [settled for item in done if (settled := after_reversal(item.sent, item.rule)) is not None]
    with ledger.atomic():
        orders.record_events(ledger, moves, now=now)
        orders.settle(ledger, ends, now=now)
    return len(done)


def _message(till: Till, cards: CardTable, slot: int, item: OpenReversal) -> Reversal:
    card = None
    if item.vault is not None and till.acquirer.needs_card(Verb.REVERSE):
        card = cards.open_vault(slot, item.sent.order_id, item.vault, till.vault_key)
    return Reversal(
        operation=item.operation,
        reference=item.reference,
        original=item.sent,
        approval=item.approval,
        repeat=item.tries > 1,
        card=card,
    )


def settle_manual(
    ledger: Ledger, order_id: str, *, found: Found, at_dispatch: bool, said: dict[str, str], now: int
) -> Settled:
    """Settle an attempt that was left to a person, by what the acquirer says, in the caller's transaction.

    One that stands is paid and its capture owed, or waits for dispatch; one that does not is ordered again, or ends
    by its rule. ``ATTEMPT-NOT-MANUAL``; ``ATTEMPT-UNWANTED`` when one that must not be taken is found standing.
    """
    item = manual(ledger, order_id)
    order = OrderId(order_id)
    if found.stands:
        if item.rule in UNWANTED:
            raise ProcessorError(
                "ATTEMPT-UNWANTED",
                f"the approval of order {order_id} must not be taken ({item.rule})",
                "have the acquirer reverse it by hand, then say --found reversed; nothing was changed",
            )
        event = Event.FOUND_APPROVED
        end = Settled(order_id=order, state=OrderState.AUTHORISED if at_dispatch else OrderState.PAID)
    else:
        event = Event.FOUND_REVERSED
        end = after_reversal(item.sent, item.rule) or Settled(
            order_id=order, state=OrderState.ORDER_AGAIN, reason=Reason.TRY_LATER, rule="CHARGE-GIVEN-UP"
        )
    approval = found.approval or item.approval
    move = Move(sent=item.sent, state=item.state, event=event, approval=approval, keep_vault=at_dispatch)
    orders.record_events(ledger, [move], now=now)
    if end.state is OrderState.PAID:
        operations.owe(ledger, [operations.whole(item.sent, approval)], now=now)
    ledger.append("attempt-settled", order_id, now, said)
    orders.settle(ledger, [end], now=now)
    return end


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the acquirer says of an attempt: whether it ``stands``, and its approval code if it names one."""

    stands: bool
    approval: str = ""


def manual(ledger: Ledger, order_id: str) -> OpenReversal:
    """The attempt of this order that was left to a person; ``ATTEMPT-NOT-MANUAL``."""
    item = next((item for item in reversals.given_up(ledger) if item.sent.order_id == order_id), None)
    if item is None:
        raise ProcessorError(
            "ATTEMPT-NOT-MANUAL",
            f"no attempt of order {order_id} waits for a person",
            "offline-processor cases lists those that do; nothing was changed",
        )
    return item
