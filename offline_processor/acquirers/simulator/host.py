"""The simulated acquirer's decisions: one message in, one answer out, and both booked.

Why here: the server on the line and the double in the tests must decide and book by the same code.
Must not: take an authorisation for a repetition of another, whatever its numbers: it books all that it sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from offline_processor.acquirers.simulator.books import Booking, Books, Kind, Standing, Sums
from offline_processor.acquirers.simulator.faults import (
    AMOUNT_CODES,
    AMOUNT_ENDING,
    AMOUNT_TRIGGERS,
    BY_LAST_FOUR,
    FIRST_ANSWER_LOST,
    UNANSWERED,
    Fault,
    Faults,
)
from offline_processor.charging import APPROVED_CODE, NOT_YET, SecurityCode

PARTIAL_CODE: Final = "10"
INVALID: Final = "12"
TOO_MUCH: Final = "13"
NOT_FOUND: Final = "25"
OUT_OF_BALANCE: Final = "95"
IN_PROGRESS: Final = "09"
_OTHER_CURRENCY: Final = {"EUR": "USD"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What the host reads in a request; ``totals`` are those that a close names.

    ``original_stan`` is the trace number of the authorisation that an advice is about, ``keep`` what a reversal
    leaves of it. ``has_cvv``: a security code came with it; the host never sees which.
    """

    kind: Kind
    mti: str
    reference: str
    stan: int
    rrn: str
    sent_at: int
    amount: int
    currency: str
    bin: str = ""
    last_four: str = ""
    original_stan: int = 0
    keep: int = 0
    has_cvv: bool = False
    totals: Sums | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the host answers; ``fault`` says what the line does to it, ``booked`` what the books say."""

    code: str
    approval: str
    amount: int
    currency: str
    security_code: SecurityCode
    fault: Fault
    booked: Booking


class Host:
    """Decides and books. ``forgetful``: it does not recognise a repeated advice and books it anew."""

    def __init__(self, books: Books, faults: Faults | None = None, *, forgetful: bool = False) -> None:
        self._books = books
        self._faults = faults or Faults()
        self._forgetful = forgetful

    def answer_all(self, messages: Sequence[Message]) -> list[Reply]:
        """Decide and book messages in their order; all of them are durable when this returns."""
        with self._books.atomic():
            return [self._answer(message) for message in messages]

    def _answer(self, message: Message) -> Reply:
        booking = Booking(
            kind=message.kind,
            mti=message.mti,
            reference=message.reference,
            stan=message.stan,
            rrn=message.rrn,
            sent_at=message.sent_at,
            amount=message.amount if message.totals is None else message.totals.captured,
            currency=message.currency,
            bin=message.bin,
            last_four=message.last_four,
        )
        about = self._about(message)
        if about is not None:
            booking = replace(booking, of=about.line, reference=message.reference or about.reference)
        fault, code = self._wrong(message, about)
        if fault is Fault.LOST_BEFORE:
            decided = replace(booking, of=0)
        elif (again := self._repetition(booking)) is not None:
            decided = again
        elif code:
            decided = replace(booking, code=code)
        else:
            decided = self._decide(message, booking, about, fault)
        decided = replace(decided, fault=fault.value, answered=fault not in UNANSWERED)
        self._books.book(decided)
        return _reply(message, decided, fault)

    def _about(self, message: Message) -> Standing | None:
        if message.kind not in (Kind.CAPTURE, Kind.REVERSAL, Kind.REFUND):
            return None
        return self._books.standing(message.original_stan, message.rrn)

    def _wrong(self, message: Message, about: Standing | None) -> tuple[Fault, str]:
        """(fault, code) that rules, card or amount demand."""
        fault, code = self._faults.strike(message.kind)
        if fault or code or message.kind in (Kind.NETWORK, Kind.TOTALS):
            return fault, code
        ending = (message.amount if about is None else about.amount) % AMOUNT_ENDING
        if message.kind is Kind.AUTHORISATION:
            code = BY_LAST_FOUR.get(message.last_four) or AMOUNT_CODES.get(ending, "")
            if message.last_four == FIRST_ANSWER_LOST and not self._books.seen(message.reference):
                return Fault.LOST_AFTER, code
        for trigger in AMOUNT_TRIGGERS.get(ending, ()):
            if message.kind in trigger.kinds and not (
                trigger.first and about is not None and self._books.answers_of(about.line, message.kind)
            ):
                return trigger.fault, trigger.code or code
        return Fault.NONE, code

    def _repetition(self, booking: Booking) -> Booking | None:
        """A repeated advice, answered as it was before; None for anything new, or not answered for good yet."""
        if self._forgetful or booking.kind in (Kind.AUTHORISATION, Kind.NETWORK):
            return None
        before = self._books.decided(booking)
        if before is None or before[1] in NOT_YET:
            return None
        of, code, granted, approval = before
        return replace(booking, of=of, code=code, granted=granted, approval=approval, again=True)

    def _decide(self, message: Message, booking: Booking, about: Standing | None, fault: Fault) -> Booking:
        match message.kind:
            case Kind.NETWORK:
                return replace(booking, code=APPROVED_CODE)
            case Kind.AUTHORISATION:
                partial = fault is Fault.PARTIAL
                return replace(
                    booking,
                    code=PARTIAL_CODE if partial else APPROVED_CODE,
                    granted=message.amount // 2 if partial else message.amount,
                    approval=f"{message.stan:06d}",
                )
            case Kind.TOTALS:
                return self._close(message, booking, fault)
            case _:
                return _follow(message, booking, about)

    def _close(self, message: Message, booking: Booking, fault: Fault) -> Booking:
        said, ours = message.totals or Sums(), self._books.sums(message.currency)
        return replace(
            booking,
            code=APPROVED_CODE if said == ours and fault is not Fault.OUT_OF_BALANCE else OUT_OF_BALANCE,
            captures=said.captures,
            refunds=said.refunds,
            refunded=said.refunded,
        )


def _follow(message: Message, booking: Booking, about: Standing | None) -> Booking:
    """What follows an authorisation: never more is taken than was reserved, nor given back than was taken."""
    if about is None:
        return replace(booking, code=NOT_FOUND)
    if message.currency != about.currency or (not about.reserved and message.kind is not Kind.REVERSAL):
        return replace(booking, code=INVALID)
    match message.kind:
        case Kind.CAPTURE:
            allowed = 0 < message.amount <= about.reserved - about.captured
            granted = message.amount
        case Kind.REFUND:
            allowed = 0 < message.amount <= about.captured - about.refunded
            granted = message.amount
        case _:
            allowed = about.captured <= message.keep <= about.reserved
            granted = message.keep
    if not allowed:
        return replace(booking, code=TOO_MUCH)
    return replace(booking, code=APPROVED_CODE, granted=granted, approval=about.approval)


def _reply(message: Message, booked: Booking, fault: Fault) -> Reply:
    approved = message.kind is Kind.AUTHORISATION and booked.granted > 0
    amount = booked.granted if booked.code == PARTIAL_CODE else message.amount
    matched = SecurityCode.NOT_CHECKED
    if message.has_cvv and message.kind is Kind.AUTHORISATION:
        wrong = booked.code == "82" or (approved and fault is Fault.WRONG_CODE_APPROVED)
        matched = SecurityCode.MISMATCH if wrong else SecurityCode.MATCH
    other = _OTHER_CURRENCY.get(message.currency, "EUR")
    return Reply(
        code=booked.code,
        approval=booked.approval,
        amount=amount + (fault is Fault.OTHER_AMOUNT),
        currency=other if fault is Fault.OTHER_CURRENCY else message.currency,
        security_code=matched,
        fault=fault,
        booked=booked,
    )
