"""How many durable orders a second the intake takes, against the bare rate of sealing the same two boxes.

Why here: the ratio says what all the code around the cryptography costs, whatever the machine.
Must not: print; `tests.bench` does.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import msgspec
import nacl.public

from intake.catalogue import SHIPPED, load_catalogue
from intake.sample import sample_orders
from tests.intake.node import Node
from transfer.spool import Spool, read_group
from transfer.wire.card import CARD_SIZE, Card
from transfer.wire.ids import basket_nonce, order_id
from transfer.wire.order import Order
from transfer.wire.sealing import SealingKeys, seal_order

CONNECTIONS = (1, 32, 128)
_BODIES = 100
_YEAR = 2030
_BARE_ROUNDS = 1500
_ORDER_COMPARTMENT = 1024
"""What nearly all of the sample's order compartments have."""
_PARTITION = (
    400_000  # orders: the batch key must not move on under orders that were sealed before the clock starts
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeFigures:
    """``ratio``: durable orders a second by the pairs of boxes that one core seals a second in the same run.

    ``sealed``: by the client, as a browser does it, before the clock starts.
    """

    sealed: bool
    workers: int
    connections: int
    orders: int
    bare_rate: float
    rate: float
    ratio: float
    p50_ms: float
    p99_ms: float
    server_cpu_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OverloadFigures:
    """What a rate of orders above what the intake can take does to it.

    ``goodput``: orders accepted, by the seconds in which they were sent. ``lost``: accepted and not in the spool.
    ``rate_after``: what the intake can take once the crowd is gone.
    """

    can_take: float
    offered: float
    goodput: float
    accepted: int
    busy: int
    unanswered: int
    p50_ms: float
    p99_ms: float
    lost: int
    rate_after: float


def run(*, orders: int = 4000, connections: int = 32, workers: int = 1, rounds: int = 3) -> IntakeFigures:
    """Start an intake, load it ``rounds`` times from another process; the median round counts."""
    with _served(workers) as node:
        return _median(node, sealed=False, orders=orders, connections=connections, rounds=rounds)


def run_all(*, orders: int = 3000, rounds: int = 3) -> list[IntakeFigures]:
    """Server-sealed and browser-sealed, at each number of connections, one worker."""
    with _served(1) as node:
        return [
            _median(
                node,
                sealed=sealed,
                orders=max(300, orders // 6) if connections == 1 else orders,
                connections=connections,
                rounds=rounds,
            )
            for sealed in (False, True)
            for connections in CONNECTIONS
        ]


def run_overload(*, seconds: float = 4.0, times: float = 2.0) -> OverloadFigures:
    """Measure what the intake can take, then offer ``times`` that for some seconds, then measure again."""
    with _served(1) as node:
        _load(node, "busy", 128, 1000, sealed=False)
        # The best of three, so that a moment's disturbance does not make twice the load an easy one.
        befores = [_load(node, "busy", 128, 3000, sealed=False) for _ in range(3)]
        can_take = max(load["rate"] for load in befores)
        offered = times * can_take
        at_most = _load(node, "rate", offered, int(offered * seconds), sealed=False)
        after = _load(node, "busy", 128, 3000, sealed=False)
        kept = _stored(node)
        statuses = at_most["statuses"]
        accepted = {order_id(key).hex() for load in (*befores, at_most, after) for key in load["accepted"]}
        return OverloadFigures(
            can_take=can_take,
            offered=offered,
            goodput=at_most["rate"],
            accepted=int(at_most["orders"]),
            busy=statuses.get("503", 0),
            unanswered=statuses.get("none", 0) + statuses.get("not sent", 0),
            p50_ms=at_most["p50_ms"],
            p99_ms=at_most["p99_ms"],
            lost=len(accepted - kept),
            rate_after=after["rate"],
        )


@contextmanager
def _served(workers: int) -> Iterator[Node]:
    with tempfile.TemporaryDirectory(prefix="bench-intake-") as directory:
        node = Node(Path(directory) / "node").configure(workers=workers, max_orders=_PARTITION)
        node.config.write_text(node.config.read_text().replace("[intake]", f"max_bytes = {2**31}\n[intake]"))
        node.enrol(60).start()
        try:
            yield node
        finally:
            node.stop()


def _median(node: Node, *, sealed: bool, orders: int, connections: int, rounds: int) -> IntakeFigures:
    _checked(_load(node, "busy", connections, max(100, orders // 10), sealed=sealed))
    results = [_round(node, sealed=sealed, orders=orders, connections=connections) for _ in range(rounds)]
    return sorted(results, key=lambda figures: figures.ratio)[len(results) // 2]


def _round(node: Node, *, sealed: bool, orders: int, connections: int) -> IntakeFigures:
    # The bare rate before and after, so that a machine that slows down meanwhile slows both.
    bare = bare_seal_rate()
    before = _cpu_seconds(node)
    measured = _checked(_load(node, "busy", connections, orders, sealed=sealed))
    cpu = _cpu_seconds(node) - before
    bare = (bare + bare_seal_rate()) / 2
    return IntakeFigures(
        sealed=sealed,
        workers=1,
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


def _load(node: Node, how: str, number: float, orders: int, *, sealed: bool) -> dict[str, Any]:
    lines, accepted = node.root / "lines", node.root / "accepted"
    lines.write_bytes(b"\n".join(_lines(node, orders, sealed=sealed)))
    command = [sys.executable, "-m", "tests.bench.load", "127.0.0.1", node.port, how, number, lines, accepted]
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        check=True,
        cwd=Path(__file__).parents[2],
        timeout=300,
    )
    measured: dict[str, Any] = json.loads(done.stdout)
    measured["accepted"] = accepted.read_text().split()
    return measured


def _checked(measured: dict[str, Any]) -> dict[str, Any]:
    if measured["odd"]:
        raise AssertionError(f"the intake refused orders: {measured['odd']}")
    return measured


def _lines(node: Node, orders: int, *, sealed: bool) -> Iterator[bytes]:
    catalogue = load_catalogue(SHIPPED)
    samples = [order.body for order in sample_orders(catalogue, count=_BODIES, seed=1, year=_YEAR)]
    keys = None
    if sealed:
        shown = node.get("/keys").json
        keys = SealingKeys.of(
            *(bytes.fromhex(shown[name]["public_key"]) for name in ("order_key", "batch_key"))
        )
    for body in islice(cycle(samples), orders):
        key = secrets.token_urlsafe(24)
        yield key.encode() + b" " + (body if keys is None else _sealed(body, key, keys, catalogue.prices))


def _sealed(body: bytes, key: str, keys: SealingKeys, prices: Mapping[str, Mapping[str, int]]) -> bytes:
    """What a browser sends in place of the plain ``body``."""
    plain = json.loads(body)
    of_currency = prices[plain["total"]["currency"]]
    card = plain.pop("card")
    items = [{**item, "price": of_currency[item["sku"]]} for item in plain["items"]]
    envelope = seal_order(
        msgspec.convert({**plain, "items": items}, Order),
        Card(
            pan=card["number"].replace(" ", "").encode(),
            cvv=card["security_code"].encode(),
            expiry_month=card["expiry_month"],
            expiry_year=card["expiry_year"],
        ),
        order_id=order_id(key),
        nonce=basket_nonce(key),
        keys=keys,
        now=int(time.time()),
    )
    parts = {"header": envelope.header, "order": envelope.order_box, "card": envelope.card_box}
    sealed = {name: base64.b64encode(part).decode() for name, part in parts.items()}
    return json.dumps({"items": plain["items"], "total": plain["total"], "sealed": sealed}).encode()


def _stored(node: Node) -> set[str]:
    """The ids of all orders in the spool's group files."""
    spool = Spool(node.state / "spool")
    return {
        entry.order_id
        for partition in spool.partitions()
        for path in spool.groups(partition.batch_key_id)
        for entry in read_group(path)
    }


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
