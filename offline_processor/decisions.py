"""Decisions of people about money: what each one is, whether it needs a second person, and carrying it out.

Why here: the two-person rule must be the same for every command, and what is approved later must be what was asked.
Must not: carry out above the limit what only one person has decided, or leave out who and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

import msgspec

from offline_processor import dispatch, reversing
from offline_processor.capturing import at_dispatch
from offline_processor.config import ChargingConfig
from offline_processor.control_total import money
from offline_processor.errors import ProcessorError
from offline_processor.ledger import cases, exceptions, operations, orders, reports, requests
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.operations import Operation
from offline_processor.ledger.requests import Request
from offline_processor.reversing import Found
from offline_processor.stages import OrderState, Settled
from transfer.wire.ids import OrderId
from transfer.wire.records import Reason

REQUEST_DAYS: Final = 7
_DAY: Final = 86_400


class Verb(StrEnum):
    """What may be decided."""

    REFUND = "refund"
    AGAIN = "again"
    SETTLE_ATTEMPT = "settle-attempt"
    ORDER_AGAIN = "order-again"
    CLOSE = "close"


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person decided. ``subject``: an order id, or the id of a case; the rest as the verb needs it.

    ``amount`` is minor units, None for all that there is; ``reference`` names a refund; ``found`` is what the acquirer
    says of an attempt, with its ``approval`` code; ``given_back``: the acquirer has given back what it charged.
    """

    verb: Verb
    subject: str
    amount: int | None = None
    currency: str | None = None
    reference: str = ""
    found: str = ""
    approval: str = ""
    given_back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Who decides and why; ``second``: who confirmed it."""

    who: str
    why: str
    second: str = ""

    def as_facts(self) -> dict[str, str]:
        return {"who": self.who, "why": self.why} | ({"second": self.second} if self.second else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """What a decision is about: its order ("" for none) and what it may cost, minor units; "" where no money is.

    ``before``: what of the same order was given back already, so that many small refunds weigh as a large one.
    """

    order_id: str
    amount: int
    currency: str
    before: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of a decision: carried out with the operations now owed, or asked under this number."""

    order_id: str
    changed: bool
    operations: tuple[Operation, ...] = ()
    asked: int = 0


def decide(ledger: Ledger, decision: Decision, said: Said, limits: ChargingConfig, *, now: int) -> Done:
    """Carry a decision out, or keep it for a second person, in the caller's transaction."""
    weight = weigh(ledger, decision)
    if repeated(ledger, decision):
        return Done(order_id=weight.order_id, changed=False, operations=tuple(_owed(ledger, weight)))
    if not needs_second(weight, limits):
        return _carry_out(ledger, decision, said, weight, limits, now=now)
    asked = Request(
        number=0,
        document=msgspec.json.encode(_fixed(decision, weight)).decode(),
        amount=weight.amount,
        currency=weight.currency,
        order_id=weight.order_id,
        who=said.who,
        why=said.why,
        at=now,
    )
    number = requests.ask(ledger, asked)
    facts = {"request": number, "verb": decision.verb.value, "amount": weight.amount, **said.as_facts()}
    ledger.append("second-person-asked", weight.order_id, now, facts)
    return Done(order_id=weight.order_id, changed=True, asked=number)


def _fixed(decision: Decision, weight: Weight) -> Decision:
    """A refund of all that is left is of so much as was left when it was decided, and never more."""
    if decision.verb is not Verb.REFUND:
        return decision
    return msgspec.structs.replace(decision, amount=weight.amount, currency=weight.currency)


def needs_second(weight: Weight, limits: ChargingConfig) -> bool:
    """True above the limit of the currency; a currency without one has the limit 0."""
    return bool(weight.amount) and weight.amount + weight.before > limits.second_person_above.get(
        weight.currency, 0
    )


def find_request(ledger: Ledger, number: int) -> Request:
    """The request of this number that waits; ``REQUEST-UNKNOWN``."""
    found = next((item for item in requests.asked(ledger) if item.number == number), None)
    if found is None:
        raise ProcessorError(
            "REQUEST-UNKNOWN",
            f"no decision of the number {number} waits for a second person",
            "offline-processor cases lists those that do",
        )
    return found


def approve(ledger: Ledger, request: Request, who: str, limits: ChargingConfig, *, now: int) -> Done:
    """A second person confirms: it is carried out now, in the caller's transaction.

    ``REQUEST-SAME-PERSON``; ``REQUEST-OLD`` after seven days; and as the decision itself is refused by now.
    """
    if requests.same_person(request.who, who):
        raise ProcessorError(
            "REQUEST-SAME-PERSON",
            f"{request.who} has decided this, and nobody confirms alone what they decided",
            "another person has to look, and to give this command themselves",
        )
    if now - request.at > REQUEST_DAYS * _DAY:
        raise ProcessorError(
            "REQUEST-OLD",
            f"this was decided more than {REQUEST_DAYS} days ago",
            f"refuse it (approve R{request.number} --refuse) and decide again",
        )
    decision = msgspec.json.decode(request.document, type=Decision)
    said = Said(who=request.who, why=request.why, second=who)
    requests.end(ledger, request, approved=True, second=who, now=now)
    facts = {"request": request.number, "second": who}
    ledger.append("second-person-approved", request.order_id, now, facts)
    return _carry_out(ledger, decision, said, weigh(ledger, decision), limits, now=now)


def refuse(ledger: Ledger, request: Request, who: str, why: str, *, now: int) -> None:
    """Anybody may refuse what waits, in the caller's transaction; nothing of it is done."""
    requests.end(ledger, request, approved=False, second=who, now=now)
    facts = {"request": request.number, "who": who, "why": why}
    ledger.append("second-person-refused", request.order_id, now, facts)


def in_words(decision: Decision, weight: Weight) -> str:
    """What is decided, for the person who confirms it."""
    worth = money(weight.amount, weight.currency) if weight.currency else ""
    order = f"order {weight.order_id}"
    match decision.verb:
        case Verb.REFUND:
            return f"give {worth} back to the customer of {order}, as {decision.reference}"
        case Verb.AGAIN:
            return f"send again what the acquirer refused, {worth}, {order}"
        case Verb.SETTLE_ATTEMPT:
            return f"settle the attempt to charge {worth} for {order} as {decision.found}"
        case Verb.ORDER_AGAIN:
            return f"tell the customer of {order} to order again; {worth or 'nothing'} was given back"
        case Verb.CLOSE:
            return f"close case {decision.subject}, {worth} {order if weight.order_id else ''}".rstrip()
        case _:
            assert_never(decision.verb)


def weigh(ledger: Ledger, decision: Decision) -> Weight:
    """What a decision is about and may cost. Refuses what cannot be decided at all."""
    match decision.verb:
        case Verb.REFUND:
            charge = dispatch.find(ledger, decision.subject)
            if repeated(ledger, decision):
                return Weight(order_id=charge.order_id, amount=0, currency="")
            sent, wanted = dispatch.refundable(charge, amount=decision.amount, currency=decision.currency)
            return Weight(
                order_id=charge.order_id, amount=wanted, currency=sent.currency, before=charge.refunded
            )
        case Verb.AGAIN:
            item = _refused(ledger, decision.subject)
            pays = item.kind is operations.OperationKind.REFUND
            return Weight(
                order_id=item.original.order_id,
                amount=item.amount if pays else 0,
                currency=item.original.currency,
                before=dispatch.find(ledger, item.original.order_id).refunded if pays else 0,
            )
        case Verb.SETTLE_ATTEMPT:
            sent = reversing.manual(ledger, decision.subject).sent
            return Weight(order_id=decision.subject, amount=sent.amount, currency=sent.currency)
        case Verb.ORDER_AGAIN:
            charged = [item for item in reports.pending(ledger) if item.order_id == decision.subject]
            return Weight(
                order_id=dispatch.find(ledger, decision.subject).order_id,
                amount=sum(item.amount for item in charged),
                currency=charged[0].currency if charged else "",
            )
        case Verb.CLOSE:
            return _closing(ledger, decision.subject)
        case _:
            assert_never(decision.verb)


def repeated(ledger: Ledger, decision: Decision) -> bool:
    """True for a refund of a name that was given before: the same again changes nothing."""
    if decision.verb is not Verb.REFUND:
        return False
    charge = dispatch.find(ledger, decision.subject)
    return dispatch.is_named(charge, decision.reference, amount=decision.amount)


def _owed(ledger: Ledger, weight: Weight) -> list[Operation]:
    found = dispatch.find(ledger, weight.order_id).found
    return [item for item in found if item.state is operations.OperationState.PENDING]


def _carry_out(
    ledger: Ledger, decision: Decision, said: Said, weight: Weight, limits: ChargingConfig, *, now: int
) -> Done:
    made: list[Operation] = []
    facts = said.as_facts()
    match decision.verb:
        case Verb.REFUND:
            charge = dispatch.find(ledger, decision.subject)
            made = dispatch.refund(
                ledger,
                charge,
                reference=decision.reference,
                amount=decision.amount,
                currency=decision.currency,
                now=now,
            )
            ledger.append("refund", charge.order_id, now, {**facts, "reference": decision.reference})
        case Verb.AGAIN:
            item = _refused(ledger, decision.subject)
            charge = dispatch.find(ledger, item.original.order_id)
            made = dispatch.again(ledger, charge, item, now=now)
            cases.close(ledger, item.id, who=said.who, why=said.why, now=now)
            cases.clear_rule(ledger, item.original.number, now=now)
            ledger.append("operation-again", charge.order_id, now, {**facts, "refused": item.id})
        case Verb.SETTLE_ATTEMPT:
            charge = dispatch.find(ledger, decision.subject)
            reversing.settle_manual(
                ledger,
                decision.subject,
                found=Found(stands=decision.found == "approved", approval=decision.approval),
                at_dispatch=at_dispatch(charge, limits.capture),
                said={**facts, "found": decision.found},
                now=now,
            )
        case Verb.ORDER_AGAIN:
            _order_again(ledger, decision, facts, now=now)
        case Verb.CLOSE:
            _close(ledger, decision.subject, weight, said, now=now)
        case _:
            assert_never(decision.verb)
    return Done(order_id=weight.order_id, changed=True, operations=tuple(made))


def _order_again(ledger: Ledger, decision: Decision, facts: Mapping[str, str], *, now: int) -> None:
    """An order that waits and of which nothing can be charged any more ends: its customer may order again."""
    order_id = decision.subject
    charge = dispatch.find(ledger, order_id)
    waits = charge.state in (OrderState.QUARANTINED, OrderState.HELD)
    if not waits or charge.live is not None:
        raise ProcessorError(
            "CASE-STATE",
            f"order {order_id} is {charge.state}, and may have been charged or still be"
            if waits
            else f"order {order_id} is {charge.state}, and waits for nobody",
            "offline-processor cases says what may be done; nothing was changed",
        )
    if order_id in reports.pending_ids(ledger):
        if not decision.given_back:
            raise ProcessorError(
                "CASE-CHARGED",
                f"the acquirer has charged order {order_id}",
                "have it given back there first, then repeat with --given-back",
            )
        reports.forget(ledger, order_id)
    end = Settled(
        order_id=OrderId(order_id), state=OrderState.ORDER_AGAIN, reason=Reason.TRY_LATER, rule="CASE-ENDED"
    )
    cases.end_waiting(ledger, charge.number)
    ledger.append("order-again", order_id, now, {**facts, "given-back": decision.given_back})
    orders.settle(ledger, [end], now=now)


def _close(ledger: Ledger, case: str, weight: Weight, said: Said, *, now: int) -> None:
    number = cases.exception_number(case)
    if number is not None:
        exceptions.close(ledger, number, now=now)
    cases.close(ledger, case, who=said.who, why=said.why, now=now)
    ledger.append("case-closed", weight.order_id, now, {"case": case, **said.as_facts()})


def _closing(ledger: Ledger, case: str) -> Weight:
    """What a case that a word can close is about; ``CASE-UNKNOWN`` for any other."""
    found = next((item for item in cases.closable(ledger) if item.id == case), None)
    if found is None:
        raise ProcessorError(
            "CASE-UNKNOWN",
            f"there is no open case {case!r} that a word can close",
            "offline-processor cases lists each with the command that settles it",
        )
    return Weight(order_id=found.order_id, amount=found.amount, currency=found.currency)


def _refused(ledger: Ledger, operation_id: str) -> Operation:
    open_refusals = [item for item in operations.failed(ledger) if not cases.is_closed(ledger, item.id)]
    found = next((item for item in open_refusals if item.id == operation_id), None)
    if found is None:
        raise ProcessorError(
            "CASE-UNKNOWN",
            f"the acquirer has refused no operation {operation_id!r} that is still open",
            "offline-processor cases lists those that it has",
        )
    return found
