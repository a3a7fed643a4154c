"""What a person does with a charged order: send it, send a part, call it off, give money back.

Why here: the rules of dispatch, cancellation and refunds, apart from how they are typed.
Must not: take more than was authorised, give back more than was taken, or do one wish twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from offline_processor.charging import AttemptState, Reference
from offline_processor.control_total import money
from offline_processor.errors import ProcessorError
from offline_processor.ledger import operations, orders
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.operations import WHOLE, Operation, OperationKind, OperationState, Wanted
from offline_processor.outcomes import AUTHORISATION_EXPIRED
from offline_processor.schemes import AUTHORISATION_DAYS, scheme_of
from offline_processor.stages import OrderState, Settled
from transfer.wire.ids import OrderId

_DAY: Final = 86_400
_STANDING: Final = (OperationState.PENDING, OperationState.DONE)
_REST: Final = "rest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """An order with its approved authorisation and what was done of it. Amounts in minor units."""

    number: int
    order_id: str
    state: OrderState
    rule: str
    card: str
    release_at: int
    authorised: Reference | None
    approval: str
    found: tuple[Operation, ...]

    @property
    def captured(self) -> int:
        """What is captured, or about to be."""
        return operations.total(self.found, OperationKind.CAPTURE, *_STANDING)

    @property
    def taken(self) -> int:
        """What the acquirer has confirmed as captured."""
        return operations.total(self.found, OperationKind.CAPTURE, OperationState.DONE)

    @property
    def refunded(self) -> int:
        """What is given back, or about to be."""
        return operations.total(self.found, OperationKind.REFUND, *_STANDING)

    @property
    def voided(self) -> bool:
        """True when the rest is released, or about to be."""
        return any(item.kind is OperationKind.VOID and item.state in _STANDING for item in self.found)


def find(ledger: Ledger, order_id: str) -> Charge:
    """The order of this id; ``ORDER-UNKNOWN``."""
    row = ledger.row(
        "SELECT o.number, o.state, o.rule, o.card, o.release_at, coalesce(l.approval, '') FROM orders AS o"
        " LEFT JOIN live_attempt AS l USING (number) WHERE o.order_id = ?",
        (order_id,),
    )
    if row is None:
        raise ProcessorError(
            "ORDER-UNKNOWN",
            f"this ledger has no order {order_id}",
            "copy the order id (32 hexadecimal digits) from the packing slip or the run's summary",
        )
    number, state, rule, card, release_at, approval = row
    live = orders.live_attempt(ledger, number)
    approved = live[0] if live is not None and live[1] is AttemptState.APPROVED else None
    return Charge(
        number=number,
        order_id=order_id,
        state=OrderState(state),
        rule=rule,
        card=card,
        release_at=release_at,
        authorised=approved,
        approval=approval,
        found=tuple(operations.of_order(ledger, number)),
    )


def ship(
    ledger: Ledger, charge: Charge, *, shipment: str, amount: int | None, final: bool, early: bool, now: int
) -> list[Operation]:
    """A shipment of an order: what is authorised is captured, whole or this ``amount``; what was paid is only marked.

    Returns the operations that are now owed, in the caller's transaction. The same shipment again changes nothing.
    ``early`` sends a pre-order before its release.
    """
    if any(item.kind is OperationKind.CAPTURE and item.reference == shipment for item in charge.found):
        return [item for item in charge.found if item.state is OperationState.PENDING]
    if charge.state is OrderState.DISPATCHED:
        return []
    if charge.release_at > now and not early:
        raise ProcessorError(
            "DISPATCH-EARLY",
            f"order {charge.order_id} has goods that are not released yet",
            "wait for the day of release, or say --early if they are here already",
        )
    if charge.state is OrderState.PAID and charge.authorised is not None:
        _check_nothing_refused(charge)
        _settle(ledger, charge, OrderState.DISPATCHED, now=now)
        return []
    if charge.state is not OrderState.AUTHORISED or charge.authorised is None:
        raise _wrong_state(charge, "sent")
    sent = charge.authorised
    rest = sent.amount - charge.captured
    wanted = rest if amount is None else amount
    if not 0 < wanted <= rest:
        raise ProcessorError(
            "DISPATCH-AMOUNT",
            f"order {charge.order_id} has {money(rest, sent.currency)} left of what was authorised",
            "name an amount up to that",
        )
    last = final or wanted == rest
    parts = [_wanted(charge, sent, OperationKind.CAPTURE, shipment, wanted, final=last)]
    if last and wanted < rest:
        parts.append(_wanted(charge, sent, OperationKind.VOID, _REST, charge.captured + wanted))
    made = operations.owe(ledger, parts, now=now)
    if last:
        _settle(ledger, charge, OrderState.DISPATCHED, now=now)
    return made


def cancel(ledger: Ledger, charge: Charge, *, now: int) -> list[Operation]:
    """Release an authorisation of which nothing was captured; the order is told refunded once it is answered."""
    if charge.voided:
        return [item for item in charge.found if item.state is OperationState.PENDING]
    if charge.state is not OrderState.AUTHORISED or charge.authorised is None or charge.captured:
        raise _wrong_state(charge, "cancelled")
    return operations.owe(
        ledger, [_wanted(charge, charge.authorised, OperationKind.VOID, "cancelled", 0)], now=now
    )


def refund(
    ledger: Ledger, charge: Charge, *, reference: str, amount: int | None, currency: str | None, now: int
) -> list[Operation]:
    """Give back ``amount`` of what was captured, or all that is left of it. The same reference changes nothing."""
    if any(item.kind is OperationKind.REFUND and item.reference == reference for item in charge.found):
        return [item for item in charge.found if item.state is OperationState.PENDING]
    if charge.authorised is None or not charge.taken:
        raise _wrong_state(charge, "refunded: nothing of it was captured")
    sent = charge.authorised
    left = charge.taken - charge.refunded
    wanted = left if amount is None else amount
    if currency not in (None, sent.currency) or not 0 < wanted <= left:
        raise ProcessorError(
            "REFUND-AMOUNT",
            f"order {charge.order_id} has {money(left, sent.currency)} left that can be given back",
            "name an amount up to that, in that currency",
        )
    return operations.owe(ledger, [_wanted(charge, sent, OperationKind.REFUND, reference, wanted)], now=now)


def void_expired(ledger: Ledger, *, now: int) -> int:
    """Let go of authorisations that their scheme lets wait no longer, in the caller's transaction; how many.

    What was captured of one stays; the rest is released, and an order of which nothing was is to be ordered again.
    """
    rows = list(ledger.rows("SELECT order_id FROM orders WHERE state = 'authorised' ORDER BY number"))
    over = [charge for (order_id,) in rows if _is_over(charge := find(ledger, order_id), now)]
    wanted = [
        _wanted(charge, sent, OperationKind.VOID, f"{AUTHORISATION_EXPIRED} {sent.attempt}", charge.captured)
        for charge in over
        if (sent := charge.authorised) is not None
    ]
    operations.owe(ledger, wanted, now=now)
    return len(wanted)


def _is_over(charge: Charge, now: int) -> bool:
    days = AUTHORISATION_DAYS[scheme_of(charge.card)]
    sent = charge.authorised
    return sent is not None and not charge.voided and now >= sent.sent_at + days * _DAY


def _wanted(
    charge: Charge, sent: Reference, kind: OperationKind, reference: str, amount: int, *, final: bool = True
) -> Wanted:
    return Wanted(
        original=sent, approval=charge.approval, kind=kind, reference=reference, amount=amount, final=final
    )


def _settle(ledger: Ledger, charge: Charge, state: OrderState, *, now: int) -> None:
    orders.settle(ledger, [Settled(order_id=OrderId(charge.order_id), state=state)], now=now)


def _check_nothing_refused(charge: Charge) -> None:
    whole = [item for item in charge.found if item.reference == WHOLE]
    if any(item.state is OperationState.FAILED for item in whole):
        raise ProcessorError(
            "DISPATCH-UNPAID",
            f"the acquirer refused to take the money for order {charge.order_id}",
            "phone the acquirer before the goods go",
        )


def _wrong_state(charge: Charge, verb: str) -> ProcessorError:
    return ProcessorError(
        "DISPATCH-STATE",
        f"order {charge.order_id} is {charge.state}, and cannot be {verb}",
        "look at it with: offline-processor status; nothing was changed",
    )
