"""Decisions that wait for a second person: asked once, approved by somebody else or refused, and kept for ever.

Why here: the two-person rule must hold across commands, crashes and days, so it stands in the ledger.
Must not: commit by itself, or let one person be both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from offline_processor.ledger.ledger import Ledger, Row

_COLUMNS: Final = "number, document, amount, currency, order_id, who, why, at"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A decision as its first person made it. ``document`` says what; ``amount`` minor units; ``at`` Unix seconds."""

    number: int
    document: str
    amount: int
    currency: str
    order_id: str
    who: str
    why: str
    at: int


def same_person(one: str, other: str) -> bool:
    """True when two names are one person's: capitals, blanks and points make no difference."""
    return person(one) == person(other)


def person(name: str) -> str:
    """A name by which people are told apart."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def ask(ledger: Ledger, request: Request) -> int:
    """Keep a decision until a second person has looked; the same again is the same request. Returns its number."""
    row = ledger.row(
        "SELECT number FROM request WHERE state = 'asked' AND document = ? AND order_id = ?",
        (request.document, request.order_id),
    )
    if row is not None:
        return int(row[0])
    number = ledger.counter("request") + 1
    ledger.set_counter("request", number)
    ledger.execute(
        "INSERT INTO request (number, document, amount, currency, order_id, who, person, why, at, state, second,"
        " closed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'asked', '', 0)",
        (
            number,
            request.document,
            request.amount,
            request.currency,
            request.order_id,
            request.who,
            person(request.who),
            request.why,
            request.at,
        ),
    )
    return number


def asked(ledger: Ledger) -> list[Request]:
    """What waits for a second person, oldest first."""
    rows = ledger.rows(f"SELECT {_COLUMNS} FROM request WHERE state = 'asked' ORDER BY number")  # noqa: S608
    return [_request(row) for row in list(rows)]


def end(ledger: Ledger, request: Request, *, approved: bool, second: str, now: int) -> None:
    """Somebody else approved a request, or anybody refused it; the database lets nobody approve their own."""
    ledger.execute(
        "UPDATE request SET state = ?, second = ?, closed_at = ? WHERE number = ? AND state = 'asked'",
        ("approved" if approved else "refused", person(second), now, request.number),
    )


def _request(row: Row) -> Request:
    number, document, amount, currency, order_id, who, why, at = row
    return Request(
        number=number,
        document=document,
        amount=amount,
        currency=currency,
        order_id=order_id,
        who=who,
        why=why,
        at=at,
    )
