"""The judgement after faults on the acquirer's line: our ledger against books that our code cannot write.

Why here: every sweep over the line asks the same questions, of the two files and of nobody else.
Must not: use code of ledger or simulator to read them: both are under test.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TAKEN = ("paid", "dispatched")
"""Orders in these states are taken: one approval stands, and all of it is captured."""

_CONCLUDED = ("00", "21", "25")


@dataclass(slots=True, kw_only=True)
class Judgement:
    """What is wrong, in words; all empty when nothing is."""

    twice: list[str] = field(default_factory=list)
    resent: list[str] = field(default_factory=list)
    unreversed_first: list[str] = field(default_factory=list)
    unrecorded: list[str] = field(default_factory=list)
    amounts: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)

    @property
    def any(self) -> list[str]:
        return [
            *self.twice,
            *self.resent,
            *self.unreversed_first,
            *self.unrecorded,
            *self.amounts,
            *self.unsettled,
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the acquirer's books."""

    id: int
    kind: str
    reference: str
    stan: int
    rrn: str
    amount: int
    currency: str
    code: str
    granted: int
    of: int
    answered: bool
    again: bool
    fault: str


@dataclass(slots=True, kw_only=True)
class Account:
    """What the books come to for one authorisation."""

    line: Line
    reserved: int
    captured: int = 0
    refunded: int = 0
    reversals: list[Line] = field(default_factory=list)


def judge(ledger: Path, books: Path, *, drained: bool = True, captured: bool = True) -> Judgement:
    """Compare ledger and books. ``drained``: nothing may be left open; ``captured``: what is paid is taken."""
    found = Judgement()
    lines = list(read_books(books))
    accounts = accounts_of(lines)
    orders = {row[0]: row[1:] for row in rows(ledger, "SELECT order_id, state, amount, currency FROM orders")}
    _judge_order_of_messages(found, lines)
    standing: dict[str, list[Account]] = defaultdict(list)
    for account in accounts.values():
        if account.reserved:
            standing[account.line.reference].append(account)
    for order, approvals in standing.items():
        if len(approvals) > 1:
            found.twice.append(f"order {order} has {len(approvals)} approvals that stand")
        state = orders.get(order, ("unknown to us",))[0]
        if drained and state not in (*TAKEN, "authorised"):
            found.unrecorded.append(f"order {order} is approved, the ledger says {state}")
    for order, (state, amount, currency) in orders.items():
        if state in TAKEN:
            _judge_taken(
                found, order, amount, currency, standing.get(order, []), captured=drained and captured
            )
        if drained and state in ("held", "screened", "charging"):
            found.unsettled.append(f"order {order} is still {state}")
    if drained:
        open_attempts = rows(
            ledger, "SELECT number, state FROM live_attempt WHERE state NOT IN ('approved', 'manual')"
        )
        found.unsettled += [
            f"attempt of order number {number} is still {state}" for number, state in open_attempts
        ]
    return found


def _judge_taken(
    found: Judgement, order: str, amount: int, currency: str, approvals: list[Account], *, captured: bool
) -> None:
    if not approvals:
        found.unrecorded.append(f"order {order} is paid, says the ledger; the acquirer knows nothing of it")
    for account in approvals:
        line = account.line
        if (line.amount, account.reserved, line.currency) != (amount, amount, currency):
            found.amounts.append(f"order {order}: {line.amount} {line.currency}, ours {amount} {currency}")
        if captured and account.captured != amount:
            found.amounts.append(f"order {order}: {account.captured} of {amount} captured")


def _judge_order_of_messages(found: Judgement, lines: list[Line]) -> None:
    """Nothing is authorised under numbers that were sent before, or before the one before it is undone."""
    sent = Counter(line.rrn for line in lines if line.kind == "authorisation")
    found.resent += [
        f"retrieval reference {rrn} was sent {count} times" for rrn, count in sent.items() if count > 1
    ]
    undone: set[str] = set()
    before: dict[str, Line] = {}
    stans: dict[str, set[int]] = defaultdict(set)
    for line in lines:
        if line.kind == "reversal":
            stans[line.rrn].add(line.stan)
            if line.answered and line.code in _CONCLUDED:
                undone.add(line.rrn)
        elif line.kind == "authorisation":
            last = before.get(line.reference)
            if last is not None and last.rrn not in undone and not _is_declined(last):
                found.unreversed_first.append(
                    f"order {line.reference} was sent again before {last.rrn} was reversed"
                )
            before[line.reference] = line
    for rrn, used in stans.items():
        if len(used) > 1:
            found.resent.append(f"the reversal of {rrn} was sent under {len(used)} trace numbers")


def _is_declined(line: Line) -> bool:
    return line.answered and line.code not in ("", "00", "10")


def accounts_of(lines: list[Line]) -> dict[int, Account]:
    """Every approved authorisation with what followed it, by its line."""
    accounts: dict[int, Account] = {}
    for line in lines:
        if line.kind == "authorisation" and line.granted:
            accounts[line.id] = Account(line=line, reserved=line.granted)
        account = accounts.get(line.of)
        if account is None or line.code != "00" or line.again:
            continue
        match line.kind:
            case "capture":
                account.captured += line.granted
            case "refund":
                account.refunded += line.granted
            case "reversal":
                account.reserved = line.granted
                account.reversals.append(line)
    return accounts


def read_books(books: Path) -> Iterator[Line]:
    """The books in the order seen."""
    columns = ", ".join(Line.__dataclass_fields__)
    for row in rows(books, f"SELECT {columns} FROM booking ORDER BY id"):  # noqa: S608
        yield Line(**dict(zip(Line.__dataclass_fields__, row, strict=True)))


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    """What a query finds in a database that may be in use."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as database:
        return database.execute(query).fetchall()
