"""The vault in the ledger: PAN and expiry under the vault key, never a CVV, each box with the time of its end.

Why here: one place says how long a card outlives its answer: for a reversal, a capture, or another try.
Must not: commit by itself, or keep a box past its deadline or its last use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.orders import WAITING, WaitingOrder, waiting_order

_DAY: Final = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """An order whose authorisation was declined ``declined`` times and may be tried again."""

    order: WaitingOrder
    vault: bytes = field(repr=False)
    declined: int


def keep(ledger: Ledger, number: int, vault: bytes, *, not_before: int, deadline: int) -> None:
    """Keep a declined order's box for one more try, not before and not after these times (Unix seconds).

    The deadline of the first decline stands.
    """
    ledger.execute(
        "INSERT INTO retry (number, vault, declined, not_before, deadline) VALUES (?, ?, 1, ?, ?) ON CONFLICT (number)"
        " DO UPDATE SET vault = excluded.vault, declined = declined + 1, not_before = excluded.not_before",
        (number, vault, not_before, deadline),
    )


def keep_for_release(ledger: Ledger, number: int, *, days: int, now: int) -> bool:
    """Keep the card of an expired authorisation until its goods are released; False where that is not wanted.

    Goods that are there for so many ``days`` and were not sent are waited for no longer.
    """
    row = ledger.row(
        "SELECT l.vault, l.vault_until, o.release_at FROM live_attempt AS l JOIN orders AS o USING (number)"
        " WHERE number = ?1 AND l.vault IS NOT NULL AND l.vault_until > ?2 AND o.release_at > ?2 - ?3",
        (number, now, days * _DAY),
    )
    if row is None:
        return False
    keep(ledger, number, row[0], not_before=max(now, row[2]), deadline=row[1])
    return True


def declined_before(ledger: Ledger, number: int) -> int:
    """How often the order was declined so far."""
    row = ledger.row("SELECT declined FROM retry WHERE number = ?", (number,))
    return int(row[0]) if row else 0


def due(ledger: Ledger, *, now: int) -> list[Retry]:
    """The orders whose next try may be made now."""
    rows = ledger.rows(
        f"SELECT {WAITING}, r.vault, r.declined FROM retry AS r JOIN orders AS o USING (number)"  # noqa: S608
        " WHERE r.not_before <= ? AND r.deadline > ? AND o.state = 'held'"
        " AND NOT EXISTS (SELECT 1 FROM live_attempt AS l WHERE l.number = o.number) ORDER BY o.number",
        (now, now),
    )
    return [Retry(order=waiting_order(row[:-2]), vault=row[-2], declined=row[-1]) for row in list(rows)]


def over(ledger: Ledger, *, now: int) -> list[tuple[int, str]]:
    """(number, order id) of the orders at their deadline with no attempt under way."""
    rows = ledger.rows(
        "SELECT o.number, o.order_id FROM retry AS r JOIN orders AS o USING (number) WHERE r.deadline <= ?"
        " AND NOT EXISTS (SELECT 1 FROM live_attempt AS l WHERE l.number = o.number) ORDER BY o.number",
        (now,),
    )
    return list(rows)


def forget(ledger: Ledger, numbers: Sequence[int]) -> None:
    """Erase these boxes: the order is paid, or declined for good."""
    ledger.execute_many("DELETE FROM retry WHERE number = ?", [(number,) for number in numbers])


def erase_unneeded(ledger: Ledger, numbers: Sequence[int]) -> None:
    """Erase the boxes of these orders, of which nothing more will be taken or released, in the caller's transaction.

    One that a message still under way has to carry is erased with that one's answer.
    """
    ledger.execute_many(
        "UPDATE live_attempt SET vault = NULL, vault_until = 0 WHERE number = ? AND vault IS NOT NULL"
        " AND NOT EXISTS (SELECT 1 FROM operation AS p WHERE p.number = live_attempt.number AND p.state = 'pending')",
        [(number,) for number in numbers],
    )


def finished(ledger: Ledger) -> list[int]:
    """The numbers of orders that were sent or given back and have a box: a report has shown the end of them."""
    rows = ledger.rows(
        "SELECT l.number FROM live_attempt AS l JOIN orders AS o USING (number)"
        " WHERE l.vault IS NOT NULL AND l.state = 'approved' AND o.state IN ('dispatched', 'refunded')"
        " AND NOT EXISTS (SELECT 1 FROM operation AS p WHERE p.number = l.number AND p.state != 'done')"
    )
    return [number for (number,) in list(rows)]


def erase_due(ledger: Ledger, *, now: int) -> int:
    """Erase every attempt's box that is at its end; the attempts go on without. Returns how many."""
    # A box stands only beside an open attempt, whose order is held, or an approved one: both are indexed.
    rows = ledger.rows(
        "SELECT l.number, o.order_id FROM live_attempt AS l JOIN orders AS o USING (number)"
        " WHERE l.vault IS NOT NULL AND l.vault_until <= ? AND l.number IN ("
        " SELECT number FROM orders WHERE state = 'held' UNION SELECT number FROM live_attempt"
        " WHERE vault IS NOT NULL AND state = 'approved' AND vault_until <= ?)",
        (now, now),
    )
    due_now = list(rows)
    for number, order_id in due_now:
        ledger.execute("UPDATE live_attempt SET vault = NULL, vault_until = 0 WHERE number = ?", (number,))
        ledger.append("vault-erased", order_id, now, {})
    return len(due_now)
