"""50,000 orders arrive while `watch` runs: every one of them is delivered, exactly once; also when events are lost."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import struct
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
_IN_CREATE, _IN_DELETE, _IN_Q_OVERFLOW = 0x100, 0x200, 0x4000
_QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")


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


def test_orders_are_delivered_although_the_queue_of_events_overflowed(desk: Desk) -> None:
    house = desk.house
    text = desk.config.read_text().replace("[sync]\n", "[sync]\nwatch_seconds = 1\ncut_minutes = 0\n")
    desk.config.write_text(text)
    command = [sys.executable, "-m", "transfer", "watch", "--config", str(desk.config), "--json"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as watch:
        try:
            house.take([1], key=1)
            delivered_within(house, 1, seconds=30)
            control = overflow(house.drop_in.parent, watch)
            house.take([2, 3], key=2)
            delivered_within(house, 3, seconds=30)
            house.take([4], key=3)  # and it is not deaf or dead afterwards
            delivered_within(house, 4, seconds=30)
            watch.send_signal(signal.SIGTERM)
            assert watch.wait(timeout=60) == 0
        finally:
            watch.kill()
        assert watch.stderr is not None
        assert "Traceback" not in watch.stderr.read()
    assert control, "the queue must have overflowed, or this shows nothing"
    assert set(delivered(house.drop_in).values()) == {1}


def overflow(directory: Path, watch: subprocess.Popen[str]) -> bool:
    """Fill the queue of a ``watch`` that cannot read; True when one beside it that nobody read did overflow."""
    libc = ctypes.CDLL(None, use_errno=True)
    witness = libc.inotify_init1(os.O_NONBLOCK)
    try:
        libc.inotify_add_watch(witness, bytes(directory), _IN_CREATE | _IN_DELETE)
        watch.send_signal(signal.SIGSTOP)
        for number in range(int(_QUEUE.read_text()) // 2 + 100):
            flood = directory / f"flood-{number}"
            flood.touch()
            flood.unlink()
        watch.send_signal(signal.SIGCONT)
        found = bytearray()
        while part := _read(witness):
            found += part
    finally:
        os.close(witness)
    masks, at = set(), 0
    while at < len(found):
        _, mask, _, length = struct.unpack_from("iIII", found, at)
        masks.add(mask)
        at += 16 + length
    return _IN_Q_OVERFLOW in masks


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 20)
    except BlockingIOError:
        return b""


def delivered_within(house: House, orders: int, *, seconds: float) -> None:
    """Wait until so many orders lie on the drop."""
    end = time.monotonic() + seconds
    while not (house.drop_in / NODE).is_dir() or len(delivered(house.drop_in)) < orders:
        assert time.monotonic() < end, f"{orders} orders were not delivered"
        time.sleep(0.1)
