"""Records for the acquirer's file: durable before they count, never twice, the same file always, answered once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from keys.private.unseal import open_box
from keys.public.minisign import signature_matches
from offline_processor.acquirers.batch_file import answering, importing
from offline_processor.acquirers.batch_file.answers import AnswerFile, read_answers, write_answers
from offline_processor.acquirers.batch_file.authorisations import RecordBuffer, read_file
from offline_processor.acquirers.batch_file.files import SIGNATURE_SUFFIX, export, finish
from offline_processor.acquirers.batch_file.form import Kind, Mode
from offline_processor.acquirers.batch_file.importing import Imported, TakenAnswer
from offline_processor.acquirers.drivers import Desk, open_acquirer
from offline_processor.acquirers.protocol import BatchAnswer, BatchTotals, Capture, HandedOver
from offline_processor.charging import Answer
from offline_processor.config import AcquirerConfig
from offline_processor.errors import ProcessorError
from offline_processor.file_answers import settle_answers
from offline_processor.ledger import batch_files
from offline_processor.ledger.ledger import Ledger
from tests.offline_processor.batch_play import (
    NOW,
    card_of,
    counterpart,
    driver,
    hand_over,
    pan_of,
    reference,
    reversal,
    signer,
)
from tests.offline_processor.test_batch_file_form import an_answer
from tests.offline_processor.traces import Cards, files_under
from transfer.wire.card import encode_card

HANDED = HandedOver.HANDED_OVER
ROOT = Path(__file__).parents[2]
KNOWN = Cards(cvv_of={pan_of(number): card_of(number).cvv for number in range(1, 400)})


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[answering.AcquirerKeys]:
    answering.make_keys(tmp_path / "acquirer")
    opened = answering.read_keys(tmp_path / "acquirer")
    yield opened
    opened.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path / "ledger.db", mirror=tmp_path / "mirror.db")) as opened:
        yield opened


def sent_out(ledger: Ledger, keys: answering.AcquirerKeys, out: Path) -> bytes:
    """Finish and export; the newest file's bytes."""
    out.mkdir(exist_ok=True)
    finish(ledger, counterpart(keys.sealing.public_key), signer(), now=NOW)
    return export(ledger, counterpart(keys.sealing.public_key), out)[-1].path.read_bytes()


def answered(raw: bytes, keys: answering.AcquirerKeys, number: int = 1) -> AnswerFile:
    return answering.answer_file(raw, keys, lambda request, card: "00", number=number, now=NOW + 60)


def take(
    ledger: Ledger, keys: answering.AcquirerKeys, file: AnswerFile, into: list[TakenAnswer] | None = None
) -> Imported:
    def settle(taken: Sequence[TakenAnswer]) -> list[tuple[str, str]]:
        if into is not None:
            into.extend(taken)
        return []

    raw = write_answers(file)
    return importing.take(
        ledger, raw, read_answers(raw), counterpart(keys.sealing.public_key), settle, now=NOW + 90
    )


def test_window_is_handed_over_and_the_file_says_it_all_but_the_security_code(
    ledger: Ledger, keys: answering.AcquirerKeys, tmp_path: Path
) -> None:
    with closing(driver(ledger, keys.sealing.public_key)) as acquirer:
        assert list(hand_over(acquirer, [1, 2])) == [HANDED, HANDED]
        assert list(hand_over(acquirer, [3])) == [HANDED]
    raw = sent_out(ledger, keys, tmp_path / "out")
    facts, records = read_file(raw)
    assert (facts.file, facts.mode, len(records)) == (1, Mode.REHEARSAL, 3)
    assert b"TRAILER,3,A-EUR-3-7497," in raw
    buffer = RecordBuffer()
    opened = [buffer.open(record.box, keys.sealing) for record in records]
    assert [card for _, card in opened] == ["453957*1486"] * 3
    assert [request.rrn for request, _ in opened] == [reference(number).rrn for number in (1, 2, 3)]
    signature = (tmp_path / "out" / f"A000001.batch{SIGNATURE_SUFFIX}").read_text()
    assert signature_matches(signer().minisign, raw, signature, "sealed-orders authorisation file 000001")


def test_record_has_number_and_expiry_of_the_card_in_its_place(
    keys: answering.AcquirerKeys, ledger: Ledger
) -> None:
    with closing(driver(ledger, keys.sealing.public_key)) as acquirer:
        hand_over(acquirer, [42])
    kept = batch_files.in_file(ledger, 1, batch_files.WAITING)[0]
    plain = open_box(kept.box or b"", keys.sealing.public_key, keys.sealing.private)
    assert plain[139:158] == pan_of(42).ljust(19)
    assert plain[158:162] == b"3107"
    assert plain[162:] == b" " * 30  # no place where a CVV could be


def test_export_is_the_same_bytes_again_and_mends_a_torn_one(
    ledger: Ledger, keys: answering.AcquirerKeys, tmp_path: Path
) -> None:
    with closing(driver(ledger, keys.sealing.public_key)) as acquirer:
        hand_over(acquirer, [1, 2])
        raw = sent_out(ledger, keys, tmp_path / "out")
        assert sent_out(ledger, keys, tmp_path / "again") == raw
        hand_over(acquirer, [3])
    torn = tmp_path / "out" / "A000001.batch"
    torn.write_bytes(raw[:100])
    second = sent_out(ledger, keys, tmp_path / "out")
    assert torn.read_bytes() == raw
    assert [record.counted.rrn for record in read_file(second)[1]] == [reference(3).rrn]
    torn.write_bytes(b"another file")
    with pytest.raises(ProcessorError) as refusal:
        sent_out(ledger, keys, tmp_path / "out")
    assert refusal.value.rule == "BATCH-FILE-EXISTS"


def test_file_that_would_be_another_is_not_exported(
    ledger: Ledger, keys: answering.AcquirerKeys, tmp_path: Path
) -> None:
    with closing(driver(ledger, keys.sealing.public_key)) as acquirer:
        hand_over(acquirer, [1])
    sent_out(ledger, keys, tmp_path / "out")
    with pytest.raises(ProcessorError) as refusal:
        export(ledger, replace(counterpart(keys.sealing.public_key), merchant="OTHER"), tmp_path / "out")
    assert refusal.value.rule == "BATCH-FILE-CHANGED"


def test_reversal_withdraws_from_the_open_file_and_becomes_a_record_after_it(
    ledger: Ledger, keys: answering.AcquirerKeys, tmp_path: Path
) -> None:
    with closing(driver(ledger, keys.sealing.public_key)) as acquirer:
        hand_over(acquirer, [1, 2, 3])
        for _ in range(2):  # repeated, as after a crash
            (answer,) = acquirer.reverse([reversal(2)])
            assert isinstance(answer, Answer)
            assert answer.code == "00"
        raw = sent_out(ledger, keys, tmp_path / "out")
        assert [record.counted.rrn for record in read_file(raw)[1]] == [reference(1).rrn, reference(3).rrn]
        assert acquirer.reverse([reversal(3), reversal(77)]) == [HANDED, HANDED]
        assert acquirer.reverse([reversal(3)]) == [HANDED]
        second = sent_out(ledger, keys, tmp_path / "out")
        assert [record.counted.kind for record in read_file(second)[1]] == [Kind.REVERSE, Kind.REVERSE]
        take(ledger, keys, answered(second, keys))
        (answer,) = acquirer.reverse([reversal(3)])
        assert isinstance(answer, Answer)
        assert answer.code == "00"


def test_same_authorisation_cannot_be_handed_over_twice(
    ledger: Ledger, keys: answering.AcquirerKeys, tmp_path: Path
) -> None:
    with closing(driver(ledger, keys.sealing.public_key)) as acquirer:
        hand_over(acquirer, [1])
        sent_out(ledger, keys, tmp_path / "out")
        with pytest.raises(Exception, match="UNIQUE constraint"):
            hand_over(acquirer, [2, 1])
    assert batch_files.in_file(ledger, 2, batch_files.WAITING) == []


def test_answers_are_taken_once_and_the_same_file_is_refused(
    ledger: Ledger, keys: answering.AcquirerKeys, tmp_path: Path
) -> None:
    with closing(driver(ledger, keys.sealing.public_key)) as acquirer:
        hand_over(acquirer, [1, 2])
    file = answered(sent_out(ledger, keys, tmp_path / "out"), keys)
    taken: list[TakenAnswer] = []
    done = take(ledger, keys, file, taken)
    assert (done.taken, done.waiting, done.cases) == (2, 0, [])
    assert [item.sent.rrn for item in taken] == [reference(1).rrn, reference(2).rrn]
    entries = ledger.entries
    for made_at, rule in ((file.made_at, "BATCH-ANSWER-REPEATED"), (NOW + 61, "BATCH-ANSWER-NUMBER")):
        with pytest.raises(ProcessorError) as refusal:
            take(ledger, keys, replace(file, made_at=made_at), taken)
        assert refusal.value.rule == rule
    assert (ledger.entries, len(taken)) == (entries, 2)
    assert all(item.box is None for item in batch_files.in_file(ledger, 1, batch_files.ANSWERED))
    again = take(ledger, keys, replace(file, number=2), taken)
    assert (again.taken, len(again.repeated), again.cases, len(taken)) == (0, 2, [], 2)


def test_what_does_not_agree_is_a_case_and_the_rest_is_taken(
    ledger: Ledger, keys: answering.AcquirerKeys, tmp_path: Path
) -> None:
    with closing(driver(ledger, keys.sealing.public_key)) as acquirer:
        hand_over(acquirer, range(1, 8))
    file = answered(sent_out(ledger, keys, tmp_path / "out"), keys)
    good = file.answers
    mixed = (
        good[0],
        replace(good[1], amount=1),
        replace(good[2], currency="KWD"),
        good[3],
        replace(good[3], code="05", approval=""),
        good[4],
        good[4],
        an_answer(999),
    )
    taken: list[TakenAnswer] = []
    done = take(ledger, keys, replace(file, answers=mixed, complete=False), taken)
    assert [item.sent.number for item in taken] == [1, 5]
    assert sorted(rule for rule, _ in done.cases) == [
        "BATCH-ANSWER-CONTRADICTS",
        "BATCH-ANSWER-DIFFERS",
        "BATCH-ANSWER-DIFFERS",
        "BATCH-ANSWER-UNKNOWN",
    ]
    assert len(done.repeated) == 1
    assert done.waiting == 5
    last = take(ledger, keys, replace(file, number=2, answers=(good[5], replace(good[0], code="05"))), taken)
    assert [item.sent.number for item in taken] == [1, 5, 6]
    rules = [rule for rule, _ in last.cases]
    assert rules == ["BATCH-ANSWER-CONTRADICTS", *["BATCH-ANSWER-MISSING"] * 4]
    cases = batch_files.open_cases(ledger)
    assert len(cases) == 9
    with ledger.atomic():
        assert batch_files.close_case(ledger, cases[0][0], who="Ada", why="phoned", now=NOW + 99)
        assert not batch_files.close_case(ledger, cases[0][0], who="Ada", why="phoned", now=NOW + 99)
    assert len(batch_files.open_cases(ledger)) == 8


@pytest.mark.parametrize(
    "changes", [{"mode": Mode.LIVE}, {"merchant": "OTHER"}, {"terminal": "T2"}, {"file": 2}]
)
def test_answers_of_another_are_refused(
    ledger: Ledger, keys: answering.AcquirerKeys, tmp_path: Path, changes: dict[str, object]
) -> None:
    with closing(driver(ledger, keys.sealing.public_key)) as acquirer:
        hand_over(acquirer, [1])
    file = answered(sent_out(ledger, keys, tmp_path / "out"), keys)
    with pytest.raises(ProcessorError) as refusal:
        take(ledger, keys, replace(file, **changes))  # type: ignore[arg-type]
    assert refusal.value.rule == "BATCH-ANSWER-OTHER"


def test_signature_of_another_key_or_file_is_refused(
    ledger: Ledger, keys: answering.AcquirerKeys, tmp_path: Path
) -> None:
    with closing(driver(ledger, keys.sealing.public_key)) as acquirer:
        hand_over(acquirer, [1])
    file = answered(sent_out(ledger, keys, tmp_path / "out"), keys)
    out = tmp_path / "A000001.answer"
    answering.write_signed(out, file, keys)
    raw, signature = out.read_bytes(), (tmp_path / "A000001.answer.minisig").read_text()
    importing.check_signature(raw, signature, keys.signing.minisign, file)
    for key, content in ((signer().minisign, raw), (keys.signing.minisign, raw + b" ")):
        with pytest.raises(ProcessorError) as refusal:
            importing.check_signature(content, signature, key, file)
        assert refusal.value.rule == "BATCH-ANSWER-SIGNATURE"


def test_capture_is_repeated_until_its_answer_came_and_then_closes_in_balance(
    ledger: Ledger, keys: answering.AcquirerKeys, tmp_path: Path
) -> None:
    sent = reference(9, stan=900)
    capture = Capture(
        operation="9" * 32,
        reference=sent,
        original=reference(9),
        approval="A1",
        repeat=False,
        card=None,
        final=True,
    )
    totals = BatchTotals(
        currency="EUR", captures=1, captured=2499, refunds=0, refunded=0, stan=901, sent_at=NOW
    )
    with closing(driver(ledger, keys.sealing.public_key)) as acquirer:
        assert acquirer.capture([capture]) == [HANDED]
        assert acquirer.capture([replace(capture, repeat=True)]) == [HANDED]
        assert acquirer.close_batch(totals) is BatchAnswer.OUT_OF_BALANCE
        raw = sent_out(ledger, keys, tmp_path / "out")
        assert len(read_file(raw)[1]) == 1
        take(ledger, keys, answered(raw, keys))
        (answer,) = acquirer.capture([replace(capture, repeat=True)])
        assert isinstance(answer, Answer)
        assert (answer.code, answer.stan) == ("00", 900)
        assert acquirer.close_batch(totals) is BatchAnswer.IN_BALANCE
        assert acquirer.close_batch(totals) is BatchAnswer.OUT_OF_BALANCE


def test_killed_at_any_point_no_record_is_lost_or_sent_twice(
    tmp_path: Path, keys: answering.AcquirerKeys
) -> None:
    chance = random.Random(5)
    path, out = tmp_path / "ledger.db", tmp_path / "out"
    out.mkdir()
    said: set[int] = set()
    for _ in range(4):
        command = [sys.executable, "-m", "tests.offline_processor.batch_play", str(path)]
        process = subprocess.Popen(
            [*command, keys.sealing.public_key.hex()], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        said.add(int(process.stdout.readline()))
        time.sleep(chance.random() * 0.1)
        os.kill(process.pid, signal.SIGKILL)
        said |= {int(line) for line in process.stdout.read().split()}
        process.wait()
        process.stdout.close()
        ended = subprocess.Popen([*command, keys.sealing.public_key.hex(), str(out)], cwd=ROOT)
        time.sleep(0.2 + chance.random() * 0.15)
        ended.kill()  # while it finishes and exports
        ended.wait()
    with closing(Ledger(path)) as ledger:
        sent_out(ledger, keys, out)
        handed = [row[0] for row in ledger.rows("SELECT number FROM batch_record ORDER BY number")]
    found = []
    for file in sorted(out.glob("*.batch")):
        found += [int(record.counted.rrn[2:]) for record in read_file(file.read_bytes())[1]]
    assert sorted(found) == handed
    assert len(found) == len(set(found))
    assert {number for end in said for number in range(end - 9, end + 1)} <= set(found)


def test_no_file_holds_a_card(ledger: Ledger, keys: answering.AcquirerKeys, tmp_path: Path) -> None:
    with closing(driver(ledger, keys.sealing.public_key)) as acquirer:
        hand_over(acquirer, range(1, 51))
    file = answered(sent_out(ledger, keys, tmp_path / "out"), keys)
    answering.write_signed(tmp_path / "answer", file, keys)
    take(ledger, keys, file)
    contents = files_under(tmp_path)
    assert {"ledger.db", "mirror.db", "A000001.batch", "answer"} <= {path.name for path in contents}
    for path, content in contents.items():
        assert KNOWN.pans_in(content) == [], path
    planted = tmp_path / "planted"
    planted.write_bytes(b"x" + pan_of(7) + b"3107")
    assert KNOWN.pans_in(planted.read_bytes()) == [pan_of(7)]


@pytest.mark.parametrize("mode", ["plain", "leak"])
def test_memory_holds_no_card_after_handing_over(
    tmp_path: Path, keys: answering.AcquirerKeys, mode: str
) -> None:
    numbers = range(1, 101)
    cards = tmp_path / "cards"
    cards.write_bytes(
        b"".join(
            encode_card(
                card_of(number),
                header_digest=bytes(32),
                order_box_digest=bytes(32),
                amount=2499,
                currency="EUR",
            )
            for number in numbers
        )
    )
    dumped = tmp_path / "memory"
    child = (sys.executable, "-m", "tests.offline_processor.batch_memory_child", mode)
    arguments = (tmp_path / "ledger.db", keys.sealing.public_key.hex(), cards, dumped)
    subprocess.run([*child, *map(str, arguments)], cwd=ROOT, check=True, timeout=60)
    memory = dumped.read_bytes()
    assert str(tmp_path).encode() in memory
    leaked = {pan_of(1)} if mode == "leak" else set()
    assert set(KNOWN.pans_in(memory)) == leaked
    assert bool(KNOWN.cvvs_in(memory)) == bool(leaked)


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "key"
    wrong.write_text("ab" * 31)
    for read in (answering.read_public_key, answering.read_signing_key):
        for path in (wrong, tmp_path / "missing"):
            with pytest.raises(ProcessorError) as refusal:
                read(path)
            assert refusal.value.rule == "BATCH-FILE-KEY"


def test_files_need_a_key_and_a_directory(ledger: Ledger, tmp_path: Path) -> None:
    config = AcquirerConfig(driver="batch-file", books=tmp_path / "books", merchant="M")
    desk = Desk(ledger=ledger, rehearsal=True, clock=lambda: NOW)
    with pytest.raises(ProcessorError) as refusal:
        open_acquirer(config, desk)
    assert refusal.value.rule == "CONFIG-BATCH-FILE"
    with pytest.raises(ProcessorError) as refusal:
        export(ledger, counterpart(bytes(32)), tmp_path / "missing")
    assert refusal.value.rule == "USAGE-BATCH-FILE"


def test_answer_to_an_attempt_that_waits_no_more_is_recorded_and_put_before_a_person(ledger: Ledger) -> None:
    sent = reference(1)
    heard = Answer(stan=sent.stan, rrn=sent.rrn, amount=sent.amount, currency=sent.currency, code="00")
    with ledger.atomic():
        cases = settle_answers(
            ledger, [TakenAnswer(kind=Kind.AUTHORISE, operation="", sent=sent, answer=heard)], now=NOW
        )
    assert [rule for rule, _ in cases] == ["BATCH-ANSWER-LATE"]
    assert list(ledger.rows("SELECT kind, subject FROM entry WHERE kind = 'late-answer'")) == [
        ("late-answer", sent.order_id)
    ]
