"""What every test of bad orders does: put them between two good ones and see that only they go without a charge.

Why here: "the others are charged" belongs to every rule about an order.
Must not: judge which rule it should be.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.offline_processor.shop import HOLD_HOURS, HOUR, Shop, id_of
from transfer.wire.envelope import Envelope

BEFORE, BEHIND = 100, 101
BAD = 0
"""The number of a test's bad order; where there are several, they are 0, 1, 2 …"""


def run_among_good_orders(shop: Shop, *bad: Envelope | bytes) -> None:
    """One run over a bundle of a good order, the bad ones, and another good one."""
    shop.bundle([shop.seal(BEFORE), *bad, shop.seal(BEHIND)])
    shop.run()
    assert_good_ones_were_charged(shop)


def assert_good_ones_were_charged(shop: Shop) -> None:
    for number in (BEFORE, BEHIND):
        assert shop.state(number) == ("paid", "none", "")
        assert shop.told(number) == ("paid", "none")
    assert shop.charges() == {id_of(BEFORE): 1, id_of(BEHIND): 1}


def assert_waits_for_a_person(
    shop: Shop, rule: str, *, numbers: Sequence[int] = (BAD,), card: bool = True
) -> None:
    """Quarantined, told as held, with the card under a hold key if it opens; at the limit to be ordered again."""
    for _ in range(2):
        for number in numbers:
            assert shop.state(number) == ("quarantined", "under-review", rule), number
            assert shop.told(number) == ("held", "under-review")
            assert (shop.hold_key_of(number) is not None) is card
        shop.run_later(HOUR)
    shop.run_later(HOLD_HOURS * HOUR)
    for number in numbers:
        assert shop.state(number) == ("order-again", "expired", "HOLD-LIMIT")
        assert shop.told(number) == ("order-again", "expired")
    assert shop.keystore.ring.hold_records() == []
    assert shop.rows("SELECT * FROM held_card") == []
    assert shop.charges() == {id_of(BEFORE): 1, id_of(BEHIND): 1}


def assert_ordered_again_at_once(shop: Shop, rule: str, *, numbers: Sequence[int] = (BAD,)) -> None:
    """No card will ever come out of the box: the order waits for nothing and holds no key."""
    for number in numbers:
        assert shop.state(number) == ("order-again", "not-readable", rule), number
        assert shop.told(number) == ("order-again", "not-readable")
    assert shop.keystore.ring.hold_records() == []


def assert_put_aside(shop: Shop, rule: str, *, strays: int) -> None:
    """No orders of their own: they are kept as strays, by their places in the bundle."""
    found = shop.rows("SELECT node, sequence, position, rule FROM stray ORDER BY position")
    assert found == [("shop-a", 1, position, rule) for position in range(1, strays + 1)]
    assert len(shop.states()) == 2
