"""The enquiries that are kept: received, answered, closed, erased.

Why here: the page and the commands do the same to the same file.
Must not: keep an enquiry beyond its time, or send an answer twice without being told to.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from intake.enquiries.form import Question
from intake.enquiries.tables import migrations
from intake.errors import IntakeError
from intake.personal_file import PersonalFile, Row
from keys.durable import make_directory

KEPT_MAXIMUM = 20_000
"""So many enquiries are kept at a time; a flood is turned away, and nothing is half-written."""

_OF_ONE_A_DAY = 10
_AN_HOUR_MAXIMUM = 500
_HOUR, _DAY = 3600, 86_400
_NUMBER_SIZE = 5
_FILE = "enquiries.db"
_COLUMNS = "number, name, email, order_number, postcode, text, received_at, changed_at, closed_at"

_UNANSWERED = """
    received_at >= ? AND received_at < ?
    AND NOT EXISTS (SELECT 1 FROM answer WHERE answer.enquiry = enquiry.number)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was written back. ``sent``: False when nobody knows whether it was."""

    text: str = field(repr=False)
    answered_at: int
    sent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Enquiry:
    """One enquiry; ``closed_at`` is 0 while it is open."""

    number: str
    name: str = field(repr=False)
    email: str = field(repr=False)
    order_number: str = field(repr=False)
    postcode: str = field(repr=False)
    text: str = field(repr=False)
    received_at: int
    changed_at: int
    closed_at: int


def enquiries_are_there(state: Path) -> bool:
    """Whether anybody ever could ask something here."""
    return (state / _FILE).exists()


class EnquiryDesk:
    """The file in a node's ``state``. ``random`` makes numbers."""

    def __init__(self, state: Path, *, random: Callable[[int], bytes]) -> None:
        make_directory(state)
        self._file = PersonalFile(state / _FILE, migrations)
        self._random = random

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def receive(self, question: Question, *, now: int) -> str | None:
        """Keep an enquiry, durably: its number. The same question again within an hour: the same number.

        None: there are too many, of this address or in all.
        """
        number = _number(self._random(_NUMBER_SIZE))
        with self._file.transaction() as connection:

            def count(condition: str, *values: object) -> int:
                query = f"SELECT count(*) FROM enquiry WHERE {condition}"  # noqa: S608  conditions stand below
                return int(connection.execute(query, values).fetchone()[0])

            same = connection.execute(
                "SELECT number FROM enquiry WHERE email = ? AND text = ? AND order_number = ? AND received_at > ?",
                (question.email, question.text, question.order, now - _HOUR),
            ).fetchone()
            if same:
                return str(same[0])
            if (
                count("email = ? COLLATE NOCASE AND received_at > ?", question.email, now - _DAY)
                >= _OF_ONE_A_DAY
                or count("received_at > ?", now - _HOUR) >= _AN_HOUR_MAXIMUM
                or count("1") >= KEPT_MAXIMUM
            ):
                return None
            connection.execute(
                f"INSERT INTO enquiry ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)",  # noqa: S608  our own names
                (
                    number,
                    question.name,
                    question.email,
                    question.order,
                    question.postcode,
                    question.text,
                    now,
                    now,
                ),
            )
        return number

    def open(self) -> list[Enquiry]:
        """Those that wait for an answer, the oldest first."""
        return self._enquiries("closed_at = 0 ORDER BY received_at, number")

    def all(self) -> list[Enquiry]:
        """All that are kept, the oldest first."""
        return self._enquiries("1 ORDER BY received_at, number")

    def one(self, number: str) -> tuple[Enquiry, list[Answer]]:
        """An enquiry and its answers; ``USAGE-ENQUIRY`` when there is none of this number."""
        found = self._enquiries("number = ?", (number.strip().upper(),))
        if not found:
            raise IntakeError(
                "USAGE-ENQUIRY",
                "there is no enquiry of this number, or it is erased already",
                "intake enquiries list shows those that there are",
            )
        rows = self._file.rows(
            "SELECT text, answered_at, sent FROM answer WHERE enquiry = ? ORDER BY number", (found[0].number,)
        )
        return found[0], [
            Answer(text=text, answered_at=answered_at, sent=bool(sent)) for text, answered_at, sent in rows
        ]

    def begin_answer(self, number: str, text: str, *, now: int) -> int:
        """Durable before the message: this answer is being sent. Its own number."""
        with self._file.transaction() as connection:
            connection.execute("UPDATE enquiry SET changed_at = ? WHERE number = ?", (now, number))
            added = connection.execute(
                "INSERT INTO answer (enquiry, text, answered_at, sent) VALUES (?, ?, ?, 0)",
                (number, text, now),
            )
            return int(added.lastrowid or 0)

    def answer_sent(self, answer: int) -> None:
        """The mail server took it."""
        with self._file.transaction() as connection:
            connection.execute("UPDATE answer SET sent = 1 WHERE number = ?", (answer,))

    def answer_not_sent(self, answer: int) -> None:
        """The mail server surely did not take it."""
        with self._file.transaction() as connection:
            connection.execute("DELETE FROM answer WHERE number = ?", (answer,))
        self._file.wipe()

    def settle(self, number: str, *, now: int) -> None:
        """Close an enquiry; from now on it is kept for `enquiry_days` only."""
        with self._file.transaction() as connection:
            connection.execute(
                "UPDATE enquiry SET closed_at = ?, changed_at = ? WHERE number = ? AND closed_at = 0",
                (now, now, number),
            )

    def erase(self, *numbers: str) -> None:
        """Erase enquiries, their answers with them, all or none, without a trace in the file."""
        with self._file.transaction() as connection:
            connection.executemany("DELETE FROM enquiry WHERE number = ?", [(number,) for number in numbers])
        self._file.wipe()

    def unanswered(self, *, since: int, until: int) -> list[Enquiry]:
        """Those that came from ``since`` on and before ``until`` and that nobody has answered, the oldest first."""
        return self._enquiries(f"{_UNANSWERED} ORDER BY received_at, number", (since, until))

    def of_address(self, address: str) -> list[Enquiry]:
        """What somebody with this address wrote, the oldest first; how it is spelled, in which case, counts nothing."""
        wanted = address.strip().casefold()
        return [enquiry for enquiry in self.all() if enquiry.email.strip().casefold() == wanted]

    def erase_address(self, address: str) -> int:
        """Erase all that somebody with this address wrote, and its answers; how many enquiries."""
        found = [(enquiry.number,) for enquiry in self.of_address(address)]
        with self._file.transaction() as connection:
            connection.executemany("DELETE FROM enquiry WHERE number = ?", found)
        self._file.wipe()
        return len(found)

    def erase_old(self, *, closed_days: int, open_days: int, now: int) -> int:
        """Erase what was closed so long ago, and what nobody closed or touched for so long; how many."""
        with self._file.transaction() as connection:
            done = connection.execute(
                "DELETE FROM enquiry WHERE (closed_at > 0 AND closed_at <= ?) OR changed_at <= ?",
                (now - closed_days * _DAY, now - open_days * _DAY),
            ).rowcount
        self._file.wipe()
        return done

    def _enquiries(self, condition: str, values: Row = ()) -> list[Enquiry]:
        rows = self._file.rows(f"SELECT {_COLUMNS} FROM enquiry WHERE {condition}", values)  # noqa: S608  our own
        names = _COLUMNS.split(", ")
        return [Enquiry(**dict(zip(names, row, strict=True))) for row in rows]


def _number(random: bytes) -> str:
    """Eight letters and digits in two groups, read out easily: it counts nothing and says nothing."""
    text = base64.b32encode(random).decode("ascii")
    return f"{text[:4]}-{text[4:]}"
