"""Who gets the newsletter: asked, confirmed, left; each a durable fact with the words agreed to and the time.

Why here: the pages and the commands do the same to the same file.
Must not: count anybody in without a confirmation, tell who is known, or keep the address of somebody who left.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from intake.newsletter.tables import migrations
from intake.newsletter.tokens import ID_SIZE, LinkKey
from intake.personal_file import PersonalFile

PENDING_DAYS = 7
"""An address that nobody confirms is erased after so many days."""

WAITING_MAXIMUM = 20_000
AN_HOUR_MAXIMUM = 500
"""So many may wait, and so many confirmations are asked for in an hour: nobody floods others' mailboxes through us."""

_MAILS_MAXIMUM = 3  # a stranger can have us write to somebody so often in PENDING_DAYS, and no more
_MAILS_AFTER_LEAVING = 1  # and to who left or objected so often in _LEFT_DAYS
_LEFT_DAYS = 30
_AGAIN_SECONDS = 600
_RETRY_SECONDS = 300
_HOUR, _DAY = 3600, 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscriber:
    """``id`` (16 bytes) is in their links, ``mark`` stands for the address."""

    id: bytes
    mark: bytes
    address: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many addresses: confirmed, waiting for their owner's yes, of those still to be written to, and left.

    ``to_write_since``: when the oldest of those to be written to asked; 0 for none.
    """

    confirmed: int
    waiting: int
    to_write: int
    to_write_since: int
    left: int


class Subscribers:
    """The file at ``path``. ``random`` makes ids."""

    def __init__(self, path: Path, *, key: LinkKey, random: Callable[[int], bytes]) -> None:
        self.file = PersonalFile(path, migrations)
        self.key = key
        self._random = random

    def ask(self, address: str, *, words: str, now: int) -> bool:
        """Somebody typed this address. False: too many do. The same answer whether the address is known or not."""
        mark, identity = self.key.mark(address), self._random(ID_SIZE)
        with self.file.transaction() as connection:
            # Looked at before the address is: a full house must not tell who is in it.
            waiting, new = connection.execute(
                "SELECT count(*), coalesce(sum(asked_at > ?), 0) FROM subscriber WHERE confirmed_at = 0",
                (now - _HOUR,),
            ).fetchone()
            if waiting >= WAITING_MAXIMUM or new >= AN_HOUR_MAXIMUM:
                return False
            number = _words(connection, words)
            known = connection.execute(
                "SELECT confirmed_at, mails, mailed_at FROM subscriber WHERE mark = ?", (mark,)
            ).fetchone()
            left = connection.execute("SELECT asked_at FROM suppressed WHERE mark = ?", (mark,)).fetchone()
            if known is None:
                # Who left is written to once in a long while, for they may have changed their mind; a row is written
                # in any case, so that neither the answer nor its time tells who is known.
                if left and left[0] and now - left[0] < _LEFT_DAYS * _DAY:
                    connection.execute("UPDATE suppressed SET asked_at = asked_at WHERE mark = ?", (mark,))
                    return True
                connection.execute("UPDATE suppressed SET asked_at = ? WHERE mark = ?", (now, mark))
                connection.execute(
                    "INSERT INTO subscriber (id, mark, address, asked_at, asked_words, wants_mail)"
                    " VALUES (?, ?, ?, ?, ?, 1)",
                    (identity, mark, address, now, number),
                )
                return True
            confirmed_at, mails, mailed_at = known
            most = _MAILS_AFTER_LEAVING if left else _MAILS_MAXIMUM
            wants = not confirmed_at and mails < most and now - mailed_at >= _AGAIN_SECONDS
            connection.execute(
                "UPDATE subscriber SET wants_mail = iif(:wants, 1, wants_mail), asked_at = iif(:wants, :now, asked_at),"
                " asked_words = iif(:wants, :words, asked_words) WHERE mark = :mark",
                {"wants": wants, "now": now, "words": number, "mark": mark},
            )
            return True

    def confirm(self, identity: bytes, *, words: str, now: int) -> bool:
        """The address's owner said yes to ``words``. False: nobody asked with this link, or too long ago."""
        with self.file.transaction() as connection:
            found = connection.execute(
                "SELECT mark, confirmed_at, asked_at FROM subscriber WHERE id = ?", (identity,)
            ).fetchone()
            if found is None:
                return False
            mark, confirmed_at, asked_at = found
            if confirmed_at:
                return True
            if now - asked_at > PENDING_DAYS * _DAY:
                return False
            connection.execute(
                "UPDATE subscriber SET confirmed_at = ?, confirmed_words = ?, wants_mail = 0 WHERE id = ?",
                (now, _words(connection, words), identity),
            )
            connection.execute("DELETE FROM suppressed WHERE mark = ?", (mark,))
            return True

    def is_waiting(self, identity: bytes, *, now: int) -> bool:
        """True while this link can still be confirmed, or is."""
        found = self.file.rows("SELECT confirmed_at, asked_at FROM subscriber WHERE id = ?", (identity,))
        return bool(found) and (found[0][0] > 0 or now - found[0][1] <= PENDING_DAYS * _DAY)

    def leave(self, identity: bytes, *, now: int) -> None:
        """Unsubscribe: the address is erased, its mark remains. Nobody there any more: the same."""
        found = self.file.rows("SELECT mark FROM subscriber WHERE id = ?", (identity,))
        if found:
            self._leave(found[0][0], now)

    def leave_address(self, address: str, *, now: int) -> None:
        """The same for who asked in another way than by a link; also for an address that is not there yet."""
        self._leave(self.key.mark(address), now)

    def _leave(self, mark: bytes, now: int) -> None:
        with self.file.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO suppressed (mark, since) VALUES (?, ?)", (mark, now))
            # An objection to confirmations must not begin their count anew.
            connection.execute(
                "UPDATE suppressed SET asked_at = max(asked_at, coalesce((SELECT mailed_at FROM subscriber"
                " WHERE subscriber.mark = suppressed.mark AND confirmed_at = 0 AND mails > 0), 0)) WHERE mark = ?",
                (mark,),
            )
            connection.execute("DELETE FROM subscriber WHERE mark = ?", (mark,))
        self.file.wipe()

    def of_address(self, address: str) -> dict[str, int] | None:
        """When this address was typed and confirmed (Unix seconds, 0 for not yet); None: it gets no newsletter."""
        query = "SELECT asked_at, confirmed_at FROM subscriber WHERE mark = ?"
        found = self.file.rows(query, (self.key.mark(address),))
        return {"asked_at": found[0][0], "confirmed_at": found[0][1]} if found else None

    def to_confirm(self, *, now: int) -> list[Subscriber]:
        """Those to whom a confirmation is to be sent: first those not tried yet, then the longest put off."""
        query = """
            SELECT id, mark, address FROM subscriber
            WHERE wants_mail = 1 AND confirmed_at = 0 AND (mailed_at = 0 OR mailed_at <= ?)
            ORDER BY mailed_at, asked_at"""
        return [
            Subscriber(id=identity, mark=mark, address=address)
            for identity, mark, address in self.file.rows(query, (now - _RETRY_SECONDS,))
        ]

    def is_to_confirm(self, identity: bytes) -> bool:
        """True while a confirmation is still wanted: the list may be old, and some may have left or said yes."""
        query = "SELECT 1 FROM subscriber WHERE id = ? AND wants_mail = 1 AND confirmed_at = 0"
        return bool(self.file.rows(query, (identity,)))

    def was_mailed(self, identity: bytes, *, now: int) -> None:
        """A confirmation went out."""
        with self.file.transaction() as connection:
            connection.execute(
                "UPDATE subscriber SET wants_mail = 0, mails = mails + 1, mailed_at = ? WHERE id = ?",
                (now, identity),
            )

    def was_put_off(self, identity: bytes, *, now: int) -> None:
        """The mail server wants a confirmation later: it is left in peace for a while."""
        with self.file.transaction() as connection:
            connection.execute("UPDATE subscriber SET mailed_at = ? WHERE id = ?", (now, identity))

    def drop(self, identity: bytes) -> None:
        """The mail server will not have a confirmation for this address: it is erased."""
        with self.file.transaction() as connection:
            connection.execute("DELETE FROM subscriber WHERE id = ? AND confirmed_at = 0", (identity,))
        self.file.wipe()

    def erase_unconfirmed(self, *, now: int) -> int:
        """Erase the addresses that nobody confirmed in time; how many."""
        with self.file.transaction() as connection:
            done = connection.execute(
                "DELETE FROM subscriber WHERE confirmed_at = 0 AND asked_at < ?", (now - PENDING_DAYS * _DAY,)
            ).rowcount
        self.file.wipe()
        return done

    def counts(self) -> Counts:
        """For the administrator."""
        query = """
            SELECT coalesce(sum(confirmed_at > 0), 0), coalesce(sum(confirmed_at = 0), 0),
                coalesce(sum(wants_mail = 1 AND confirmed_at = 0), 0),
                coalesce(min(iif(wants_mail = 1 AND confirmed_at = 0, asked_at, NULL)), 0),
                (SELECT count(*) FROM suppressed)
            FROM subscriber"""
        confirmed, waiting, to_write, since, left = self.file.rows(query)[0]
        return Counts(
            confirmed=confirmed, waiting=waiting, to_write=to_write, to_write_since=since, left=left
        )


def _words(connection: sqlite3.Connection, text: str) -> int:
    connection.execute("INSERT OR IGNORE INTO words (text) VALUES (?)", (text,))
    return _number(connection, "SELECT number FROM words WHERE text = ?", text)


def _number(connection: sqlite3.Connection, query: str, *values: str) -> int:
    return int(connection.execute(query, values).fetchone()[0])
