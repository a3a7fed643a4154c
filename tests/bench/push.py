"""How fast `push` makes and writes bundles, against `cp` + `sha256sum` + `sync` of the same bytes in the same run.

Why here: copying, digesting and syncing once is the least that any carrier of these bytes has to do.
Must not: print; `tests.bench` does.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.transfer.house import NODE, House, basket, envelope, order_id
from transfer.register import NewOrder
from transfer.sync.trust import load_roll
from transfer.wire.manifest import ENVELOPES_NAME

ORDERS = 100_000
GROUP = 256  # what a busy intake commits at once
_KEYS = 20
_NOW = 1_790_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PushFigures:
    """``ratio``: seconds of cp + sha256sum + sync by seconds of the push."""

    orders: int
    bytes: int
    bundles: int
    push_s: float
    bare_s: float
    cpu_us: float

    @property
    def ratio(self) -> float:
        return self.bare_s / self.push_s


def run(*, orders: int = ORDERS, rounds: int = 3) -> PushFigures:
    """Fill a spool, push it, and copy the same bytes; the median round counts."""
    results = sorted((_round(orders) for _ in range(rounds)), key=lambda figures: figures.ratio)
    return results[len(results) // 2]


def _round(orders: int) -> PushFigures:
    with tempfile.TemporaryDirectory(prefix="bench-push-") as directory:
        root = Path(directory)
        house = House(root=root / "house", keys=_KEYS)
        _fill(house, orders)
        os.sync()
        began, cpu = time.perf_counter(), time.process_time()
        report = house.push()
        push_s, cpu = time.perf_counter() - began, time.process_time() - cpu
        house.close()
        if sum(made.orders for made in report.cut) != orders or len(report.written) != len(report.cut):
            raise AssertionError("the push did not carry every order")
        source = root / "source"
        with source.open("wb") as file:
            for part in _envelopes(house.drop_in):
                file.write(part.read_bytes())
        os.sync()
        bare_s = statistics.median(_bare(source, root / f"copy-{number}") for number in range(3))
        return PushFigures(
            orders=orders,
            bytes=source.stat().st_size,
            bundles=len(report.cut),
            push_s=push_s,
            bare_s=bare_s,
            cpu_us=1e6 * cpu / orders,
        )


def _fill(house: House, orders: int) -> None:
    """The spool as a busy intake leaves it."""
    roll = load_roll(house.node.state, node=NODE)
    place = {entry.key_id: entry.number for entry in roll.batch_keys}
    for first in range(0, orders, GROUP):
        group = house.spool.open_current(roll, _NOW)
        if group is None:
            raise AssertionError("out of keys")
        numbers = range(first, min(orders, first + GROUP))
        for number in numbers:
            group.append(envelope(number, place[group.batch_key_id]))
        new = [NewOrder(order_id=order_id(number), basket_digest=basket(number)) for number in numbers]
        house.register.commit_group(group, new, _NOW)


def _envelopes(drop: Path) -> Iterator[Path]:
    return (unit / ENVELOPES_NAME for unit in sorted((drop / NODE).iterdir()))


def _bare(source: Path, copy: Path) -> float:
    began = time.perf_counter()
    commands: list[list[str | Path]] = [
        ["cp", source, copy],
        ["sha256sum", copy],
        ["sync", copy, copy.parent],
    ]
    for command in commands:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
