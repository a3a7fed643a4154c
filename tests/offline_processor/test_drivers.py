"""Who is at the other end is asked before anything is charged: real and rehearsal keys meet their own kind only."""

from __future__ import annotations

from pathlib import Path

import pytest

from offline_processor.acquirers.drivers import Desk, _check_other_end, open_acquirer
from offline_processor.config import AcquirerConfig
from offline_processor.errors import ProcessorError
from tests.offline_processor.shop import Shop
from tests.offline_processor.simulated import SimulatedAcquirer


class Charging(SimulatedAcquirer):
    """One that does not say that it is a simulator."""

    is_simulator = False


def test_simulator_is_refused_with_real_keys(tmp_path: Path) -> None:
    acquirer = SimulatedAcquirer(tmp_path / "books.db")
    _check_other_end(acquirer, rehearsal=True)
    with pytest.raises(ProcessorError) as refused:
        _check_other_end(acquirer, rehearsal=False)
    acquirer.close()
    assert refused.value.rule == "RUN-SIMULATOR"


def test_whoever_may_charge_is_refused_with_a_rehearsals_keys(tmp_path: Path) -> None:
    acquirer = Charging(tmp_path / "books.db")
    _check_other_end(acquirer, rehearsal=False)
    with pytest.raises(ProcessorError) as refused:
        _check_other_end(acquirer, rehearsal=True)
    acquirer.close()
    assert refused.value.rule == "RUN-REHEARSAL"


def test_batch_file_without_the_acquirers_key_is_refused(shop: Shop) -> None:
    with shop.ledger() as ledger:
        desk = Desk(ledger=ledger, rehearsal=True, clock=lambda: shop.now)
        config = AcquirerConfig(driver="batch-file", books=shop.books)
        with pytest.raises(ProcessorError) as refused:
            open_acquirer(config, desk)
    assert refused.value.rule == "CONFIG-BATCH-FILE"


def test_simulator_without_books_is_refused(shop: Shop) -> None:
    with shop.ledger() as ledger:
        desk = Desk(ledger=ledger, rehearsal=True, clock=lambda: shop.now)
        with pytest.raises(ProcessorError) as refused:
            open_acquirer(AcquirerConfig(driver="simulator"), desk)
    assert refused.value.rule == "CONFIG-SIMULATOR"
