"""Death at any step: what is repeated afterwards ends where the undisturbed run ends.

Each step is a call that changes the disk; the child dies before the first, the second, and so on. The long sweep,
with torn writes and lost caches, is in tests/faults.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.transfer.house import NODE, NOW, House, batch_key_id, envelope, fixed_key, order_id
from transfer.register import Register
from transfer.spool import read_group
from transfer.sync.trust import load_roll
from transfer.wire.manifest import ENVELOPES_NAME
from transfer.wire.records import Reason, StatusRecord, StatusState

_STEPS = ("fsync", "link", "rename", "unlink", "mkdir", "rmdir", "write", "truncate")
_DIED = 9


def reopen(root: Path) -> House:
    return House(root=root, identity=fixed_key(1), node_key=fixed_key(2))


def dies_at(step: int, root: Path, act: Callable[[House], object]) -> bool:
    """Run ``act`` in a child that exits before its disk step of this number; False when it ended before."""
    child = os.fork()
    if child == 0:
        left = step

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def counting(*arguments: Any, **options: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    os._exit(_DIED)
                return call(*arguments, **options)

            return counting

        try:
            house = reopen(root)
            for name in _STEPS:
                setattr(os, name, counted(getattr(os, name)))
            honest = Register.transaction

            @contextmanager
            def transaction(register: Register, **options: Any) -> Iterator[Any]:
                with honest(register, **options) as connection:
                    yield connection
                counted(lambda: None)()

            Register.transaction = transaction  # type: ignore[assignment, method-assign]
            act(house)
        except BaseException:  # noqa: BLE001  a forked child must never return into pytest
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, _DIED)
    return code == _DIED


def sweep(
    template: Path, tmp_path: Path, act: Callable[[House], object], check: Callable[[House], None]
) -> int:
    step, died = 0, True
    while died:
        root = tmp_path / f"step-{step}"
        shutil.copytree(template, root)
        died = dies_at(step, root, act)
        house = reopen(root)
        check(house)
        house.close()
        shutil.rmtree(root)
        step += 1
    return step


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """Orders 0 to 9 wait under two keys; 8 is known to the spool only, and 0 lies there twice."""
    house = reopen(tmp_path / "template")
    house.take(range(4), key=1)
    house.take(range(4, 6), key=1)
    house.take([6, 7, 9], key=2)
    group = house.spool.open_group(batch_key_id(2))
    assert group is not None
    group.append(envelope(8, 2))
    group.append(envelope(0, 2))
    group.commit()
    house.close()
    return house.root


def everything_is_sent_once(house: House) -> None:
    house.push()
    carried = [number for sequence in (1, 2) for number in house.carried(sequence)]
    assert sorted(carried) == sorted(order_id(number) for number in range(10))
    assert house.register.last_sequence() == 2
    for key in (1, 2):
        assert house.spool.groups(batch_key_id(key)) == []
        assert house.spool.open_group(batch_key_id(key)) is None
    assert house.register.missing() == []
    assert not house.push().did_something
    for sequence in (1, 2):
        kept, dropped = house.node.bundle(sequence), house.unit(sequence)
        assert {path.name: path.read_bytes() for path in kept.iterdir()} == {
            path.name: path.read_bytes() for path in dropped.iterdir()
        }


def test_a_push_that_dies_anywhere_is_repaired_by_the_next(template: Path, tmp_path: Path) -> None:
    steps = sweep(template, tmp_path, House.push, everything_is_sent_once)
    assert steps > 40


def test_a_worker_that_dies_anywhere_loses_no_acknowledged_order(template: Path, tmp_path: Path) -> None:
    def take(house: House) -> None:
        house.take([20, 21], key=3)

    def check(house: House) -> None:
        house.register.reindex(house.spool, NOW)
        house.take([20, 21], key=3)
        everything = [
            entry.order_id for path in house.spool.groups(batch_key_id(3)) for entry in read_group(path)
        ]
        assert sorted(everything) == sorted([order_id(20), order_id(21)])

    assert sweep(template, tmp_path, take, check) > 5


def test_a_pull_that_dies_anywhere_is_repaired_by_the_next(template: Path, tmp_path: Path) -> None:
    house = reopen(template)
    house.push()
    paid = [
        StatusRecord(order=order_id(number), state=StatusState.PAID, reason=Reason.NONE, changed_at=NOW)
        for number in range(10)
    ]
    house.roll_number = 1
    house.give_return([house.receipt(1), house.receipt(2), *paid], accepted=2)
    house.close()

    def check(house: House) -> None:
        house.pull()
        assert house.pull().taken is None
        newest = house.node.newest_return()
        assert newest is not None
        assert newest.number == 1
        for number in range(10):
            known = house.register.lookup(order_id(number))
            assert known is not None
            assert known.status == "paid"
        assert load_roll(house.node.state, node=NODE).number == 2
        for sequence in (1, 2):
            assert not (house.node.bundle(sequence) / ENVELOPES_NAME).exists()

    assert sweep(template, tmp_path, House.pull, check) > 20
