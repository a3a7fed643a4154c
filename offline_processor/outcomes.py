"""What an acquirer's answer makes of an attempt and its order: pure, the same for a line, a file and an operator.

Why here: charging sends, the batch file's import and reversals settle; none of them may judge by rules of its own.
Must not: do I/O, or see a card.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from offline_processor.acquirers.protocol import HandedOver
from offline_processor.charging import (
    AMOUNT,
    PARTIAL,
    SECURITY_CODE,
    UNWANTED,
    Answer,
    AttemptState,
    Event,
    Reference,
    decline_class,
    decline_reason,
    event_of,
    unwanted,
)
from offline_processor.ledger.orders import Move
from offline_processor.stages import OrderState, Settled
from transfer.wire.ids import OrderId
from transfer.wire.records import Reason

NO_ANSWER: Final = "CHARGE-NO-ANSWER"
RETRY: Final = "CHARGE-RETRY-LATER"
SUBMITTED: Final = "CHARGE-SUBMITTED"
AUTHORISATION_ENDING: Final = "CHARGE-AUTH-ENDING"
AUTHORISATION_EXPIRED: Final = "CHARGE-AUTH-EXPIRED"
CANCELLED: Final = "CHARGE-CANCELLED"
ANSWERED: Final = UNWANTED | {RETRY, SUBMITTED, AUTHORISATION_EXPIRED}
"""Why an order is held although its CVV was used: it dies now, whatever becomes of the order."""

_AFTER_REVERSAL: Final = {
    PARTIAL: (OrderState.DECLINED, Reason.NEW_CARD),
    SECURITY_CODE: (OrderState.DECLINED, Reason.NEW_CARD),
    AMOUNT: (OrderState.QUARANTINED, Reason.UNDER_REVIEW),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """An attempt's move and the state that it brings its order to."""

    move: Move
    settled: Settled


def outcome_of(
    sent: Reference,
    heard: Answer | HandedOver | None,
    *,
    state: AttemptState = AttemptState.INTENT,
    at_dispatch: bool = False,
    keep_vault: bool = False,
) -> Outcome:
    """What becomes of an authorisation.

    ``at_dispatch``: it is captured when the goods go, not now; ``keep_vault``: something will need its card again.
    """
    if isinstance(heard, HandedOver):
        move = Move(sent=sent, state=state, event=Event.HANDED_OVER)
        return Outcome(move=move, settled=_held(sent, SUBMITTED))
    event = event_of(sent, heard)
    move = Move(
        sent=sent,
        state=state,
        event=event,
        code=heard.code if heard else "",
        approval=heard.approval if heard else "",
        late=heard is not None and heard.late,
        keep_vault=keep_vault,
    )
    return Outcome(move=move, settled=_settled(sent, event, heard, at_dispatch=at_dispatch))


def after_reversal(sent: Reference, rule: str) -> Settled | None:
    """What a reversed order becomes that was approved in an unwanted way; None for any other, which is tried afresh."""
    if rule not in _AFTER_REVERSAL:
        return None
    state, reason = _AFTER_REVERSAL[rule]
    return Settled(order_id=OrderId(sent.order_id), state=state, reason=reason, rule=rule)


def _settled(sent: Reference, event: Event, heard: Answer | None, *, at_dispatch: bool) -> Settled:
    order_id = OrderId(sent.order_id)
    if heard is not None and event is Event.APPROVAL:
        state = OrderState.AUTHORISED if at_dispatch else OrderState.PAID
        return Settled(order_id=order_id, state=state)
    if heard is not None and event is Event.DECLINE:
        reason = decline_reason(decline_class(heard.code))
        return Settled(order_id=order_id, state=OrderState.DECLINED, reason=reason, rule=f"DE39 {heard.code}")
    if heard is not None and event is Event.APPROVAL_UNWANTED:
        return _held(sent, unwanted(sent, heard))
    return _held(sent, NO_ANSWER)


def _held(sent: Reference, rule: str) -> Settled:
    return Settled(order_id=OrderId(sent.order_id), state=OrderState.HELD, rule=rule)
