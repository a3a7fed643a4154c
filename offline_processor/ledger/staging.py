"""Staging: judged orders enter the ledger, each id once, and what cannot be an order of its own is put aside.

Why here: an order id is unique across all nodes for ever, and this is where that is kept.
Must not: commit by itself, or let an order that was not screened claim an id for good.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from keys.public.digest import digest, equal
from offline_processor.capturing import Capture
from offline_processor.ledger.bundles import chain_of
from offline_processor.ledger.ledger import Ledger, Row
from offline_processor.ledger.reports import settle_staged
from offline_processor.stages import OrderState, Quarantined, ScreenedOrder, Settled

_SALT_SIZE = 16
_STAGE = (
    "INSERT INTO orders (number, order_id, node, sequence, position, basket_digest, amount, currency, state,"
    " reason, rule, card, attempts, changed_at, told, release_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', 0, ?, ?, ?)"
)
_PERSON = "INSERT INTO person (number, person, salt) VALUES (?, ?, ?)"
_STRAY = "INSERT INTO stray (node, sequence, position, order_id, rule, at, told) VALUES (?, ?, ?, ?, ?, ?, ?)"
_person_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """What of a window was not new: orders known already, and the rules of what was put aside as strays.

    ``reported``: the outcomes of orders that the acquirer's report shows charged (ledger/reports.py).
    """

    repeated: int
    strays: list[str]
    reported: tuple[Settled, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """An order that has this id already. ``takeable``: quarantined, so it was never charged and claims nothing."""

    number: int
    node: str
    sequence: int
    position: int
    basket_digest: bytes
    takeable: bool


def stage(
    ledger: Ledger,
    judged: Sequence[ScreenedOrder | Quarantined],
    *,
    node: str,
    sequence: int,
    releases: Mapping[str, int] | None = None,
    capture: Capture = "sale",
    now: int,
) -> Staged:
    """Record a window of judged orders. ``releases``: when the goods of a SKU are there (Unix seconds).

    ``capture``: when what the report shows charged is taken, as configured.
    The same id with the same basket is the same order again and changes nothing; with another basket it is put
    aside (``ORDER-ID-CONFLICT``). Only a screened order claims its id: it takes the place of a quarantined one.
    """
    known = _known(ledger, judged)
    next_return = chain_of(ledger, node).return_number + 1
    rows: list[Row] = []
    people: list[Row] = []
    strays: list[Row] = []
    repeated = 0
    number = ledger.counter("orders")
    for order in judged:
        before = known.get(order.order_id or "")
        if order.order_id is None:
            strays.append((node, sequence, order.position, "", order.rule, now, 0))
        elif before is not None and before.takeable and isinstance(order, ScreenedOrder):
            release = _release(order, releases or {})
            _take_over(ledger, order, before, node=node, sequence=sequence, release=release, now=now)
            people.append((before.number, *_person(order)))
            known[order.order_id] = _claim(order, before.number, node, sequence)
        elif before is not None and equal(before.basket_digest, order.basket_digest):
            repeated += 1
            _repeat(ledger, order.order_id, node=node, told=next_return)
            ledger.append("repeated", order.order_id, now, {"node": node, "sequence": sequence})
        elif before is not None:
            told = next_return if before.node != node else 0
            strays.append((node, sequence, order.position, order.order_id, "ORDER-ID-CONFLICT", now, told))
        else:
            number += 1
            known[order.order_id] = _claim(order, number, node, sequence)
            place = (number, order.order_id, node, sequence, order.position, order.basket_digest)
            if isinstance(order, ScreenedOrder):
                release = _release(order, releases or {})
                rows.append((*place, order.amount, order.currency, "screened", "none", "", now, 0, release))
                people.append((number, *_person(order)))
                _append_screened(ledger, order, people[-1], node=node, sequence=sequence, now=now)
            else:
                rows.append((*place, 0, "", "quarantined", "under-review", order.rule, now, next_return, 0))
                facts = {"node": node, "sequence": sequence, "rule": order.rule}
                ledger.append("quarantined", order.order_id, now, facts)
    ledger.set_counter("orders", number)
    ledger.execute_many(_STAGE, rows)
    ledger.execute_many(_PERSON, people)
    _put_aside(ledger, strays)
    screened = [order.order_id for order in judged if isinstance(order, ScreenedOrder)]
    reported = settle_staged(ledger, screened, capture=capture, now=now)
    return Staged(repeated=repeated, strays=[stray[4] for stray in strays], reported=tuple(reported.values()))


def _release(order: ScreenedOrder, releases: Mapping[str, int]) -> int:
    """When the last of an order's pre-ordered goods is there; 0 when none is pre-ordered."""
    return max((releases.get(item.sku, 0) for item in order.compartment.items), default=0)


def _claim(order: ScreenedOrder | Quarantined, number: int, node: str, sequence: int) -> _Known:
    # Within its own window nothing is taken over: the rows are not written yet, and both came from one node.
    return _Known(
        number=number,
        node=node,
        sequence=sequence,
        position=order.position,
        basket_digest=order.basket_digest,
        takeable=False,
    )


def _person(order: ScreenedOrder) -> tuple[str, bytes]:
    """Who ordered what, to be sent where, and the salt of its digest."""
    compartment = order.compartment
    person = _person_encoder.encode((compartment.items, compartment.customer, compartment.delivery))
    return person.decode(), os.urandom(_SALT_SIZE)


def _append_screened(
    ledger: Ledger, order: ScreenedOrder, person: Row, *, node: str, sequence: int, now: int
) -> None:
    _, text, salt = person
    facts = {
        "node": node,
        "sequence": sequence,
        "amount": order.amount,
        "currency": order.currency,
        "person": digest("person", salt, text.encode(), size=16).hex(),
    }
    ledger.append("screened", order.order_id, now, facts)


def _take_over(
    ledger: Ledger,
    order: ScreenedOrder,
    before: _Known,
    *,
    node: str,
    sequence: int,
    release: int,
    now: int,
) -> None:
    """A good order takes the place of a quarantined one of the same id, which is put aside."""
    ledger.execute("DELETE FROM held_card WHERE order_id = ?", (order.order_id,))
    ledger.execute(
        "UPDATE orders SET node = ?, sequence = ?, position = ?, basket_digest = ?, amount = ?, currency = ?,"
        " state = 'screened', reason = 'none', rule = '', changed_at = ?, told = 0, release_at = ?, capture = ''"
        " WHERE number = ?",
        (
            node,
            sequence,
            order.position,
            order.basket_digest,
            order.amount,
            order.currency,
            now,
            release,
            before.number,
        ),
    )
    told = chain_of(ledger, before.node).return_number + 1
    if equal(before.basket_digest, order.basket_digest):
        _repeat(ledger, order.order_id, node=before.node, told=told)
    else:
        aside = (before.node, before.sequence, before.position, order.order_id, "ORDER-ID-CONFLICT", now)
        _put_aside(ledger, [(*aside, told if before.node != node else 0)])
    facts = {"node": node, "sequence": sequence, "amount": order.amount, "currency": order.currency}
    ledger.append("taken-over", order.order_id, now, facts)


def _repeat(ledger: Ledger, order_id: str, *, node: str, told: int) -> None:
    ledger.execute(
        "INSERT OR REPLACE INTO repeat (order_id, node, told) VALUES (?, ?, ?)", (order_id, node, told)
    )


def _put_aside(ledger: Ledger, strays: list[Row]) -> None:
    ledger.execute_many(_STRAY, strays)
    for node, sequence, position, order_id, rule, now, _ in strays:
        ledger.append("stray", f"{node}/{sequence}/{position}", now, {"order": order_id, "rule": rule})


def _known(ledger: Ledger, judged: Iterable[ScreenedOrder | Quarantined]) -> dict[str, _Known]:
    ids = [order.order_id for order in judged if order.order_id is not None]
    marks = ",".join("?" * len(ids))
    rows = ledger.rows(
        "SELECT order_id, number, node, sequence, position, basket_digest, state, attempts FROM orders"  # noqa: S608
        f" WHERE order_id IN ({marks})",
        tuple(ids),
    )
    return {
        order_id: _Known(
            number=number,
            node=node,
            sequence=sequence,
            position=position,
            basket_digest=basket_digest,
            takeable=state == OrderState.QUARANTINED and attempts == 0,
        )
        for order_id, number, node, sequence, position, basket_digest, state, attempts in rows
    }
