"""A ledger with four people in it, for the tests of what becomes of them.

Why here: a shop with keys and cards takes seconds, and an erasure needs neither.
Must not: be used where an order is charged.
"""

from __future__ import annotations

import os

import msgspec

from offline_processor.ledger.ledger import Ledger
from transfer.wire.order import Customer, Delivery, Item


def four_people(ledger: Ledger) -> None:
    """Orders 1 to 4, paid, each of a person of their own whose address is ``person-NUMBER@example.org``."""
    with ledger.atomic():
        ledger.append("begun", "test", 1000, {})
        for number in range(1, 5):
            person = msgspec.json.encode(
                (
                    [Item(sku="S", quantity=1, price=1)],
                    Customer(name=f"Person {number} Longname", email=f"person-{number}@example.org"),
                    Delivery(lines=[f"Street of {number}"], city="C", region="", postcode="", country="SE"),
                )
            )
            ledger.execute(
                "INSERT INTO orders (number, order_id, node, sequence, position, basket_digest, amount, currency,"
                " state, reason, rule, card, attempts, changed_at, told)"
                " VALUES (?, ?, 'n', 1, ?, x'00', 1, 'EUR', 'paid', 'none', '', '', 1, 1000, 0)",
                (number, f"{number:032x}", number),
            )
            ledger.execute(
                "INSERT INTO person (number, person, salt) VALUES (?, ?, ?)",
                (number, person.decode(), os.urandom(16)),
            )
