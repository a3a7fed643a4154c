"""The simulated acquirer's books: every message that it saw, in the order seen, in a SQLite file.

Why here: what our ledger says is believed only when books that it cannot write say the same.
Must not: keep more of a card than BIN and last four, or change or drop a line once it is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import sqlite_utils
from sqlite_utils import Migrations

from offline_processor.acquirers.report import ReportKind, ReportLine, ReportOutcome
from offline_processor.charging import APPROVED_CODE, NOT_YET
from offline_processor.schemes import scheme_of


class Kind(StrEnum):
    """What a message is about."""

    NETWORK = "network"
    AUTHORISATION = "authorisation"
    CAPTURE = "capture"
    REVERSAL = "reversal"
    REFUND = "refund"
    TOTALS = "totals"


@dataclass(frozen=True, slots=True, kw_only=True)
class Booking:
    """One message and what was decided of it.

    ``amount`` is the one that the message names, ``granted`` what was reserved, taken, given back or (of a reversal)
    left: minor units. ``of`` is the line of the authorisation that it is about, 0 for none. ``code`` is the answer's,
    whether or not it was ``answered``; "" when the message was lost before anything was decided. ``again``: a
    repetition that was recognised and changed nothing. ``captures`` and ``refunds`` count what totals name.
    """

    kind: Kind
    mti: str
    reference: str
    stan: int
    rrn: str
    sent_at: int
    amount: int
    currency: str
    bin: str = ""
    last_four: str = ""
    code: str = ""
    approval: str = ""
    granted: int = 0
    of: int = 0
    answered: bool = True
    again: bool = False
    fault: str = ""
    captures: int = 0
    refunds: int = 0
    refunded: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the books hold of one approved authorisation; ``reserved`` is 0 when it was reversed."""

    line: int
    reference: str
    amount: int
    currency: str
    reserved: int
    captured: int
    refunded: int
    approval: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Captures and refunds of one currency, counted and in minor units."""

    captures: int = 0
    captured: int = 0
    refunds: int = 0
    refunded: int = 0


_COLUMNS: Final = tuple(Booking.__dataclass_fields__)
_INSERT: Final = f"INSERT INTO booking ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
_CACHE_KIB: Final = 64 * 1024

migrations = Migrations("simulated-acquirer")


@migrations()
def books(database: sqlite_utils.Database) -> None:
    """One line for each message; the database itself refuses to change one."""
    database.execute(
        """CREATE TABLE booking (
            id INTEGER PRIMARY KEY, kind TEXT NOT NULL, mti TEXT NOT NULL, reference TEXT NOT NULL,
            stan INTEGER NOT NULL, rrn TEXT NOT NULL, sent_at INTEGER NOT NULL, amount INTEGER NOT NULL,
            currency TEXT NOT NULL, bin TEXT NOT NULL, last_four TEXT NOT NULL, code TEXT NOT NULL,
            approval TEXT NOT NULL, granted INTEGER NOT NULL, of INTEGER NOT NULL, answered INTEGER NOT NULL,
            again INTEGER NOT NULL, fault TEXT NOT NULL, captures INTEGER NOT NULL, refunds INTEGER NOT NULL,
            refunded INTEGER NOT NULL) STRICT"""
    )
    database.execute("CREATE INDEX messages ON booking (stan, rrn)")
    database.execute("CREATE INDEX follow_ups ON booking (of) WHERE of > 0")
    database.execute("CREATE INDEX orders ON booking (reference) WHERE kind = 'authorisation'")
    database.execute("CREATE INDEX closes ON booking (currency) WHERE kind = 'totals'")
    for change in ("UPDATE", "DELETE"):
        database.execute(
            f"CREATE TRIGGER booking_no_{change.lower()} BEFORE {change} ON booking"
            " BEGIN SELECT RAISE(ABORT, 'what is booked stays booked'); END"
        )


_STANDING: Final = """
    SELECT a.id, a.reference, a.amount, a.currency, a.approval,
        coalesce((SELECT min(r.granted) FROM booking AS r
            WHERE r.of = a.id AND r.of > 0 AND r.kind = 'reversal' AND r.code = '00' AND NOT r.again), a.granted),
        (SELECT coalesce(sum(c.granted), 0) FROM booking AS c
            WHERE c.of = a.id AND c.of > 0 AND c.kind = 'capture' AND c.code = '00' AND NOT c.again),
        (SELECT coalesce(sum(f.granted), 0) FROM booking AS f
            WHERE f.of = a.id AND f.of > 0 AND f.kind = 'refund' AND f.code = '00' AND NOT f.again)
    FROM booking AS a WHERE a.kind = 'authorisation' AND a.granted > 0"""

_SUMS: Final = """
    SELECT kind, count(*), coalesce(sum(granted), 0) FROM booking
    WHERE kind IN ('capture', 'refund') AND code = '00' AND NOT again AND currency = ?
        AND id > coalesce((SELECT max(id) FROM booking WHERE kind = 'totals' AND currency = ? AND code != ''
            AND NOT again), 0)
    GROUP BY kind"""


class Books:
    """The books in the file at ``path``; they are made when there are none. ``atomic`` makes what is written last."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite_utils.Database(path)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        migrations.apply(self._database)
        self._connection = self._database.conn

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """All that is booked inside is on the disk when this ends; nothing of it when it raises."""
        with self._database.atomic():
            yield

    def book(self, booking: Booking) -> int:
        """Write one line; returns its number."""
        values = [getattr(booking, name) for name in _COLUMNS]
        return int(self._connection.execute(_INSERT, values).lastrowid or 0)

    def seen(self, reference: str) -> bool:
        """True when an authorisation of this order was booked before."""
        query = "SELECT 1 FROM booking WHERE kind = 'authorisation' AND code != '' AND reference = ? LIMIT 1"
        return self._connection.execute(query, (reference,)).fetchone() is not None

    def decided(self, booking: Booking) -> tuple[int, str, int, str] | None:
        """(authorisation's line, code, granted, approval) of the same message, as decided last; None if it is new."""
        row = self._connection.execute(
            "SELECT of, code, granted, approval FROM booking WHERE stan = ? AND rrn = ? AND kind = ? AND sent_at = ?"
            " AND amount = ? AND currency = ? AND code != '' AND NOT again ORDER BY id DESC LIMIT 1",
            (booking.stan, booking.rrn, booking.kind, booking.sent_at, booking.amount, booking.currency),
        ).fetchone()
        return None if row is None else (row[0], row[1], row[2], row[3])

    def standing(self, stan: int, rrn: str) -> Standing | None:
        """The newest approved authorisation with these numbers, those not reversed first; None if there is none."""
        rows = self._connection.execute(f"{_STANDING} AND a.stan = ? AND a.rrn = ?", (stan, rrn)).fetchall()
        found = [_standing(row) for row in rows]
        return max(found, key=lambda one: (one.reserved > 0, one.line), default=None)

    def answers_of(self, line: int, kind: Kind) -> int:
        """How many messages of a kind about this authorisation were seen."""
        query = "SELECT count(*) FROM booking WHERE of = ? AND of > 0 AND kind = ?"
        return int(self._connection.execute(query, (line, kind)).fetchone()[0])

    def sums(self, currency: str) -> Sums:
        """What was captured and refunded in a currency since its last totals."""
        rows = self._connection.execute(_SUMS, (currency, currency)).fetchall()
        found = {kind: (count, amount) for kind, count, amount in rows}
        captures, captured = found.get(Kind.CAPTURE, (0, 0))
        refunds, refunded = found.get(Kind.REFUND, (0, 0))
        return Sums(captures=captures, captured=captured, refunds=refunds, refunded=refunded)

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _standing(row: tuple[int, str, int, str, str, int, int, int]) -> Standing:
    line, reference, amount, currency, approval, reserved, captured, refunded = row
    return Standing(
        line=line,
        reference=reference,
        amount=amount,
        currency=currency,
        approval=approval,
        reserved=reserved,
        captured=captured,
        refunded=refunded,
    )


def standings(path: Path) -> list[Standing]:
    """Every approved authorisation in the books at ``path``, in the order seen."""
    with _reading(path) as database:
        return [_standing(row) for row in database.execute(f"{_STANDING} ORDER BY a.id").fetchall()]


def unreversed_approvals(path: Path) -> dict[str, int]:
    """Order reference to its approvals that stand; more than 1 is a double charge."""
    found: dict[str, int] = {}
    for one in standings(path):
        if one.reserved:
            found[one.reference] = found.get(one.reference, 0) + 1
    return found


def report(path: Path) -> list[ReportLine]:
    """Every authorisation in the books with what became of it, then what was taken and given back, as reported."""
    standing = {one.line: one for one in standings(path)}
    with _reading(path) as database:
        rows = database.execute(
            "SELECT id, reference, rrn, stan, sent_at, amount, currency, bin FROM booking"
            " WHERE kind = 'authorisation' AND code != '' ORDER BY id"
        ).fetchall()
        after = database.execute(
            "SELECT b.kind, b.reference, b.rrn, b.stan, b.sent_at, b.amount, b.currency, b.code, coalesce(a.bin, '')"
            " FROM booking AS b LEFT JOIN booking AS a ON a.id = b.of"
            " WHERE b.kind IN ('capture', 'refund') AND b.code != '' AND NOT b.again ORDER BY b.id"
        ).fetchall()
        after = [row for row in after if row[7] not in NOT_YET]  # put off is not decided
    authorisations = [
        ReportLine(
            order_id=reference,
            rrn=rrn,
            stan=stan,
            at=at,
            amount=amount,
            currency=currency,
            outcome=_outcome(standing.get(line)),
            scheme=scheme_of(card_bin),
        )
        for line, reference, rrn, stan, at, amount, currency, card_bin in rows
    ]
    return authorisations + [
        ReportLine(
            order_id=reference,
            rrn=rrn,
            stan=stan,
            at=at,
            amount=amount,
            currency=currency,
            outcome=ReportOutcome.APPROVED if code == APPROVED_CODE else ReportOutcome.DECLINED,
            kind=ReportKind(kind),
            scheme=scheme_of(card_bin),
        )
        for kind, reference, rrn, stan, at, amount, currency, code, card_bin in after
    ]


def _outcome(standing: Standing | None) -> ReportOutcome:
    if standing is None:
        return ReportOutcome.DECLINED
    return ReportOutcome.APPROVED if standing.reserved else ReportOutcome.REVERSED


@contextmanager
def _reading(path: Path) -> Iterator[sqlite_utils.Database]:
    database = sqlite_utils.Database(path)
    try:
        migrations.apply(database)
        yield database
    finally:
        database.close()
