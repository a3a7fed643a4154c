"""Who got which issue: the durable marks that keep every address at one message an issue, at most.

Why here: a run may be killed between any two steps, and another may be started at once.
Must not: give an address out again for an issue once a message to it may have been sent.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from intake.errors import IntakeError
from intake.newsletter.issue import Issue
from intake.newsletter.subscribers import Subscriber
from intake.personal_file import PersonalFile, Row

_OWED = """
    FROM subscriber
    WHERE confirmed_at > 0
        AND NOT EXISTS (SELECT 1 FROM delivery WHERE issue = ? AND delivery.mark = subscriber.mark)
        AND NOT EXISTS (SELECT 1 FROM suppressed WHERE suppressed.mark = subscriber.mark)"""
_NEXT = f"SELECT id, mark, address {_OWED} AND id > ? ORDER BY id LIMIT ?"
_AT_A_TIME = 500
_STANDING = """
    SELECT name, subject, begun_at,
        (SELECT count(*) FROM delivery WHERE issue = name AND state = 'sent'),
        (SELECT count(*) FROM delivery WHERE issue = name AND state = 'refused'),
        (SELECT count(*) FROM delivery WHERE issue = name AND state = 'sending')
    FROM issue"""


class State(StrEnum):
    """SENDING: claimed; when no run is at it, nobody knows whether it was sent, and it is not sent again."""

    SENDING = "sending"
    SENT = "sent"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one issue stands: addresses by state, and those still owed it."""

    name: str
    subject: str
    begun_at: int
    sent: int
    refused: int
    unknown: int
    owed: int


class Deliveries:
    """The marks in the newsletter's file."""

    def __init__(self, file: PersonalFile) -> None:
        self._file = file

    def begin(self, issue: Issue, *, now: int) -> None:
        """An issue is sent for the first time, or goes on. ``NEWSLETTER-ISSUE-CHANGED`` when it is another text."""
        with self._file.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO issue (name, digest, subject, begun_at) VALUES (?, ?, ?, ?)",
                (issue.name, issue.digest, issue.subject, now),
            )
        self.check_same(issue)

    def check_same(self, issue: Issue) -> None:
        """Refuse a name under which another text was sent."""
        known = self._file.rows("SELECT digest FROM issue WHERE name = ?", (issue.name,))
        if known and known[0][0] != issue.digest:
            raise IntakeError(
                "NEWSLETTER-ISSUE-CHANGED",
                f"issue {issue.name} was begun with another text, and some have it already",
                "give the changed text a new name, or go on with the old one",
            )

    def owed(self, issue: str) -> Iterator[Subscriber]:
        """Everybody who is confirmed and has no mark for this issue, those who come meanwhile included."""
        last = b""
        while found := self._file.rows(_NEXT, (issue, last, _AT_A_TIME)):
            for identity, mark, address in found:
                yield Subscriber(id=identity, mark=mark, address=address)
            last = found[-1][0]

    def claim(self, issue: str, subscriber: Subscriber, *, now: int) -> bool:
        """Durable before the message: this address is being written to. False: it left, or another run has it."""
        with self._file.transaction() as connection:
            if not _is_wanted(connection, subscriber):
                return False
            return (
                connection.execute(
                    "INSERT OR IGNORE INTO delivery (issue, mark, state, changed_at) VALUES (?, ?, ?, ?)",
                    (issue, subscriber.mark, State.SENDING, now),
                ).rowcount
                == 1
            )

    def settle(self, issue: str, subscriber: Subscriber, state: State, *, now: int) -> None:
        """The mail server answered."""
        with self._file.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO delivery (issue, mark, state, changed_at) VALUES (?, ?, ?, ?)",
                (issue, subscriber.mark, state, now),
            )

    def refuse(self, issue: str, subscriber: Subscriber, *, now: int) -> None:
        """The mail server refused the address before there was a message; a mark of another run stays as it is."""
        with self._file.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO delivery (issue, mark, state, changed_at) VALUES (?, ?, ?, ?)",
                (issue, subscriber.mark, State.REFUSED, now),
            )

    def give_back(self, issue: str, subscriber: Subscriber) -> None:
        """The mail server said that it did not take the message: it may be tried again."""
        with self._file.transaction() as connection:
            connection.execute(
                "DELETE FROM delivery WHERE issue = ? AND mark = ? AND state = ?",
                (issue, subscriber.mark, State.SENDING),
            )

    def count_owed(self, issue: str) -> int:
        """How many addresses are still owed the issue."""
        return int(self._file.rows(f"SELECT count(*) {_OWED}", (issue,))[0][0])

    def standings(self) -> list[Standing]:
        """The newest issues, the newest first."""
        return self._standings("ORDER BY begun_at DESC, name DESC LIMIT 20")

    def count_unknown(self, issue: str) -> int:
        """How many addresses of the issue, however old it is, may have got it or not."""
        return sum(one.unknown for one in self._standings("WHERE name = ?", (issue,)))

    def _standings(self, condition: str, values: Row = ()) -> list[Standing]:
        return [
            Standing(
                name=name,
                subject=subject,
                begun_at=begun_at,
                sent=sent,
                refused=refused,
                unknown=unknown,
                owed=self.count_owed(name),
            )
            for name, subject, begun_at, sent, refused, unknown in self._file.rows(
                f"{_STANDING} {condition}", values
            )
        ]


def _is_wanted(connection: sqlite3.Connection, subscriber: Subscriber) -> bool:
    query = """
        SELECT 1 FROM subscriber WHERE id = ? AND mark = ? AND confirmed_at > 0
            AND NOT EXISTS (SELECT 1 FROM suppressed WHERE suppressed.mark = subscriber.mark)"""
    return connection.execute(query, (subscriber.id, subscriber.mark)).fetchone() is not None
