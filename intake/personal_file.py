"""A database file with personal data: for its owner only, and what is deleted from it is overwritten.

Why here: newsletter and enquiries promise erasure, and a plain DELETE leaves the bytes where they were.
Must not: hold an order, a card, or a second copy of anything.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlite_utils
from sqlite_utils import Migrations

from intake.errors import IntakeError
from keys.durable import make_directory

_BUSY_SECONDS = 30
Row = tuple[Any, ...]


class PersonalFile:
    """The SQLite file at ``path``, made when missing. Threads of one process may share an instance."""

    def __init__(self, path: Path, migrations: Migrations) -> None:
        make_directory(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        os.fchmod(descriptor, 0o600)  # also when it came back from a backup
        os.close(descriptor)
        self._turn = threading.RLock()
        try:
            self._connection = _connect(path)
            migrations.apply(sqlite_utils.Database(self._connection))
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:
                raise  # a full disk or a lock says nothing about the file
            raise IntakeError(
                "PERSONAL-DAMAGED",
                f"{path} is damaged: {error}",
                "bring it back from a backup, or move it away",
            ) from error

    def close(self) -> None:
        """Close the connection."""
        with self._turn:
            self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction, all of it or nothing, durable when it ends."""
        with self._turn:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def rows(self, query: str, values: Row = ()) -> list[Row]:
        """All rows of a query."""
        with self._turn:
            return self._connection.execute(query, values).fetchall()

    def wipe(self) -> bool:
        """After deletions: empty the write-ahead log, which still has what was deleted. False: somebody reads it now.

        ``secure_delete`` has overwritten it in the file itself. What a flash memory keeps of either is beyond us.
        """
        with self._turn:
            try:
                busy, _, _ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.OperationalError:  # locked: the server tries again within the hour
                return False
            return not busy


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None)
    for pragma in ("secure_delete = ON", "journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection
