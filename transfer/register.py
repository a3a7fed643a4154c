"""The register: which orders this node has acknowledged, in which group and bundle they went, and their status.

Why here: intake asks it before it answers, the cut compares the spool with it, a return updates it.
Must not: be the only record of anything that an answer promised; the spool's group files and the outbox are.

WAL with synchronous NORMAL: a power cut may lose the newest rows, never tear the file. That is enough for orders,
because their group is durable before their row and ``reindex`` makes the row again from it. Whoever is about to
delete a group file, or to rely on a status, ends its transaction with ``durable=True`` (synchronous FULL), which
makes the whole write-ahead log up to there durable first.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import sqlite_utils

from keys.durable import make_directory
from keys.public.digest import equal
from transfer.errors import TransferError
from transfer.register_tables import IN_TRANSIT, RECEIVED, migrations
from transfer.spool import Entry, OpenGroup, Spool, read_group
from transfer.wire.records import Receipt, StatusRecord

_CHUNK = 500
REBUILD = (
    "stop intake, move register.db* away and run doctor --repair: spool and outbox bring it back, "
    "and the next return the statuses that are not confirmed yet"
)
_BUSY_SECONDS = 30
_Row = tuple[Any, ...]
_T = TypeVar("_T")

_INSERT = "INSERT INTO orders (order_id, basket_digest, batch_key_id, group_name, received_at) VALUES (?, ?, ?, ?, ?)"
_INSERT_MISSING = _INSERT + " ON CONFLICT (order_id) DO NOTHING"
_KNOWN = "SELECT order_id, basket_digest FROM orders WHERE order_id IN (SELECT value FROM json_each(?))"
_LOOKUP = (
    "SELECT basket_digest, batch_key_id, group_name, sequence, state, reason, changed_at, received_at"
    " FROM orders WHERE order_id = ?"
)
_UPDATE = "UPDATE orders SET state = ?, reason = ?, changed_at = ?, epoch = ? WHERE order_id = ?"


class Committed(Enum):
    """What became of an order that was to be committed."""

    NEW = auto()
    SAME = auto()
    CONFLICT = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrder:
    """An order to commit: its id (32 hex digits) and basket digest (32 bytes)."""

    order_id: str
    basket_digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownOrder:
    """An acknowledged order. Times are Unix seconds; ``changed_at`` is 0 until a status came.

    ``status``: ``received``, ``in-transit`` (in a bundle), or a ``StatusState`` that a return brought.
    """

    basket_digest: bytes
    batch_key_id: bytes
    group_name: str
    sequence: int | None
    status: str
    reason: str
    changed_at: int
    received_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleRow:
    """A bundle that was cut. ``manifest``: its digest, hex. ``outcome`` is empty until its receipt came."""

    sequence: int
    batch_key_id: bytes | None
    manifest: str
    orders: int
    cut_at: int
    outcome: str = ""
    settled_at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsettledOrder:
    """An acknowledged order without a receipt. ``sequence``: its bundle; ``status``: what a return told, "" if none."""

    order_id: str
    sequence: int | None
    status: str
    missing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UncutKey:
    """A batch key whose partition waits for a cut. ``oldest``: when its oldest order came."""

    batch_key_id: bytes
    orders: int
    oldest: int


class Register:
    """The register at ``path``, made when missing. Any number of processes; threads of one may share an instance."""

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

    def lookup(self, order_id: str) -> KnownOrder | None:
        """The order of this id (32 hex digits), or None."""
        with self._reading:
            row = self._reader.conn.execute(_LOOKUP, (order_id,)).fetchone()
        if row is None:
            return None
        digest, key, group, sequence, state, reason, changed_at, received_at = row
        return KnownOrder(
            basket_digest=digest,
            batch_key_id=key,
            group_name=group,
            sequence=sequence,
            status=state or (RECEIVED if sequence is None else IN_TRANSIT),
            reason=reason,
            changed_at=changed_at,
            received_at=received_at,
        )

    def commit_group(self, group: OpenGroup, orders: Sequence[NewOrder], now: int) -> list[Committed]:
        """Make the new ones of ``orders`` (one for each envelope of ``group``, in order) durable in the spool.

        An order that is known, also from earlier in the same group, is not written again: SAME, or CONFLICT when
        its basket digest differs. On any error nothing was acknowledged and the group is abandoned.
        """
        with group:
            if len(orders) != len(group):
                raise ValueError("a group needs one order for each envelope")
            answers: list[Committed] = []
            new: list[int] = []
            with self.transaction() as connection:
                wanted = json.dumps([order.order_id for order in orders])
                known: dict[str, bytes] = dict(connection.execute(_KNOWN, (wanted,)))
                for place, order in enumerate(orders):
                    digest = known.get(order.order_id)
                    if digest is None:
                        known[order.order_id] = order.basket_digest
                        new.append(place)
                        answers.append(Committed.NEW)
                    else:
                        same = equal(digest, order.basket_digest)
                        answers.append(Committed.SAME if same else Committed.CONFLICT)
                if new:
                    # Under the write lock: no other worker can commit one of these ids to another group meanwhile.
                    key, name = group.batch_key_id, group.commit(new)
                    rows = [
                        (orders[place].order_id, orders[place].basket_digest, key, name, now) for place in new
                    ]
                    connection.executemany(_INSERT, rows)
            return answers

    def reindex(self, spool: Spool, now: int) -> int:
        """Add the orders that lie in the spool and have no row (after a crash or a lost register); how many."""
        added = 0
        for partition in spool.partitions():
            added += self.index_groups(partition.batch_key_id, spool.groups(partition.batch_key_id), now)
        return added

    def index_groups(self, batch_key_id: bytes, groups: Iterable[Path], now: int) -> int:
        """The same for some group files of one partition. A file that is removed meanwhile was cut and is skipped."""
        added = 0
        for path in groups:
            with contextlib.suppress(FileNotFoundError), self.transaction() as connection:
                rows = [
                    (entry.order_id, entry.basket_digest, batch_key_id, path.name, now)
                    for entry in read_group(path)
                ]
                before = connection.total_changes
                connection.executemany(_INSERT_MISSING, rows)
                added += connection.total_changes - before
        return added

    def index_entries(self, batch_key_id: bytes, entries: Iterable[Entry], now: int) -> None:
        """The same for envelopes that lie in no group any more (those of a bundle, when the register was lost)."""
        for chunk in _chunks(entries):
            with self.transaction() as connection:
                connection.executemany(
                    _INSERT_MISSING,
                    [(entry.order_id, entry.basket_digest, batch_key_id, "", now) for entry in chunk],
                )

    def uncut(self, batch_key_id: bytes, order_ids: Sequence[str]) -> dict[str, bytes]:
        """Basket digests of those orders that were acknowledged for this key and are in no bundle yet."""
        # The plus signs keep SQLite on the index of the ids; it would walk all orders of the key instead.
        query = _KNOWN + " AND +batch_key_id = ? AND +sequence IS NULL"
        with self._reading:
            return dict(self._reader.conn.execute(query, (json.dumps(order_ids), batch_key_id)))

    def uncut_of(self, batch_key_id: bytes) -> dict[str, bytes]:
        """The same for all orders of this key."""
        query = "SELECT order_id, basket_digest FROM orders WHERE batch_key_id = ? AND sequence IS NULL"
        with self._reading:
            return dict(self._reader.conn.execute(query, (batch_key_id,)))

    def uncut_tally(self) -> list[UncutKey]:
        """For each key with orders that wait for a cut: how many, and since when. Missing orders wait for nothing."""
        query = (
            "SELECT batch_key_id, count(*), min(received_at) FROM orders"
            " WHERE sequence IS NULL AND order_id NOT IN (SELECT order_id FROM missing) GROUP BY batch_key_id"
        )
        with self._reading:
            rows = self._reader.conn.execute(query).fetchall()
        return [UncutKey(batch_key_id=key, orders=count, oldest=oldest) for key, count, oldest in rows]

    def uncut_keys(self) -> list[bytes]:
        """The batch keys for which orders were acknowledged that are in no bundle and not known to be missing."""
        query = (
            "SELECT DISTINCT batch_key_id FROM orders"
            " WHERE sequence IS NULL AND order_id NOT IN (SELECT order_id FROM missing)"
        )
        with self._reading:
            return [key for (key,) in self._reader.conn.execute(query)]

    def record_missing(self, batch_key_id: bytes, contained: Collection[str], now: int) -> list[str]:
        """Record and return the orders that were acknowledged for this key, are in no bundle and not ``contained``."""
        with self.transaction(durable=True) as connection:
            return _record_missing(connection, batch_key_id, contained, now)

    def record_bundle(
        self, bundle: BundleRow, contained: Collection[str], *, all_uncut: bool = False
    ) -> list[str]:
        """Record a bundle that lies complete in the outbox and which orders are in it; durable on return.

        Returns what was acknowledged for its key and is not ``contained``: the missing orders, recorded as such.
        Repeating changes nothing. ``all_uncut``: every one of ``contained`` is known to be an uncut order of this key,
        so that none is missing when there are as many.
        """
        key = bundle.batch_key_id
        with self.transaction(durable=True) as connection:
            missing: list[str] = []
            if key is not None and not (all_uncut and _count_uncut(connection, key) == len(contained)):
                missing = _record_missing(connection, key, contained, bundle.cut_at)
            connection.execute(
                "UPDATE orders SET sequence = ? WHERE batch_key_id = ? AND sequence IS NULL"
                " AND order_id NOT IN (SELECT order_id FROM missing)",
                (bundle.sequence, key),
            )
            connection.execute(
                "INSERT INTO bundle (sequence, batch_key_id, manifest, orders, cut_at) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (sequence) DO NOTHING",
                (bundle.sequence, key, bundle.manifest, bundle.orders, bundle.cut_at),
            )
        return missing

    def bundle(self, sequence: int) -> BundleRow | None:
        """One recorded bundle."""
        return next(self._bundles("WHERE sequence = ?", (sequence,)), None)

    def bundled_keys(self, keys: Iterable[bytes]) -> dict[bytes, int]:
        """Which of these batch keys were used, and by which sequence."""
        wanted = json.dumps([key.hex() for key in keys])
        query = (
            "SELECT batch_key_id, sequence FROM bundle"
            " WHERE lower(hex(batch_key_id)) IN (SELECT value FROM json_each(?))"
        )
        with self._reading:
            return dict(self._reader.conn.execute(query, (wanted,)))

    def last_sequence(self) -> int:
        """The highest recorded sequence, 0 before the first."""
        return int(self._one("SELECT coalesce(max(sequence), 0) FROM bundle"))

    def missing(self, limit: int = 1000) -> list[str]:
        """Acknowledged orders that no cut found and no later status accounts for, oldest first."""
        with self._reading:
            rows = self._reader.conn.execute(
                "SELECT order_id FROM missing JOIN orders USING (order_id) WHERE state = ''"
                " ORDER BY noticed_at, order_id LIMIT ?",
                (limit,),
            ).fetchall()
        return [order_id for (order_id,) in rows]

    def unanswered_since(self) -> int:
        """When the oldest bundle without a receipt was cut, 0 for none."""
        return int(self._one("SELECT coalesce(min(cut_at), 0) FROM bundle WHERE outcome = ''"))

    def waiting_since(self) -> int:
        """When the oldest order came that is in no bundle and not known to be missing, 0 for none."""
        return min((key.oldest for key in self.uncut_tally()), default=0)

    def orders_of(self, sequence: int) -> set[str]:
        """The orders that went into a bundle."""
        with self._reading:
            rows = self._reader.conn.execute("SELECT order_id FROM orders WHERE sequence = ?", (sequence,))
            return {order_id for (order_id,) in rows}

    def settled_without_status(self, limit: int = 1000) -> list[str]:
        """Orders whose bundle has its receipt, but of which no return told a state, the oldest first."""
        query = (
            "SELECT order_id FROM orders JOIN bundle USING (sequence) WHERE state = '' AND outcome <> ''"
            " ORDER BY number LIMIT ?"
        )
        with self._reading:
            return [order_id for (order_id,) in self._reader.conn.execute(query, (limit,))]

    def faults(self, limit: int = 10) -> list[str]:
        """What SQLite finds wrong with the file itself; empty when nothing is."""
        try:
            with self._reading:
                rows = self._reader.conn.execute(f"PRAGMA quick_check({limit:d})").fetchall()
        except sqlite3.DatabaseError as error:
            return [str(error)]
        return [str(line) for (line,) in rows if line != "ok"]

    def waiting(self) -> int:
        """How many orders are in no bundle yet."""
        return int(self._one("SELECT count(*) FROM orders WHERE sequence IS NULL"))

    def update_statuses(self, records: Iterable[StatusRecord], *, epoch: int = 1) -> tuple[int, int]:
        """Set the statuses that a return of ``epoch`` brought: how many were of orders known here, and how many not.

        Whoever calls takes returns in by (epoch, number), so what comes later is what counts.
        """
        known = total = 0
        for chunk in _chunks(records):
            with self.transaction() as connection:
                rows = [
                    (record.state, record.reason, record.changed_at, epoch, record.order) for record in chunk
                ]
                known += connection.executemany(_UPDATE, rows).rowcount
                total += len(rows)
        return known, total - known

    def told_charged(self, order_ids: Iterable[str]) -> list[str]:
        """Those of these orders (ids, hex) of which an earlier return said that they were charged."""
        query = (
            "SELECT 1 FROM orders WHERE order_id = ? AND state IN ('authorised', 'paid', 'dispatched', 'refunded')"
        )
        with self._reading:
            return [one for one in order_ids if self._reader.conn.execute(query, (one,)).fetchone()]

    def untold(self, epoch: int, limit: int = 1000) -> list[str]:
        """Orders whose bundle has its receipt, but whose end no return told, and none of ``epoch`` speaks of."""
        query = (
            "SELECT order_id FROM orders JOIN bundle USING (sequence) WHERE sequence IS NOT NULL"
            " AND state IN ('', 'held') AND orders.epoch < ? AND outcome <> '' ORDER BY number LIMIT ?"
        )
        with self._reading:
            return [order_id for (order_id,) in self._reader.conn.execute(query, (epoch, limit))]

    def without_receipt(self) -> list[UnsettledOrder]:
        """Every acknowledged order whose bundle has no receipt, or that is in no bundle, the oldest first."""
        query = (
            "SELECT order_id, sequence, state, order_id IN (SELECT order_id FROM missing) FROM orders"
            " LEFT JOIN bundle USING (sequence) WHERE sequence IS NULL OR outcome = '' ORDER BY number"
        )
        with self._reading:
            rows = self._reader.conn.execute(query).fetchall()
        return [
            UnsettledOrder(order_id=order_id, sequence=sequence, status=state, missing=bool(missing))
            for order_id, sequence, state, missing in rows
        ]

    def take_receipts(self, receipts: Iterable[Receipt]) -> None:
        """Record the receipts of bundles, durably."""
        with self.transaction(durable=True) as connection:
            connection.executemany(
                "UPDATE bundle SET outcome = ?, settled_at = ? WHERE sequence = ? AND manifest = ?",
                [
                    (receipt.outcome, receipt.settled_at, receipt.sequence, receipt.manifest)
                    for receipt in receipts
                ],
            )

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

    def _bundles(self, where: str, values: _Row) -> Iterator[BundleRow]:
        names = ("sequence", "batch_key_id", "manifest", "orders", "cut_at", "outcome", "settled_at")
        with self._reading:
            query = f"SELECT {', '.join(names)} FROM bundle {where}"  # noqa: S608  fixed texts of this class
            rows = self._reader.conn.execute(query, values).fetchall()
        return (BundleRow(**dict(zip(names, row, strict=True))) for row in rows)

    def _one(self, query: str) -> Any:
        with self._reading:
            return self._reader.conn.execute(query).fetchone()[0]


def _count_uncut(connection: sqlite3.Connection, batch_key_id: bytes) -> int:
    query = "SELECT count(*) FROM orders WHERE batch_key_id = ? AND sequence IS NULL"
    return int(connection.execute(query, (batch_key_id,)).fetchone()[0])


def _record_missing(
    connection: sqlite3.Connection, batch_key_id: bytes, contained: Collection[str], now: int
) -> list[str]:
    rows = connection.execute(
        "SELECT order_id FROM orders WHERE batch_key_id = ? AND sequence IS NULL ORDER BY number",
        (batch_key_id,),
    )
    missing = [order_id for (order_id,) in rows if order_id not in contained]
    connection.executemany(
        "INSERT INTO missing (order_id, batch_key_id, noticed_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        [(order_id, batch_key_id, now) for order_id in missing],
    )
    return missing


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


def _chunks(items: Iterable[_T]) -> Iterator[list[_T]]:
    source = iter(items)
    while chunk := list(islice(source, _CHUNK)):
        yield chunk
