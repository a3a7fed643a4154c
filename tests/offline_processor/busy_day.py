"""A ledger after a day of any size: orders and entries as a run leaves them, written in bulk.

Why here: report and bench need 100,000 orders, and charging them takes minutes.
Must not: differ from a run's entries in what the report reads; a test compares the two.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from offline_processor.ledger.ledger import Ledger, Row
from offline_processor.ledger.staging import _person_encoder
from tests.offline_processor.parcels import world_order

CARDS: Final = ("424242*4242", "555555*4444", "371449*8431", "620000*0005", "601111*1117", "353011*0505")
CURRENCIES: Final = (
    ("EUR", 2499),
    ("GBP", 1999),
    ("USD", 3150),
    ("JPY", 2800),
    ("BHD", 12_500),
    ("SEK", 24_900),
)
_STATES: Final = {
    "approved": ("paid", "none", ""),
    "declined": ("declined", "card-declined", "DE39 05"),
    "unknown": ("held", "none", "CHARGE-NO-ANSWER"),
}
_IN_ONE: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One order as it was made."""

    order_id: str
    card: str
    currency: str
    amount: int
    state: str
    at: int


def busy_day(
    ledger: Ledger, orders: int, *, start: int, seed: int = 1, people: bool = False, declined: float = 0.06
) -> list[Made]:
    """Orders of a day that begins at ``start`` (Unix seconds): most by day, a few unknown; with their people or not."""
    chance = random.Random(seed)
    hours = sorted(min(23.99, max(0.0, chance.gauss(14, 4))) * 3600 for _ in range(orders))
    first = ledger.counter("orders")
    made: list[Made] = []
    for begin in range(0, orders, _IN_ONE):
        rows: list[Row] = []
        persons: list[Row] = []
        with ledger.atomic():
            for place in range(begin, min(begin + _IN_ONE, orders)):
                currency, price = chance.choice(CURRENCIES)
                drawn = chance.random()
                state = (
                    "declined" if drawn < declined else "unknown" if drawn < declined + 0.002 else "approved"
                )
                one = Made(
                    order_id=chance.randbytes(16).hex(),
                    card=chance.choice(CARDS),
                    currency=currency,
                    amount=price * chance.randint(1, 3),
                    state=state,
                    at=start + int(hours[place]),
                )
                made.append(one)
                number = first + place + 1
                after, reason, rule = _STATES[state]
                common = (number, one.order_id, "shop-a", 1, place, b"", one.amount, currency)
                rows.append((*common, after, reason, rule, one.card, 1, one.at, 1, 0))
                if people:
                    order = world_order(place)
                    text = _person_encoder.encode((order.items, order.customer, order.delivery)).decode()
                    persons.append((number, text, b""))
                facts = {"attempt": 1, "code": "", "stan": place % 999_999 + 1, "state": state}
                ledger.append("attempt", one.order_id, one.at, facts)
            ledger.execute_many(
                "INSERT INTO orders (number, order_id, node, sequence, position, basket_digest, amount, currency,"
                " state, reason, rule, card, attempts, changed_at, told, release_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            ledger.execute_many("INSERT INTO person (number, person, salt) VALUES (?, ?, ?)", persons)
            ledger.set_counter("orders", first + begin + len(rows))
    return made
