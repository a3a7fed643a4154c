"""Orders from all over the world, paid or sent, for the tests of exports and paper.

Why here: files, slips and labels are tried with the same people.
Must not: check anything.
"""

# ruff: noqa: RUF001  the letters are of other scripts, that is the point
from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from offline_processor.stages import OrderState
from tests.offline_processor.shop import Shop, an_order, id_of
from transfer.wire.order import Customer, Delivery, Order

WORLD: Final = (
    ("Åsa Ölund", ["Storgatan 1"], "Växjö", "", "352 30", "SE"),
    ("محمد عبد الله", ["شارع التحرير ١٢"], "القاهرة", "القاهرة", "11511", "EG"),
    ("יוסי כהן", ["רחוב הרצל 5"], "תל אביב", "", "6688101", "IL"),
    ("राम कुमार शर्मा", ["एम. जी. रोड १२"], "मुंबई", "महाराष्ट्र", "400001", "IN"),
    ("สมชาย ใจดี", ["ถนนสุขุมวิท 21"], "กรุงเทพมหานคร", "", "10110", "TH"),
    ("山田 太郎", ["千代田区丸の内1-9-1"], "東京", "東京都", "100-0005", "JP"),
    ("김철수", ["종로구 세종대로 110"], "서울특별시", "", "04524", "KR"),
    ("Иван Петров", ["ул. Ленина, д. 5", "кв. 12"], "Москва", "", "101000", "RU"),
    ("Nguyễn Văn Đức", ["12 Lê Lợi"], "Huế", "", "49000", "VN"),
)
"""Name, address lines, city, region, postcode, country."""


def world_order(number: int) -> Order:
    """An order of one of ``WORLD``'s people."""
    name, lines, city, region, postcode, country = WORLD[number % len(WORLD)]
    return replace(
        an_order(number),
        customer=Customer(name=name, email=f"person{number}@example.org"),
        delivery=Delivery(lines=lines, city=city, region=region, postcode=postcode, country=country),
    )


def order_of(number: int, *, lines: list[str] | None = None, **customer: str) -> Order:
    """A usual order with another name, email or address lines."""
    order = an_order(number)
    changed = replace(order, customer=replace(order.customer, **customer))
    return changed if lines is None else replace(changed, delivery=replace(order.delivery, lines=lines))


def paid(shop: Shop, *orders: Order) -> None:
    """These orders, numbered from 0, paid."""
    keys = shop.keys_for()
    envelopes = [shop.seal(number, keys=keys, order=order) for number, order in enumerate(orders)]
    shop.bundle(envelopes, batch_key_id=keys.batch_key_id)
    shop.run()


def in_state(shop: Shop, number: int, state: OrderState) -> None:
    """Put an order into a state, as what follows a charge does."""
    with shop.ledger() as ledger, ledger.atomic():
        ledger.execute("UPDATE orders SET state = ? WHERE order_id = ?", (state.value, id_of(number)))
