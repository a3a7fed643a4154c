"""What waits for a person, as the ledger has it: the SQL behind the list of cases, and their ends.

Why here: cases lie in many tables; each is looked up once, here, and in words elsewhere.
Must not: commit by itself, or end a case without a name and a reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from offline_processor.charging import DECLINE_CLASS, DeclineClass
from offline_processor.ledger import exceptions, operations
from offline_processor.ledger.ledger import Ledger

_TO_CLOSE: Final = (DeclineClass.CALL_ISSUER, DeclineClass.OUR_FAULT)
_RULES: Final = tuple(sorted(f"DE39 {code}" for code, found in DECLINE_CLASS.items() if found in _TO_CLOSE))
_EXCEPTION: Final = re.compile(r"X([1-9][0-9]{0,9})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """An order that was declined in a way that a person should look at. ``code``: the acquirer's."""

    order_id: str
    code: str
    amount: int
    currency: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A held or quarantined order. ``attempt``: its live attempt's state, "" for none.

    ``card_until``: when its card under a hold key dies; ``retry_at`` and ``retry_until``: when its next try may be
    made. Times are Unix seconds, 0 for none.
    """

    order_id: str
    state: str
    rule: str
    amount: int
    currency: str
    changed_at: int
    attempt: str
    tries: int
    reversed_since: int
    card_until: int
    retry_at: int
    retry_until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """An envelope that cannot be an order of its own; ``order_id`` "" where there is none."""

    id: str
    order_id: str
    rule: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Closable:
    """A case that a word can close: its order ("" for none) and what it may be worth, minor units."""

    id: str
    order_id: str
    amount: int
    currency: str


def waiting(ledger: Ledger) -> list[Waiting]:
    """Every held or quarantined order, in the order in which they came."""
    rows = ledger.rows(
        "SELECT o.order_id, o.state, o.rule, o.amount, o.currency, o.changed_at, coalesce(l.state, ''),"
        " coalesce(l.tries, 0), coalesce(l.operation_at, 0), coalesce(h.destroy_at, 0), coalesce(r.not_before, 0),"
        " coalesce(r.deadline, 0) FROM orders AS o LEFT JOIN live_attempt AS l USING (number)"
        " LEFT JOIN held_card AS h USING (order_id) LEFT JOIN retry AS r ON r.number = o.number"
        " WHERE o.state IN ('held', 'quarantined') ORDER BY o.number"
    )
    return [
        Waiting(
            order_id=order_id,
            state=state,
            rule=rule,
            amount=amount,
            currency=currency,
            changed_at=changed_at,
            attempt=attempt,
            tries=tries,
            reversed_since=since,
            card_until=card_until,
            retry_at=retry_at,
            retry_until=retry_until,
        )
        for (
            order_id,
            state,
            rule,
            amount,
            currency,
            changed_at,
            attempt,
            tries,
            since,
            card_until,
            retry_at,
            retry_until,
        ) in list(rows)
    ]


def declined(ledger: Ledger) -> list[Declined]:
    """Orders that the acquirer referred to the issuer, or declined through our fault, and nobody has closed."""
    marks = ",".join("?" * len(_RULES))
    rows = ledger.rows(
        "SELECT order_id, rule, amount, currency, changed_at FROM orders"  # noqa: S608
        f" WHERE state = 'declined' AND rule IN ({marks})"
        " AND order_id NOT IN (SELECT id FROM case_closed) ORDER BY number",
        _RULES,
    )
    return [
        Declined(order_id=order_id, code=rule.removeprefix("DE39 "), amount=amount, currency=currency, at=at)
        for order_id, rule, amount, currency, at in list(rows)
    ]


def strays(ledger: Ledger) -> list[Stray]:
    """Envelopes that were put aside, and that nobody has looked into."""
    rows = ledger.rows("SELECT node, sequence, position, order_id, rule, at FROM stray ORDER BY at")
    found = [
        Stray(id=f"S-{node}-{sequence}-{position}", order_id=order_id, rule=rule, at=at)
        for node, sequence, position, order_id, rule, at in list(rows)
    ]
    return [item for item in found if not is_closed(ledger, item.id)]


def refused(ledger: Ledger) -> list[operations.Operation]:
    """Operations that the acquirer refused, and that nobody has closed or sent again."""
    return [item for item in operations.failed(ledger) if not is_closed(ledger, item.id)]


def anything_waits(ledger: Ledger) -> bool:
    """True when an order is held or quarantined, or a person has to settle a refusal, a difference or a decision."""
    row = ledger.row(
        "SELECT EXISTS (SELECT 1 FROM orders WHERE state IN ('held', 'quarantined'))"
        " OR EXISTS (SELECT 1 FROM operation WHERE state = 'failed' AND id NOT IN (SELECT id FROM case_closed))"
        " OR EXISTS (SELECT 1 FROM reconcile_exception WHERE closed_at = 0)"
        " OR EXISTS (SELECT 1 FROM request WHERE state = 'asked')"
    )
    return row is not None and bool(row[0])


def closable(ledger: Ledger) -> list[Closable]:
    """Every open case that a word can close."""
    found = [
        Closable(
            id=item.id,
            order_id=item.original.order_id,
            amount=item.amount,
            currency=item.original.currency,
        )
        for item in refused(ledger)
    ]
    found += [
        Closable(
            id=f"X{item.number}",
            order_id=item.finding.order_id,
            amount=max(item.finding.ours, item.finding.theirs, 0),
            currency=item.finding.currency,
        )
        for item in exceptions.opened(ledger)
    ]
    # Nothing was taken, so that no money goes with these.
    found += [
        Closable(id=item.order_id, order_id=item.order_id, amount=0, currency=item.currency)
        for item in declined(ledger)
    ]
    found += [Closable(id=item.id, order_id=item.order_id, amount=0, currency="") for item in strays(ledger)]
    return found


def close(ledger: Ledger, case: str, *, who: str, why: str, now: int) -> None:
    """A person has settled a case."""
    ledger.execute(
        "INSERT OR IGNORE INTO case_closed (id, at, who, why) VALUES (?, ?, ?, ?)", (case, now, who, why)
    )


def is_closed(ledger: Ledger, case: str) -> bool:
    """True when a person has closed it."""
    return ledger.row("SELECT 1 FROM case_closed WHERE id = ?", (case,)) is not None


def exception_number(case: str) -> int | None:
    """The number in the id of a finding of a reconciliation; None for any other case."""
    found = _EXCEPTION.fullmatch(case)
    return int(found[1]) if found else None


def clear_rule(ledger: Ledger, number: int, *, now: int) -> None:
    """What was refused is on its way again: the order's rule says so no longer."""
    ledger.execute(
        "UPDATE orders SET rule = '', changed_at = ? WHERE number = ? AND rule LIKE '%-REFUSED'",
        (now, number),
    )


def end_waiting(ledger: Ledger, number: int) -> None:
    """The order's next try is not made: its box in the vault goes."""
    ledger.execute("DELETE FROM retry WHERE number = ?", (number,))


def last_code(ledger: Ledger, order_id: str) -> str:
    """The newest response code that an attempt of this order was answered with; "" for none."""
    row = ledger.row(
        "SELECT json_extract(facts, '$.code') FROM entry WHERE kind = 'attempt' AND subject = ?"
        " AND json_extract(facts, '$.code') NOT IN ('', '00') ORDER BY id DESC LIMIT 1",
        (order_id,),
    )
    return str(row[0]) if row else ""
