"""A simulated acquirer inside the process, with durable books of its own and no socket.

Why here: rehearsals and tests need a real counterpart; it books all it sees, so that a double charge shows.
Must not: keep more of a card than BIN and last four, treat a repeat as the same order, or charge anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import sqlite_utils
from sqlite_utils import Migrations

from offline_processor.acquirers.protocol import Authorisation
from offline_processor.acquirers.report import ReportLine, ReportOutcome
from offline_processor.charging import APPROVED_CODE, Answer, Reference

BY_LAST_FOUR = {
    "0002": "05",  # do not honour
    "9995": "51",  # insufficient funds
    "0069": "54",  # expired card, says the issuer
    "0127": "82",  # security code does not match
    "0119": "91",  # issuer not available
    "0259": "01",  # refer to issuer
    "0028": "03",  # invalid merchant: our fault
}
FIRST_ANSWER_LOST = "0341"
"""Last four of a card whose first authorisation is booked, but its answer is lost."""

NO_ANSWER_AMOUNT = 9_968
"""Amounts ending so (minor units): every authorisation is booked and no answer is given; reversals are answered."""

SILENT_AMOUNT = 9_969
"""Amounts ending so: neither authorisations nor reversals are ever answered."""

_AMOUNT_CODES = {9_905: "05", 9_951: "51", 9_954: "54", 9_991: "91"}
_AMOUNT_ENDING = 10_000

migrations = Migrations("simulated-acquirer")


@migrations()
def books(database: sqlite_utils.Database) -> None:
    """One row for each message seen, in the order seen."""
    database.execute(
        """CREATE TABLE booking (
            id INTEGER PRIMARY KEY, kind TEXT NOT NULL, reference TEXT NOT NULL, stan INTEGER NOT NULL,
            rrn TEXT NOT NULL, amount INTEGER NOT NULL, currency TEXT NOT NULL, bin TEXT NOT NULL,
            last_four TEXT NOT NULL, code TEXT NOT NULL, answered INTEGER NOT NULL) STRICT"""
    )
    lost = f"CREATE INDEX lost_answers ON booking (reference) WHERE last_four = '{FIRST_ANSWER_LOST}'"
    database.execute(lost)
    database.execute("CREATE INDEX reversals ON booking (rrn) WHERE kind = 'reversal'")


@migrations()
def times(database: sqlite_utils.Database) -> None:
    """When each message was sent, Unix seconds, for the report."""
    database.execute("ALTER TABLE booking ADD COLUMN at INTEGER NOT NULL DEFAULT 0")


_INSERT = (
    "INSERT INTO booking (kind, reference, stan, rrn, amount, currency, bin, last_four, code, answered, at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class SimulatedAcquirer:
    """An acquirer whose books are a SQLite file at ``path``."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite_utils.Database(path)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        migrations.apply(self._database)

    def authorise(self, window: Sequence[Authorisation]) -> Sequence[Answer | None]:
        """Book each authorisation, durably, and answer by the triggers above."""
        rows: list[tuple[object, ...]] = []
        answers: list[Answer | None] = []
        for authorisation in window:
            sent, card = authorisation.reference, authorisation.card
            last_four = card.last_four
            ending = sent.amount % _AMOUNT_ENDING
            code = BY_LAST_FOUR.get(last_four) or _AMOUNT_CODES.get(ending, APPROVED_CODE)
            lost = ending in (NO_ANSWER_AMOUNT, SILENT_AMOUNT) or (
                last_four == FIRST_ANSWER_LOST and not self._seen(sent.order_id)
            )
            rows.append(_row("authorisation", sent, card.bin, last_four, code, answered=not lost))
            answers.append(None if lost else _answer(sent, code))
        with self._database.atomic():
            self._database.conn.executemany(_INSERT, rows)
        return answers

    def reverse(self, window: Sequence[Reference]) -> Sequence[Answer | None]:
        """Book each reversal, durably, and answer it unless its amount says not to."""
        silent = [sent.amount % _AMOUNT_ENDING == SILENT_AMOUNT for sent in window]
        with self._database.atomic():
            self._database.conn.executemany(
                _INSERT,
                [
                    _row("reversal", sent, "", "", APPROVED_CODE, answered=not quiet)
                    for sent, quiet in zip(window, silent, strict=True)
                ],
            )
        return [
            None if quiet else _answer(sent, APPROVED_CODE)
            for sent, quiet in zip(window, silent, strict=True)
        ]

    def close(self) -> None:
        """Close the books."""
        self._database.close()

    def _seen(self, reference: str) -> bool:
        query = f"SELECT 1 FROM booking WHERE reference = ? AND last_four = '{FIRST_ANSWER_LOST}' LIMIT 1"  # noqa: S608
        return self._database.execute(query, [reference]).fetchone() is not None


def unreversed_approvals(path: Path) -> dict[str, int]:
    """Order reference to its approved and unreversed authorisations: above 1 is a double charge."""
    database = sqlite_utils.Database(path)
    try:
        rows = database.execute(
            """SELECT reference, count(*) FROM booking AS a WHERE kind = 'authorisation' AND code = ?
               AND NOT EXISTS (SELECT 1 FROM booking AS r WHERE r.kind = 'reversal' AND r.rrn = a.rrn AND r.id > a.id)
               GROUP BY reference""",
            [APPROVED_CODE],
        ).fetchall()
    finally:
        database.close()
    return dict(rows)


def report(path: Path) -> list[ReportLine]:
    """Every authorisation in the books with what became of it, as an acquirer's report of transactions has it."""
    database = sqlite_utils.Database(path)
    try:
        migrations.apply(database)
        rows = database.execute(
            """SELECT reference, rrn, stan, at, amount, currency, code, EXISTS (SELECT 1 FROM booking AS r
               WHERE r.kind = 'reversal' AND r.rrn = a.rrn AND r.id > a.id)
               FROM booking AS a WHERE kind = 'authorisation' ORDER BY id"""
        ).fetchall()
    finally:
        database.close()
    return [
        ReportLine(
            order_id=reference,
            rrn=rrn,
            stan=stan,
            at=at,
            amount=amount,
            currency=currency,
            outcome=ReportOutcome.REVERSED
            if taken_back
            else (ReportOutcome.APPROVED if code == APPROVED_CODE else ReportOutcome.DECLINED),
        )
        for reference, rrn, stan, at, amount, currency, code, taken_back in rows
    ]


def _row(
    kind: str, sent: Reference, bin_digits: str, last_four: str, code: str, *, answered: bool
) -> tuple[object, ...]:
    return (
        kind,
        sent.order_id,
        sent.stan,
        sent.rrn,
        sent.amount,
        sent.currency,
        bin_digits,
        last_four,
        code,
        int(answered),
        sent.sent_at,
    )


def _answer(sent: Reference, code: str) -> Answer:
    approval = f"{sent.stan:06d}" if code == APPROVED_CODE else ""
    return Answer(
        stan=sent.stan,
        rrn=sent.rrn,
        amount=sent.amount,
        currency=sent.currency,
        code=code,
        approval=approval,
    )
