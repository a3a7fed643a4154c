"""The answer file: what the acquirer says of the records of one authorisation file, read whole or not at all.

Why here: the layout of FORMAT.md, section 4, for the reader and for the simulated acquirer's writer alike.
Must not: do I/O, know the ledger, or pass a file whose trailer does not agree.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from offline_processor.acquirers.batch_file.form import (
    FORM,
    PRINTABLE,
    Counted,
    Kind,
    Mode,
    check_totals,
    close,
    matching,
    moment,
    number,
    refused,
    rows_of,
)
from offline_processor.acquirers.report import in_words

HEADER: Final = "ANSWERS"
COMMENT: Final = "sealed-orders answer file"
_WHOLE: Final = {"COMPLETE": True, "PARTIAL": False}
_ORDER: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_RRN: Final = re.compile(r"[0-9]{12}", re.ASCII)
_CURRENCY: Final = re.compile(r"[A-Z]{3}", re.ASCII)
_CODE: Final = re.compile(r"[0-9A-Z]{2}", re.ASCII)
_APPROVAL: Final = re.compile(r"[0-9A-Z]{0,6}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRecord:
    """One answer: which record (``kind``, ``rrn``, ``stan``), what it echoes, response code and approval code."""

    kind: Kind
    rrn: str
    stan: int
    order_id: str
    amount: int
    currency: str
    code: str
    approval: str = ""

    @property
    def counted(self) -> Counted:
        return Counted(kind=self.kind, currency=self.currency, amount=self.amount, rrn=self.rrn)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFile:
    """Answers to authorisation file ``file``, the ``number``th of them. ``complete``: no other will follow."""

    file: int
    number: int
    mode: Mode
    merchant: str
    terminal: str
    made_at: int
    complete: bool
    answers: tuple[AnswerRecord, ...]


def write_answers(answers: AnswerFile) -> bytes:
    """The whole file."""
    header = (
        HEADER,
        FORM,
        str(answers.file),
        str(answers.number),
        answers.mode.value,
        answers.merchant,
        answers.terminal,
        in_words(answers.made_at),
        "COMPLETE" if answers.complete else "PARTIAL",
    )
    lines = [",".join(header)]
    lines += [
        f"ANSWER,{item.kind.value},{item.rrn},{item.stan},{item.order_id},{item.amount},{item.currency},"
        f"{item.code},{item.approval}"
        for item in answers.answers
    ]
    return close(lines, [item.counted for item in answers.answers])


def read_answers(raw: bytes) -> AnswerFile:
    """The file in these bytes; ``BATCH-FILE-FORM``, ``BATCH-FILE-DAMAGED`` or ``BATCH-FILE-TOTALS``."""
    what = "the answer file"
    rows, trailer = rows_of(raw, what=what)
    head, *rest = rows
    if len(head) != 9 or head[:2] != [HEADER, FORM] or head[4] not in {*Mode} or head[8] not in _WHOLE:  # noqa: PLR2004
        raise refused("this is not an answer file of this form")
    answers = tuple(_answer(row, place) for place, row in enumerate(rest, 1))
    check_totals(trailer, [item.counted for item in answers], what=what)
    return AnswerFile(
        file=number(head[2], "the file number", limit=999_999),
        number=number(head[3], "the answer's number", limit=9_999),
        mode=Mode(head[4]),
        merchant=matching(PRINTABLE, head[5], "the merchant"),
        terminal=matching(PRINTABLE, head[6], "the terminal"),
        made_at=moment(head[7]),
        complete=_WHOLE[head[8]],
        answers=answers,
    )


def _answer(row: Sequence[str], place: int) -> AnswerRecord:
    if len(row) != 9 or row[0] != "ANSWER" or row[1] not in {*Kind}:  # noqa: PLR2004
        raise refused(f"answer {place} is not of its form")
    return AnswerRecord(
        kind=Kind(row[1]),
        rrn=matching(_RRN, row[2], "a retrieval reference"),
        stan=number(row[3], "a trace number", limit=999_999),
        order_id=matching(_ORDER, row[4], "an order reference"),
        amount=number(row[5], "an amount", limit=10**15 - 1),
        currency=matching(_CURRENCY, row[6], "a currency"),
        code=matching(_CODE, row[7], "a response code"),
        approval=matching(_APPROVAL, row[8], "an approval code"),
    )
