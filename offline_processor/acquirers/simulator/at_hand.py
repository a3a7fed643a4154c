"""The simulated acquirer without its line: the same host and books, asked in this process.

Why here: the many tests that are not about the line need an acquirer that costs no process and no socket.
Must not: decide or book anything itself, or answer where the real line would have lost the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from offline_processor.acquirers.protocol import (
    Advice,
    Answered,
    Authorisation,
    BatchAnswer,
    BatchTotals,
    Capture,
    Refund,
    Reversal,
    Verb,
)
from offline_processor.acquirers.simulator.books import Books, Kind, Sums
from offline_processor.acquirers.simulator.faults import UNANSWERED, Fault, Faults
from offline_processor.acquirers.simulator.host import IN_PROGRESS, Host, Message, Reply
from offline_processor.charging import APPROVED_CODE, Answer, Reference


class SimulatedAcquirer:
    """An acquirer whose books are a SQLite file at ``path``; ``faults`` as ``simulate-acquirer`` takes them."""

    is_simulator = True
    window = None
    in_flight: int | None = None

    def __init__(self, path: Path, *, faults: Sequence[str] = (), forgetful: bool = False) -> None:
        self._books = Books(path)
        self._host = Host(self._books, Faults(faults), forgetful=forgetful)

    def needs_card(self, verb: Verb) -> bool:
        return verb is Verb.REVERSE

    def echo(self) -> bool:
        return True

    def authorise(self, asked: Iterator[Authorisation]) -> Answered:
        messages = [
            replace(
                _message(Kind.AUTHORISATION, "0100", one.reference),
                bin=one.card.bin,
                last_four=one.card.last_four,
                has_cvv=len(one.card.cvv) > 0,
            )
            for one in asked
        ]
        yield from enumerate(self._ask(messages))

    def capture(self, window: Sequence[Capture]) -> Sequence[Answer | None]:
        return self._ask([_advice(Kind.CAPTURE, "022", one) for one in window])

    def reverse(self, window: Sequence[Reversal]) -> Sequence[Answer | None]:
        return self._ask([replace(_advice(Kind.REVERSAL, "042", one), keep=one.keep) for one in window])

    def refund(self, window: Sequence[Refund]) -> Sequence[Answer | None]:
        return self._ask([_advice(Kind.REFUND, "022", one) for one in window])

    def close_batch(self, totals: BatchTotals) -> BatchAnswer | None:
        sums = Sums(
            captures=totals.captures,
            captured=totals.captured,
            refunds=totals.refunds,
            refunded=totals.refunded,
        )
        message = Message(
            kind=Kind.TOTALS,
            mti="0500",
            reference="",
            stan=totals.stan,
            rrn="",
            sent_at=totals.sent_at,
            amount=totals.captured,
            currency=totals.currency,
            totals=sums,
        )
        (answer,) = self._ask([message])
        if answer is None:
            return None
        return BatchAnswer.IN_BALANCE if answer.code == APPROVED_CODE else BatchAnswer.OUT_OF_BALANCE

    def close(self) -> None:
        self._books.close()

    def _ask(self, messages: Sequence[Message]) -> list[Answer | None]:
        replies = self._host.answer_all(messages)
        return [_answer(message, reply) for message, reply in zip(messages, replies, strict=True)]


def _message(kind: Kind, mti: str, sent: Reference) -> Message:
    return Message(
        kind=kind,
        mti=mti,
        reference=sent.order_id,
        stan=sent.stan,
        rrn=sent.rrn,
        sent_at=sent.sent_at,
        amount=sent.amount,
        currency=sent.currency,
    )


def _advice(kind: Kind, mti: str, advice: Advice) -> Message:
    message = _message(kind, f"{mti}{int(advice.repeat)}", advice.reference)
    return replace(message, rrn=advice.original.rrn, original_stan=advice.original.stan)


def _answer(message: Message, reply: Reply) -> Answer | None:
    if reply.fault in UNANSWERED:
        return None
    return Answer(
        stan=message.stan,
        rrn=message.rrn,
        amount=reply.amount,
        currency=reply.currency,
        code=IN_PROGRESS if reply.fault is Fault.IN_PROGRESS else reply.code,
        approval=reply.approval,
        security_code=reply.security_code,
        late=reply.fault is Fault.LATE,
    )
