"""Erasing a person from the ledger: what stands against it, what waits for it, and the legal holds.

Why here: person and salt are in one table, and this is the only code that deletes from it.
Must not: commit by itself, touch a vault box or an entry, or erase what a legal hold or an open charge still needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from offline_processor.errors import ProcessorError
from offline_processor.ledger.disclosures import forget_references
from offline_processor.ledger.ledger import Ledger

_AGAINST = (
    "SELECT CASE WHEN EXISTS (SELECT 1 FROM legal_hold AS h WHERE h.number = o.number) THEN 'legal-hold'"
    " WHEN o.state IN ('screened', 'held', 'quarantined', 'authorised')"
    " OR EXISTS (SELECT 1 FROM operation AS x WHERE x.number = o.number AND x.state = 'pending')"
    " OR EXISTS (SELECT 1 FROM retry AS r WHERE r.number = o.number)"
    " OR EXISTS (SELECT 1 FROM live_attempt AS l WHERE l.number = o.number AND l.vault IS NOT NULL)"
    " OR EXISTS (SELECT 1 FROM reported AS p WHERE p.order_id = o.order_id) THEN 'open-charge'"
    " WHEN o.state = 'paid' THEN 'goods-owed' ELSE '' END FROM orders AS o WHERE o.number = ?"
)


class Against(StrEnum):
    """Why a person's data of an order cannot be erased yet. NOTHING: it can."""

    NOTHING = ""
    LEGAL_HOLD = "legal-hold"
    OPEN_CHARGE = "open-charge"
    GOODS_OWED = "goods-owed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """An erasure that waits. ``request``: the subject request that it answers, "" for none."""

    number: int
    order_id: str
    who: str
    request: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A legal hold on one order's person."""

    order_id: str
    at: int
    who: str
    why: str


def against(ledger: Ledger, number: int) -> Against:
    """What stands against erasing the person of the order of this number."""
    row = ledger.row(_AGAINST, (number,))
    return Against.NOTHING if row is None else Against(row[0])


def erase(ledger: Ledger, number: int, order_id: str, *, who: str, why: str, now: int) -> bool:
    """Delete person and salt and say so, in the caller's transaction; False when they were gone before.

    What may stand against it was asked before; a legal hold the database itself refuses.
    """
    ledger.execute("DELETE FROM erasure_wish WHERE number = ?", (number,))
    if ledger.row("SELECT 1 FROM person WHERE number = ?", (number,)) is None:
        return False
    ledger.execute("DELETE FROM person WHERE number = ?", (number,))
    forget_references(ledger, number)
    ledger.append("erased", order_id, now, {"who": who, "why": why})
    return True


def wish(ledger: Ledger, number: int, order_id: str, *, who: str, request: str, now: int) -> None:
    """Note an erasure that must wait, in the caller's transaction; ``retention run`` carries it out."""
    ledger.execute(
        "INSERT INTO erasure_wish (number, at, who, request) VALUES (?, ?, ?, ?) ON CONFLICT (number)"
        " DO UPDATE SET request = iif(excluded.request = '', request, excluded.request)",
        (number, now, who, request),
    )
    ledger.append("erasure-waits", order_id, now, {"who": who, "request": request})


def wishes(ledger: Ledger) -> list[Wish]:
    """All erasures that wait, the oldest order first; a person who is gone waits for nothing."""
    rows = ledger.rows(
        "SELECT w.number, o.order_id, w.who, w.request FROM erasure_wish AS w JOIN orders AS o USING (number)"
        " WHERE EXISTS (SELECT 1 FROM person AS p WHERE p.number = w.number) ORDER BY w.number"
    )
    return [
        Wish(number=number, order_id=order, who=who, request=request) for number, order, who, request in rows
    ]


def over_requests(ledger: Ledger) -> set[str]:
    """The subject requests whose erasures had to wait, and all of whose persons are gone.

    By the entries: an order has one wish, and whoever asks next takes it over.
    """
    rows = ledger.rows(
        "SELECT e.facts ->> 'request' AS request FROM entry AS e LEFT JOIN orders AS o ON o.order_id = e.subject"
        " LEFT JOIN person AS p USING (number) WHERE e.kind = 'erasure-waits'"
        " GROUP BY request HAVING count(p.number) = 0"
    )
    return {str(request) for (request,) in rows}


def withdraw(ledger: Ledger, request: str) -> None:
    """Forget a request's wishes, in the caller's transaction; one that somebody else has too is theirs again."""
    for each in wishes(ledger):
        if each.request != request:
            continue
        other = ledger.row(
            "SELECT e.facts ->> 'request' AS other FROM entry AS e WHERE e.kind = 'erasure-waits' AND e.subject = ?"
            " AND other <> ? AND (other = '' OR EXISTS (SELECT 1 FROM subject_request AS s"
            " WHERE s.request = other AND s.state = 'waiting')) ORDER BY e.id DESC",
            (each.order_id, request),
        )
        if other is None:
            ledger.execute("DELETE FROM erasure_wish WHERE number = ?", (each.number,))
        else:
            ledger.execute("UPDATE erasure_wish SET request = ? WHERE number = ?", (other[0], each.number))


def add_hold(ledger: Ledger, numbers: Iterable[tuple[int, str]], *, who: str, why: str, now: int) -> int:
    """Keep the persons of these orders (number, order id) whatever their time; how many are newly held."""
    added = 0
    for number, order_id in numbers:
        if ledger.row("SELECT 1 FROM legal_hold WHERE number = ?", (number,)) is None:
            ledger.execute(
                "INSERT INTO legal_hold (number, at, who, why) VALUES (?, ?, ?, ?)", (number, now, who, why)
            )
            ledger.append("legal-hold", order_id, now, {"who": who, "why": why})
            added += 1
    return added


def remove_hold(ledger: Ledger, numbers: Iterable[tuple[int, str]], *, who: str, why: str, now: int) -> int:
    """End legal holds; how many there were."""
    removed = 0
    for number, order_id in numbers:
        if ledger.row("SELECT 1 FROM legal_hold WHERE number = ?", (number,)) is not None:
            ledger.execute("DELETE FROM legal_hold WHERE number = ?", (number,))
            ledger.append("legal-hold-removed", order_id, now, {"who": who, "why": why})
            removed += 1
    return removed


def holds(ledger: Ledger) -> list[Hold]:
    """All legal holds, the oldest order first."""
    rows = ledger.rows(
        "SELECT o.order_id, h.at, h.who, h.why FROM legal_hold AS h JOIN orders AS o USING (number) ORDER BY h.number"
    )
    return [Hold(order_id=order, at=at, who=who, why=why) for order, at, who, why in rows]


def number_of(ledger: Ledger, order_id: str) -> int:
    """The ledger's own number of an order; ``ORDER-UNKNOWN``."""
    row = ledger.row("SELECT number FROM orders WHERE order_id = ?", (order_id,))
    if row is None:
        raise ProcessorError("ORDER-UNKNOWN", f"this ledger has no order {order_id}", "check the order id")
    return int(row[0])
