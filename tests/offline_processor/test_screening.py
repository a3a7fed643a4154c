"""Screening: an order whose parts do not belong together waits for a person; the others are charged."""

from __future__ import annotations

import dataclasses
from typing import Any

from msgspec.structs import replace

from tests.offline_processor.bad_order import (
    BAD,
    assert_waits_for_a_person,
    run_among_good_orders,
)
from tests.offline_processor.forgery import Edit, forge
from tests.offline_processor.shop import Shop, an_order
from transfer.wire.order import Item, Total


def test_wrong_header_digest_waits_for_a_person(shop: Shop) -> None:
    run_among_good_orders(shop, forge(shop, BAD, edit=lambda document: document.update(header="00" * 32)))
    assert_waits_for_a_person(shop, "ORDER-HEADER")


def test_changed_header_is_known_by_its_digest(shop: Shop) -> None:
    right = shop.seal(BAD)
    later = bytearray(right.header)
    later[59] ^= 1  # the time, which nothing else depends on
    run_among_good_orders(shop, dataclasses.replace(right, header=bytes(later)))
    assert_waits_for_a_person(shop, "ORDER-HEADER")


def test_order_compartment_of_another_order_waits_for_a_person(shop: Shop) -> None:
    right, other = shop.seal(BAD), shop.seal(7)
    run_among_good_orders(shop, dataclasses.replace(right, order_box=other.order_box))
    assert_waits_for_a_person(shop, "ORDER-HEADER")


def test_basket_that_differs_from_the_header_waits_for_a_person(shop: Shop) -> None:
    def edit(name: str) -> Edit:
        def change(document: dict[str, Any]) -> None:
            match name:
                case "nonce":
                    document["nonce"] = "ab" * 32
                case "amount":
                    document["total"]["amount"] = 2500
                case "currency":
                    document["total"]["currency"] = "SEK"
                case _:
                    document["items"][0].update({name: {"sku": "LP-9999"}.get(name, 2)})

        return change

    names = ("nonce", "amount", "currency", "sku", "price", "quantity")
    run_among_good_orders(shop, *(forge(shop, number, edit=edit(name)) for number, name in enumerate(names)))
    assert_waits_for_a_person(shop, "ORDER-BASKET-DIGEST", numbers=range(len(names)))


def test_basket_digest_of_another_header_waits_for_a_person(shop: Shop) -> None:
    run_among_good_orders(shop, forge(shop, BAD, header={"basket_digest": bytes(32)}))
    assert_waits_for_a_person(shop, "ORDER-BASKET-DIGEST")


def test_total_that_is_not_the_sum_waits_for_a_person(shop: Shop) -> None:
    totals = [Total(amount=amount, currency="EUR") for amount in (2498, 2500, 1, 10**12)]
    orders = [replace(an_order(number), total=total) for number, total in enumerate(totals)]
    beyond = [Item(sku="LP-0001", quantity=999, price=10**12)] * 100
    orders.append(replace(an_order(len(totals)), items=beyond))
    run_among_good_orders(shop, *(forge(shop, number, order=order) for number, order in enumerate(orders)))
    assert_waits_for_a_person(shop, "ORDER-TOTAL", numbers=range(len(orders)))


def test_unknown_currency_waits_for_a_person(shop: Shop) -> None:
    orders = [an_order(currency=currency) for currency in ("ZZZ", "XXX", "XAU", "EUX")]
    run_among_good_orders(shop, *(forge(shop, number, order=order) for number, order in enumerate(orders)))
    assert_waits_for_a_person(shop, "ORDER-CURRENCY", numbers=range(len(orders)))


def test_currencies_of_any_number_of_decimals_are_charged(shop: Shop) -> None:
    currencies = ("EUR", "JPY", "KWD", "CLF")
    shop.bundle(
        [
            shop.seal(number, order=an_order(number, currency=currency))
            for number, currency in enumerate(currencies)
        ]
    )
    assert shop.run().paid == dict.fromkeys(currencies, 2499)
