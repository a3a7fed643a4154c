"""Dispatch, release, refund and close of day that are killed at any step: given again, each is done once.

The child gives the real commands and is gone before its Nth step that can leave a trace, in the ledger, in a file or
in the acquirer's books; then the same commands are given again, as a person would.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from typing import TYPE_CHECKING

import click
import sqlite_utils

from keys.errors import RuleError
from offline_processor.acquirers.simulator.books import standings
from offline_processor.cli import cli
from tests.offline_processor.commands import configure
from tests.offline_processor.shop import Shop, id_of, next_bundle, open_shop
from tests.offline_processor.test_backup import killed, steps_of
from tests.offline_processor.test_crashes import DONE, KILLED
from tests.offline_processor.test_dispatch import DISPATCH, run_with

if TYPE_CHECKING:
    from pathlib import Path

SAID = ("--who", "A. Keeper", "--why", "asked")
COMMANDS = (
    ("dispatch", id_of(0)),
    ("dispatch", id_of(1), "--amount", "EUR 10.00", "--shipment", "p-1", "--final"),
    ("cancel", id_of(2), *SAID),
    ("refund", id_of(0), "--amount", "EUR 5.00", "--reference", "R-1", *SAID),
    ("close-day", "--who", "A. Keeper"),
)
NEVER = 10**9


def authorised_orders(folder: Path) -> tuple[Shop, Path]:
    shop = open_shop(folder, now=int(time.time()) - 600)
    next_bundle(shop, 0, 1, 2)
    run_with(shop, DISPATCH)
    config = configure(shop)
    config.write_text(config.read_text() + "[charging]\nsecond_person_above = { EUR = 10000 }\n")
    return shop, config


def give_commands(config: Path) -> None:
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123  of a child that ends soon
    for words in COMMANDS:
        try:
            cli.main([*words, "--config", str(config)], standalone_mode=False)
        except (RuleError, click.ClickException) as error:
            raise AssertionError(words) from error


def judge(shop: Shop) -> None:
    there = [(one.reserved, one.captured, one.refunded) for one in standings(shop.books)]
    assert there == [(2_499, 2_499, 500), (1_000, 1_000, 0), (0, 0, 0)]
    assert [shop.state(number)[0] for number in range(3)] == ["dispatched", "dispatched", "refunded"]
    kinds = ("capture", "capture", "refund", "void", "void")
    assert shop.rows("SELECT kind, state FROM operation ORDER BY kind") == [(kind, "done") for kind in kinds]
    closed = shop.rows(
        "SELECT sum(captured), sum(refunded), count(DISTINCT state), max(state) FROM closed_batch"
    )
    assert closed == [(3_499, 500, 1, "in balance")]
    assert shop.rows("SELECT count(*) FROM reconcile_exception") == [(0,)]
    books = sqlite_utils.Database(shop.books)
    told = (
        "SELECT sum(amount), sum(refunded) FROM booking WHERE kind = 'totals' AND NOT again AND code = '00'"
    )
    assert books.execute(told).fetchall() == [(3_499, 500)]
    books.close()
    with shop.ledger() as ledger:
        assert ledger.verify_chain()


def sweep(folder: Path, limit: int) -> None:
    """Kill at ``limit`` of the steps, drawn by chance, or at every one if there are no more."""
    base, at_work = folder / "base", folder / "work"
    base.mkdir()
    shop, _ = authorised_orders(base)
    copied = Shop(root=at_work, keystore=shop.keystore, node_key=shop.node_key, now=shop.now)

    def fresh() -> Path:
        shutil.rmtree(at_work, ignore_errors=True)
        shutil.copytree(base, at_work)
        return at_work / "offline.toml"

    config = fresh()
    steps = steps_of(lambda: give_commands(config), folder / "trace")
    judge(copied)
    assert steps.count("COMMIT") > 20
    places = random.Random(4).sample(range(len(steps)), min(limit, len(steps)))
    for at in places:
        fresh()
        assert killed(lambda: give_commands(config), at) == KILLED, at
        assert killed(lambda: give_commands(config), NEVER) == DONE, at
        judge(copied)


def test_commands_that_are_killed_at_any_step_are_done_once_when_given_again(tmp_path: Path) -> None:
    sweep(tmp_path, limit=8)
