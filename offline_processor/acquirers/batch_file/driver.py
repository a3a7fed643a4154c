"""The driver whose link is a file: every verb becomes a record, handed over once it is durable.

Why here: a shop that brings its charges to the acquirer on a medium, and fetches the answers there.
Must not: hand a record over twice, put a CVV into one, or answer for the acquirer what it has not said.

No record is lost or sent twice, wherever a crash falls, because each is a sealed box of its own in the ledger:
- before its transaction is durable it is nowhere: the intent is found without an outcome, and reversed;
- after it, it is in the open file. When the caller had no time to note that, the same reversal comes: the record is
  withdrawn from the file, which nobody has seen yet, and the reversal is answered here and now;
- once a file is finished (``files.finish``) nothing is added or withdrawn: a reversal is a record of the next file.
A reversal of an authorisation that is in no file of ours goes out as a record too: another driver may have sent it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from offline_processor.acquirers.batch_file.authorisations import RecordBuffer, Request
from offline_processor.acquirers.batch_file.form import Kind
from offline_processor.acquirers.protocol import (
    Advice,
    Authorisation,
    BatchAnswer,
    BatchTotals,
    Capture,
    HandedOver,
    Heard,
    Refund,
    Reversal,
    Verb,
)
from offline_processor.charging import APPROVED_CODE, Answer, Reference
from offline_processor.ledger import batch_files
from offline_processor.ledger.batch_files import Kept
from offline_processor.ledger.ledger import Ledger
from transfer.wire.card import CardView

_HANDED: Final = HandedOver.HANDED_OVER


class BatchFileAcquirer:
    """Records go into the ledger's open file, boxed to ``public_key`` (X25519, 32 bytes)."""

    def __init__(
        self, ledger: Ledger, *, public_key: bytes, rehearsal: bool, clock: Callable[[], int]
    ) -> None:
        self._ledger = ledger
        self._public_key = public_key
        self._rehearsal = rehearsal
        self._clock = clock
        self._buffer = RecordBuffer()

    @property
    def is_simulator(self) -> bool:
        """A rehearsal's files are marked so, and only a rehearsal's answers are taken for them."""
        return self._rehearsal

    @property
    def window(self) -> None:
        """As configured."""
        return

    @property
    def in_flight(self) -> None:
        """A window's records become durable together."""
        return

    def needs_card(self, verb: Verb) -> bool:  # noqa: ARG002  the same for all
        """What follows an authorisation goes by reference."""
        return False

    def echo(self) -> bool:
        """A file needs no line."""
        return True

    def authorise(self, asked: Iterator[Authorisation]) -> Heard:
        """Make the window's records durable; their boxes are sealed before the transaction begins."""
        file = batch_files.open_file(self._ledger)
        records = [
            self._boxed(Request.of(Kind.AUTHORISE, file, item.reference), item.reference, item.card)
            for item in asked
        ]
        now = self._clock()
        with self._ledger.atomic():
            batch_files.hand_over(self._ledger, records, now=now)
        yield from ((place, _HANDED) for place in range(len(records)))

    def capture(self, window: Sequence[Capture]) -> Sequence[Answer | HandedOver | None]:
        """Records of the next file."""
        return self._advise(Kind.CAPTURE, window)

    def refund(self, window: Sequence[Refund]) -> Sequence[Answer | HandedOver | None]:
        """Records of the next file."""
        return self._advise(Kind.REFUND, window)

    def reverse(self, window: Sequence[Reversal]) -> Sequence[Answer | HandedOver | None]:
        """Withdraw what no acquirer has seen; the rest are records of the next file."""
        answers: list[Answer | HandedOver | None] = []
        for item in window:
            kept = batch_files.authorisation(self._ledger, item.original.rrn)
            if kept is None or not self._is_ours_alone(kept) or item.keep:
                answers += self._advise(Kind.REVERSE, [item])
                continue
            if kept.state == batch_files.WAITING:
                with self._ledger.atomic():
                    batch_files.withdraw(self._ledger, kept, now=self._clock())
            answers.append(_answer(item.reference, APPROVED_CODE, ""))
        return answers

    def close_batch(self, totals: BatchTotals) -> BatchAnswer | None:
        """Compare with what the acquirer's answer files say was done since the last close."""
        ours = (totals.captures, totals.captured, totals.refunds, totals.refunded)
        if batch_files.taken_since_close(self._ledger, totals.currency) != ours:
            return BatchAnswer.OUT_OF_BALANCE
        with self._ledger.atomic():
            batch_files.mark_closed(self._ledger, totals.currency)
        return BatchAnswer.IN_BALANCE

    def close(self) -> None:
        """Give the record's memory back."""
        self._buffer.close()

    def _is_ours_alone(self, kept: Kept) -> bool:
        return kept.file == batch_files.open_file(self._ledger) or kept.state == batch_files.WITHDRAWN

    def _advise(
        self, kind: Kind, window: Sequence[Capture | Refund | Reversal]
    ) -> list[Answer | HandedOver | None]:
        file = batch_files.open_file(self._ledger)
        answers: list[Answer | HandedOver | None] = []
        records = []
        for item in window:
            before = batch_files.by_operation(self._ledger, item.operation)
            if before is None:
                records.append(self._boxed(_request(kind, file, item), item.reference, None))
            answered = before is not None and before.state == batch_files.ANSWERED
            answers.append(
                _answer(item.reference, before.code, before.approval) if before and answered else _HANDED
            )
        if records:
            with self._ledger.atomic():
                batch_files.hand_over(self._ledger, records, now=self._clock())
        return answers

    def _boxed(self, request: Request, sent: Reference, card: CardView | None) -> Kept:
        return Kept(
            kind=request.kind.value,
            rrn=request.rrn,
            stan=request.stan,
            file=request.file,
            place=0,
            number=sent.number,
            order_id=request.order_id,
            attempt=sent.attempt,
            operation=request.operation,
            sent_at=request.sent_at,
            amount=request.amount,
            currency=request.currency,
            box=self._buffer.box(request, card, self._public_key),
            state=batch_files.WAITING,
            code="",
            approval="",
        )


def _request(kind: Kind, file: int, item: Advice) -> Request:
    return Request.of(
        kind,
        file,
        item.reference,
        operation=item.operation,
        approval=item.approval,
        final=isinstance(item, Capture) and item.final,
        keep=item.keep if isinstance(item, Reversal) else 0,
    )


def _answer(sent: Reference, code: str, approval: str) -> Answer:
    return Answer(
        stan=sent.stan,
        rrn=sent.rrn,
        amount=sent.amount,
        currency=sent.currency,
        code=code,
        approval=approval,
    )
