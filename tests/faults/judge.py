"""The judgement after a fault: what customers were promised, what the acquirer booked, and what both sides say now.

Why here: all sweeps must be judged by the same questions.
Must not: believe a report of the code under test where a file or the acquirer's books can be asked instead.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from tests.faults.orders import ENDS, WISHES
from tests.faults.world import World

_APPROVALS = """SELECT reference, count(*) FROM booking AS a WHERE kind = 'authorisation' AND granted > 0
    AND NOT EXISTS (SELECT 1 FROM booking AS r WHERE r.kind = 'reversal' AND r.of = a.id AND r.code = '00'
        AND r.granted = 0)
    GROUP BY reference"""
_REPEATED_NUMBERS = (
    """SELECT rrn FROM booking WHERE kind = 'authorisation' GROUP BY rrn HAVING count(*) > 1"""
)
_PAID = "paid"
_AGAIN = "order-again"
_ONLINE = {"screened": "in-transit", "quarantined": "held"}


class Findings(msgspec.Struct, kw_only=True):
    """What is wrong, in words; all empty when nothing is."""

    lost: list[str] = []
    twice: list[str] = []
    unrecorded: list[str] = []
    disagree: list[str] = []
    broken: list[str] = []

    @property
    def any(self) -> list[str]:
        return [*self.lost, *self.twice, *self.unrecorded, *self.disagree, *self.broken]


def judge(world: World, *, strict: bool) -> Findings:
    """Judge a world that has come to rest.

    ``strict``: every order must end exactly as if nothing had happened. Otherwise one that the acquirer has not
    charged may also be told to order again, which is what several faults in a row may lead to.
    """
    found = Findings()
    ends = {wish.order_id: ENDS[wish.fate] for wish in WISHES}
    online = {promise["order_id"]: number for number, promise in world.promised().items()}
    ledger = ledger_states(world.ledger)
    approvals = unreversed_approvals(world.books)
    seen = world.statuses()
    for order, number in online.items():
        state = ledger.get(order)
        if state is None:
            found.lost.append(f"order {number} was promised, and the ledger does not know it")
            continue
        told, allowed = seen[number], {ends[order]}
        if not strict and not approvals.get(order):
            allowed.add(_AGAIN)
        if told not in allowed:
            kind = found.disagree if _ONLINE.get(state, state) in allowed else found.lost
            kind.append(
                f"order {number} shows {told}, must be {' or '.join(sorted(allowed))}; ledger: {state}"
            )
        if _ONLINE.get(state, state) != told:
            found.disagree.append(f"order {number} shows {told}, the ledger says {state}")
    _judge_books(found, approvals, ledger)
    found.twice += [f"retrieval reference {rrn} was sent twice" for rrn in repeated_numbers(world.books)]
    _judge_ledger(found, world)
    missing = _rows(world.node_state / "register.db", "SELECT order_id FROM missing")
    found.lost += [f"order {order} is named as missing" for (order,) in missing]
    return found


def _judge_books(found: Findings, approvals: Mapping[str, int], ledger: Mapping[str, str]) -> None:
    for order, count in approvals.items():
        if count > 1:
            found.twice.append(f"order {order} has {count} approvals")
        if ledger.get(order) != _PAID:
            found.unrecorded.append(f"order {order} is approved, the ledger says {ledger.get(order)}")
    for order, state in ledger.items():
        if state == _PAID and not approvals.get(order):
            found.unrecorded.append(f"order {order} is paid, says the ledger; the acquirer knows nothing")


def _judge_ledger(found: Findings, world: World) -> None:
    verified = world.verify_ledger()
    if verified.code != 0:
        found.broken.append(verified.said)
    for sequence, state in _rows(world.ledger, "SELECT sequence, state FROM bundle WHERE state != 'settled'"):
        found.broken.append(f"bundle {sequence} is still {state}")
    alive = _rows(
        world.ledger,
        "SELECT sequence FROM bundle WHERE batch_key IS NOT NULL AND NOT EXISTS"
        " (SELECT 1 FROM entry WHERE kind = 'key-destroyed' AND subject = batch_key)",
    )
    found.broken += [f"the batch key of bundle {sequence} is not destroyed" for (sequence,) in alive]


def ledger_states(path: Path) -> dict[str, str]:
    """Order id to state, as the ledger's file holds it."""
    return dict(_rows(path, "SELECT order_id, state FROM orders"))


def unreversed_approvals(path: Path) -> dict[str, int]:
    """Order id to the approvals that stand in the acquirer's books."""
    return dict(_rows(path, _APPROVALS))


def repeated_numbers(path: Path) -> list[str]:
    """Retrieval references under which more than one authorisation came."""
    return [rrn for (rrn,) in _rows(path, _REPEATED_NUMBERS)]


def _rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchall()
