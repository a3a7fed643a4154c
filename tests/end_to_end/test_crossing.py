"""Both sides with real processes when things do not go one after another, or not as they should.

Why here: workers that write while a bundle is cut, restarts and a damaged medium show only in the whole.
Must not: reach into a state directory to bring a situation about; a medium may be tampered with, it is nobody's.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from intake.catalogue import SHIPPED, load_catalogue
from intake.errors import IntakeError
from intake.money import control_total
from intake.sample import SampleOrder, SampleReceipt, post_orders, sample_orders
from keys.console import ExitCode
from keys.private.sign import generate_signing_key, sign_file
from offline_processor.acquirers.simulator.books import unreversed_approvals
from tests.end_to_end import orders, story
from tests.end_to_end.commands import environment
from tests.end_to_end.conftest import System
from tests.end_to_end.orders import SETTLED
from tests.end_to_end.places import NODE
from transfer.wire.envelope import decode_envelope, iter_frames
from transfer.wire.header import decode_header
from transfer.wire.manifest import BUNDLE_COMMENT, ENVELOPES_NAME, MANIFEST_NAME, SIGNATURE_NAME

_POSTERS = 4
_ORDERS_AT_ONCE = 10
_CUTS = 3


def _push(system: System) -> int:
    return system.shell.run(
        "spool-sync",
        "push",
        "--config",
        system.places.node_toml,
        expect=(ExitCode.DONE, ExitCode.NOTHING_TO_DO),
    ).code


def _charge(system: System, *words: str, expect: tuple[int, ...]) -> dict[str, Any]:
    run = ("offline-processor", "run", "--config", system.places.offline_toml, "--json")
    return system.shell.offline(*run, *words, expect=expect).document


def _pull(system: System) -> int:
    return system.shell.run(
        "spool-sync",
        "pull",
        "--config",
        system.places.node_toml,
        expect=(ExitCode.DONE, ExitCode.NOTHING_TO_DO),
    ).code


def _on_medium(drop: Path) -> list[str]:
    """The order ids in all bundles on the medium."""
    found = []
    for bundle in sorted((drop / NODE).iterdir()):
        with (bundle / ENVELOPES_NAME).open("rb") as file:
            found += [decode_header(decode_envelope(raw).header).order_id.hex() for raw in iter_frames(file)]
    return found


def test_orders_of_several_workers_arrive_once_each_though_bundles_are_cut_meanwhile(system: System) -> None:
    catalogue, year = load_catalogue(SHIPPED), datetime.now(UTC).year
    begun, enough = threading.Event(), threading.Event()

    def post(seed: int) -> list[SampleReceipt]:
        receipts = []
        while not enough.is_set():
            made = sample_orders(catalogue, count=_ORDERS_AT_ONCE, seed=seed, year=year)
            receipts += post_orders(system.url, made, progress=lambda _: begun.set())
        return receipts

    with (
        story.open_shop(system.shell, system.places, system.url),
        ThreadPoolExecutor(_POSTERS) as threads,
    ):
        posters = [threads.submit(post, seed) for seed in range(_POSTERS)]
        try:
            assert begun.wait(timeout=30)
            for _ in range(_CUTS):
                assert _push(system) == ExitCode.DONE
        finally:
            enough.set()
        receipts = [receipt for poster in posters for receipt in poster.result()]
        _push(system)
    sent = Counter(receipt.order_id for receipt in receipts)
    assert len(sent) == len(receipts) > _POSTERS * _ORDERS_AT_ONCE
    assert Counter(_on_medium(system.places.drop_in)) == sent

    total = control_total((receipt.amount, receipt.currency) for receipt in receipts)
    report = _charge(system, "--confirm", total, expect=(ExitCode.DONE, ExitCode.NEEDS_PERSON))
    assert report["refused"] == []
    assert report["known_already"] == 0
    assert sum(report["orders"].values()) == len(sent)
    with closing(sqlite3.connect(system.places.books)) as books:
        seen = books.execute("SELECT reference FROM booking WHERE kind = 'authorisation'").fetchall()
    assert Counter(reference for (reference,) in seen) == sent


def test_what_was_acknowledged_before_intake_was_killed_arrives_and_a_retry_adds_nothing(
    system: System,
) -> None:
    made = list(sample_orders(load_catalogue(SHIPPED), count=400, seed=7, year=datetime.now(UTC).year))
    acknowledged: list[SampleReceipt] = []

    def post(part: Sequence[SampleOrder]) -> None:
        with suppress(IntakeError):  # it is killed under our hands
            post_orders(system.url, iter(part), progress=acknowledged.append)

    with (
        story.open_shop(system.shell, system.places, system.url) as shop,
        ThreadPoolExecutor(_POSTERS) as threads,
    ):
        posters = [threads.submit(post, made[number::_POSTERS]) for number in range(_POSTERS)]
        while len(acknowledged) < 100:
            assert not all(poster.done() for poster in posters)
            time.sleep(0.001)
        os.killpg(shop.service.process.pid, signal.SIGKILL)
    before = {receipt.order_id for receipt in acknowledged}
    assert 100 <= len(before) < 400
    with story.open_shop(system.shell, system.places, system.url):
        # The shop did not hear of some: it sends all again, with the same Idempotency-Keys.
        again = post_orders(system.url, iter(made), progress=lambda _: None)
        _push(system)
    sent = Counter(receipt.order_id for receipt in again)
    assert before < set(sent)
    assert Counter(_on_medium(system.places.drop_in)) == sent


def test_intake_that_is_stopped_while_it_starts_ends_at_once(system: System) -> None:
    log = system.places.logs / "stopped.log"
    for tenths in range(3, 13):
        serve = ("intake", "serve", "--config", system.places.node_toml)
        with system.shell.background(*serve, log=log) as service:
            time.sleep(tenths / 10)
            began = time.monotonic()
        assert time.monotonic() - began < 8, log.read_text()
        assert not service.alive()
    assert "Killing" not in log.read_text()


def _flip(file: Path, offset: int) -> None:
    raw = bytearray(file.read_bytes())
    raw[offset] ^= 0x01
    file.write_bytes(raw)


def _drop_first_order(file: Path, offset: int) -> None:
    del offset
    raw = file.read_bytes()
    file.write_bytes(raw[4 + int.from_bytes(raw[:4], "big") :])


def _exchange(file: Path, offset: int) -> None:
    """The medium's holder signs the manifest anew, with a key of his own."""
    del offset
    key = generate_signing_key()
    try:
        text = sign_file(key, file.with_name(MANIFEST_NAME).read_bytes(), BUNDLE_COMMENT)
    finally:
        key.close()
    file.write_text(text)


@pytest.mark.parametrize(
    ("file", "tamper", "offset", "rule"),
    [
        (ENVELOPES_NAME, _flip, 4 + 92 + 4 + 100, "BUNDLE-DAMAGED"),
        (ENVELOPES_NAME, _drop_first_order, 0, "BUNDLE-DAMAGED"),
        (MANIFEST_NAME, _flip, 40, "BUNDLE-SIGNATURE"),
        (SIGNATURE_NAME, _exchange, 0, "BUNDLE-SIGNATURE"),
    ],
)
def test_a_bundle_tampered_with_is_refused_and_an_untouched_one_is_then_accepted(
    system: System, file: str, tamper: Callable[[Path, int], None], offset: int, rule: str
) -> None:
    shell, places = system.shell, system.places
    with story.open_shop(shell, places, system.url):
        total = story.take_orders(shell, places, system.url, count=5)
        _push(system)
        bundle = places.drop_in / NODE / "b00000001"
        tamper(bundle / file, offset)

        refused = _charge(system, "--confirm", total, expect=(ExitCode.REFUSED,))
        assert [error["rule"] for error in refused["refused"]] == [rule]
        assert refused["received"] == []
        assert refused["orders"] == {}
        assert unreversed_approvals(places.books) == {}
        # The refusal is reported back, for a person to see; the sender keeps its bytes.
        pulled = shell.run(
            *("spool-sync", "pull", "--config", str(places.node_toml), "--json"),
            expect=(ExitCode.NEEDS_PERSON,),
        ).document
        assert [rule in finding for finding in pulled["findings"]] == [True]
        assert pulled["receipts"] == []

        assert _push(system) == ExitCode.DONE
        accepted = _charge(system, "--confirm", total, expect=(ExitCode.DONE,))
        assert (accepted["refused"], sum(accepted["orders"].values())) == ([], 5)
        _pull(system)
        answers = orders.statuses(system.url, orders.read_receipts(places.receipts))
    assert {answer.state for answer in answers.values()} <= SETTLED
    assert len(unreversed_approvals(places.books)) == 5


def test_everything_may_be_restarted_and_repeated_between_all_steps(system: System) -> None:
    shell, places, url = system.shell, system.places, system.url
    again = (ExitCode.DONE, ExitCode.NOTHING_TO_DO)
    receipts, totals = [], []
    for _ in range(2):  # intake is stopped between two batches of orders: both go into one bundle
        with story.open_shop(shell, places, url):
            totals.append(story.take_orders(shell, places, url, count=6))
        receipts += orders.read_receipts(places.receipts)
    with story.open_shop(shell, places, url):
        assert {status.state for status in orders.statuses(url, receipts).values()} == {"received"}
    assert _push(system) == ExitCode.DONE
    assert _push(system) == ExitCode.NOTHING_TO_DO
    with story.open_shop(shell, places, url):
        assert {status.state for status in orders.statuses(url, receipts).values()} == {"in-transit"}

    total = control_total((receipt.amount, receipt.currency) for receipt in receipts)
    refused = _charge(system, "--confirm", totals[0], expect=(ExitCode.REFUSED,))
    assert refused["rule"] == "CONTROL-TOTAL"
    assert unreversed_approvals(places.books) == {}
    report = _charge(system, "--confirm", total, expect=again)
    assert sum(report["orders"].values()) == 12
    repeated = _charge(system, expect=again)
    assert sum(repeated["orders"].values()) == 0

    assert _pull(system) == ExitCode.DONE
    assert _pull(system) == ExitCode.NOTHING_TO_DO
    with story.open_shop(shell, places, url):
        answers = orders.statuses(url, receipts)
        assert {answer.state for answer in answers.values()} <= SETTLED
        for _ in range(2):  # round and round: nothing more happens to them
            _push(system)
            _charge(system, expect=again)
            _pull(system)
        assert orders.statuses(url, receipts) == answers
    paid = {order for order, answer in answers.items() if answer.state == "paid"}
    assert unreversed_approvals(places.books) == dict.fromkeys(paid, 1)


def test_an_offline_run_that_is_killed_is_finished_by_the_next_one(system: System) -> None:
    shell, places, url = system.shell, system.places, system.url
    with story.open_shop(shell, places, url):
        total = story.take_orders(shell, places, url, count=40)
        _push(system)
        for delay in (0.5, 0.8, 1.1, 1.4):
            _run_and_kill(system, total, after=delay)
        for _ in range(3):
            _charge(
                system,
                "--confirm",
                total,
                expect=(ExitCode.DONE, ExitCode.NEEDS_PERSON, ExitCode.NOTHING_TO_DO),
            )
        _pull(system)
        answers = orders.statuses(url, orders.read_receipts(places.receipts))
    assert {answer.state for answer in answers.values()} <= SETTLED
    paid = {order for order, answer in answers.items() if answer.state == "paid"}
    assert unreversed_approvals(places.books) == dict.fromkeys(paid, 1)
    verified = shell.offline("offline-processor", "verify-ledger", "--config", places.offline_toml, "--json")
    assert verified.document["chain"] == "intact"


def _run_and_kill(system: System, total: str, *, after: float) -> None:
    """The plug is pulled ``after`` seconds into a run, if it still runs then."""
    command = ["offline-processor", "run", "--config", str(system.places.offline_toml), "--confirm", total]
    process = subprocess.Popen(
        [*system.shell.prefix, *command],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=after)
    process.kill()
    process.wait()


def test_what_was_sent_and_what_was_given_back_reach_the_status_page(system: System) -> None:
    with story.open_shop(system.shell, system.places, system.url):
        made = sample_orders(load_catalogue(SHIPPED), count=2, seed=11, year=datetime.now(UTC).year)
        receipts = list(post_orders(system.url, made, progress=lambda _: None))
        _push(system)
        total = control_total((receipt.amount, receipt.currency) for receipt in receipts)
        _charge(system, "--confirm", total, expect=(ExitCode.DONE,))
        sent, given_back = (receipt.order_id for receipt in receipts)
        with system.places.offline_toml.open("a") as settings:
            limits = ", ".join(f"{currency} = 1000000" for currency in {one.currency for one in receipts})
            settings.write(f"[charging]\nsecond_person_above = {{ {limits} }}\n")
        at = ("--config", system.places.offline_toml)
        system.shell.offline("offline-processor", "dispatch", sent, *at)
        why = ("--whole", "--reference", "R-1", "--who", "Ada", "--why", "scratched")
        system.shell.offline("offline-processor", "refund", given_back, *why, *at)
        _charge(system, expect=(ExitCode.DONE,))
        _pull(system)
        kept = [
            orders.Receipt(
                order_id=one.order_id, token=one.access_token, amount=one.amount, currency=one.currency
            )
            for one in receipts
        ]
        shown = {order: status.state for order, status in orders.statuses(system.url, kept).items()}
        assert shown == {sent: "dispatched", given_back: "refunded"}
