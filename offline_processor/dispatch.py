"""What a person does with an order's money: say when it is taken, send goods for it, call it off, give it back.

Why here: the rules of dispatch, cancellation and refunds, apart from how they are typed.
Must not: take more than was authorised, give back more than was taken, or do one wish twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import count
from typing import Final, assert_never

from offline_processor import authorisations
from offline_processor.acquirers.report import in_words
from offline_processor.authorisations import taken_until
from offline_processor.capturing import Capture
from offline_processor.charging import AttemptState, Reference
from offline_processor.config import ChargingConfig
from offline_processor.control_total import money
from offline_processor.errors import ProcessorError
from offline_processor.ledger import cases, operations, orders
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.operations import WHOLE, Operation, OperationKind, OperationState, Wanted
from offline_processor.outcomes import AUTHORISATION_EXPIRED, CANCELLED
from offline_processor.stages import OrderState, Settled
from transfer.wire.ids import OrderId

_STANDING: Final = (OperationState.PENDING, OperationState.DONE)
ALL_SENT: Final = "sent"
"""The name of a shipment that nobody named: all that is left of an order."""

_REST: Final = "rest"
_CANCELLED: Final = "cancelled"
_AGAIN: Final = re.compile(r"(.+) again (\d{1,6})", re.ASCII | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """An order with its approved authorisation and what was done of it. Amounts in minor units.

    ``capture``: when a person wants it taken, "" where nobody said; ``live``: how its attempt stands, None for none.
    """

    number: int
    order_id: str
    state: OrderState
    rule: str
    card: str
    release_at: int
    capture: str
    live: AttemptState | None
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
        """True when the rest of the authorisation is released, or about to be."""
        return self.authorised is not None and any(
            item.kind is OperationKind.VOID
            and item.state in _STANDING
            and item.original.attempt == self.authorised.attempt
            for item in self.found
        )


def find(ledger: Ledger, order_id: str) -> Charge:
    """The order of this id; ``ORDER-UNKNOWN``."""
    row = ledger.row(
        "SELECT o.number, o.state, o.rule, o.card, o.release_at, o.capture, coalesce(l.approval, '') FROM orders AS o"
        " LEFT JOIN live_attempt AS l USING (number) WHERE o.order_id = ?",
        (order_id,),
    )
    if row is None:
        raise ProcessorError(
            "ORDER-UNKNOWN",
            f"this ledger has no order {order_id}",
            "copy the order id (32 hexadecimal digits) from the packing slip or the run's summary",
        )
    number, state, rule, card, release_at, capture, approval = row
    live = orders.live_attempt(ledger, number)
    approved = live[0] if live is not None and live[1] is AttemptState.APPROVED else None
    return Charge(
        number=number,
        order_id=order_id,
        state=OrderState(state),
        rule=rule,
        card=card,
        release_at=release_at,
        capture=capture,
        live=None if live is None else live[1],
        authorised=approved,
        approval=approval,
        found=tuple(operations.of_order(ledger, number)),
    )


def ship(
    ledger: Ledger,
    charge: Charge,
    charging: ChargingConfig,
    *,
    shipment: str,
    amount: int | None,
    final: bool,
    early: bool,
    now: int,
) -> list[Operation]:
    """A shipment of an order: what is authorised is captured, whole or this ``amount``; what was paid is only marked.

    Returns the operations that are now owed, in the caller's transaction. The same shipment again changes nothing.
    ``early`` sends a pre-order before its release.
    """
    if charge.state is OrderState.PAID and charge.authorised is not None:
        return _mark_sent(ledger, charge, charge.authorised, amount=amount, early=early, now=now)
    if shipment == WHOLE:
        raise ProcessorError(
            "DISPATCH-NAME",
            f"{WHOLE!r} names what is taken at once, and no shipment",
            "give the shipment another name",
        )
    if (before := _named(charge, OperationKind.CAPTURE, shipment)) is not None:
        _check_same(before, amount, "DISPATCH-NAME")
        return _owed(charge)
    if charge.state is OrderState.DISPATCHED and amount is None:
        return []
    if charge.state is not OrderState.AUTHORISED or charge.authorised is None or charge.voided:
        raise _wrong_state(charge, "sent")
    _check_released(charge, early=early, now=now)
    sent = charge.authorised
    if now >= taken_until(charge.card, sent.sent_at, attempt=sent.attempt, charging=charging):
        raise ProcessorError(
            "DISPATCH-EXPIRED",
            f"the authorisation of order {charge.order_id} is too old to be taken",
            "keep the goods; offline-processor run releases it, and says what becomes of the order",
        )
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


def _mark_sent(
    ledger: Ledger, charge: Charge, sent: Reference, *, amount: int | None, early: bool, now: int
) -> list[Operation]:
    """What was paid whole is marked when the last of it goes; goods whose money is not there stay."""
    if amount is not None:
        raise ProcessorError(
            "DISPATCH-AMOUNT",
            f"order {charge.order_id} was paid whole, {money(sent.amount, sent.currency)}",
            "say that it was sent when the last of it goes, without --amount",
        )
    _check_released(charge, early=early, now=now)
    unpaid = [
        item
        for item in charge.found
        if item.kind is OperationKind.CAPTURE and item.state is OperationState.FAILED
    ]
    if charge.captured == 0 and any(not cases.is_closed(ledger, item.id) for item in unpaid):
        raise ProcessorError(
            "DISPATCH-UNPAID",
            f"the acquirer refused to take the money for order {charge.order_id}",
            "keep the goods; offline-processor cases says what may be done",
        )
    if charge.captured == 0 and not unpaid:
        raise ProcessorError(
            "DISPATCH-UNPAID",
            f"neither this ledger nor the acquirer's report shows that money was taken for order {charge.order_id}",
            "keep the goods, and ask the acquirer what was taken",
        )
    if charge.captured and charge.refunded >= charge.captured:
        raise _wrong_state(charge, "sent: all of it is being given back")
    _settle(ledger, charge, OrderState.DISPATCHED, now=now)
    return []


def _check_released(charge: Charge, *, early: bool, now: int) -> None:
    if charge.release_at > now and not early:
        raise ProcessorError(
            "DISPATCH-EARLY",
            f"order {charge.order_id} has goods that are not released yet",
            "wait for the day of release, or say --early if they are here already",
        )


def capture_when(ledger: Ledger, charge: Charge, wanted: Capture, *, now: int) -> bool:
    """Have an order that is not charged yet captured at once or when its goods go, whatever is configured.

    In the caller's transaction; False when that was said before. ``DISPATCH-STATE``, ``CAPTURE-EARLY``.
    """
    if charge.live is not None:
        raise _wrong_state(charge, "captured otherwise: it was sent to the acquirer already")
    if charge.state not in (OrderState.SCREENED, OrderState.HELD):
        raise _wrong_state(charge, "captured otherwise")
    if wanted == "sale" and charge.release_at > now:
        raise ProcessorError(
            "CAPTURE-EARLY",
            f"order {charge.order_id} has goods that are not released before {in_words(charge.release_at)}",
            "leave it: it is authorised now, and captured when they go; nothing was changed",
        )
    if charge.capture == wanted:
        return False
    ledger.execute("UPDATE orders SET capture = ? WHERE number = ?", (wanted, charge.number))
    return True


def cancel(ledger: Ledger, charge: Charge, *, now: int) -> list[Operation]:
    """Release an authorisation of which nothing was captured; the order is told refunded once it is answered."""
    if charge.voided or charge.rule == CANCELLED:
        return _owed(charge)
    if (before := _named(charge, OperationKind.VOID, _CANCELLED)) is not None:
        _check_same(before, None, "")
    if charge.state is not OrderState.AUTHORISED or charge.authorised is None or charge.captured:
        raise _wrong_state(charge, "cancelled; what was captured can be given back (refund)")
    return operations.owe(
        ledger, [_wanted(charge, charge.authorised, OperationKind.VOID, _CANCELLED, 0)], now=now
    )


def refund(
    ledger: Ledger, charge: Charge, *, reference: str, amount: int | None, currency: str | None, now: int
) -> list[Operation]:
    """Give back ``amount`` of what was captured, or all that is left of it. The same reference changes nothing."""
    if is_named(charge, reference, amount=amount):
        return _owed(charge)
    sent, wanted = refundable(charge, amount=amount, currency=currency)
    return operations.owe(ledger, [_wanted(charge, sent, OperationKind.REFUND, reference, wanted)], now=now)


def is_named(charge: Charge, reference: str, *, amount: int | None) -> bool:
    """True when a refund has this name already, and this amount; ``REFUND-NAME`` when another, ``REFUND-REFUSED``."""
    before = _named(charge, OperationKind.REFUND, reference)
    if before is not None:
        _check_same(before, amount, "REFUND-NAME")
    return before is not None


def refundable(charge: Charge, *, amount: int | None, currency: str | None) -> tuple[Reference, int]:
    """The authorisation and the amount that can be given back of it; ``REFUND-AMOUNT``, ``DISPATCH-STATE``."""
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
    return sent, wanted


def again(ledger: Ledger, charge: Charge, refused: Operation, *, now: int) -> list[Operation]:
    """A refused operation once more, under a name of its own; whatever bounds the first time bounds it too."""
    if refused.state is not OperationState.FAILED or charge.authorised is None:
        raise _wrong_state(charge, f"sent the same {refused.kind} again")
    if refused.original.attempt != charge.authorised.attempt:
        raise _wrong_state(charge, f"sent a {refused.kind} of an authorisation that has ended")
    amount, sent = refused.amount, charge.authorised
    match refused.kind:
        case OperationKind.CAPTURE:
            fits = not charge.voided and 0 < amount <= sent.amount - charge.captured
        case OperationKind.REFUND:
            fits = 0 < amount <= charge.taken - charge.refunded
        case OperationKind.VOID:
            fits, amount = not charge.voided, charge.captured
        case _:
            assert_never(refused.kind)
    if not fits:
        raise _wrong_state(charge, f"sent the same {refused.kind} again")
    name = _next_name(charge, refused)
    return operations.owe(
        ledger, [_wanted(charge, sent, refused.kind, name, amount, final=refused.final)], now=now
    )


def _next_name(charge: Charge, refused: Operation) -> str:
    """The first free name after the refused one's: a person may have given any name, also one that we would."""
    found = _AGAIN.fullmatch(refused.reference)
    first, before = (found[1], int(found[2])) if found else (refused.reference, 0)
    names = (f"{first} again {number}" for number in count(before + 1))
    return next(name for name in names if _named(charge, refused.kind, name) is None)


def void_expired(ledger: Ledger, charging: ChargingConfig, *, now: int) -> int:
    """Let go of authorisations that their scheme lets wait no longer, in the caller's transaction; how many.

    What was captured of one stays; the rest is released, and an order of which nothing was is to be ordered again.
    """
    wanted = []
    for item in authorisations.standing(ledger, charging, until=now):
        charge = find(ledger, item.order_id)
        sent = charge.authorised
        if sent is None:
            continue
        name = f"{AUTHORISATION_EXPIRED} {sent.attempt}"
        if _named(charge, OperationKind.VOID, name) is None:  # one that was refused is a person's case
            wanted.append(_wanted(charge, sent, OperationKind.VOID, name, charge.captured))
    operations.owe(ledger, wanted, now=now)
    return len(wanted)


def _wanted(
    charge: Charge, sent: Reference, kind: OperationKind, reference: str, amount: int, *, final: bool = True
) -> Wanted:
    return Wanted(
        original=sent, approval=charge.approval, kind=kind, reference=reference, amount=amount, final=final
    )


def _settle(ledger: Ledger, charge: Charge, state: OrderState, *, now: int) -> None:
    orders.settle(ledger, [Settled(order_id=OrderId(charge.order_id), state=state)], now=now)


def _named(charge: Charge, kind: OperationKind, reference: str) -> Operation | None:
    return next((item for item in charge.found if (item.kind, item.reference) == (kind, reference)), None)


def _owed(charge: Charge) -> list[Operation]:
    return [item for item in charge.found if item.state is OperationState.PENDING]


def _check_same(before: Operation, amount: int | None, rule: str) -> None:
    """A name is one wish for ever: the same again is the same, another amount or a refused one needs a person."""
    if before.state is OperationState.FAILED:
        raise ProcessorError(
            operations.REFUSED[before.kind],
            f"the acquirer refused the {before.kind} {before.reference!r} of order {before.original.order_id}",
            "phone the acquirer; offline-processor cases says what may be done",
        )
    if amount not in (None, before.amount):
        raise ProcessorError(
            rule,
            f"{before.reference!r} of order {before.original.order_id} was"
            f" {money(before.amount, before.original.currency)}, and is not done a second time",
            "give another name to what is to be done beside it",
        )


def _wrong_state(charge: Charge, verb: str) -> ProcessorError:
    return ProcessorError(
        "DISPATCH-STATE",
        f"order {charge.order_id} is {charge.state}, and cannot be {verb}",
        "offline-processor cases says what waits for a person; nothing was changed",
    )
