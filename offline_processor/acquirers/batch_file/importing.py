"""Taking an answer file: each answer to its record, once; what does not agree becomes a person's case.

Why here: the rules by which a bureau's gateway treats repeated files and records, in one place.
Must not: take a file in part, settle an answer that contradicts another, or change anything the second time.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from keys.public.minisign import MinisignPublicKey, signature_matches
from offline_processor.acquirers.batch_file import answers as form
from offline_processor.acquirers.batch_file.answers import AnswerFile, AnswerRecord
from offline_processor.acquirers.batch_file.files import Counterpart, comment_of
from offline_processor.acquirers.batch_file.form import Kind
from offline_processor.charging import Answer, Reference
from offline_processor.errors import ProcessorError
from offline_processor.ledger import batch_files
from offline_processor.ledger.batch_files import ANSWERED, WAITING, Kept
from offline_processor.ledger.ledger import Ledger

UNKNOWN: Final = "BATCH-ANSWER-UNKNOWN"
DIFFERS: Final = "BATCH-ANSWER-DIFFERS"
CONTRADICTS: Final = "BATCH-ANSWER-CONTRADICTS"
MISSING: Final = "BATCH-ANSWER-MISSING"


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenAnswer:
    """One answer for the charging: ``operation`` is "" for an authorisation, which ``sent`` names."""

    kind: Kind
    operation: str
    sent: Reference
    answer: Answer


Settle = Callable[[Sequence[TakenAnswer]], list[tuple[str, str]]]
"""Moves attempts on, as part of the import's own transaction; returns (rule, what) for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an answer file did. ``cases`` are (rule, what); ``repeated`` were answered before, in the same way."""

    file: int
    number: int
    taken: int
    repeated: list[str] = field(default_factory=list)
    cases: list[tuple[str, str]] = field(default_factory=list)
    waiting: int


def check_signature(raw: bytes, signature: str, key: MinisignPublicKey, found: AnswerFile) -> None:
    """``BATCH-ANSWER-SIGNATURE`` unless the acquirer signed just this file."""
    if not signature_matches(key, raw, signature, comment_of(form.COMMENT, found.file)):
        raise ProcessorError(
            "BATCH-ANSWER-SIGNATURE",
            "the answer file is not signed by the acquirer's key that is configured; nothing of it was taken",
            "take another copy with its .minisig; if it fails too, phone the acquirer",
        )


def take(
    ledger: Ledger, raw: bytes, found: AnswerFile, counterpart: Counterpart, settle: Settle, *, now: int
) -> Imported:
    """All of it in one transaction. ``BATCH-ANSWER-REPEATED``, ``-NUMBER`` or ``-OTHER``: nothing is changed."""
    digest = hashlib.sha256(raw).hexdigest()
    _check(ledger, found, digest, counterpart)
    taken: list[tuple[Kept, AnswerRecord]] = []
    repeated: list[str] = []
    cases: list[tuple[str, str]] = []
    for name, same in _by_record(found.answers).items():
        words = f"{name[0]} {name[1]} stan {name[2]}"
        kept = batch_files.named(ledger, *name)
        rule = _fault(kept, same, found.file)
        if kept is None or rule:
            cases.append((rule, f"{words} {_said(same)}"))
        elif kept.state == ANSWERED:
            repeated.append(words)
        else:
            taken.append((kept, same[0]))
            repeated += [words] * (len(same) - 1)
    with ledger.atomic():
        for kept, answer in taken:
            batch_files.take_answer(ledger, kept, code=answer.code, approval=answer.approval)
        cases += settle([_taken(kept, answer) for kept, answer in taken])
        left = batch_files.in_file(ledger, found.file, WAITING)
        if found.complete:
            cases += [(MISSING, f"{item.kind} {item.rrn} stan {item.stan}") for item in left]
        for rule, what in cases:
            batch_files.open_case(ledger, found.file, rule, what, now=now)
        batch_files.note_answer(ledger, found.file, found.number, digest, now=now)
        batch_files.let_go(ledger, found.file)
    return Imported(
        file=found.file,
        number=found.number,
        taken=len(taken),
        repeated=repeated,
        cases=cases,
        waiting=len(left),
    )


def _check(ledger: Ledger, found: AnswerFile, digest: str, counterpart: Counterpart) -> None:
    ours = (counterpart.mode, counterpart.merchant, counterpart.terminal)
    if (found.mode, found.merchant, found.terminal) != ours or found.file >= batch_files.open_file(ledger):
        raise ProcessorError(
            "BATCH-ANSWER-OTHER",
            f"this answers file {found.file} of {found.merchant}/{found.terminal} ({found.mode}),"
            " which is none of ours",
            "ask the acquirer for the answers to your files; a rehearsal takes only a simulator's",
        )
    before = batch_files.answer_digest(ledger, found.file, found.number)
    if before == digest:
        raise ProcessorError(
            "BATCH-ANSWER-REPEATED",
            f"answer {found.number} to file {found.file} was taken before, from the same bytes; nothing was changed",
            "nothing is to be done",
        )
    if before is not None:
        raise ProcessorError(
            "BATCH-ANSWER-NUMBER",
            f"answer {found.number} to file {found.file} was taken before and had another content;"
            " nothing was changed",
            "ask the acquirer which of the two counts",
        )


def _by_record(answers: Sequence[AnswerRecord]) -> dict[tuple[str, str, int], list[AnswerRecord]]:
    grouped: defaultdict[tuple[str, str, int], list[AnswerRecord]] = defaultdict(list)
    for answer in answers:
        grouped[answer.kind.value, answer.rrn, answer.stan].append(answer)
    return grouped


def _fault(kept: Kept | None, same: Sequence[AnswerRecord], file: int) -> str:
    """The rule that keeps these answers of one record from being taken, or ""."""
    first = same[0]
    if kept is None or kept.file != file or kept.state == batch_files.WITHDRAWN:
        return UNKNOWN
    if any(answer != first for answer in same):
        return CONTRADICTS
    if (kept.order_id, kept.amount, kept.currency) != (first.order_id, first.amount, first.currency):
        return DIFFERS
    if kept.state == ANSWERED and (kept.code, kept.approval) != (first.code, first.approval):
        return CONTRADICTS
    return ""


def _said(same: Sequence[AnswerRecord]) -> str:
    return " / ".join(
        f"{item.amount} {item.currency} code {item.code} {item.approval}".rstrip() for item in same
    )


def _taken(kept: Kept, answer: AnswerRecord) -> TakenAnswer:
    sent = Reference(
        number=kept.number,
        order_id=kept.order_id,
        attempt=kept.attempt,
        stan=kept.stan,
        rrn=kept.rrn,
        sent_at=kept.sent_at,
        amount=kept.amount,
        currency=kept.currency,
    )
    heard = Answer(
        stan=answer.stan,
        rrn=answer.rrn,
        amount=answer.amount,
        currency=answer.currency,
        code=answer.code,
        approval=answer.approval,
    )
    return TakenAnswer(kind=answer.kind, operation=kept.operation, sent=sent, answer=heard)
