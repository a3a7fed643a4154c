"""Whose data an export may have: orders in the right state, not exported before, of people who did not object.

Why here: all exports choose by one code, and what they do not take is named with a reason, never lost.
Must not: give out a field that the purpose does not declare.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from offline_processor.exports.purposes import Declared, Field
from offline_processor.ledger.ledger import Ledger, Row
from offline_processor.ledger.restrictions import ALL, Restrictions
from offline_processor.stages import OrderState
from transfer.wire.order import Customer, Delivery, Item

_SELECT: Final = (
    "SELECT o.number, o.order_id, o.state, o.amount, o.currency, o.release_at, p.person,"
    " EXISTS (SELECT 1 FROM disclosure AS d JOIN export AS e ON e.id = d.export WHERE d.number = o.number"
    "   AND e.purpose = ? AND e.state != 'withdrawn'),"
    " EXISTS (SELECT 1 FROM operation AS v WHERE v.number = o.number AND v.kind = 'void' AND v.state != 'failed'"
    "   AND o.state = 'authorised'),"
    " EXISTS (SELECT 1 FROM operation AS c WHERE c.number = o.number AND c.kind = 'capture' AND c.state = 'failed'"
    "   AND c.id NOT IN (SELECT id FROM case_closed) AND NOT (o.state = 'paid' AND EXISTS (SELECT 1 FROM operation"
    "   AS s WHERE s.number = o.number AND s.kind = 'capture' AND s.state != 'failed'))),"
    " coalesce((SELECT sum(r.amount) FROM operation AS r WHERE r.number = o.number AND r.kind = 'refund'"
    "   AND r.state != 'failed'), 0) >= o.amount"
    " FROM orders AS o LEFT JOIN person AS p USING (number)"
)
_BOUND: Final = 500  # values in one query
_decoder = msgspec.json.Decoder(tuple[list[Item], Customer, Delivery], strict=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """An order with its person's data, for one purpose: what it does not declare is empty.

    ``amount`` in minor units.
    """

    number: int
    order_id: str
    amount: int = 0
    currency: str = ""
    name: str = field(default="", repr=False)
    email: str = field(default="", repr=False)
    lines: tuple[str, ...] = field(default=(), repr=False)
    city: str = field(default="", repr=False)
    region: str = field(default="", repr=False)
    postcode: str = field(default="", repr=False)
    country: str = ""
    goods: tuple[tuple[str, int], ...] = ()

    def texts(self) -> tuple[str, ...]:
        """Every text that a person wrote."""
        return (self.name, self.email, *self.lines, self.city, self.region, self.postcode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """An order that is not in the export: its rule, and why in words that name no person."""

    order_id: str
    rule: str
    why: str

    def as_document(self) -> dict[str, str]:
        """For ``--json``."""
        return {"order": self.order_id, "rule": self.rule, "why": self.why}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Which orders: all that are due, or the named ones (``again``: also when they were exported before)."""

    orders: tuple[str, ...] = ()
    again: bool = False


@dataclass(slots=True, kw_only=True)
class Selection:
    """Who may be in an export. ``waiting``: goods not released yet; ``opted_out``: people who do not want this.

    ``erased``: orders of people whose data is gone; they are rejects only where somebody named them.
    """

    people: list[Person] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    waiting: int = 0
    opted_out: int = 0
    erased: int = 0


def select(ledger: Ledger, declared: Declared, wish: Wish, *, now: int) -> Selection:
    """Everyone whose order is due for this purpose, or those that were named, each once, oldest order first."""
    found = Selection()
    restrictions = Restrictions(ledger)
    seen = set()
    for row in _rows(ledger, declared, wish):
        seen.add(str(row[1]))
        _judge(found, declared, wish, restrictions, row, now)
    found.rejects += [
        Reject(order_id=order, rule="EXPORT-ROW-UNKNOWN", why="this ledger has no such order")
        for order in dict.fromkeys(wish.orders)
        if order not in seen
    ]
    return found


def _rows(ledger: Ledger, declared: Declared, wish: Wish) -> Iterator[Row]:
    purpose = declared.purpose.value
    if not wish.orders:
        states = sorted(declared.states)
        marks = ",".join("?" * len(states))
        query = f"{_SELECT} WHERE o.state IN ({marks}) ORDER BY o.number"
        yield from ledger.rows(query, (purpose, *states))
        return
    named = sorted(set(wish.orders))
    rows: list[Row] = []
    for start in range(0, len(named), _BOUND):
        some = named[start : start + _BOUND]
        query = f"{_SELECT} WHERE o.order_id IN ({','.join('?' * len(some))})"
        rows += ledger.rows(query, (purpose, *some))
    yield from sorted(rows)


def _judge(
    found: Selection, declared: Declared, wish: Wish, restrictions: Restrictions, row: Row, now: int
) -> None:
    number, order_id, state, amount, currency, release_at, text, before, *against = row
    if before and not wish.again:
        if wish.orders:
            _reject(
                found, order_id, "EXPORT-ROW-REPEATED", "it was exported before; say --again if you mean it"
            )
    elif OrderState(state) not in declared.states:
        _reject(found, order_id, "EXPORT-ROW-STATE", f"it is {state}")
    elif text is None:
        found.erased += not wish.orders
        if wish.orders:
            _reject(found, order_id, "EXPORT-ROW-ERASED", "its person's data was erased")
    elif release_at > now and OrderState(state) is not OrderState.DISPATCHED:
        found.waiting += 1
    elif any(against):
        why = "the acquirer refused to take the money" if against[1] else "it was called off"
        _reject(found, order_id, "EXPORT-ROW-UNPAID", why)
    else:
        goods, customer, delivery = _decoder.decode(text)
        wishes = restrictions.of(customer.email)
        if declared.by_choice and wishes & {ALL, declared.purpose.value}:
            found.opted_out += 1
        elif ALL in wishes:
            why = "its person asked that the data be kept and not used"
            _reject(found, order_id, "EXPORT-ROW-RESTRICTED", why)
        else:
            paid = (amount, currency)
            found.people.append(_person(declared, number, order_id, paid, goods, customer, delivery))


def _person(
    declared: Declared,
    number: int,
    order_id: str,
    paid: tuple[int, str],
    goods: list[Item],
    customer: Customer,
    delivery: Delivery,
) -> Person:
    """The declared fields of one order; every other one stays empty."""
    given: dict[Field, dict[str, Any]] = {
        Field.NAME: {"name": customer.name},
        Field.EMAIL: {"email": customer.email},
        Field.LINES: {"lines": tuple(delivery.lines)},
        Field.CITY: {"city": delivery.city},
        Field.REGION: {"region": delivery.region},
        Field.POSTCODE: {"postcode": delivery.postcode},
        Field.COUNTRY: {"country": delivery.country},
        Field.GOODS: {"goods": tuple((item.sku, item.quantity) for item in goods)},
        Field.VALUE: {"amount": paid[0], "currency": paid[1]},
    }
    allowed: dict[str, Any] = {}
    for declared_field in declared.fields:
        allowed |= given.get(declared_field, {})
    return Person(number=number, order_id=order_id, **allowed)


def _reject(found: Selection, order_id: str, rule: str, why: str) -> None:
    found.rejects.append(Reject(order_id=order_id, rule=rule, why=why))
