"""How many durable orders a second the intake takes, against the bare rate of sealing the same two boxes.

Why here: the ratio says what all the code around the cryptography costs, whatever the machine.
Must not: print; `tests.bench` does.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import nacl.public

from intake.catalogue import SHIPPED, load_catalogue
from intake.sample import sample_orders
from tests.intake.node import Node
from transfer.wire.card import CARD_SIZE

_BODIES = 100
_WARM_UP = 3
_YEAR = 2030
_BARE_ROUNDS = 1500
_ORDER_COMPARTMENT = 1024
"""What nearly all of the sample's order compartments have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeFigures:
    """``ratio``: durable orders a second by the pairs of boxes that one core seals a second in the same run."""

    workers: int
    connections: int
    orders: int
    bare_rate: float
    rate: float
    ratio: float
    p50_ms: float
    p99_ms: float
    server_cpu_us: float


def run(*, orders: int = 4000, connections: int = 32, workers: int = 1, rounds: int = 3) -> IntakeFigures:
    """Start an intake, load it ``rounds`` times from another process; the median round counts."""
    with tempfile.TemporaryDirectory(prefix="bench-intake-") as directory:
        node = Node(Path(directory) / "node").configure(workers=workers).enrol(60).start()
        bodies = node.root / "bodies"
        catalogue = load_catalogue(SHIPPED)
        samples = sample_orders(catalogue, count=_BODIES, seed=1, year=_YEAR)
        bodies.write_bytes(b"\n".join(order.body for order in samples))
        try:
            _load(node, bodies, connections, _WARM_UP)
            results = [_round(node, bodies, connections, workers, orders) for _ in range(rounds)]
        finally:
            node.stop()
    return sorted(results, key=lambda figures: figures.ratio)[len(results) // 2]


def _round(node: Node, bodies: Path, connections: int, workers: int, orders: int) -> IntakeFigures:
    # The bare rate before and after, so that a machine that slows down meanwhile slows both.
    bare = bare_seal_rate()
    before = _cpu_seconds(node)
    measured = _load(node, bodies, connections, max(1, orders // _BODIES))
    cpu = _cpu_seconds(node) - before
    bare = (bare + bare_seal_rate()) / 2
    return IntakeFigures(
        workers=workers,
        connections=connections,
        orders=int(measured["orders"]),
        bare_rate=bare,
        rate=measured["rate"],
        ratio=measured["rate"] / bare,
        p50_ms=measured["p50_ms"],
        p99_ms=measured["p99_ms"],
        server_cpu_us=1e6 * cpu / measured["orders"],
    )


def bare_seal_rate() -> float:
    """How many orders a second one core seals with PyNaCl alone: both boxes, nothing else."""
    order_box = nacl.public.SealedBox(nacl.public.PrivateKey.generate().public_key)
    card_box = nacl.public.SealedBox(nacl.public.PrivateKey.generate().public_key)
    order, card = os.urandom(_ORDER_COMPARTMENT), os.urandom(CARD_SIZE)
    rates = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(_BARE_ROUNDS // 5):
            order_box.encrypt(order)
            card_box.encrypt(card)
        rates.append(_BARE_ROUNDS // 5 / (time.perf_counter() - started))
    return statistics.median(rates)


def _load(node: Node, bodies: Path, connections: int, repeat: int) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.load", "127.0.0.1", node.port, connections, repeat, bodies]
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        check=True,
        cwd=Path(__file__).parents[2],
        timeout=300,
    )
    measured: dict[str, float] = json.loads(done.stdout)
    refused = measured.pop("refused")
    if refused:
        raise AssertionError(f"the intake refused orders: {refused}")
    return measured


def _cpu_seconds(node: Node) -> float:
    """User and system time of the server's processes so far."""
    assert node.process is not None
    ticks = 0
    pids = [node.process.pid]
    children = Path(f"/proc/{node.process.pid}/task/{node.process.pid}/children").read_text(encoding="ascii")
    for pid in (*pids, *map(int, children.split())):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
