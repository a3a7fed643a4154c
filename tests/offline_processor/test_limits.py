"""How long a security code can live: the limits of batch and hold keys, to the second (DESIGN.md, section 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keys.ring_index import DestroyReason, KeyRole
from tests.offline_processor.acquirers import BadLine, silent
from tests.offline_processor.forgery import forge
from tests.offline_processor.shop import HOLD_HOURS, HOUR, LOST_ANSWER_CARD, NOW, Shop, a_card, id_of

if TYPE_CHECKING:
    from keys.ring_index import Destroyed
    from offline_processor.workplace import RunReport

LIMIT = HOLD_HOURS * HOUR


def run_in_silence(shop: Shop, *, at: int) -> RunReport:
    """A run whose acquirer answers nothing, neither authorisation nor reversal."""
    shop.now = at
    return shop.run(BadLine(path=shop.books, authorising=silent, reversing=silent))


def ends(shop: Shop) -> list[Destroyed]:
    return shop.keystore.ring.destroyed_records()


def test_opened_batch_key_lives_to_the_hold_limit_and_not_a_second_longer(shop: Shop) -> None:
    shop.window = 1
    key_id = shop.keys_for().batch_key_id
    shop.bundle([shop.seal(0), shop.seal(1)])
    for at in (NOW, NOW + LIMIT - 1):
        assert run_in_silence(shop, at=at).acquirer_silent
        assert shop.keystore.ring.batch_key(key_id) is not None
    run_in_silence(shop, at=NOW + LIMIT)
    assert shop.keystore.ring.batch_key(key_id) is None
    assert [(end.reason, end.opened_at, end.destroyed_at) for end in ends(shop)] == [
        (DestroyReason.LIMIT, NOW, NOW + LIMIT)
    ]


def test_hold_key_lives_to_its_limit_whatever_is_tried_meanwhile(shop: Shop) -> None:
    shop.bundle([shop.seal(0), forge(shop, 1, card={"amount": 1})])
    run_in_silence(shop, at=NOW)
    keys = {record.order_id: record for record in shop.keystore.ring.hold_records()}
    assert set(keys) == {id_of(0), id_of(1)}
    assert {record.destroy_at for record in keys.values()} == {NOW + LIMIT}
    for at in (NOW + HOUR, NOW + 2 * HOUR, NOW + LIMIT - 1):
        run_in_silence(shop, at=at)
        assert {record.order_id: record for record in shop.keystore.ring.hold_records()} == keys
    run_in_silence(shop, at=NOW + LIMIT)
    assert shop.keystore.ring.hold_records() == []
    assert {end.reason for end in ends(shop) if end.role is KeyRole.HOLD} == {DestroyReason.LIMIT}
    # The security code is dead, the order whose outcome nobody knows is not.
    assert shop.state(0)[0] == "held"
    assert shop.state(1) == ("order-again", "expired", "HOLD-LIMIT")
    shop.run_later()
    assert shop.state(0) == ("order-again", "expired", "HOLD-LIMIT")
    assert shop.charges() == {}


def test_hold_key_dies_in_the_run_that_brings_the_answer(shop: Shop) -> None:
    shop.bundle([shop.seal(0, card=a_card(LOST_ANSWER_CARD))])
    shop.run()
    (record,) = shop.keystore.ring.hold_records()
    shop.run_later()
    assert shop.state(0)[0] == "paid"
    assert shop.keystore.ring.hold_records() == []
    end = ends(shop)[-1]
    assert (end.key_id, end.reason, end.destroyed_at) == (record.key_id, DestroyReason.ANSWERED, shop.now)
    assert shop.rows("SELECT * FROM held_card") == []


def test_batch_key_is_dead_before_its_bundle_is_settled_and_the_cards_are_kept_before_it_dies(
    shop: Shop,
) -> None:
    shop.bundle([shop.seal(0, card=a_card(LOST_ANSWER_CARD)), shop.seal(1)])
    shop.run()
    kinds = [
        kind
        for (kind,) in shop.rows(
            "SELECT kind FROM entry WHERE kind IN ('card-held', 'key-emptied', 'key-destroyed', 'bundle-settled')"
        )
    ]
    assert kinds == ["card-held", "key-emptied", "key-destroyed", "bundle-settled"]


def test_unused_batch_key_dies_at_destroy_at_and_not_a_second_before(shop: Shop) -> None:
    issued = NOW - 1000
    key = shop.keystore.ring.unused("shop-a")[0]
    assert key.destroy_at == issued + shop.keystore.periods.batch_destroy
    shop.now = key.destroy_at - 1
    shop.run()
    assert shop.keystore.ring.batch_key(key.key_id) is not None
    shop.run_later(1)
    assert shop.keystore.ring.batch_key(key.key_id) is None
    gone = shop.keystore.ring.find_destroyed(key.key_id)
    assert gone is not None
    assert (gone.reason, gone.destroyed_at) == (DestroyReason.EXPIRED, key.destroy_at)
