"""Every fault of an acquirer's line at every kind of message, then drained: nobody is charged twice, nothing is lost.

Why here: each way to lose an outcome is met alone and with certainty before the sweep of kills mixes them.
Must not: judge by what the code under test says of itself; the acquirer's books are asked.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from offline_processor.acquirers.simulator.books import Kind
from offline_processor.acquirers.simulator.faults import Fault
from tests.faults.acquirer_judge import judge, read_books, rows
from tests.faults.world import make_light
from tests.offline_processor.shop import HOUR, an_order, open_shop
from tests.offline_processor.simulated import SimulatedAcquirer

pytestmark = pytest.mark.faults

_ORDERS = 12
_RUNS = 8
_CAPTURES = False
"""Not yet: what is approved is not captured by a message of its own."""

_KINDS = (Kind.AUTHORISATION, Kind.REVERSAL)
_FAULTS = [fault for fault in Fault if fault and fault is not Fault.OUT_OF_BALANCE]


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("fault", _FAULTS)
def test_after_every_fault_books_and_ledger_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Callable[[str], None], fault: Fault, kind: Kind
) -> None:
    make_light(monkeypatch)
    shop = open_shop(tmp_path)
    keys = shop.keys_for()
    envelopes = [shop.seal(one, keys=keys, order=an_order(one, amount=1_000 + one)) for one in range(_ORDERS)]
    shop.bundle(envelopes, batch_key_id=keys.batch_key_id)
    rules = [f"{fault}@{kind}/3", *(["lost-after@authorisation/2"] if kind is Kind.REVERSAL else [])]
    shop.run(SimulatedAcquirer(shop.books, faults=rules))
    shop.now += HOUR
    shop.run(SimulatedAcquirer(shop.books, faults=rules[:1]))
    for _ in range(_RUNS):
        shop.run_later(HOUR)
    ledger = shop.root / "state" / "ledger.db"
    found = judge(ledger, shop.books, captured=_CAPTURES)
    shop.keystore.close()
    lines = list(read_books(shop.books))
    struck = sum(1 for line in lines if line.fault == fault and line.kind == kind)
    states = dict(rows(ledger, "SELECT state, count(*) FROM orders GROUP BY state"))
    say(
        f"{fault} at {kind}: struck {struck} times, {len(lines)} messages, orders {states}, wrong {len(found.any)}"
    )
    assert struck > 0
    assert found.any == []
    assert states.get("paid", 0) > 0
