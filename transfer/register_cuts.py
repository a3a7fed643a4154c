"""Which orders wait for a cut, which went into which bundle, and which are missing.

Why here: the cut compares the spool with what was acknowledged, and both must be asked the same way.
Must not: touch the spool or the outbox, or know what an order's status is.

One batch key maps to one bundle, so an order's key says in which bundle it is and no row is touched by a cut: it is in
its key's bundle when its row is not newer than the record of the bundle (``last_order``) and it was not missing.
``waiting_group`` names the groups of keys that have no bundle yet, with what they hold, for the cut to compare.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from transfer.register_file import RegisterFile, Row

KNOWN = "SELECT order_id, basket_digest FROM orders WHERE order_id IN (SELECT value FROM json_each(?))"


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
    """An acknowledged order without a receipt. ``sequence``: its bundle, None if it is in none."""

    order_id: str
    sequence: int | None
    missing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UncutKey:
    """A batch key whose partition waits for a cut. ``oldest``: when its oldest order came."""

    batch_key_id: bytes
    orders: int
    oldest: int


class Cuts(RegisterFile):
    """The part of the register that a push writes."""

    def uncut(self, batch_key_id: bytes, order_ids: Sequence[str]) -> dict[str, bytes]:
        """Basket digests of those orders that were acknowledged for this key and are in no bundle yet."""
        # The plus signs keep SQLite on the index of the ids; it would walk all orders of the key instead.
        query = KNOWN.replace("FROM orders", "FROM placed") + " AND +batch_key_id = ? AND +sequence IS NULL"
        return dict(self._rows(query, (json.dumps(order_ids), batch_key_id)))

    def uncut_of(self, batch_key_id: bytes) -> dict[str, bytes]:
        """The same for all orders of this key."""
        query = "SELECT order_id, basket_digest FROM placed WHERE batch_key_id = ? AND sequence IS NULL"
        return dict(self._rows(query, (batch_key_id,)))

    def whole_groups(self, batch_key_id: bytes) -> dict[str, tuple[int, bytes]]:
        """How many orders each group of a key without a bundle holds, and its SHA-256 (bytes), by name.

        Empty when any acknowledged order of the key is not in such a group: then only reading each order tells.
        """
        query = "SELECT name, orders, sha256 FROM waiting_group WHERE batch_key_id = ?"
        with self.transaction() as connection:  # one view of both tables, and after every worker's rows
            found = {
                name: (count, sha256) for name, count, sha256 in connection.execute(query, (batch_key_id,))
            }
            uncut = _count_uncut(connection, batch_key_id)
        whole = all(sha256 for _, sha256 in found.values())
        return found if whole and sum(count for count, _ in found.values()) == uncut else {}

    def uncut_tally(self) -> list[UncutKey]:
        """For each key with orders that wait for a cut: how many, and since when. Missing orders wait for nothing."""
        query = (
            "SELECT batch_key_id, count(*), min(received_at) FROM placed"
            " WHERE batch_key_id IN (SELECT batch_key_id FROM waiting_group) AND sequence IS NULL AND NOT is_missing"
            " GROUP BY batch_key_id"
        )
        return [
            UncutKey(batch_key_id=key, orders=count, oldest=oldest)
            for key, count, oldest in self._rows(query)
        ]

    def uncut_keys(self) -> list[bytes]:
        """The batch keys for which orders were acknowledged that are in no bundle and not known to be missing."""
        query = (
            "SELECT DISTINCT batch_key_id FROM waiting_group WHERE EXISTS (SELECT 1 FROM placed"
            " WHERE placed.batch_key_id = waiting_group.batch_key_id AND sequence IS NULL AND NOT is_missing)"
        )
        return [key for (key,) in self._rows(query)]

    def record_missing(self, batch_key_id: bytes, contained: Collection[str], now: int) -> list[str]:
        """Record and return the orders that were acknowledged for this key, are in no bundle and not ``contained``."""
        with self.transaction(durable=True) as connection:
            return _record_missing(connection, batch_key_id, contained, now)

    def record_bundle(
        self, bundle: BundleRow, contained: Callable[[], Collection[str]], *, all_uncut: bool = False
    ) -> list[str]:
        """Record a bundle that lies complete in the outbox and which orders are in it; durable on return.

        Returns what was acknowledged for its key and is not ``contained``: the missing orders, recorded as such.
        Repeating changes nothing. ``all_uncut``: everything in it is known to be an uncut order of this key, so that
        none is missing when there are as many; only if there are more is ``contained`` asked.
        """
        key = bundle.batch_key_id
        with self.transaction(durable=True) as connection:
            missing: list[str] = []
            if key is not None and not (all_uncut and _count_uncut(connection, key) == bundle.orders):
                missing = _record_missing(connection, key, contained(), bundle.cut_at)
            connection.execute(
                "INSERT INTO bundle (sequence, batch_key_id, manifest, orders, cut_at, last_order)"
                " VALUES (?, ?, ?, ?, ?, (SELECT coalesce(max(number), 0) FROM orders))"
                " ON CONFLICT (sequence) DO NOTHING",
                (bundle.sequence, key, bundle.manifest, bundle.orders, bundle.cut_at),
            )
            connection.execute("DELETE FROM waiting_group WHERE batch_key_id = ?", (key,))
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
        return dict(self._rows(query, (wanted,)))

    def last_sequence(self) -> int:
        """The highest recorded sequence, 0 before the first."""
        return int(self._one("SELECT coalesce(max(sequence), 0) FROM bundle"))

    def missing(self, limit: int = 1000) -> list[str]:
        """Acknowledged orders that no cut found and no later status accounts for, oldest first."""
        query = (
            "SELECT order_id FROM missing JOIN orders USING (order_id) WHERE state = ''"
            " ORDER BY noticed_at, order_id LIMIT ?"
        )
        return [order_id for (order_id,) in self._rows(query, (limit,))]

    def unanswered_since(self) -> int:
        """When the oldest bundle without a receipt was cut, 0 for none."""
        return int(self._one("SELECT coalesce(min(cut_at), 0) FROM bundle WHERE outcome = ''"))

    def waiting_since(self) -> int:
        """When the oldest order came that is in no bundle and not known to be missing, 0 for none."""
        return min((key.oldest for key in self.uncut_tally()), default=0)

    def orders_of(self, sequence: int) -> set[str]:
        """The orders that went into a bundle."""
        query = (
            "SELECT order_id FROM placed WHERE batch_key_id = (SELECT batch_key_id FROM bundle WHERE sequence = ?1)"
            " AND sequence = ?1"
        )
        return {order_id for (order_id,) in self._rows(query, (sequence,))}

    def waiting(self) -> int:
        """How many orders are in no bundle yet."""
        query = (
            "SELECT (SELECT count(*) FROM placed"
            " WHERE batch_key_id IN (SELECT batch_key_id FROM waiting_group) AND sequence IS NULL)"
            " + (SELECT count(*) FROM missing WHERE batch_key_id NOT IN (SELECT batch_key_id FROM waiting_group))"
        )
        return int(self._one(query))

    def without_receipt(self) -> list[UnsettledOrder]:
        """Every acknowledged order whose bundle has no receipt, or that is in no bundle, the oldest first."""
        query = (
            "SELECT order_id, sequence, is_missing FROM placed"
            " WHERE sequence IS NULL OR outcome = '' ORDER BY number"
        )
        return [
            UnsettledOrder(order_id=order_id, sequence=sequence, missing=bool(missing))
            for order_id, sequence, missing in self._rows(query)
        ]

    def _bundles(self, where: str, values: Row) -> Iterator[BundleRow]:
        names = ("sequence", "batch_key_id", "manifest", "orders", "cut_at", "outcome", "settled_at")
        query = f"SELECT {', '.join(names)} FROM bundle {where}"  # noqa: S608  fixed texts of this class
        return (BundleRow(**dict(zip(names, row, strict=True))) for row in self._rows(query, values))


def _count_uncut(connection: sqlite3.Connection, batch_key_id: bytes) -> int:
    bundled = connection.execute("SELECT 1 FROM bundle WHERE batch_key_id = ?", (batch_key_id,)).fetchone()
    if bundled:
        query = "SELECT count(*) FROM placed WHERE batch_key_id = ? AND sequence IS NULL"
    else:
        query = "SELECT count(*) FROM orders WHERE batch_key_id = ?"  # from the index alone
    return int(connection.execute(query, (batch_key_id,)).fetchone()[0])


def _record_missing(
    connection: sqlite3.Connection, batch_key_id: bytes, contained: Collection[str], now: int
) -> list[str]:
    rows = connection.execute(
        "SELECT order_id FROM placed WHERE batch_key_id = ? AND sequence IS NULL ORDER BY number",
        (batch_key_id,),
    )
    missing = [order_id for (order_id,) in rows if order_id not in contained]
    connection.executemany(
        "INSERT INTO missing (order_id, batch_key_id, noticed_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        [(order_id, batch_key_id, now) for order_id in missing],
    )
    return missing
