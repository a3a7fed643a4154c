"""The ledger's mirror: a second SQLite file, on a second disk, that has every transaction before it counts as done.

Why here: the loss of the first disk then costs nothing that was ever acknowledged to anyone.
Must not: be read for the work, be ahead of the ledger, or be left behind in silence.

The ledger commits first, the mirror second, and only then does ``Ledger.atomic`` return. So a crash leaves the mirror
at most one transaction behind; what it lacks was never acted upon, and the next opening brings it up.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keys.durable import fsync_directory, make_directory
from offline_processor.errors import ProcessorError
from offline_processor.ledger.entries import verify_entries
from offline_processor.ledger.lock import take_lock

PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "secure_delete = ON",
    "cache_size = -16384",
    "wal_autocheckpoint = 8192",
)
Statement = tuple[str, Sequence[Any], bool]
"""SQL, its values (or rows of values), and whether they are rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tip:
    """How far a file is: transactions committed, the newest one's token, entries, the newest entry's chain value."""

    commits: int
    token: bytes
    entries: int
    chain: bytes


def tip_of(database: sqlite3.Connection) -> Tip:
    """The tip of a ledger's file; -1 commits for a file without tables."""
    try:
        commits, token = database.execute("SELECT number, token FROM commit_mark").fetchone() or (0, b"")
        newest = database.execute("SELECT id, chain FROM entry ORDER BY id DESC LIMIT 1").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        return Tip(commits=-1, token=b"", entries=0, chain=b"")
    entries, chain = newest or (0, b"")
    return Tip(commits=commits, token=token, entries=entries, chain=chain)


def includes(newer: sqlite3.Connection, older: Tip) -> bool:
    """True when ``newer`` holds every entry that ``older`` ends with, and at least as many transactions."""
    ahead = tip_of(newer)
    if older.commits == ahead.commits:
        return older == ahead
    if not older.entries:
        return older.commits < ahead.commits
    row = newer.execute("SELECT chain FROM entry WHERE id = ?", (older.entries,)).fetchone()
    return older.commits < ahead.commits and row is not None and row[0] == older.chain


def _tables(database: sqlite3.Connection) -> list[Any]:
    return database.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()


class Mirror:
    """The mirror at ``path``, held by this process alone until closed. ``expected``: there was one before.

    Raises ``LEDGER-MIRROR-DISK`` when it cannot be had.
    """

    def __init__(self, path: Path, *, expected: bool) -> None:
        self.path = path
        if expected and not path.is_file():
            raise _disk(path, "it is not there")
        with self._disk_errors():
            self._lock = take_lock(path, f"another run holds the mirror {path}")
        try:
            with self._disk_errors():
                path.touch(mode=0o600, exist_ok=True)
                self._database = sqlite3.connect(path, isolation_level=None)
        except BaseException:
            os.close(self._lock)
            raise
        try:
            with self._disk_errors():
                for pragma in PRAGMAS:
                    self._database.execute(f"PRAGMA {pragma}")
        except BaseException:
            self.close()
            raise

    def bring_up(self, ledger: sqlite3.Connection, primary: Path) -> bool:
        """Compare the two, and bring up a mirror that is behind; True when it was. ``LEDGER-MIRROR`` otherwise."""
        with self._disk_errors():
            ours, theirs = tip_of(ledger), tip_of(self._database)
            if ours == theirs and _tables(ledger) == _tables(self._database):
                return False
            # A newer version of the software may just have added tables to the ledger: those are copied too.
            if ours == theirs or includes(ledger, theirs):
                ledger.backup(self._database)
                return True
            newer = includes(self._database, ours)
        if newer:
            raise ProcessorError(
                "LEDGER-MIRROR",
                f"the mirror {self.path} is newer ({theirs.entries} entries) than the ledger {primary}"
                f" ({ours.entries} entries): the ledger is lost or an old copy",
                "nothing is lost: go on with the mirror's content, offline-processor mirror --take",
            )
        raise ProcessorError(
            "LEDGER-MIRROR",
            f"the mirror {self.path} ({theirs.entries} entries) and the ledger {primary} ({ours.entries} entries)"
            " have gone different ways: each holds what the other lacks",
            "keep both files as they are; find out which one the last run used (status, verify-ledger), move the"
            " other away, and reconcile with the acquirer's report before anything is charged",
        )

    def check_newer_than(self, ledger: Path) -> None:
        """Refuse (``LEDGER-MIRROR``) unless everything that ``ledger`` holds is in the mirror too."""
        if not ledger.exists():
            return
        with closing(sqlite3.connect(ledger, isolation_level=None)) as database, self._disk_errors():
            ours = tip_of(database)
            if ours != tip_of(self._database) and not includes(self._database, ours):
                raise ProcessorError(
                    "LEDGER-MIRROR",
                    f"the ledger {ledger} ({ours.entries} entries) holds something that the mirror {self.path} lacks",
                    "keep both; a run with the ledger brings the mirror up, if the two have not gone different ways",
                )

    def prepare(self, statements: Sequence[Statement]) -> None:
        """Apply a transaction, not yet committed: a disk that is full or gone is found before the ledger commits."""
        with self._disk_errors():
            self._database.execute("BEGIN IMMEDIATE")
            for sql, values, many in statements:
                if many:
                    self._database.executemany(sql, values)
                else:
                    self._database.execute(sql, values)

    def commit(self) -> None:
        """Make the prepared transaction durable."""
        with self._disk_errors():
            self._database.execute("COMMIT")

    def roll_back(self) -> None:
        """Forget a prepared transaction, if there is one."""
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    def empty_log(self) -> None:
        """Bring the write-ahead log into the file and cut it to nothing."""
        with self._disk_errors():
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def write_to(self, target: sqlite3.Connection) -> None:
        """Copy the whole mirror into another database."""
        with self._disk_errors():
            self._database.backup(target)

    def close(self) -> None:
        """Close the file, its write-ahead log emptied, and let go of the lock."""
        try:
            self.roll_back()
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            pass  # what is committed is in the log already; a dying disk must not hide why the run stopped
        finally:
            self._database.close()
            os.close(self._lock)

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.OperationalError, sqlite3.DatabaseError) as error:
            raise _disk(self.path, str(error)) from error


def take(mirror: Path, ledger: Path) -> int:
    """Put the mirror's content in the ledger's place, which is lost or an old copy; how many entries.

    Refused (``LEDGER-MIRROR``) when the ledger holds anything that the mirror lacks; ``LEDGER-CHAIN`` or
    ``LEDGER-MIRROR-DISK`` when the mirror is not whole.
    """
    held = Mirror(mirror, expected=True)
    aside = ledger.with_name(f"{ledger.name}.from-mirror")
    try:
        make_directory(ledger.parent)
        lock = take_lock(ledger, "another run holds the ledger")
        try:
            held.check_newer_than(ledger)
            aside.unlink(missing_ok=True)
            os.close(os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            with closing(sqlite3.connect(aside, isolation_level=None)) as copy:
                copy.execute("PRAGMA synchronous = FULL")
                held.write_to(copy)
                copy.execute("PRAGMA journal_mode = DELETE")
                if copy.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                    raise _disk(mirror, "what it holds is damaged")
                entries = verify_entries(copy.execute("SELECT * FROM entry ORDER BY id"))
            _make_durable(aside)
            # The write-ahead log of what is replaced must never be applied to what replaces it.
            for ending in ("-wal", "-shm"):
                ledger.with_name(ledger.name + ending).unlink(missing_ok=True)
            fsync_directory(ledger.parent)
            os.rename(aside, ledger)
            fsync_directory(ledger.parent)
        finally:
            os.close(lock)
    finally:
        held.close()
    return entries


def same_disk(left: Path, right: Path) -> bool:
    """True when both paths lie on one file system, so that one dying disk takes both."""
    return left.parent.stat().st_dev == right.parent.stat().st_dev


def _make_durable(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _disk(path: Path, what: str) -> ProcessorError:
    return ProcessorError(
        "LEDGER-MIRROR-DISK",
        f"the ledger's mirror {path} cannot be used: {what}; nothing goes on without it",
        "mount or mend the second disk and run again; if it is dead, put in another and begin a new mirror on it:"
        " offline-processor mirror --renew",
    )
