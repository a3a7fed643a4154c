"""A whole day at the workstation, played at a real terminal against an acquirer that keeps its own books.

Killed while it charges, stopped while it charges, given wrong media and a full one; with a decline, an order without an
answer and one that waits for a person. What the terminal showed is printed, so that a report of this test shows it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from offline_processor.acquirers.simulator.books import unreversed_approvals
from offline_processor.batch import run
from offline_processor.control_total import ControlTotal
from offline_processor.stopping import StopSwitch
from offline_processor.workplace import RunReport
from tests.keys.terminal import Terminal
from tests.offline_processor.commands import ROOT, configure, processor
from tests.offline_processor.line import Line, simulator
from tests.offline_processor.shop import (
    DECLINED_CARD,
    Shop,
    a_card,
    an_order,
    id_of,
    next_bundle,
    open_shop,
)
from tests.offline_processor.simulated import SimulatedAcquirer
from transfer.sync.medium import Direction, Marker, format_medium
from transfer.wire.order import Total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ORDERS = 120
DECLINED, UNANSWERED, ODD = 3, 50, 7
NO_ANSWER = 19_968
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Port:
    """Where media are put in: a mount point of the workstation."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def put_in(self, medium: Path) -> None:
        self.pull()
        subprocess.run(["mount", "--bind", medium, self.place], check=True)

    def pull(self) -> None:
        while self.place.is_mount():
            subprocess.run(["umount", "--lazy", self.place], check=True)


class Desk:
    """A shop, its workstation, two ports and some media; everything that was shown at its terminals."""

    def __init__(self, root: Path, shop: Shop, config: Path, line: Line) -> None:
        self.root, self.shop, self.config, self.line = root, shop, config, line
        self.port_in, self.port_out = Port(shop.drop_in), Port(shop.drop_out)
        self.transcript: list[str] = []

    def medium(self, label: str, direction: Direction, *, size: str = "8m", shop: str = "records") -> Path:
        place = self.root / "shelf" / label
        place.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], check=True)
        marker = Marker(label=label, shop=shop, node="shop-a", direction=direction, prepared_at=1)
        format_medium(place, marker, own_disk=self.root)
        return place

    def day(self) -> Terminal:
        return Terminal("day", "--config", self.config, module="offline_processor")

    def keep(self, when: str, terminal: Terminal) -> str:
        shown = _CODES.sub("", terminal.shown.decode("utf-8", "replace"))
        self.transcript.append(f"===== {when} =====\n{shown}")
        return shown

    def booked(self, reservations: int) -> None:
        booked(self.line, reservations)

    def close(self) -> None:
        self.port_in.pull()
        self.port_out.pull()
        for place in (self.root / "shelf").iterdir():
            Port(place).pull()


def booked(line: Line, reservations: int) -> None:
    """Wait until the acquirer has booked so many authorisations."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with closing(sqlite3.connect(f"file:{line.books}?mode=ro", uri=True)) as books:
            (found,) = books.execute("SELECT count(*) FROM booking WHERE kind = 'authorisation'").fetchone()
        if found >= reservations:
            return
        time.sleep(0.01)
    raise AssertionError(f"the acquirer never booked {reservations} authorisations")


def amount_of(number: int) -> int:
    return NO_ANSWER if number == UNANSWERED else 1000 + number


@contextmanager
def over_a_line(config: Path, *, media: bool) -> Iterator[Line]:
    """A slow acquirer with its own books at the other end of a line, and this configuration for it."""
    profile = config.with_name("acquirer.toml")
    shipped = (files("offline_processor.acquirers.iso8583") / "profiles" / "ascii-1987.toml").read_text()
    profile.write_text(shipped.replace("answer = 30", "answer = 2"))
    books = config.with_name("acquirer.db")
    with simulator(books, "--profile", str(profile), "--latency", "60") as line:
        settings = config.read_text().partition("[acquirer]")[0]
        config.write_text(
            settings + ('media_of = "records"\n' if media else "") + '[operator]\nname = "A. Keeper"\n'
            f'[acquirer]\ndriver = "iso8583"\nprofile = "{profile}"\n'
            f'address = "{line.address}"\nmerchant = "RECORDSTORE0001"\nterminal = "SHOP0001"\nin_flight = 4\n'
        )
        yield line


@pytest.fixture
def desk(tmp_path: Path, tool: Callable[[str], Path]) -> Iterator[Desk]:
    tool("mounts")
    shop = open_shop(tmp_path, now=int(time.time()) - 60, batch_keys=30)
    keys = shop.keys_for()
    envelopes = []
    for number in range(ORDERS):
        order = an_order(number, amount=amount_of(number))
        if number == ODD:  # the total is not the sum of its items
            order = replace(order, total=Total(amount=1, currency="EUR"))
        card = a_card(DECLINED_CARD) if number == DECLINED else None
        envelopes.append(shop.seal(number, keys=keys, order=order, card=card))
    shop.bundle(envelopes, batch_key_id=keys.batch_key_id)
    filled = shop.drop_in / "shop-a"
    config = configure(shop, window=20)
    with over_a_line(config, media=True) as line:
        made = Desk(tmp_path, shop, config, line)
        try:
            medium = made.medium("IN-7", Direction.IN)
            shutil.move(filled, medium / "shop-a")
            yield made
        finally:
            made.close()


def test_scripted_day(desk: Desk) -> None:
    try:
        wrong_media_and_a_machine_that_dies(desk)
        stopped_by_hand(desk)
        full_medium(desk)
        yesterdays_medium(desk)
    finally:
        print("\n".join(desk.transcript))
    judge(desk)


def wrong_media_and_a_machine_that_dies(desk: Desk) -> None:
    shelf = desk.root / "shelf"
    desk.medium("OUT-1", Direction.OUT)
    desk.medium("OUT-small", Direction.OUT, size="132k")
    desk.medium("IN-other", Direction.IN, shop="another-shop")

    with desk.day() as terminal:
        terminal.expect("1 of 7: Pre-flight")
        terminal.expect("In order: ")
        desk.port_in.put_in(shelf / "OUT-1")
        terminal.answer("Put the shop's IN medium into", "")
        terminal.expect("MEDIUM-DIRECTION")
        desk.port_in.put_in(shelf / "IN-other")
        terminal.answer("Another IN medium", "")
        terminal.expect("MEDIUM-FOREIGN")
        desk.port_in.put_in(shelf / "IN-7")
        terminal.answer("Another IN medium", "")
        terminal.expect("bundle 1 from shop-a: 120 orders")
        terminal.expect("Taken in, verified, and safe on this machine's disk: shop-a/b00000001")
        terminal.expect("offline-processor capture-when")
        terminal.expect("Not charged, ORDER-TOTAL: 1")
        terminal.expect("Safe to remove: IN-7")
        desk.port_in.pull()
        terminal.answer("Type the control total from the shop's own books", "119 orders: EUR 9.99")
        cents = sum(amount_of(number) for number in range(ORDERS) if number != ODD)
        total = f"119 orders: EUR {cents // 100}.{cents % 100:02}"
        assert total not in terminal.shown.decode("utf-8", "replace")  # not before theirs was typed
        terminal.expect(f"Taken in: {total}")
        terminal.answer("type it again", total)
        terminal.expect("Confirmed: ")
        desk.booked(30)
        os.kill(terminal.child, signal.SIGKILL)
        terminal.end()
        desk.keep("killed while it charged", terminal)


def stopped_by_hand(desk: Desk) -> None:
    """Nothing is asked twice; Ctrl-C ends it between two windows."""
    with desk.day() as terminal:
        terminal.expect("Left from before: bundle 1 from shop-a: 120 orders")
        terminal.expect("confirmed before: 119 orders")
        terminal.answer("Put the shop's IN medium into", "none")
        terminal.expect("reversed before anything else is charged")
        terminal.expect("what was confirmed before goes on.")
        desk.booked(60)
        terminal.send_raw(b"\x03")
        terminal.expect("Stopping after what is with the acquirer now.")
        terminal.expect("nothing is with the acquirer")
        assert terminal.end() == 1
        assert "taken in" not in desk.keep("stopped while it charged", terminal).partition("Done today")[2]
    assert desk.shop.rows("SELECT count(*) FROM live_attempt WHERE state = 'intent'") == [(0,)]


def full_medium(desk: Desk) -> None:
    """To the end, but the first OUT medium is full."""
    shelf = desk.root / "shelf"
    with desk.day() as terminal:
        terminal.answer("Put the shop's IN medium into", "none")
        terminal.expect("Orders in this run")
        desk.port_out.put_in(shelf / "OUT-small")
        terminal.answer("Put the OUT medium for shop-a into", "")
        terminal.expect("MEDIUM-FULL")
        assert "Safe to remove" not in terminal.shown.decode("utf-8", "replace")
        desk.port_out.put_in(shelf / "OUT-1")
        terminal.answer("Put the OUT medium for shop-a into", "")
        terminal.expect("Return written and read back: shop-a/r0001-00000001")
        terminal.expect("Safe to remove: OUT-1")
        desk.port_out.pull()
        terminal.expect("QUARANTINED (1)")
        paper = desk.root / "paper"
        paper.mkdir()
        terminal.answer("Directory for the carrier's file", str(paper))
        terminal.expect("Some orders need a person: offline-processor cases")
        assert terminal.end() == 3
        assert {"on paper or in files: carrier", "on paper or in files: slips"} <= {
            line.strip() for line in desk.keep("to the end, with a full medium", terminal).splitlines()
        }
        assert {file.suffix for file in paper.iterdir()} == {".csv", ".html", ".pdf"}
    assert told(desk, shelf / "OUT-1") == ORDERS


def yesterdays_medium(desk: Desk) -> None:
    """The next morning somebody puts yesterday's medium in."""
    shelf = desk.root / "shelf"
    with desk.day() as terminal:
        desk.port_in.put_in(shelf / "IN-7")
        terminal.answer("Put the shop's IN medium into", "")
        terminal.expect("bundle 1 from shop-a: taken in before; nothing of it is charged again")
        terminal.expect("Nothing new is on it.")
        terminal.answer("Another IN medium", "none")
        terminal.expect("what was confirmed before goes on.")
        desk.port_out.put_in(shelf / "OUT-1")
        terminal.answer("Put the OUT medium for shop-a into", "")
        terminal.expect("Safe to remove: OUT-1")
        terminal.answer("Directory for the carrier's file", "")
        assert terminal.end() == 3
        desk.keep("the next morning, with yesterday's medium", terminal)


def judge(desk: Desk) -> None:
    """Nothing is lost, and by the acquirer's own books nobody is charged twice."""
    states = desk.shop.states()
    assert len(states) == ORDERS
    assert states[id_of(DECLINED)][0] == "declined"
    assert states[id_of(UNANSWERED)][0] == "held"
    assert states[id_of(ODD)] == ("quarantined", "under-review", "ORDER-TOTAL")
    others = {id_of(number) for number in range(ORDERS)} - {
        id_of(DECLINED),
        id_of(UNANSWERED),
        id_of(ODD),
    }
    assert {states[order][0] for order in others} == {"paid"}
    charged = unreversed_approvals(desk.line.books)
    charged.pop(id_of(UNANSWERED), None)  # reversed first by the next run
    assert charged == dict.fromkeys(others, 1)
    ran = processor("cases", desk.config, "--json")
    assert {case["kind"] for case in ran.document["cases"] if case["needs_person"]} == {"quarantined"}


# Stopping


def test_work_that_is_asked_to_stop_ends_after_the_window_and_asks_for_no_total_again(shop: Shop) -> None:
    next_bundle(shop, *range(60))
    keys = shop.keys_for(1)
    envelopes = [shop.seal(number, keys=keys) for number in range(60, 120)]
    shop.bundle(envelopes, batch_key_id=keys.batch_key_id)
    asked: list[ControlTotal] = []
    shop.confirm = asked.append
    shop.drop_out.mkdir()
    report = run_until_stopped(shop)
    assert (report.stopped, report.outcomes.total(), len(asked)) == (True, 50, 1)
    assert shop.rows("SELECT count(*) FROM live_attempt WHERE state = 'intent'") == [(0,)]
    assert report.returns == []
    shop.run_later()
    assert len(asked) == 1
    assert shop.charges() == {id_of(number): 1 for number in range(120)}


def run_until_stopped(shop: Shop) -> RunReport:
    """A run that is asked to stop as soon as a window is charged."""
    stop = StopSwitch()

    def progress(what: str, done: int, total: int) -> None:
        if what == "charging":
            assert (done, total) == (50, 60)
            assert stop.ask()
            assert not stop.ask()  # the second time nobody listens: stop at once

    acquirer = SimulatedAcquirer(shop.books)
    with closing(acquirer), shop.ledger() as ledger:
        return run(dataclasses.replace(shop.workplace(ledger, acquirer), stop=stop, progress=progress))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_run_that_is_told_to_end_ends_after_the_window(tmp_path: Path, number: int) -> None:
    shop = open_shop(tmp_path, now=int(time.time()) - 60, batch_keys=30)
    next_bundle(shop, *range(80))
    config = configure(shop, window=20)
    words = ["run", "--config", str(config), "--confirm", "80 orders: EUR 1999.20", "--json"]
    with over_a_line(config, media=False) as line:
        run = subprocess.Popen(
            [sys.executable, "-m", "offline_processor", *words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        booked(line, 10)
        run.send_signal(number)
        out, _ = run.communicate(timeout=60)
    document = json.loads(out)
    assert (run.returncode, document["stopped"]) == (1, True)
    assert 0 < document["orders"]["paid"] < 80
    assert shop.rows("SELECT count(*) FROM live_attempt WHERE state = 'intent'") == [(0,)]


def test_nobody_listens_outside_of_the_work() -> None:
    stop = StopSwitch()
    assert not stop.ask()


# Without a person


def test_day_without_a_person_does_the_same_work_in_one_document(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, now=int(time.time()) - 60, batch_keys=30)
    next_bundle(shop, 0, 1, 2)
    config = configure(shop)
    asked = processor("day", config, "--no-input", "--json")
    assert (asked.code, asked.document["rule"]) == (2, "USAGE-CONFIRM")
    ran = processor("day", config, "--no-input", "--json", "--confirm", "3 orders: EUR 74.97")
    assert ran.code == 0, ran.out + ran.err
    document = ran.document
    assert document["preflight"]["passed"] is True
    assert document["on_medium"][0]["bundles"][0]["verdict"] == "seen"  # taken in by the first try
    assert document["control_total"] == "3 orders: EUR 74.97"
    assert document["charged"]["orders"] == {"paid": 3}
    assert document["returned"]["returns"][0]["name"] == "r0001-00000001"
    assert document["cases"] == []
    assert processor("day", config, "--no-input", "--json").code == 5
    assert set(shop.charges().values()) == {1}


def test_dry_run_shows_what_would_be_done_and_changes_nothing(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, now=int(time.time()) - 60, batch_keys=30)
    next_bundle(shop, 0, 1)
    shop.run()
    next_bundle(shop, 1, 2, 3)
    config = configure(shop)
    before = files_below(tmp_path)
    for command in ("day", "run", "receive", "write-return"):
        ran = processor(command, config, "--dry-run", "--json")
        assert ran.code == 0, ran.out + ran.err
        bundles = ran.document["on_medium"]["bundles"]
        assert [(one["sequence"], one["verdict"]) for one in bundles] == [(1, "seen"), (2, "new")]
        assert (bundles[1]["orders"], bundles[1]["known_already"]) == (3, 1)
    assert "bundle 2, new, orders: 3, already known: 1" in processor("day", config, "--dry-run").out
    assert files_below(tmp_path) == before
    assert len(shop.charges()) == 2


def files_below(root: Path) -> dict[str, bytes]:
    """What every file holds, apart from what opening a database writes for itself."""
    return {
        str(path): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.suffix not in {".db-shm", ".db-wal", ".lock"}
    }


def test_steps_one_by_one_come_to_the_same_end(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, now=int(time.time()) - 60, batch_keys=30)
    next_bundle(shop, 0, 1, 2)
    config = configure(shop)
    assert "bundle 1 from shop-a: 3 orders" in processor("inspect", config).out
    taken = processor("receive", config, "--json")
    assert (taken.code, taken.document["control_total"]) == (0, "3 orders: EUR 74.97")
    assert shop.charges() == {}
    assert "taken in before" in processor("inspect", config).out
    assert processor("inspect", config, "--json").code == 5
    shop.drop_out.rmdir()
    ran = processor("run", config, "--confirm", "3 orders: EUR 74.97", "--json")
    assert (ran.code, ran.document["refused"][0]["rule"]) == (4, "MEDIUM-NONE")
    shop.drop_out.mkdir()
    written = processor("write-return", config, "--json")
    assert (written.code, written.document["returns"][0]["name"]) == (0, "r0001-00000001")
    assert processor("write-return", config, "--json").code == 5
    assert set(shop.charges().values()) == {1}


def test_bundle_that_cannot_be_taken_in_is_named_with_its_reason(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, now=int(time.time()) - 60, batch_keys=30)
    first = next_bundle(shop, 0)
    next_bundle(shop, 1)
    shutil.move(first, tmp_path / "kept")
    config = configure(shop)
    looked = processor("inspect", config)
    assert (
        "bundle 2 from shop-a: 1 order; it cannot be taken in, because one before it is missing" in looked.out
    )
    shutil.copytree(tmp_path / "kept", first)
    (first / "manifest.json").write_bytes(b"{}")
    looked = processor("inspect", config, "--json")
    assert (looked.code, looked.document["bundles"][0]["rule"]) == (4, "BUNDLE-SIGNATURE")
    assert "REFUSED, BUNDLE-SIGNATURE" in processor("inspect", config).out


def test_return_that_is_left_for_later_is_said_and_written_later(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, now=int(time.time()) - 60, batch_keys=30)
    next_bundle(shop, 0)
    config = configure(shop)
    with Terminal("day", "--config", config, module="offline_processor") as terminal:
        terminal.answer("Put the shop's IN medium into", "")
        terminal.answer("Type the control total", "1 order: EUR 24.99")
        terminal.answer("Put the OUT medium", "later")
        terminal.expect("RETURN-WAITS")
        terminal.answer("Directory for the carrier's file", "")
        terminal.expect("NOT ALL IS DONE")
        assert terminal.end() == 4
    assert processor("write-return", config).code == 0
    assert shop.newest_return().name == "r0001-00000001"


def test_person_who_leaves_at_a_question_is_told_what_is_done(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, now=int(time.time()) - 60, batch_keys=30)
    next_bundle(shop, 0)
    config = configure(shop)
    with Terminal("day", "--config", config, module="offline_processor") as terminal:
        terminal.answer("Put the shop's IN medium into", "")
        terminal.expect('JPY 9800"')  # the whole question stands there, and is waited at
        terminal.expect(": ")
        terminal.interrupt()
        terminal.expect("Done so far: pre-flight passed; taken in: shop-a/b00000001.")
        assert terminal.end() == 1
    with Terminal("day", "--config", config, module="offline_processor") as terminal:
        terminal.expect("nothing confirmed yet")
        terminal.answer("Put the shop's IN medium into", "none")
        for typed in ("2 orders: EUR 24.99", "", "stop"):
            terminal.answer(
                "type it again" if typed != "2 orders: EUR 24.99" else "Type the control total", typed
            )
        terminal.expect("CONTROL-TOTAL")
        assert terminal.end() == 4
    assert shop.charges() == {}


def told(desk: Desk, medium: Path) -> int:
    """How many orders the return on the medium tells of."""
    (unit,) = (medium / "shop-a").iterdir()
    return sum(b'"status"' in line for line in (unit / "records.jsonl").read_bytes().splitlines())
