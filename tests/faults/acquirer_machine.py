"""An offline machine with many orders, and an acquirer's process of its own at the other end of a real line.

Why here: the sweeps over the line kill, rerun and drain the same machine in the same way.
Must not: look into the ledger while the processor runs; only the acquirer's books tell how far it is.
"""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.acquirer_judge import rows
from tests.faults.world import make_light
from tests.offline_processor.commands import configure, over_the_line
from tests.offline_processor.line import Line, simulator
from tests.offline_processor.shop import Shop, a_card, an_order, open_shop
from tests.offline_processor.traces import Cards
from tests.tools.known import ROOT
from transfer.wire.card import Card

_ORDERS_A_BUNDLE = 500
_WINDOW = 50
_IN_FLIGHT = 8
_ANSWER = 0.3
"""After so many seconds the acquirer's answer has not come."""
_PATIENCE = 120.0
_STEP = 0.002
_SETTLED_CODES = (0, 3, 5)
_DRAINING = 12
_OPEN = (
    "SELECT count(*) FROM orders WHERE state IN ('held', 'screened')",
    "SELECT count(*) FROM live_attempt WHERE state NOT IN ('approved', 'manual')",
)
_INTENTS = "SELECT count(*) FROM live_attempt WHERE state = 'intent'"
_DECLINED, _LOST = b"0002", b"0341"


@dataclass(slots=True, kw_only=True)
class Machine:
    """The machine of ``shop`` with its configuration; ``said`` keeps what its commands printed."""

    shop: Shop
    config: Path
    line: Line
    cards: Cards
    orders: int
    bug: str = "-"
    said: list[bytes] = field(default_factory=list)
    runs: int = 0
    kills: int = 0
    most_unknown: int = 0

    @property
    def books(self) -> Path:
        return self.line.books

    @property
    def ledger(self) -> Path:
        return self.shop.root / "state" / "ledger.db"

    def run(self, *, strike: Callable[[], bool] | None = None, memory: Path | None = None) -> int:
        """One run of the command; killed without warning as soon as ``strike`` says so. Its exit code.

        ``memory``: where it writes its memory at its end.
        """
        log = self.shop.root.parent / "said.log"
        with log.open("w+b") as sink:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.faults.acquirer_child",
                    self.bug,
                    str(memory or "-"),
                    "run",
                    "--config",
                    str(self.config),
                ],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
            )
            deadline = time.monotonic() + _PATIENCE
            while process.poll() is None:
                if strike is not None and strike():
                    process.kill()
                    process.wait()
                    self.kills += 1
                    break
                if time.monotonic() > deadline:
                    process.kill()
                    process.wait()
                    raise RuntimeError("a run did not end")
                time.sleep(_STEP)
        self.runs += 1
        self.said.append(log.read_bytes())
        return process.returncode

    def too_many_unknown(self) -> list[str]:
        """After a kill: more attempts without an outcome than RULES.md allows."""
        ((intents,),) = rows(self.ledger, _INTENTS) if self.ledger.exists() else [(0,)]
        self.most_unknown = max(self.most_unknown, intents)
        return [f"{intents} attempts without an outcome"] if intents > 3 * _IN_FLIGHT else []

    def seen(self) -> int:
        """The number of the newest message about an order that the acquirer has booked.

        A run that has nothing to send signs on all the same.
        """
        return self._asked("SELECT coalesce(max(id), 0) FROM booking WHERE kind != 'network'")

    def sent(self) -> int:
        """How many orders the acquirer has seen an authorisation of."""
        return self._asked("SELECT count(DISTINCT reference) FROM booking WHERE kind = 'authorisation'")

    def _asked(self, query: str) -> int:
        try:
            return int(rows(self.books, query)[0][0])
        except sqlite3.OperationalError:  # not there yet
            return 0

    def drain(self, *, memory: Path | None = None) -> list[str]:
        """Run without faults until nothing is open any more; what is wrong with that."""
        self.line.faults()
        code = None
        for _ in range(_DRAINING):
            code = self.run(memory=memory)
            if code not in _SETTLED_CODES:
                break
            if not any(rows(self.ledger, query)[0][0] for query in _OPEN):
                return []
        return [f"not drained, exit code {code}: {self.said[-1][-1500:].decode('utf-8', 'replace')}"]


@contextmanager
def machine(
    folder: Path, *, orders: int, seed: int, bug: str = "-", faults: tuple[str, ...] = ()
) -> Iterator[Machine]:
    """A machine with this many orders in its drop."""
    chance = random.Random(seed)
    root = folder / "machine"
    root.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        make_light(patch)
        shop = open_shop(root, now=int(time.time()), batch_keys=orders // _ORDERS_A_BUNDLE + 2)
    cards = [_card(chance, number) for number in range(orders)]
    for start in range(0, orders, _ORDERS_A_BUNDLE):
        keys = shop.keys_for(start // _ORDERS_A_BUNDLE)
        numbers = range(start, min(start + _ORDERS_A_BUNDLE, orders))
        shop.bundle(
            [
                shop.seal(
                    number, keys=keys, order=an_order(number, amount=1_000 + number), card=cards[number]
                )
                for number in numbers
            ],
            batch_key_id=keys.batch_key_id,
        )
    known = Cards(cvv_of={card.pan: card.cvv for card in cards})
    with simulator(folder / "acquirer.db", "--late", str(_ANSWER * 2), "--seed", str(seed)) as line:
        line.faults(*faults)
        config = over_the_line(
            configure(shop, window=_WINDOW), line.address, answer=_ANSWER, in_flight=_IN_FLIGHT
        )
        yield Machine(shop=shop, config=config, line=line, cards=known, orders=orders, bug=bug)


def _card(chance: random.Random, number: int) -> Card:
    """A distinct card; some are declined, some get no first answer."""
    last = {7: _DECLINED, 13: _LOST}.get(number % 20, f"{4300 + number % 600:04d}".encode())
    digits = "4" + "".join(chance.choices("123456789", k=11))
    return a_card(digits.encode() + last, cvv=str(chance.randrange(100, 1_000)).encode())
