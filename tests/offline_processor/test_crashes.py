"""A run that is killed at any point is simply run again: no order is lost, none charged twice, the receipt is given.

A child makes the run and is gone just before its Nth step that can leave a trace: a change or flush of a file, or the
begin or commit of a transaction in the ledger or in the acquirer's books. What SQLite does inside a commit is its own.
"""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from keys.ring_index import KeyRole
from tests.offline_processor.acquirers import BadLine, LineCutError, cut
from tests.offline_processor.forgery import with_byte_changed
from tests.offline_processor.shop import (
    DECLINED_CARD,
    HOLD_HOURS,
    HOUR,
    LOST_ANSWER_CARD,
    NOW,
    Shop,
    a_card,
    id_of,
    open_shop,
)
from transfer.wire.manifest import MANIFEST_NAME, return_manifest_digest
from transfer.wire.records import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CALLS = ("write", "fsync", "fdatasync", "rename", "replace", "link", "unlink", "rmdir", "mkdir")
TRANSACTIONS = ("BEGIN", "COMMIT")
DONE, KILLED = 0, 77
WINDOW = 4
EXPECTED = {
    **dict.fromkeys(range(9), "paid"),
    3: "declined",
    6: "order-again",
    8: "quarantined",
}


class Kill:
    """Counts steps and ends the process before the one numbered ``at``; ``trace`` collects their names."""

    def __init__(self, at: int, trace: list[str]) -> None:
        self.left = at
        self.trace = trace
        for name in CALLS:
            setattr(os, name, self.counted(name, getattr(os, name)))
        connect = sqlite3.connect

        def connected(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*arguments, **options)
            connection.set_trace_callback(self.statement)
            return connection

        setattr(sqlite3, "connect", connected)  # noqa: B010  as with the calls above

    def step(self, name: str) -> None:
        self.trace.append(name)
        if self.left == 0:
            os._exit(KILLED)
        self.left -= 1

    def statement(self, text: str) -> None:
        if (word := text.split(maxsplit=1)[0].rstrip(";").upper()) in TRANSACTIONS:
            self.step(word)

    def counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.step(name)
            return real(*arguments, **options)

        return call


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop with a bundle of three windows in its drop and an order of an older one held; its keystore closed."""
    shop = open_shop(tmp_path_factory.mktemp("crashes") / "prepared")
    shop.window = WINDOW
    shop.bundle([shop.seal(20, card=a_card(LOST_ANSWER_CARD))])
    shop.run()
    shop.now += HOUR
    keys = shop.keys_for()
    envelopes = [shop.seal(number, keys=keys) for number in EXPECTED]
    envelopes[2] = shop.seal(2, keys=keys, card=a_card(LOST_ANSWER_CARD))
    envelopes[3] = shop.seal(3, keys=keys, card=a_card(DECLINED_CARD))
    envelopes[6] = dataclasses.replace(envelopes[6], card_box=with_byte_changed(envelopes[6].card_box, 9))
    envelopes[8] = dataclasses.replace(envelopes[8], card_box=envelopes[7].card_box)
    shop.bundle(envelopes, batch_key_id=keys.batch_key_id)
    shop.keystore.close()
    return shop


@pytest.fixture
def fresh(prepared: Shop, tmp_path: Path) -> Iterator[Callable[[], Shop]]:
    """Gives a copy of the prepared shop, the one before it thrown away."""

    def copy() -> Shop:
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(prepared.root, tmp_path / "copy")
        return dataclasses.replace(prepared, root=tmp_path / "copy")

    yield copy
    shutil.rmtree(tmp_path / "copy", ignore_errors=True)


def run_killed(shop: Shop, at: int, trace_to: Path | None = None) -> int:
    """One run in a child that is gone before step ``at``."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    trace: list[str] = []
    try:
        shop.reopen()
        Kill(at, trace)
        shop.run()
        shop.keystore.close()
        if trace_to is not None:
            trace_to.write_text("\n".join(trace))
        os._exit(DONE)
    finally:
        os._exit(1)


def steps_of_a_run(shop: Shop) -> list[str]:
    assert run_killed(shop, -1, shop.root / "trace") == DONE
    return (shop.root / "trace").read_text().splitlines()


def assert_next_runs_finish(shop: Shop) -> None:
    """Two more runs bring every order to its end, as if nothing had happened."""
    shop.reopen()
    try:
        shop.run_later()
        shop.run_later()
        states = {number: shop.state(number) for number in EXPECTED}
        assert {number: state for number, (state, _, _) in states.items()} == EXPECTED, states
        assert shop.state(20) == ("paid", "none", "")
        paid = [number for number, state in EXPECTED.items() if state == "paid"]
        assert shop.charges() == dict.fromkeys([*map(id_of, paid), id_of(20)], 1)
        assert_books_and_keys_agree(shop)
        assert_told(shop)
    finally:
        shop.keystore.close()


def assert_books_and_keys_agree(shop: Shop) -> None:
    ring = shop.keystore.ring
    assert [record.order_id for record in ring.hold_records()] == [id_of(8)]
    assert shop.rows("SELECT order_id FROM held_card") == [(id_of(8),)]
    assert shop.rows("SELECT state FROM live_attempt WHERE state != 'approved' OR vault IS NOT NULL") == []
    used = shop.rows("SELECT batch_key FROM bundle")
    destroyed = {record.key_id for record in ring.destroyed_records() if record.role is KeyRole.BATCH}
    assert {key for (key,) in used} == destroyed
    said = shop.rows("SELECT subject FROM entry WHERE kind = 'key-destroyed' ORDER BY id")
    assert [key for (key,) in said] == [record.key_id for record in ring.destroyed_records()]
    assert list((shop.root / "state" / "spool" / "shop-a").iterdir()) == []
    with shop.ledger() as ledger:
        assert ledger.verify_chain() > 0


def assert_told(shop: Shop) -> None:
    assert [record.sequence for record in shop.records() if isinstance(record, Receipt)] == [1, 2]
    told = {number: shop.told(number) for number in EXPECTED}
    wanted = {number: state.replace("quarantined", "held") for number, state in EXPECTED.items()}
    assert {number: status and status[0] for number, status in told.items()} == wanted
    newest = shop.newest_return()
    recorded = shop.rows("SELECT manifest FROM return_made ORDER BY number DESC LIMIT 1")
    assert recorded == [(return_manifest_digest((newest / MANIFEST_NAME).read_bytes()),)]


def sample(steps: list[str], seed: int, others: int) -> list[int]:
    """What comes next to every second commit, and some of the other steps; `make faults` kills at every one."""
    behind = {place + 1 for place, name in enumerate(steps) if name == "COMMIT"} - {len(steps)}
    rest = [place for place, name in enumerate(steps) if place not in behind and name not in TRANSACTIONS]
    return sorted({*sorted(behind)[::2], *random.Random(seed).sample(rest, others)})


def test_run_that_is_killed_anywhere_is_finished_by_the_next(fresh: Callable[[], Shop]) -> None:
    steps = steps_of_a_run(fresh())
    assert steps.count("COMMIT") > 15
    assert steps.count("fsync") > 20
    for at in sample(steps, seed=2, others=8):
        shop = fresh()
        assert run_killed(shop, at) == KILLED, at
        assert_next_runs_finish(shop)


@pytest.mark.parametrize("seed", range(6))
def test_run_that_is_killed_again_and_again_is_finished_at_last(fresh: Callable[[], Shop], seed: int) -> None:
    chance, shop = random.Random(seed), fresh()
    for _ in range(4):
        run_killed(shop, chance.randrange(150))
        shop.now += 60
    assert_next_runs_finish(shop)


def test_run_that_is_killed_while_the_acquirer_has_the_window_is_finished(
    prepared: Shop, fresh: Callable[[], Shop]
) -> None:
    shop = fresh()
    shop.reopen()
    with pytest.raises(LineCutError):
        shop.run(BadLine(path=shop.books, authorising=cut))
    shop.keystore.close()
    assert_next_runs_finish(shop)


def test_killed_run_that_is_repeated_too_late_charges_nothing_more(fresh: Callable[[], Shop]) -> None:
    steps = steps_of_a_run(fresh())
    half = [place for place, name in enumerate(steps) if name == "COMMIT"][len(steps) // 40]
    shop = fresh()
    assert run_killed(shop, half) == KILLED
    shop.reopen()
    shop.run_later(HOLD_HOURS * HOUR)
    shop.run_later()
    assert {state for state, _, _ in shop.states().values()} <= {"paid", "declined", "order-again"}
    paid = [order for order, (state, _, _) in shop.states().items() if state == "paid"]
    assert shop.charges() == dict.fromkeys(paid, 1)
    assert shop.keystore.ring.hold_records() == []
    shop.keystore.close()


def test_prepared_shop_is_what_it_claims(prepared: Shop) -> None:
    assert prepared.now == NOW + HOUR
    assert prepared.state(20)[0] == "held"
