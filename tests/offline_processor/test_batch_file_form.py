"""Authorisation and answer files are read whole or refused by a rule, whatever bytes come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keys.private.locked import LockedBuffer
from keys.private.unseal import SealingKey, generate_sealing_key, public_key_of, sealing_key
from keys.public.minisign import MinisignPublicKey, signature_matches
from offline_processor.acquirers.batch_file.answers import (
    AnswerFile,
    AnswerRecord,
    read_answers,
    write_answers,
)
from offline_processor.acquirers.batch_file.authorisations import (
    BoxedRecord,
    FileFacts,
    RecordBuffer,
    Request,
    read_file,
    write_file,
)
from offline_processor.acquirers.batch_file.form import Kind, Mode, close
from offline_processor.errors import ProcessorError
from tests.offline_processor.batch_play import NOW, reference

RULES = {"BATCH-FILE-FORM", "BATCH-FILE-DAMAGED", "BATCH-FILE-TOTALS"}
VECTORS = Path(__file__).with_name("batch_file_vectors.json")
ANSWERS = st.builds(
    AnswerRecord,
    kind=st.sampled_from(Kind),
    rrn=st.from_regex(r"[0-9]{12}", fullmatch=True),
    stan=st.integers(1, 999_999),
    order_id=st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
    amount=st.integers(0, 10**15 - 1),
    currency=st.sampled_from(["EUR", "JPY", "KWD"]),
    code=st.sampled_from(["00", "05", "N7"]),
    approval=st.sampled_from(["", "A1B2C3"]),
)
FILES = st.builds(
    AnswerFile,
    file=st.integers(1, 999_999),
    number=st.integers(1, 9_999),
    mode=st.sampled_from(Mode),
    merchant=st.just("MERCHANT-1"),
    terminal=st.just("T1"),
    made_at=st.integers(0, 4_000_000_000),
    complete=st.booleans(),
    answers=st.lists(ANSWERS, max_size=6).map(tuple),
)


def an_answer(number: int, **changes: Any) -> AnswerRecord:
    sent = reference(number)
    facts: dict[str, Any] = {
        "kind": Kind.AUTHORISE,
        "rrn": sent.rrn,
        "stan": sent.stan,
        "order_id": sent.order_id,
        "amount": sent.amount,
        "currency": sent.currency,
        "code": "00",
        "approval": "A1B2C3",
    }
    return AnswerRecord(**(facts | changes))


def a_file(*answers: AnswerRecord, **changes: Any) -> AnswerFile:
    facts: dict[str, Any] = {
        "file": 1,
        "number": 1,
        "mode": Mode.REHEARSAL,
        "merchant": "MERCHANT-1",
        "terminal": "T0000001",
        "made_at": NOW,
        "complete": True,
        "answers": answers,
    }
    return AnswerFile(**(facts | changes))


@pytest.fixture(scope="module")
def key() -> SealingKey:
    return generate_sealing_key()


def an_authorisation_file(key: SealingKey, count: int = 4) -> bytes:
    facts = FileFacts(
        file=7, mode=Mode.REHEARSAL, merchant="MERCHANT-1", terminal="T1", made_at=NOW, key=key.public_key
    )
    buffer = RecordBuffer()
    requests = [Request.of(Kind.AUTHORISE, 7, reference(number)) for number in range(1, count + 1)]
    boxed = [
        BoxedRecord(counted=item.counted, box=buffer.box(item, None, key.public_key)) for item in requests
    ]
    return write_file(facts, boxed)


@given(FILES)
def test_answer_file_is_read_as_it_was_written(file: AnswerFile) -> None:
    assert read_answers(write_answers(file)) == file


@given(
    st.one_of(
        st.binary(max_size=400), st.text(alphabet="ANSWER,0123456789TRAILER\n", max_size=400).map(str.encode)
    )
)
def test_any_bytes_are_refused_by_a_rule(raw: bytes) -> None:
    for read in (read_answers, read_file):
        with pytest.raises(ProcessorError) as refusal:
            read(raw)
        assert refusal.value.rule in RULES


@given(FILES, st.data())
@settings(max_examples=60)
def test_every_change_and_every_cut_of_an_answer_file_is_found(file: AnswerFile, data: st.DataObject) -> None:
    raw = write_answers(file)
    place = data.draw(st.integers(0, len(raw) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda value: value != raw[place]))
    for altered in (raw[:place], raw[:place] + bytes([other]) + raw[place + 1 :], raw + raw[place:]):
        with pytest.raises(ProcessorError) as refusal:
            read_answers(altered)
        assert refusal.value.rule in RULES


def test_cut_at_the_edge_of_every_line_is_found(key: SealingKey) -> None:
    for raw, read in (
        (an_authorisation_file(key), read_file),
        (write_answers(a_file(an_answer(1))), read_answers),
    ):
        lines = raw.splitlines(keepends=True)
        for end in range(len(lines)):
            with pytest.raises(ProcessorError):
                read(b"".join(lines[:end]))


def test_swapped_missing_and_repeated_records_are_found_even_with_a_new_digest(key: SealingKey) -> None:
    head, *records, _ = an_authorisation_file(key).decode().splitlines()
    facts, boxed = read_file(an_authorisation_file(key))
    assert [record.counted.rrn[-1] for record in boxed] == ["1", "2", "3", "4"]
    counted = [record.counted for record in boxed]
    for order in ([1, 0, 2, 3], [0, 1, 3], [0, 1, 1, 2, 3]):
        forged = close([head, *(records[place] for place in order)], [counted[place] for place in order])
        with pytest.raises(ProcessorError, match="missing, repeated, out of its order"):
            read_file(forged)
    with pytest.raises(ProcessorError) as refusal:
        read_file(close([head, *records], counted[:3]))
    assert refusal.value.rule == "BATCH-FILE-TOTALS"
    assert facts.file == 7


def test_golden_files_are_read_as_written_down() -> None:
    golden = json.loads(VECTORS.read_text("ascii"))
    private = LockedBuffer(32).copy_from(bytes.fromhex(golden["acquirer_private_key"]))
    opened = sealing_key(public_key_of(private), private)
    raw = golden["authorisation_file"].encode("ascii")
    facts, records = read_file(raw)
    assert facts.key == opened.public_key
    buffer = RecordBuffer()
    found = [buffer.open(record.box, opened) for record in records]
    said = [
        {
            "kind": request.kind,
            "file": request.file,
            "order": request.order_id,
            "operation": request.operation,
            "stan": request.stan,
            "rrn": request.rrn,
            "amount": request.amount,
            "currency": request.currency,
            "approval": request.approval,
            "final": request.final,
            "keep": request.keep,
            "card": card,
        }
        for request, card in found
    ]
    assert said == golden["records"]
    assert write_file(facts, records) == raw
    identity = MinisignPublicKey(public_key=bytes.fromhex(golden["identity_public_key"]))
    comment = golden["trusted_comment"]
    assert signature_matches(identity, raw, golden["signature"], comment)
    answers = golden["answer_file"].encode("ascii")
    assert write_answers(read_answers(answers)) == answers
    for name, case in golden["refused"].items():
        with pytest.raises(ProcessorError) as refusal:
            read_answers(case["file"].encode("ascii"))
        assert refusal.value.rule == case["rule"], name
