"""The whole loop by commands: a run hands orders over, export, the simulated acquirer's answer, import."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from offline_processor.acquirers.batch_file import answering
from offline_processor.acquirers.batch_file.answering import PUBLIC_KEY, SIGNING_PUBLIC
from offline_processor.acquirers.batch_file.driver import BatchFileAcquirer
from offline_processor.acquirers.protocol import Authorisation, Heard
from offline_processor.batch import run
from tests.offline_processor.commands import configure, processor
from tests.offline_processor.desk import Desk, desk
from tests.offline_processor.shop import DECLINED_CARD, Shop, a_card, id_of, open_shop
from tests.offline_processor.traces import Cards, files_under

ROOT = Path(__file__).parents[2]


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


def batch_file(*arguments: object) -> Said:
    ended = subprocess.run(
        [sys.executable, "-m", "offline_processor", "batch-file", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    return Said(ended.returncode, ended.stdout, ended.stderr)


class PowerCutError(Exception):
    pass


class CutAfter(BatchFileAcquirer):
    """The records are durable, and then the machine stops: the run never notes that it handed them over."""

    def authorise(self, asked: Iterator[Authorisation]) -> Heard:
        yield from list(super().authorise(asked))[:0]
        raise PowerCutError


def a_shop(folder: Path) -> tuple[Shop, bytes]:
    """Two orders in the drop, one of them with a card that will be declined; and the acquirer's public key."""
    answering.make_keys(folder / "acquirer")
    shop = open_shop(folder, now=int(time.time()) - 600)
    keys = shop.keys_for()
    envelopes = [shop.seal(0, keys=keys), shop.seal(1, keys=keys, card=a_card(DECLINED_CARD))]
    shop.bundle(envelopes, batch_key_id=keys.batch_key_id)
    return shop, answering.read_public_key(folder / "acquirer" / PUBLIC_KEY)


@pytest.fixture
def handed(tmp_path: Path) -> tuple[Shop, Path]:
    """Two orders that a run by the real command has handed over."""
    shop, _ = a_shop(tmp_path)
    config = configure(shop)
    with config.open("a") as file:
        file.write(
            f'driver = "batch-file"\nmerchant = "MERCHANT-1"\nterminal = "T1"\n'
            f'batch_key = "acquirer/{PUBLIC_KEY}"\nbatch_signer = "acquirer/{SIGNING_PUBLIC}"\n'
        )
    ran = processor("run", config, "--confirm", "2 orders: EUR 49.98", "--json")
    assert ran.code == 3, ran.err + ran.out  # they wait for their answers
    assert shop.rows("SELECT state, count(*) FROM live_attempt GROUP BY state") == [("submitted", 2)]
    return shop, config


def test_records_of_a_run_cut_before_it_noted_them_are_withdrawn_and_handed_over_afresh(
    tmp_path: Path,
) -> None:
    shop, key = a_shop(tmp_path)
    shop.drop_in.mkdir(exist_ok=True)
    shop.drop_out.mkdir(exist_ok=True)
    with shop.ledger() as ledger:
        acquirer = CutAfter(ledger, public_key=key, rehearsal=True, clock=lambda: shop.now)
        with pytest.raises(PowerCutError):
            run(shop.workplace(ledger, acquirer))
        shop.now += 60
        whole = BatchFileAcquirer(ledger, public_key=key, rehearsal=True, clock=lambda: shop.now)
        run(shop.workplace(ledger, whole))
    records = shop.rows("SELECT order_id, state FROM batch_record ORDER BY order_id, state")
    orders = [order for (order,) in shop.rows("SELECT order_id FROM orders ORDER BY order_id")]
    assert records == [(order, state) for order in orders for state in ("waiting", "withdrawn")]
    assert shop.rows("SELECT state, count(*) FROM live_attempt GROUP BY state") == [("submitted", 2)]
    shop.keystore.close()


def test_exported_file_is_answered_and_the_answer_taken_once(handed: tuple[Shop, Path]) -> None:
    shop, config = handed
    out = shop.root / "medium"
    out.mkdir()
    exported = batch_file("export", "--config", config, "--out", out, "--json")
    assert exported.code == 0, exported.err + exported.out
    (file,) = exported.document["files"]
    assert file["totals"] == "A-EUR-2-4998"
    first = Path(file["path"]).read_bytes()
    again = batch_file("export", "--config", config, "--out", out, "--json")
    assert again.document["files"][0]["was_there"]
    assert Path(file["path"]).read_bytes() == first
    answer = out / "A000001.answer"
    said = batch_file("answer", file["path"], "--keys", shop.root / "acquirer", "--out", answer)
    assert said.code == 0, said.err
    assert "SIMULATED" in said.out
    right = answer.read_bytes()
    answer.write_bytes(right.replace(b",00,", b",05,"))
    refused = batch_file("import", answer, "--config", config, "--json")
    assert (refused.code, refused.document["rule"]) == (4, "BATCH-FILE-DAMAGED")
    answer.write_bytes(right)
    taken = batch_file("import", answer, "--config", config, "--json")
    assert (taken.code, taken.document["taken"], taken.document["cases"]) == (0, 2, []), taken.err
    assert any("REHEARSAL" in mark for mark in taken.document["marks"])
    repeated = batch_file("import", answer, "--config", config, "--json")
    assert (repeated.code, repeated.document["rule"]) == (4, "BATCH-ANSWER-REPEATED")
    states = shop.rows("SELECT state, count(*) FROM orders GROUP BY state ORDER BY state")
    assert states == [("declined", 1), ("paid", 1)]
    status = batch_file("status", "--config", config, "--json")
    assert (status.code, status.document["files"][0]["waiting"]) == (0, 0)
    known = Cards(cvv_of={b"4242424242424242": b"123", DECLINED_CARD: b"123"})
    for path, content in files_under(shop.root).items():
        assert known.pans_in(content) == [], path


def test_order_that_is_approved_in_a_file_is_captured_in_the_next_and_can_be_given_back(
    tmp_path: Path,
) -> None:
    shop, _ = a_shop(tmp_path)
    config = configure(shop)
    driver = f'driver = "batch-file"\nmerchant = "M1"\nbatch_key = "acquirer/{PUBLIC_KEY}"'
    signer = f'batch_signer = "acquirer/{SIGNING_PUBLIC}"'
    text = config.read_text().replace('books = "books.db"', f"{driver}\n{signer}")
    config.write_text(f"{text}[charging]\nsecond_person_above = {{ EUR = 10000 }}\n")

    def exchange(at: Desk, number: int) -> None:
        out = tmp_path / f"out-{number}"
        out.mkdir()
        assert at.say("batch-file", "export", "--out", str(out)).code == 0
        (file,) = out.glob("*.batch")
        answer = file.with_suffix(".answer")
        assert batch_file("answer", file, "--keys", tmp_path / "acquirer", "--out", answer).code == 0
        assert at.say("batch-file", "import", str(answer)).code == 0

    with desk(config) as at:
        assert at.say("run", "--confirm", "2 orders: EUR 49.98").code == 3
        assert {case["rule"] for case in at.say("cases").document["cases"]} == {"CHARGE-SUBMITTED"}
        exchange(at, 1)
        assert shop.state(0)[0] == "paid"
        assert at.say("run").document["operations"]["open"] == 1
        exchange(at, 2)
        at.say("run")
        refund = ("--whole", "--reference", "R-1", "--who", "A", "--why", "scratched")
        assert at.say("refund", id_of(0), *refund).document["open"] == 1
        exchange(at, 3)
        closed = at.say("close-day", "--who", "A").document["batches"]
        assert [(one["captured"], one["refunded"], one["answer"]) for one in closed] == [
            (2499, 2499, "in balance")
        ]
        assert at.say("cases").document["cases"] == []
    assert shop.state(0)[0] == "refunded"
    assert shop.state(1)[0] == "declined"
