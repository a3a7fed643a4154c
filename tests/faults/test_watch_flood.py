"""50,000 orders arrive while `watch` runs: every one of them is delivered, exactly once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.transfer.house import NODE, House, basket, envelope, order_id
from tests.transfer.test_cli import Desk, desk, enrolled
from transfer.register import NewOrder, Register
from transfer.spool import read_group
from transfer.sync.trust import load_roll
from transfer.wire.manifest import ENVELOPES_NAME, SIGNATURE_NAME

__all__ = ["desk", "enrolled"]

pytestmark = pytest.mark.faults
ORDERS = 50_000
WORKERS = 2
LARGEST_GROUP = 40
KEY_HOLDS = 1_500
KEYS = 80


def work(house: House, worker: int) -> None:
    """Commit every order of this worker's share in groups of changing size, as fast as it goes."""
    register, spool = Register(house.node.state / "register.db"), house.spool
    roll = load_roll(house.node.state, node=NODE)
    place = {entry.key_id: entry.number for entry in roll.batch_keys}
    chance = random.Random(worker)
    numbers = list(range(worker, ORDERS, WORKERS))
    while numbers:
        group = spool.open_current(roll, int(time.time()))
        assert group is not None, "out of keys"
        share = [numbers.pop() for _ in range(min(len(numbers), chance.randrange(1, LARGEST_GROUP)))]
        for number in share:
            group.append(envelope(number, place[group.batch_key_id]))
        orders = [NewOrder(order_id=order_id(number), basket_digest=basket(number)) for number in share]
        register.commit_group(group, orders, int(time.time()))
    register.close()


def start(house: House, worker: int) -> int:
    child = os.fork()
    if child == 0:
        try:
            work(house, worker)
        except BaseException as error:  # noqa: BLE001  a forked child must never return into pytest
            print(f"worker {worker}: {error!r}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return child


def delivered(drop: Path) -> Counter[str]:
    """How often each order lies in a whole bundle on the drop."""
    found: Counter[str] = Counter()
    for unit in sorted((drop / NODE).iterdir()):
        if (unit / SIGNATURE_NAME).exists():
            found.update(entry.order_id for entry in read_group(unit / ENVELOPES_NAME))
    return found


@pytest.mark.parametrize("events", [True, False], ids=["events", "no events"])
def test_a_flood_of_orders_is_delivered_whole(desk: Desk, events: bool) -> None:
    house = desk.house
    house.keys = KEYS
    house.give_return([])
    house.pull()
    text = desk.config.read_text().replace("[sync]\n", "[sync]\nwatch_seconds = 1\ncut_minutes = 0\n")
    desk.config.write_text(text.replace("[node]\n", f"[node]\nmax_orders = {KEY_HOLDS}\n"))
    house.spool.max_orders = KEY_HOLDS
    command = [sys.executable, "-m", "transfer", "watch", "--config", str(desk.config), "--json"]
    began = time.monotonic()
    with subprocess.Popen(
        [*command, *([] if events else ["--no-events"])],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as watch:
        try:
            for worker in [start(house, number) for number in range(WORKERS)]:
                assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 0
            arrived = time.monotonic() - began
            while house.register.waiting() and time.monotonic() - began < 300:
                time.sleep(0.5)
            watch.send_signal(signal.SIGTERM)
            assert watch.wait(timeout=60) == 0
        finally:
            watch.kill()
        assert watch.stderr is not None
        assert "Traceback" not in watch.stderr.read()
    found = delivered(house.drop_in)
    print(
        f"\n{ORDERS} orders arrived in {arrived:.1f} s while watch ran ({'with' if events else 'without'} events); "
        f"all delivered after {time.monotonic() - began:.1f} s in {house.register.last_sequence()} bundles: "
        f"lost {ORDERS - len(found)}, doubled {sum(count > 1 for count in found.values())}"
    )
    assert len(found) == ORDERS
    assert set(found.values()) == {1}
