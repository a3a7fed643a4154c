"""The register's file: its two connections, its writers' turn, its facts.

Why here: everything that the register knows is written and read under the same rules of waiting and of durability.
Must not: know what an order or a bundle is.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import sqlite_utils

from keys.durable import make_directory
from transfer.errors import TransferError
from transfer.register_tables import migrations

REBUILD = (
    "stop intake, move register.db* away and run doctor --repair: spool and outbox bring it back, "
    "and the next return the statuses that are not confirmed yet"
)
_CHUNK = 500
_BUSY_SECONDS = 30
Row = tuple[Any, ...]
_T = TypeVar("_T")


class RegisterFile:
    """The SQLite file at ``path``, made when missing. Threads of one process may share an instance."""

    def __init__(self, path: Path) -> None:
        make_directory(path.parent)
        # Writers queue on this lock, in the kernel: SQLite's own waiting sleeps and polls, up to 100 ms at a time.
        self._lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._writing, self._reading = threading.RLock(), threading.Lock()
        with self._turn():  # workers that start together must not switch a new file to WAL at the same moment
            try:
                self._writer = _connect(path)
                migrations.apply(self._writer)
                self._reader = _connect(path)
            except sqlite3.DatabaseError as error:
                if type(error) is not sqlite3.DatabaseError:
                    raise  # a full disk or a lock says nothing about the file
                raise TransferError("REGISTER-DAMAGED", f"{path} is damaged: {error}", REBUILD) from error

    def close(self) -> None:
        """Close both connections."""
        self._reader.close()
        self._writer.close()
        os.close(self._lock)

    def faults(self, limit: int = 10) -> list[str]:
        """What SQLite finds wrong with the file itself; empty when nothing is."""
        try:
            with self._reading:
                rows = self._reader.conn.execute(f"PRAGMA quick_check({limit:d})").fetchall()
        except sqlite3.DatabaseError as error:
            return [str(error)]
        return [str(line) for (line,) in rows if line != "ok"]

    def fact(self, name: str) -> Any:
        """A small JSON value that ``set_fact`` stored, or None."""
        with self._reading:
            row = self._reader.conn.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def set_fact(self, name: str, value: object) -> None:
        """Store a small JSON value, durably, and with it all that was written before."""
        with self.transaction(durable=True) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO fact (name, value) VALUES (?, ?)", (name, json.dumps(value))
            )

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """One transaction in this register's turn to write, all of it or nothing; ``durable`` also in a power cut."""
        with self._turn():
            connection = self._writer.conn
            if durable:
                connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            finally:
                if durable:
                    connection.execute("PRAGMA synchronous = NORMAL")

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        with self._writing:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _rows(self, query: str, values: Row = ()) -> list[Row]:
        with self._reading:
            return self._reader.conn.execute(query, values).fetchall()

    def _one(self, query: str) -> Any:
        with self._reading:
            return self._reader.conn.execute(query).fetchone()[0]


def _connect(path: Path) -> sqlite_utils.Database:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False, cached_statements=64)
    # Emptying the write-ahead log writes many random pages; once in 64 MiB it stays out of the 99th percentile.
    for pragma in (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "cache_size = -16384",
        "wal_autocheckpoint = 16000",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return sqlite_utils.Database(connection)


def chunks(items: Iterable[_T]) -> Iterator[list[_T]]:
    """The items in lists of as many as one transaction takes."""
    source = iter(items)
    while chunk := list(islice(source, _CHUNK)):
        yield chunk
