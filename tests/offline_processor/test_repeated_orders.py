"""An order id is unique for ever: the same order again changes nothing, another order under its id is put aside.

Only an order that is good claims its id: a broken copy of it, from wherever, must not keep it from being charged.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.offline_processor.forgery import with_byte_changed
from tests.offline_processor.shop import Shop, a_card, an_order, id_of
from transfer.wire.envelope import Envelope


def test_order_that_comes_again_is_charged_once(shop: Shop) -> None:
    keys = shop.keys_for(1)
    shop.bundle([shop.seal(0), shop.seal(1)])
    shop.run()
    shop.bundle([shop.seal(0, keys=keys), shop.seal(2, keys=keys)], batch_key_id=keys.batch_key_id)
    report = shop.run_later()
    assert report.known_already == 1
    assert shop.charges() == {id_of(0): 1, id_of(1): 1, id_of(2): 1}
    assert shop.state(0) == ("paid", "none", "")
    assert shop.rows("SELECT * FROM stray") == []


def test_order_twice_in_one_bundle_is_charged_once(shop: Shop) -> None:
    shop.window = 2
    shop.bundle([shop.seal(0), shop.seal(0), shop.seal(1), shop.seal(0)])
    assert shop.run().known_already == 2
    assert shop.charges() == {id_of(0): 1, id_of(1): 1}


def test_resealed_order_with_another_card_is_the_same_order(shop: Shop) -> None:
    shop.bundle([shop.seal(0), shop.seal(0, card=a_card(b"5555555555554444"))])
    shop.run()
    assert shop.rows("SELECT card FROM orders") == [("424242*4242",)]


def test_declined_order_that_comes_again_stays_declined(shop: Shop) -> None:
    shop.bundle([shop.seal(0, card=a_card(b"4000000000000002"))])
    shop.run()
    keys = shop.keys_for()
    shop.bundle([shop.seal(0, keys=keys)], batch_key_id=keys.batch_key_id)
    shop.run_later()
    assert shop.state(0) == ("declined", "card-declined", "DE39 05")


def test_known_id_with_another_basket_is_put_aside(shop: Shop) -> None:
    shop.bundle([shop.seal(0)])
    shop.run()
    keys = shop.keys_for()
    other = shop.seal(0, keys=keys, order=an_order(0, amount=1))
    shop.bundle([other, shop.seal(1, keys=keys)], batch_key_id=keys.batch_key_id)
    report = shop.run_later()
    assert report.rules == {"ORDER-ID-CONFLICT": 1}
    assert shop.rows("SELECT node, sequence, position, order_id, rule FROM stray") == [
        ("shop-a", 2, 0, id_of(0), "ORDER-ID-CONFLICT")
    ]
    assert shop.state(0) == ("paid", "none", "")
    assert shop.state(1) == ("paid", "none", "")
    assert shop.charges() == {id_of(0): 1, id_of(1): 1}
    assert shop.told(0) == ("paid", "none")


def test_known_id_with_another_basket_in_one_bundle_is_put_aside(shop: Shop) -> None:
    shop.bundle([shop.seal(0), shop.seal(0, order=an_order(0, amount=1))])
    assert shop.run().rules == {"ORDER-ID-CONFLICT": 1}
    assert shop.rows("SELECT amount FROM orders") == [(2499,)]
    assert shop.charges() == {id_of(0): 1}


def test_id_is_unique_across_nodes(shop: Shop) -> None:
    other = shop.enrol("shop-b")
    shop.bundle([shop.seal(0)])
    other.bundle([other.seal(0), other.seal(1)])
    shop.run()
    assert shop.charges() == {id_of(0): 1, id_of(1): 1}


def test_order_known_at_another_node_is_not_expired_with_its_bundle(shop: Shop) -> None:
    # The same order reached two nodes; the second one's bundle came after its key had died.
    other = shop.enrol("shop-b")
    shop.bundle([shop.seal(0)])
    shop.run()
    late = other.bundle([other.seal(0), other.seal(1)])
    late.rename(shop.root / "late")
    shop.run_later(20 * 86_400)
    shop.run_later(10 * 86_400)
    (shop.root / "late").rename(late)
    shop.run_later()
    assert shop.state(0) == ("paid", "none", "")
    assert other.told(0) == ("paid", "none")
    assert shop.state(1) == ("order-again", "expired", "KEY-DESTROYED")
    assert shop.rows("SELECT * FROM stray") == []


def test_conflict_at_another_node_is_told_there(shop: Shop) -> None:
    other = shop.enrol("shop-b")
    shop.bundle([shop.seal(0)])
    shop.run()
    other.bundle([other.seal(0, order=an_order(0, amount=1))])
    shop.run_later()
    assert other.told(0) == ("order-again", "not-readable")
    assert shop.told(0) == ("paid", "none")
    assert shop.charges() == {id_of(0): 1}


# Broken copies


def broken(shop: Shop, **options: Any) -> Envelope:
    right = shop.seal(0, **options)
    return dataclasses.replace(right, order_box=with_byte_changed(right.order_box, -1))


@pytest.mark.parametrize("amount", [2499, 1], ids=["same basket", "other basket"])
def test_good_order_takes_the_place_of_a_broken_copy(shop: Shop, amount: int) -> None:
    shop.bundle([broken(shop, order=an_order(0, amount=amount))])
    shop.run()
    assert shop.state(0)[0] == "quarantined"
    keys = shop.keys_for()
    shop.bundle([shop.seal(0, keys=keys)], batch_key_id=keys.batch_key_id)
    shop.run_later()
    assert shop.state(0) == ("paid", "none", "")
    assert shop.told(0) == ("paid", "none")
    shop.run_later()
    assert shop.keystore.ring.hold_records() == []
    assert shop.charges() == {id_of(0): 1}


@pytest.mark.parametrize("amount", [2499, 1], ids=["same basket", "other basket"])
def test_broken_copy_at_one_node_does_not_keep_the_order_of_another_from_being_charged(
    shop: Shop, amount: int
) -> None:
    other = shop.enrol("shop-b")
    other.bundle([broken(other, order=an_order(0, amount=amount))])
    shop.run()
    assert other.told(0) == ("held", "under-review")
    shop.bundle([shop.seal(0)])
    shop.run_later()
    assert shop.told(0) == ("paid", "none")
    assert other.told(0) == (("paid", "none") if amount == 2499 else ("order-again", "not-readable"))
    assert shop.charges() == {id_of(0): 1}


def test_broken_copy_behind_the_order_changes_nothing(shop: Shop) -> None:
    shop.bundle([shop.seal(0)])
    shop.run()
    keys = shop.keys_for()
    shop.bundle([broken(shop, keys=keys)], batch_key_id=keys.batch_key_id)
    shop.run_later()
    assert shop.state(0) == ("paid", "none", "")
    assert shop.keystore.ring.hold_records() == []


def test_order_that_was_ordered_again_does_not_come_back(shop: Shop) -> None:
    right = shop.seal(0)
    shop.bundle([dataclasses.replace(right, card_box=bytes(176))])
    shop.run()
    assert shop.state(0)[0] == "order-again"
    keys = shop.keys_for()
    shop.bundle([shop.seal(0, keys=keys)], batch_key_id=keys.batch_key_id)
    shop.run_later()
    assert shop.state(0)[0] == "order-again"  # its customer may have ordered under a new id since
    assert shop.charges() == {}
