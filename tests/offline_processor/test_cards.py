"""Cards: one that does not open is ordered again at once; one of another order waits; an expired one is declined."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from keys.public.seal import seal
from tests.offline_processor.bad_order import (
    BAD,
    assert_good_ones_were_charged,
    assert_ordered_again_at_once,
    assert_waits_for_a_person,
    run_among_good_orders,
)
from tests.offline_processor.forgery import forge, with_byte_changed
from tests.offline_processor.shop import LOST_ANSWER_CARD, Shop, a_card, id_of
from transfer.wire.card import CVV, CVV_LENGTH, EXPIRY, PADDING, PAN, PAN_LENGTH

if TYPE_CHECKING:
    from collections.abc import Callable

    from transfer.wire.card import Card


def test_damaged_card_box_is_ordered_again_at_once(shop: Shop) -> None:
    rights = [shop.seal(number) for number in range(6)]
    run_among_good_orders(
        shop,
        *(
            dataclasses.replace(right, card_box=with_byte_changed(right.card_box, place))
            for right, place in zip(rights, (0, 31, 32, 47, 48, -1), strict=True)
        ),
    )
    assert_ordered_again_at_once(shop, "CARD-UNREADABLE", numbers=range(6))


def test_card_box_of_another_size_is_ordered_again_at_once(shop: Shop) -> None:
    boxes = [b"", *(seal(bytes(size), shop.keys_for().batch_key) for size in (1, 127, 129, 512))]
    run_among_good_orders(
        shop,
        *(dataclasses.replace(shop.seal(number), card_box=box) for number, box in enumerate(boxes)),
    )
    assert_ordered_again_at_once(shop, "CARD-UNREADABLE", numbers=range(len(boxes)))


def test_card_sealed_to_another_key_is_ordered_again_at_once(shop: Shop) -> None:
    wrong = dataclasses.replace(shop.keys_for(), batch_key=shop.keys_for(1).batch_key)
    run_among_good_orders(shop, shop.seal(BAD, keys=wrong))
    assert_ordered_again_at_once(shop, "CARD-UNREADABLE")


WRONG_FORMS = [
    (PAN_LENGTH, b"\x0b"),
    (PAN_LENGTH, b"\x14"),
    (PAN_LENGTH, b"\x0f"),
    (PAN, b"x"),
    (PAN, b"\0"),
    (PAN + 18, b"1"),
    (EXPIRY, b"\0"),
    (EXPIRY, b"\x0d"),
    (CVV_LENGTH, b"\x02"),
    (CVV_LENGTH, b"\x05"),
    (CVV, b"a"),
    (CVV + 3, b"1"),
    (PADDING, b"\1"),
    (127, b"\1"),
    (72, b"eur"),
    (72, b"\0\0\0"),
]


def test_card_of_the_wrong_form_is_ordered_again_at_once(shop: Shop) -> None:
    def writing(place: int, value: bytes) -> Callable[[bytearray], None]:
        def write(plaintext: bytearray) -> None:
            plaintext[place : place + len(value)] = value

        return write

    run_among_good_orders(
        shop,
        *(
            forge(shop, number, compartment=writing(place, value))
            for number, (place, value) in enumerate(WRONG_FORMS)
        ),
    )
    assert_ordered_again_at_once(shop, "CARD-FORM", numbers=range(len(WRONG_FORMS)))


def test_card_of_another_order_waits_for_a_person(shop: Shop) -> None:
    run_among_good_orders(shop, dataclasses.replace(shop.seal(BAD), card_box=shop.seal(7).card_box))
    assert_waits_for_a_person(shop, "CARD-HEADER")


def test_card_with_a_wrong_header_digest_waits_for_a_person(shop: Shop) -> None:
    run_among_good_orders(shop, forge(shop, BAD, card={"header_digest": bytes(32)}))
    assert_waits_for_a_person(shop, "CARD-HEADER")


def test_exchanged_order_compartment_waits_for_a_person(shop: Shop) -> None:
    # Whoever holds the order key's public half can seal another address to the same header; the card tells.
    def to_another_address(document: dict[str, Any]) -> None:
        document["delivery"]["lines"] = ["Elsewhere 1"]

    right, exchanged = shop.seal(BAD), forge(shop, BAD, edit=to_another_address)
    assert right.header == exchanged.header
    run_among_good_orders(shop, dataclasses.replace(right, order_box=exchanged.order_box))
    assert_waits_for_a_person(shop, "CARD-ORDER-BOX")


def test_amount_that_differs_between_compartments_waits_for_a_person(shop: Shop) -> None:
    cards: list[dict[str, Any]] = [
        {"amount": 2498},
        {"amount": 0},
        {"amount": 2**64 - 1},
        {"currency": "SEK"},
    ]
    run_among_good_orders(shop, *(forge(shop, number, card=card) for number, card in enumerate(cards)))
    assert_waits_for_a_person(shop, "ORDER-AMOUNT", numbers=range(len(cards)))


def at(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp())  # type: ignore[misc, arg-type]


@pytest.fixture
def order_of(shop: Shop) -> Callable[[Card, int], None]:
    def run_at(card: Card, now: int) -> None:
        shop.bundle([shop.seal(100), shop.seal(BAD, card=card), shop.seal(101)])
        shop.now = now
        shop.run()

    return run_at


def test_card_in_the_last_second_of_its_month_is_charged(
    shop: Shop, order_of: Callable[[Card, int], None]
) -> None:
    order_of(a_card(month=9, year=2026), at(2026, 9, 30, 23, 59, 59))
    assert shop.state(BAD) == ("paid", "none", "")


def test_card_is_expired_in_the_first_second_of_the_next_month(
    shop: Shop, order_of: Callable[[Card, int], None]
) -> None:
    order_of(a_card(month=9, year=2026), at(2026, 10, 1))
    assert shop.state(BAD) == ("declined", "card-expired", "CARD-EXPIRED")
    assert shop.told(BAD) == ("declined", "card-expired")
    assert shop.keystore.ring.hold_records() == []
    assert_good_ones_were_charged(shop)


def test_card_of_an_earlier_year_is_expired_whatever_its_month(
    shop: Shop, order_of: Callable[[Card, int], None]
) -> None:
    order_of(a_card(month=12, year=2025), at(2026, 9, 22))
    assert shop.state(BAD) == ("declined", "card-expired", "CARD-EXPIRED")


def test_kept_card_that_expires_before_its_second_attempt_is_not_sent_again(shop: Shop) -> None:
    shop.now = at(2026, 9, 30, 23, 0, 0)
    shop.bundle([shop.seal(BAD, card=a_card(LOST_ANSWER_CARD, month=9, year=2026))])
    shop.run()
    assert shop.state(BAD)[0] == "held"
    shop.run_later(2 * 3600)
    assert shop.state(BAD) == ("declined", "card-expired", "CARD-EXPIRED")
    assert shop.keystore.ring.hold_records() == []
    assert id_of(BAD) not in shop.charges()
