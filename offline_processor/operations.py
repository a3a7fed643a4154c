"""Captures, refunds and voids on their way: sent until answered, in every run and every command that opens the link.

Why here: they are advices, so one code repeats them all, and says what each answer makes of the order.
Must not: send one that is not durable, or drop one that was not answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from offline_processor.acquirers.protocol import Acquirer, Capture, HandedOver, Refund, Reversal, Verb
from offline_processor.attempts import Till
from offline_processor.cards import CardTable
from offline_processor.charging import (
    APPROVED_CODE,
    NOT_YET,
    REVERSED_CODES,
    Answer,
    Event,
    Reference,
    matches,
)
from offline_processor.ledger import operations, orders, vault
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.operations import WHOLE, Operation, OperationKind, OperationState
from offline_processor.ledger.orders import Move
from offline_processor.outcomes import AUTHORISATION_EXPIRED, CANCELLED
from offline_processor.stages import OrderState, Settled
from transfer.wire.card import CardView
from transfer.wire.ids import OrderId
from transfer.wire.records import Reason

_STANDING = (OperationState.PENDING, OperationState.DONE)
_VERB = {
    OperationKind.CAPTURE: Verb.CAPTURE,
    OperationKind.REFUND: Verb.REFUND,
    OperationKind.VOID: Verb.REVERSE,
}


@dataclass(slots=True, kw_only=True)
class Sent:
    """What became of operations that were sent."""

    done: list[Operation] = field(default_factory=list)
    refused: list[Operation] = field(default_factory=list)
    open: list[Operation] = field(default_factory=list)

    def add(self, other: Sent) -> None:
        """Count what another window brought."""
        self.done += other.done
        self.refused += other.refused
        self.open += other.open


def send_owed(till: Till, cards: CardTable, *, window: int, now: int) -> Sent:
    """Send everything that is owed, oldest first, a window at a time."""
    sent = Sent()
    for kind in OperationKind:
        owed = operations.pending(till.ledger, kind)
        for start in range(0, len(owed), window):
            sent.add(send(till, cards, owed[start : start + window], repeat=True, now=now))
    return sent


def send(till: Till, cards: CardTable, owed: Sequence[Operation], *, repeat: bool, now: int) -> Sent:
    """Send operations of one kind and record their answers. ``repeat``: they may have been sent before."""
    if not owed:
        return Sent()
    try:
        answers = _send(till, cards, owed, repeat=repeat)
    finally:
        cards.wipe()
    sent = Sent()
    codes: dict[str, str] = {}
    for item, answer in zip(owed, answers, strict=True):
        found = _judged(item, answer)
        codes[item.id] = answer.code if isinstance(answer, Answer) else ""
        (sent.open if found is None else sent.done if found else sent.refused).append(item)
    with till.ledger.atomic():
        operations.accepted(till.ledger, [(item, codes[item.id]) for item in sent.done], now=now)
        for item in sent.refused:
            operations.answered(till.ledger, item, accepted=False, code=codes[item.id], now=now)
            _note_refused(till, item, now=now)
        operations.unanswered(till.ledger, sent.open)
        _follow(till, sent.done, now=now)
    return sent


def _judged(item: Operation, answer: Answer | HandedOver | None) -> bool | None:
    """Accepted, refused, or None for not answered yet; an answer to something else, or of another amount, is none."""
    if not isinstance(answer, Answer) or not matches(message_of(item), answer) or answer.code in NOT_YET:
        return None
    good = REVERSED_CODES if item.kind is OperationKind.VOID else {APPROVED_CODE}
    return answer.code in good


def message_of(item: Operation) -> Reference:
    """What its message names: a void's ``amount`` is what stays, its message says the authorisation's."""
    return replace(item.sent, amount=item.original.amount) if item.kind is OperationKind.VOID else item.sent


def _note_refused(till: Till, item: Operation, *, now: int) -> None:
    till.ledger.execute(
        "UPDATE orders SET rule = ?, changed_at = ? WHERE number = ?",
        (operations.REFUSED[item.kind], now, item.original.number),
    )


def _follow(till: Till, done: Sequence[Operation], *, now: int) -> None:
    """What accepted operations make of their orders and of the vault."""
    ledger = till.ledger
    ends: list[Settled] = []
    for item in done:
        order_id = OrderId(item.original.order_id)
        match item.kind:
            case OperationKind.CAPTURE:
                pass
            case OperationKind.REFUND:
                found = operations.of_order(ledger, item.original.number)
                back = operations.total(found, OperationKind.REFUND, OperationState.DONE)
                taken = operations.total(found, OperationKind.CAPTURE, *_STANDING)
                if back >= taken and not _goes_on(ledger, item):
                    ends.append(Settled(order_id=order_id, state=OrderState.REFUNDED))
            case OperationKind.VOID:
                ends += _voided(till, item, now=now)
            case _:
                assert_never(item.kind)
    orders.settle(ledger, ends, now=now)
    # Where a refund carries the card, it stays until all is given back, or its deadline.
    refundable = till.acquirer.needs_card(Verb.REFUND)
    refunded = {settled.order_id for settled in ends if settled.state is OrderState.REFUNDED}
    over = [
        item.original.number
        for item in done
        if item.original.order_id in refunded
        or (not refundable and (item.kind is OperationKind.VOID or item.final))
    ]
    vault.erase_unneeded(ledger, over)


def _goes_on(ledger: Ledger, item: Operation) -> bool:
    """True while more of the order can still be sent and taken."""
    row = ledger.row(
        "SELECT 1 FROM orders WHERE number = ? AND state = 'authorised'", (item.original.number,)
    )
    return row is not None


def _voided(till: Till, item: Operation, *, now: int) -> list[Settled]:
    """A void ends the authorisation: by a person's word, because its time ran out, or of what a shipment left."""
    ledger, number = till.ledger, item.original.number
    live = orders.live_attempt(ledger, number)
    expired = item.reference.startswith(AUTHORISATION_EXPIRED)
    order_id = OrderId(item.original.order_id)
    if live is not None and item.amount and expired:  # a part was sent, and paid; the rest never can be
        return [Settled(order_id=order_id, state=OrderState.DISPATCHED, rule=AUTHORISATION_EXPIRED)]
    if live is None or item.amount:  # something of it was captured, and stays
        return []
    event = Event.TIME_RAN_OUT if expired else Event.VOID_ANSWERED
    waits = expired and vault.keep_for_release(ledger, number, days=till.charging.vault_days, now=now)
    orders.record_events(ledger, [Move(sent=live[0], state=live[1], event=event)], now=now)
    if waits:
        return [Settled(order_id=order_id, state=OrderState.HELD, rule=AUTHORISATION_EXPIRED)]
    if expired:
        return [
            Settled(
                order_id=order_id,
                state=OrderState.ORDER_AGAIN,
                reason=Reason.EXPIRED,
                rule=AUTHORISATION_EXPIRED,
            )
        ]
    return [Settled(order_id=order_id, state=OrderState.REFUNDED, rule=CANCELLED)]


def _send(
    till: Till, cards: CardTable, owed: Sequence[Operation], *, repeat: bool
) -> Sequence[Answer | HandedOver | None]:
    acquirer: Acquirer = till.acquirer
    kind = owed[0].kind
    stored = _stored(till, cards, owed) if acquirer.needs_card(_VERB[kind]) else [None] * len(owed)
    pairs = list(zip(owed, stored, strict=True))
    match kind:
        case OperationKind.CAPTURE:
            return acquirer.capture([_capture(item, card, repeat=repeat) for item, card in pairs])
        case OperationKind.REFUND:
            return acquirer.refund([_refund(item, card, repeat=repeat) for item, card in pairs])
        case OperationKind.VOID:
            return acquirer.reverse([_reversal(item, card, repeat=repeat) for item, card in pairs])
        case _:
            assert_never(kind)


def _stored(till: Till, cards: CardTable, owed: Sequence[Operation]) -> list[CardView | None]:
    """PAN and expiry of each from the vault, where they still are."""
    found: list[CardView | None] = []
    for slot, item in enumerate(owed):
        row = till.ledger.row("SELECT vault FROM live_attempt WHERE number = ?", (item.original.number,))
        box = row[0] if row else None
        found.append(
            cards.open_vault(slot, item.original.order_id, box, till.vault_key) if box is not None else None
        )
    return found


def _capture(item: Operation, card: CardView | None, *, repeat: bool) -> Capture:
    return Capture(
        operation=item.id,
        reference=item.sent,
        original=item.original,
        approval=item.approval,
        repeat=repeat,
        card=card,
        final=item.final,
        at_once=item.reference == WHOLE,
    )


def _refund(item: Operation, card: CardView | None, *, repeat: bool) -> Refund:
    return Refund(
        operation=item.id,
        reference=item.sent,
        original=item.original,
        approval=item.approval,
        repeat=repeat,
        card=card,
    )


def _reversal(item: Operation, card: CardView | None, *, repeat: bool) -> Reversal:
    return Reversal(
        operation=item.id,
        reference=message_of(item),
        original=item.original,
        approval=item.approval,
        repeat=repeat,
        card=card,
        keep=item.amount,
    )
