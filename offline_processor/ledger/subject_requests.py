"""What people asked about their data: taken in once, decided by a person, answered with one word.

Why here: the SQL of a request's life; the answer's way back is that of every status (reporting.py).
Must not: commit by itself, or keep the person's address once the request is answered.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from offline_processor.errors import ProcessorError
from offline_processor.ledger.bundles import chain_of
from offline_processor.ledger.ledger import Ledger
from offline_processor.stages import SubjectAsked
from transfer.wire.records import SubjectState

WAITING_LIMIT = 10_000
"""So many may wait; what comes beyond is refused at once, so that a flood buries nobody's request."""

_WAITING = "waiting"
_INSERT = (
    "INSERT INTO subject_request (request, node, kind, email, orders, state, came_at, changed_at, told)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_COLUMNS = "request, node, kind, email, orders, came_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request that waits. ``kind``: export, erase or restrict; ``orders``: the ids that were named, none for all."""

    request: str
    node: str
    kind: str
    email: str = field(repr=False)
    orders: tuple[str, ...]
    came_at: int


def record(ledger: Ledger, asked: Sequence[SubjectAsked], *, node: str, now: int) -> int:
    """Take in what came in a bundle; how many are new. One that came before changes nothing, and is told again."""
    new = 0
    room = WAITING_LIMIT - tally(ledger)[0] if asked else 0
    for each in asked:
        known = ledger.row("SELECT node, state FROM subject_request WHERE request = ?", (each.request,))
        if known is None and room <= 0:
            told = chain_of(ledger, node).return_number + 1
            ledger.execute(_INSERT, (each.request, node, each.kind, "", "[]", "refused", now, now, told))
            ledger.append("subject-refused", each.request, now, {"node": node, "rule": "SUBJECT-CROWD"})
        elif known is None:
            room -= 1
            values = (
                each.request,
                node,
                each.kind,
                each.email,
                json.dumps(each.orders),
                _WAITING,
                now,
                now,
                0,
            )
            ledger.execute(_INSERT, values)
            ledger.append(
                "subject-asked",
                each.request,
                now,
                {"node": node, "kind": each.kind, "orders": len(each.orders)},
            )
            new += 1
        elif known[0] == node and known[1] != _WAITING:
            told = chain_of(ledger, node).return_number + 1
            ledger.execute("UPDATE subject_request SET told = ? WHERE request = ?", (told, each.request))
    return new


def waiting(ledger: Ledger) -> list[Request]:
    """The requests that nobody has decided on yet, the oldest first."""
    rows = ledger.rows(
        f"SELECT {_COLUMNS} FROM subject_request WHERE state = 'waiting' ORDER BY came_at, request"  # noqa: S608
    )
    return [_request(row) for row in rows]


def tally(ledger: Ledger) -> tuple[int, int]:
    """How many wait, and since when the oldest does (Unix seconds; 0 for none)."""
    row = ledger.row(
        "SELECT count(*), coalesce(min(came_at), 0) FROM subject_request WHERE state = 'waiting'"
    )
    return (0, 0) if row is None else (int(row[0]), int(row[1]))


def find(ledger: Ledger, request: str) -> Request:
    """The waiting request of this id (32 hexadecimal digits); ``SUBJECT-UNKNOWN``."""
    row = ledger.row(
        f"SELECT {_COLUMNS} FROM subject_request WHERE request = ? AND state = 'waiting'",  # noqa: S608
        (request,),
    )
    if row is None:
        raise ProcessorError(
            "SUBJECT-UNKNOWN",
            "no request of this id waits",
            "`offline-processor subject list` shows those that do",
        )
    return _request(row)


def answer(ledger: Ledger, request: Request, state: SubjectState, *, who: str, why: str, now: int) -> None:
    """End a request, in the caller's transaction: the next return tells of it, and the person's address goes."""
    told = chain_of(ledger, request.node).return_number + 1
    ledger.execute(
        "UPDATE subject_request SET state = ?, email = '', changed_at = ?, told = ? WHERE request = ?",
        (state.value, now, told, request.request),
    )
    ledger.append("subject-answered", request.request, now, {"state": state.value, "who": who, "why": why})


def _request(row: tuple[str, str, str, str, str, int]) -> Request:
    request, node, kind, email, orders, came_at = row
    return Request(
        request=request, node=node, kind=kind, email=email, orders=tuple(json.loads(orders)), came_at=came_at
    )
