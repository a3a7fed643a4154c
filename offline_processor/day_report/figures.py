"""The figures of one day, read from the ledger's entries: what came of each order on that day, and what moved.

Why here: page, paper and ``--json`` show the same figures, and a day that is over gives the same ones for ever.
Must not: read a person's data, or count an order twice.

A day is one of UTC. An order counts with the last thing that became of it on that day: approved, declined, held (no
outcome yet), quarantined, or to be ordered again. What is done with it later (sent, given back) is none of these.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from offline_processor.case_form import Case
from offline_processor.ledger.ledger import Ledger
from offline_processor.schemes import Scheme, scheme_of

HOURS: Final = 24
_HOUR: Final = 3600
_DAY: Final = 24 * _HOUR
_LAST: Final = (
    "SELECT subject, max(id) AS id FROM entry WHERE id BETWEEN ? AND ? AND at >= ? AND at < ?"
    " AND (kind = 'quarantined'"
    "   OR (kind = 'attempt' AND json_extract(facts, '$.state') NOT IN ('voided', 'expired')) OR (kind = 'settled'"
    "   AND json_extract(facts, '$.state') IN ('declined', 'held', 'order-again', 'quarantined')))"
    " GROUP BY subject"
)
_OUTCOMES: Final = (
    f"WITH last AS ({_LAST}) SELECT substr(coalesce(o.card, ''), 1, 6), coalesce(o.currency, ''),"  # noqa: S608
    " iif(e.kind = 'quarantined', 'quarantined', json_extract(e.facts, '$.state')), e.kind = 'attempt',"
    " (e.at - ?) / 3600, count(*), coalesce(sum(o.amount), 0)"
    " FROM last AS l JOIN entry AS e USING (id) LEFT JOIN orders AS o ON o.order_id = l.subject GROUP BY 1, 2, 3, 4, 5"
)
_MOVED: Final = (
    "SELECT p.kind, p.currency, count(*), sum(p.amount) FROM entry AS e"
    " JOIN operation AS p ON p.id = json_extract(e.facts, '$.id')"
    " WHERE e.id BETWEEN ? AND ? AND e.at >= ? AND e.at < ? AND e.kind = 'operation-answered'"
    " AND json_extract(e.facts, '$.state') = 'done' GROUP BY 1, 2 ORDER BY 2, 1"
)
_DESTROYED: Final = (
    "SELECT iif(kind = 'order-key-destroyed', 'order', json_extract(facts, '$.role')),"
    " coalesce(json_extract(facts, '$.reason'), ''), coalesce(json_extract(facts, '$.backend'), ''), count(*)"
    " FROM entry WHERE id BETWEEN ? AND ? AND at >= ? AND at < ?"
    " AND kind IN ('key-destroyed', 'order-key-destroyed') GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2"
)
_BUNDLES: Final = (
    "SELECT count(*) FILTER (WHERE kind = 'bundle-accepted'), count(*) FILTER (WHERE kind = 'bundle-refused'),"
    " count(*) FILTER (WHERE kind = 'return-made'), coalesce(sum(json_extract(facts, '$.orders'))"
    "   FILTER (WHERE kind = 'bundle-accepted'), 0)"
    " FROM entry WHERE id BETWEEN ? AND ? AND at >= ? AND at < ?"
)
_EXPORTS: Final = (
    "SELECT e.purpose, e.recipient, count(DISTINCT e.id), count(d.number) FROM export AS e"
    " LEFT JOIN disclosure AS d ON d.export = e.id WHERE e.made_at >= ? AND e.made_at < ? AND e.state = 'released'"
    " GROUP BY 1, 2 ORDER BY 1, 2"
)


class Outcome(StrEnum):
    """What became of an order on the day."""

    APPROVED = "approved"
    DECLINED = "declined"
    HELD = "held"
    QUARANTINED = "quarantined"
    ORDER_AGAIN = "order again"


_OUTCOME_OF: Final = {
    "approved": Outcome.APPROVED,
    "declined": Outcome.DECLINED,
    "quarantined": Outcome.QUARANTINED,
    "order-again": Outcome.ORDER_AGAIN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Orders that had one outcome in one hour (0 to 23). Amount in minor units; currency "" for what was unreadable.

    ``asked``: the acquirer was, so that it counts in the approval rate.
    """

    scheme: Scheme
    currency: str
    outcome: Outcome
    asked: bool
    hour: int
    orders: int
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Money that the acquirer confirmed on the day: captures, refunds, and voids (whose amount is what they kept)."""

    kind: str
    currency: str
    count: int
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Destroyed:
    """Keys destroyed on the day. ``backend``: whether hardware assures it."""

    role: str
    reason: str
    backend: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Disclosed:
    """What left the machine on the day, by purpose and recipient."""

    purpose: str
    recipient: str
    files: int
    orders: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DayFigures:
    """One day. ``made_at`` (Unix seconds) is when the cases were open; all else is of the day alone."""

    day: dt.date
    made_at: int
    bundles: int
    refused: int
    returns: int
    received: int
    parts: tuple[Part, ...]
    moved: tuple[Moved, ...]
    destroyed: tuple[Destroyed, ...]
    disclosed: tuple[Disclosed, ...]
    cases: tuple[Case, ...]

    @property
    def orders(self) -> int:
        """How many orders something became of."""
        return sum(part.orders for part in self.parts)

    def count(self, *outcomes: Outcome, scheme: Scheme | None = None, hour: int | None = None) -> int:
        """How many orders had one of these outcomes."""
        return sum(
            part.orders
            for part in self.parts
            if part.outcome in outcomes and scheme in (None, part.scheme) and hour in (None, part.hour)
        )

    def asked(self, scheme: Scheme | None = None) -> tuple[int, int]:
        """Approved, and all of which the acquirer said yes or no."""
        said = [
            part
            for part in self.parts
            if part.asked
            and part.outcome in (Outcome.APPROVED, Outcome.DECLINED)
            and scheme in (None, part.scheme)
        ]
        approved = sum(part.orders for part in said if part.outcome is Outcome.APPROVED)
        return approved, sum(part.orders for part in said)


def read(ledger: Ledger, day: dt.date, cases: Sequence[Case], *, now: int) -> DayFigures:
    """The figures of ``day`` (UTC); ``cases`` are those that are open ``now`` (Unix seconds)."""
    start = int(dt.datetime.combine(day, dt.time(tzinfo=dt.UTC)).timestamp())
    span = (start, start + _DAY)
    among = (*_entries_around(ledger, *span), *span)
    parts = [
        Part(
            scheme=scheme_of(digits),
            currency=currency,
            outcome=_OUTCOME_OF.get(state, Outcome.HELD),
            asked=bool(asked),
            hour=hour,
            orders=orders,
            amount=amount,
        )
        for digits, currency, state, asked, hour, orders, amount in ledger.rows(_OUTCOMES, (*among, start))
    ]
    bundles, refused, returns, received = ledger.row(_BUNDLES, among) or (0, 0, 0, 0)
    return DayFigures(
        day=day,
        made_at=now,
        bundles=bundles,
        refused=refused,
        returns=returns,
        received=received,
        parts=tuple(parts),
        moved=tuple(
            Moved(kind=kind, currency=currency, count=count, amount=amount)
            for kind, currency, count, amount in ledger.rows(_MOVED, among)
        ),
        destroyed=tuple(
            Destroyed(role=role, reason=reason, backend=backend, count=count)
            for role, reason, backend, count in ledger.rows(_DESTROYED, among)
        ),
        disclosed=tuple(
            Disclosed(purpose=purpose, recipient=recipient, files=files, orders=orders)
            for purpose, recipient, files, orders in ledger.rows(_EXPORTS, span)
        ),
        cases=tuple(cases),
    )


def _entries_around(ledger: Ledger, start: int, end: int) -> tuple[int, int]:
    """The numbers of entries among which all of a span lie.

    Entries stand in the order of their times but for those of one run, which may be told a little later than they were.
    """
    return _first_entry(ledger, start - _DAY), _first_entry(ledger, end + _DAY)


def _first_entry(ledger: Ledger, at: int) -> int:
    """The number of the first entry of this time or later, by halving; one more than there are when there is none."""
    low, high = 1, ledger.entries + 1
    while low < high:
        middle = (low + high) // 2
        row = ledger.row("SELECT at FROM entry WHERE id = ?", (middle,))
        if row is not None and row[0] < at:
            low = middle + 1
        else:
            high = middle
    return low
