"""The ledger: a SQLite file with an append-only chain of entries and the tables folded from them.

Why here: every durable fact of the offline side is written in one of its transactions.
Must not: be opened twice at once, run with a clock behind its newest entry, or hold PAN or CVV in clear.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlite_utils

from keys.public import canonical
from keys.public.chain import GENESIS, link
from keys.public.digest import equal
from offline_processor.errors import ProcessorError
from offline_processor.ledger.entries import broken, verify_entries
from offline_processor.ledger.lock import take_lock
from offline_processor.ledger.mirror import PRAGMAS, Mirror, Statement
from offline_processor.ledger.schema import migrations

Row = tuple[Any, ...]
CLOCK_JUMP = 35 * 86_400
_TOKEN_SIZE = 16
_STEPS = 100_000  # of SQLite's machine between two questions whether to give up
_APPEND = "INSERT INTO entry (id, at, kind, subject, facts, chain) VALUES (?, ?, ?, ?, ?, ?)"
_MARK = "UPDATE commit_mark SET number = number + 1, token = ?"


class Ledger:
    """The ledger at ``path``, held by this process alone until closed; with a ``mirror``, in step with it.

    Raises ``LEDGER-IN-USE`` when another process holds it, ``LEDGER-CHAIN`` when its newest entry is not chained,
    and as ``Mirror`` does. ``renew_mirror``: the mirror that there was is lost, and a new one is begun.
    """

    def __init__(self, path: Path, *, mirror: Path | None = None, renew_mirror: bool = False) -> None:
        self._lock = take_lock(path, "another run holds the ledger")
        self._path = path
        self._pending: list[Row] = []
        self._written: list[Statement] = []
        self._mirror: Mirror | None = None
        self._in_step = True
        self.mirror_was_behind = False
        self._count, self._chain, self._newest = 0, GENESIS, 0
        try:
            path.touch(mode=0o600, exist_ok=True)
            self._database = sqlite_utils.Database(path)
            for pragma in PRAGMAS:
                self._database.execute(f"PRAGMA {pragma}")
            migrations.apply(self._database)
            self._connection = self._database.conn
            self._read_tip()
            if mirror is not None:
                self._begin_mirror(path, mirror, renew=renew_mirror)
        except BaseException:
            os.close(self._lock)
            raise

    def _begin_mirror(self, path: Path, mirror: Path, *, renew: bool) -> None:
        mirrored = self.counter("mirrored")
        found = Mirror(mirror, expected=bool(mirrored) and not renew)
        try:
            self.mirror_was_behind = found.bring_up(self._connection, path)
        except BaseException:
            found.close()
            raise
        self._mirror = found
        if not mirrored:
            with self.atomic():
                self.set_counter("mirrored", 1)

    def close(self) -> None:
        """Close the database, its write-ahead log emptied, and let go of the lock."""
        if self._mirror is not None:
            self._mirror.close()
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._database.close()
        os.close(self._lock)

    @property
    def entries(self) -> int:
        """How many entries there are."""
        return self._count

    @property
    def chain(self) -> bytes:
        """The chain value of the newest entry, 32 bytes; zero in an empty ledger."""
        return self._chain

    @property
    def newest(self) -> int:
        """The time of the newest entry, Unix seconds; 0 in an empty ledger."""
        return self._newest

    def check_clock(self, now: int) -> None:
        """Refuse (``CLOCK-BACK``, ``CLOCK-JUMP``) a clock behind the newest entry or far ahead of it."""
        self._refuse_earlier(now)
        if self._newest and now - self._newest > CLOCK_JUMP:
            raise ProcessorError(
                "CLOCK-JUMP",
                f"the clock is {(now - self._newest) // 86_400} days ahead of the newest ledger entry",
                "check the date; if it is right, repeat the command with --clock-is-right",
            )

    def confirm_clock(self, now: int) -> None:
        """A person says that a clock far ahead is right; one behind the newest entry never is (``CLOCK-BACK``)."""
        self._refuse_earlier(now)
        with self.atomic():
            self.append("clock-confirmed", "operator", now, {})

    def _refuse_earlier(self, now: int) -> None:
        if now < self._newest:
            raise ProcessorError(
                "CLOCK-BACK",
                f"the clock says {now}, but the newest ledger entry is of {self._newest}",
                "set the clock, then repeat the command",
            )

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """One durable transaction: all of it or nothing, entries included, on the mirror's disk too."""
        if not self._in_step:
            raise ProcessorError(
                "LEDGER-MIRROR-DISK",
                "the mirror missed a transaction: nothing goes on without it",
                "mend the second disk and run again: opening the ledger brings the mirror up",
            )
        tip = (self._count, self._chain, self._newest)
        try:
            with self._database.atomic():
                yield
                self._finish()
        except BaseException:
            self._count, self._chain, self._newest = tip
            if self._mirror is not None:
                self._mirror.roll_back()
            raise
        finally:
            self._pending.clear()
            self._written.clear()
        self._commit_mirror()

    def _commit_mirror(self) -> None:
        if self._mirror is not None and not self._in_step:
            self._mirror.commit()
            self._in_step = True

    def _finish(self) -> None:
        """The transaction's entries and its mark; then the same statements, in their order, for the mirror."""
        if self._pending:
            self.execute_many(_APPEND, list(self._pending))
        if not self._written:
            return
        self.execute(_MARK, (os.urandom(_TOKEN_SIZE),))
        if self._mirror is not None:
            self._mirror.prepare(self._written)
            self._in_step = False  # until the mirror has committed too

    def append(self, kind: str, subject: str, at: int, facts: dict[str, Any]) -> None:
        """Add one entry to the current transaction."""
        text = canonical.encode(facts).decode()
        self._count += 1
        self._chain = link(self._chain, number=self._count, at=at, kind=kind, subject=subject, facts=text)
        self._newest = max(self._newest, at)
        self._pending.append((self._count, at, kind, subject, text, self._chain))

    def execute(self, statement: str, values: Row = ()) -> None:
        """Run one statement of the current transaction."""
        self._connection.execute(statement, values)
        self._written.append((statement, values, False))

    def execute_many(self, statement: str, rows: list[Row]) -> None:
        """Run one statement for each row, in the current transaction."""
        if rows:
            self._connection.executemany(statement, rows)
            self._written.append((statement, rows, True))

    def rows(self, query: str, values: Row = ()) -> Iterator[Row]:
        """The rows of a query, one by one."""
        yield from self._connection.execute(query, values)

    def row(self, query: str, values: Row = ()) -> Row | None:
        """The first row of a query, or None."""
        found: Row | None = self._connection.execute(query, values).fetchone()
        return found

    def counter(self, name: str) -> int:
        """A counter's value, 0 when never used."""
        found = self.row("SELECT value FROM counter WHERE name = ?", (name,))
        return int(found[0]) if found else 0

    def set_counter(self, name: str, value: int) -> None:
        """Set a counter in the current transaction."""
        self.execute("INSERT OR REPLACE INTO counter (name, value) VALUES (?, ?)", (name, value))

    def empty_log(self) -> None:
        """Bring the write-ahead log into the file and cut it to nothing, the mirror's too: no old page stays in it."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        if self._mirror is not None:
            self._mirror.empty_log()

    @property
    def files(self) -> list[Path]:
        """Every file that may hold what is in the ledger: its own and the mirror's, with their logs."""
        paths = [self._path] if self._mirror is None else [self._path, self._mirror.path]
        return [path.with_name(path.name + ending) for path in paths for ending in ("", "-wal", "-journal")]

    def verify_chain(self) -> int:
        """Recompute the whole chain and return the number of entries; ``LEDGER-CHAIN`` at the first that differs."""
        with closing(self._connection.execute("SELECT * FROM entry ORDER BY id")) as rows:
            return verify_entries(rows)

    def verify_newest(self, count: int, progress: Callable[[int], None] = lambda done: None) -> int:
        """Recompute the chain of the newest ``count`` entries; how many there were. ``LEDGER-CHAIN``."""
        after = max(0, self._count - count)
        before = self.row("SELECT chain FROM entry WHERE id = ?", (after,)) if after else (GENESIS,)
        if before is None:
            raise broken(after)
        query = "SELECT * FROM entry WHERE id > ? ORDER BY id"
        with closing(self._connection.execute(query, (after,))) as rows:
            last = verify_entries(rows, after=after, chain=before[0], progress=progress)
        if last != self._count:
            raise broken(last + 1)
        return last - after

    def damage(self, give_up: Callable[[], bool]) -> list[str] | None:
        """What SQLite finds wrong with the file, in its words; None when ``give_up`` said so before the end."""
        self._connection.set_progress_handler(give_up, _STEPS)
        try:
            found = [str(row[0]) for row in self._connection.execute("PRAGMA integrity_check(10)")]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                return None
            return [str(error)]
        except sqlite3.DatabaseError as error:
            return [str(error)]
        finally:
            self._connection.set_progress_handler(None, 0)
        return [line for line in found if line != "ok"]

    def copy_to(
        self, target: sqlite3.Connection, progress: Callable[[int, int], None], *, pages: int
    ) -> None:
        """Copy the whole ledger into another database, ``pages`` at a time; ``progress`` gets done and total."""
        self._connection.backup(
            target, pages=pages, progress=lambda _, left, total: progress(total - left, total)
        )

    def _read_tip(self) -> None:
        newest = list(self.rows("SELECT * FROM entry ORDER BY id DESC LIMIT 2"))
        if not newest:
            return
        number, at, kind, subject, facts, stored = newest[0]
        previous = newest[1][5] if len(newest) > 1 else GENESIS
        chained = link(previous, number=number, at=at, kind=kind, subject=subject, facts=facts)
        if number - (newest[1][0] if len(newest) > 1 else 0) != 1 or not equal(chained, stored):
            raise broken(number)
        self._count, self._chain, self._newest = number, stored, at
