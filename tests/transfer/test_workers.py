"""Several intake workers write while spool-sync cuts: every acknowledged order is in exactly one bundle."""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.transfer.house import NODE, NOW, House, basket, envelope, order_id
from transfer.register import Committed, NewOrder, Register
from transfer.spool import read_group
from transfer.sync.trust import load_roll
from transfer.wire.manifest import ENVELOPES_NAME

WORKERS = 3


def work(house: House, worker: int, until: float) -> None:
    """Commit small groups of orders, of which some are retries of another worker's; note what was answered."""
    register, spool = Register(house.node.state / "register.db"), house.node.spool()
    roll = load_roll(house.node.state, node=NODE)
    place = {entry.key_id: entry.number for entry in roll.batch_keys}
    chance = random.Random(worker)
    with (house.root / f"answers-{worker}").open("w") as answers:
        while time.monotonic() < until:
            group = spool.open_current(roll, NOW)
            if group is None:
                break
            numbers = [chance.randrange(3000) for _ in range(chance.randrange(1, 12))]
            for number in numbers:
                group.append(envelope(number, place[group.batch_key_id]))
            if chance.random() < 0.2:
                time.sleep(0.01)  # the cutter must wait for this one
            orders = [NewOrder(order_id=order_id(number), basket_digest=basket(number)) for number in numbers]
            for number, answer in zip(numbers, register.commit_group(group, orders, NOW), strict=True):
                answers.write(f"{order_id(number)} {answer.name}\n")


def start(house: House, worker: int, until: float) -> int:
    child = os.fork()
    if child == 0:
        try:
            work(house, worker, until)
        except BaseException as error:  # noqa: BLE001  a forked child must never return into pytest
            print(f"worker {worker}: {error!r}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return child


@pytest.mark.parametrize("seconds", [2.5])
def test_no_order_is_in_two_bundles_and_none_in_none(tmp_path: Path, seconds: float) -> None:
    house = House(root=tmp_path, keys=200)
    house.close()
    until = time.monotonic() + seconds
    children = [start(house, worker, until) for worker in range(WORKERS)]
    house.open()
    pushes = 0
    while time.monotonic() < until:
        house.push()
        pushes += 1
        time.sleep(0.02)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * WORKERS
    house.push()

    answers: Counter[tuple[str, str]] = Counter()
    for worker in range(WORKERS):
        for line in (tmp_path / f"answers-{worker}").read_text().splitlines():
            order, answer = line.split()
            answers[order, answer] += 1
    new = {order for order, answer in answers if answer == Committed.NEW.name}
    assert max(count for (_, answer), count in answers.items() if answer == Committed.NEW.name) == 1
    assert {answer for _, answer in answers} == {"NEW", "SAME"}
    carried = Counter(
        entry.order_id
        for unit in (house.drop_in / NODE).iterdir()
        for entry in read_group(unit / ENVELOPES_NAME)
    )
    assert set(carried) == new
    assert max(carried.values()) == 1
    assert house.register.missing() == []
    assert house.register.last_sequence() > 5
    house.close()
