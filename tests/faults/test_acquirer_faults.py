"""Every fault of an acquirer's line at every kind of message, then drained: nobody is charged twice, nothing is lost.

Why here: each way to lose an outcome is met alone and with certainty before the sweep of kills mixes them.
Must not: judge by what the code under test says of itself; the acquirer's books are asked.

Environment: FAULTS_LINE_CASES (how many of the cases), FAULTS_SEED.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from offline_processor.acquirers.iso8583.driver import Iso8583Acquirer, open_iso8583
from offline_processor.acquirers.iso8583.mac import Algorithm
from offline_processor.acquirers.simulator.books import Kind
from offline_processor.acquirers.simulator.faults import WIRE_FAULTS, Fault
from offline_processor.config import AcquirerConfig
from tests.faults.acquirer_judge import judge, read_books, rows
from tests.faults.sweep import at_most, seed
from tests.faults.world import make_light
from tests.offline_processor.commands import profile_with
from tests.offline_processor.line import Line, simulator
from tests.offline_processor.mac_keys import CHECKS, key_file
from tests.offline_processor.shop import HOUR, Shop, an_order, open_shop

pytestmark = pytest.mark.faults

_ORDERS = 12
_RUNS = 4
_ANSWER = 0.25
_MEANT = (Fault.PARTIAL, Fault.WRONG_CODE_APPROVED, Fault.OTHER_AMOUNT, Fault.OTHER_CURRENCY)
_CASES = [
    (fault, kind)
    for kind in (Kind.AUTHORISATION, Kind.REVERSAL, Kind.CAPTURE)
    for fault in (*WIRE_FAULTS, Fault.WRONG_MAC)
]
_CASES += [(fault, Kind.AUTHORISATION) for fault in _MEANT]


def _some() -> list[tuple[Fault, Kind]]:
    return random.Random(seed()).sample(_CASES, min(len(_CASES), at_most("LINE_CASES", len(_CASES))))


def _dialled(shop: Shop, line: Line, profile: Path, key: Path | None) -> Iso8583Acquirer:
    config = AcquirerConfig(
        driver="iso8583",
        profile=str(profile),
        address=line.address,
        terminal="SHOP0001",
        merchant="RECORDSTORE0001",
        mac_key=key,
        mac_key_check="" if key is None else CHECKS["retail"],
    )
    return open_iso8583(config, now=lambda: shop.now, clock=time.monotonic, sleep=lambda seconds: None)


@pytest.mark.parametrize(("fault", "kind"), _some())
def test_after_every_fault_books_and_ledger_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Callable[[str], None], fault: Fault, kind: Kind
) -> None:
    make_light(monkeypatch)
    shop = open_shop(tmp_path / "shop")
    keys = shop.keys_for()
    envelopes = [shop.seal(one, keys=keys, order=an_order(one, amount=1_000 + one)) for one in range(_ORDERS)]
    shop.bundle(envelopes, batch_key_id=keys.batch_key_id)
    mac: Algorithm | None = "retail" if fault is Fault.WRONG_MAC else None
    profile = profile_with(tmp_path, answer=_ANSWER, mac=mac)
    key = None if mac is None else key_file(tmp_path, mac)
    options = ["--profile", str(profile), *(["--mac-key", str(key)] if key else [])]
    struck = f"{fault}@{kind}/3"
    with simulator(tmp_path / "acquirer.db", "--late", str(_ANSWER * 2), *options) as line:
        line.faults(struck, *(["lost-after@authorisation/2"] if kind is Kind.REVERSAL else []))
        shop.run(_dialled(shop, line, profile, key))
        line.faults(struck)
        shop.now += HOUR
        shop.run(_dialled(shop, line, profile, key))
        line.faults()
        for _ in range(_RUNS):
            shop.now += HOUR
            shop.run(_dialled(shop, line, profile, key))
    ledger = shop.root / "state" / "ledger.db"
    found = judge(ledger, line.books)
    shop.keystore.close()
    lines = list(read_books(line.books))
    times = sum(1 for booked in lines if booked.fault == fault and booked.kind == kind)
    states = dict(rows(ledger, "SELECT state, count(*) FROM orders GROUP BY state"))
    say(
        f"{fault} at {kind}: struck {times} times, {len(lines)} messages, orders {states}, wrong {len(found.any)}"
    )
    assert times > 0
    assert found.any == []
    assert states.get("paid", 0) > 0
