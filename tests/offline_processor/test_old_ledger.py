"""An old copy of the ledger is known for what it is before it can charge or answer anything."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from offline_processor.errors import ProcessorError
from tests.offline_processor.shop import LOST_ANSWER_CARD, Shop, a_card, id_of, next_bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def backup(shop: Shop) -> Path:
    """A copy of the ledger after the first bundle; a second one has been charged since."""
    next_bundle(shop, 0)
    shop.run()
    copy = shop.root / "backup.db"
    shutil.copy(shop.root / "state" / "ledger.db", copy)
    next_bundle(shop, 1, 2)
    shop.run_later()
    return copy


def restore(shop: Shop, copy: Path) -> None:
    for file in (shop.root / "state").glob("ledger.db*"):
        file.unlink()
    shutil.copy(copy, shop.root / "state" / "ledger.db")


def test_ledger_that_does_not_know_a_finished_bundle_charges_and_answers_nothing(
    shop: Shop, backup: Path
) -> None:
    restore(shop, backup)
    shutil.rmtree(shop.drop_out)
    for _ in range(2):
        with pytest.raises(ProcessorError, match="LEDGER-BEHIND"):
            shop.run_later()
    # The second bundle's orders were paid: "its key is destroyed, order again" would have them pay twice.
    assert id_of(1) not in shop.states()
    assert list(shop.drop_out.iterdir()) == []
    assert shop.charges() == {id_of(number): 1 for number in range(3)}


def test_lost_ledger_is_not_begun_anew(shop: Shop, backup: Path) -> None:
    shutil.rmtree(shop.root / "state")
    with pytest.raises(ProcessorError, match="LEDGER-BEHIND"):
        shop.run_later()
    assert shop.states() == {}


def test_newest_ledger_put_back_goes_on(shop: Shop, backup: Path) -> None:
    newest = shop.root / "newest.db"
    shutil.copy(shop.root / "state" / "ledger.db", newest)
    restore(shop, backup)
    with pytest.raises(ProcessorError, match="LEDGER-BEHIND"):
        shop.run_later()
    restore(shop, newest)
    next_bundle(shop, 3)
    shop.run_later()
    assert shop.charges() == {id_of(number): 1 for number in range(4)}


def test_ledger_from_before_a_held_order_was_charged_does_not_have_it_ordered_again(shop: Shop) -> None:
    shop.bundle([shop.seal(0, card=a_card(LOST_ANSWER_CARD))])
    shop.run()
    copy = shop.root / "backup.db"
    shutil.copy(shop.root / "state" / "ledger.db", copy)
    shop.run_later()
    assert shop.state(0) == ("paid", "none", "")
    restore(shop, copy)
    with pytest.raises(ProcessorError, match="LEDGER-BEHIND"):
        shop.run_later()
    assert shop.state(0)[0] == "held"
    assert shop.charges() == {id_of(0): 1}
