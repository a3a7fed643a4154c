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
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from keys.public.digest import equal
from transfer.errors import TransferError
from transfer.register_answers import Answers
from transfer.register_changes import Changes
from transfer.register_cuts import KNOWN, BundleRow, Cuts, UncutKey, UnsettledOrder
from transfer.register_file import REBUILD, chunks
from transfer.register_subjects import Subjects
from transfer.register_tables import IN_TRANSIT, RECEIVED
from transfer.spool import Entry, OpenGroup, Spool, read_group

__all__ = (
    "REBUILD",
    "BundleRow",
    "Committed",
    "KnownOrder",
    "NewOrder",
    "Register",
    "UncutKey",
    "UnsettledOrder",
)

_INSERT = "INSERT INTO orders (order_id, basket_digest, batch_key_id, group_name, received_at) VALUES (?, ?, ?, ?, ?)"
_INSERT_MISSING = _INSERT + " ON CONFLICT (order_id) DO NOTHING"
_LOOKUP = (
    "SELECT basket_digest, batch_key_id, group_name, sequence, state, reason, changed_at, received_at"
    " FROM placed WHERE order_id = ?"
)
_INSERT_GROUP = "INSERT INTO waiting_group (batch_key_id, name, orders, sha256) VALUES (?, ?, ?, ?)"
_INSERT_UNREAD = _INSERT_GROUP + " ON CONFLICT DO NOTHING"


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


class Register(Cuts, Answers, Changes, Subjects):
    """The register at ``path``, made when missing. Any number of processes; threads of one may share an instance."""

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
                known: dict[str, bytes] = dict(connection.execute(KNOWN, (wanted,)))
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
                    connection.execute(_INSERT_GROUP, (key, name, len(rows), group.sha256))
            return answers

    def reindex(self, spool: Spool, now: int) -> int:
        """Add the orders that lie in the spool and have no row (after a crash or a lost register); how many."""
        added = 0
        for partition in spool.partitions():
            added += self.index_groups(partition.batch_key_id, spool.groups(partition.batch_key_id), now)
        return added

    def index_groups(self, batch_key_id: bytes, groups: Iterable[Path], now: int) -> int:
        """The same for some group files of one partition. A file that is removed meanwhile was cut and is skipped.

        So is a damaged one: the next cut puts it aside and tells of it.
        """
        added = 0
        for path in groups:
            with contextlib.suppress(FileNotFoundError, TransferError), self.transaction() as connection:
                rows = [
                    (entry.order_id, entry.basket_digest, batch_key_id, path.name, now)
                    for entry in read_group(path)
                ]
                before = connection.total_changes
                connection.executemany(_INSERT_MISSING, rows)
                new = connection.total_changes - before
                if new:
                    connection.execute(_INSERT_UNREAD, (batch_key_id, path.name, new, b""))
                added += new
        return added

    def index_entries(self, batch_key_id: bytes, entries: Iterable[Entry], now: int) -> None:
        """The same for envelopes that lie in no group any more (those of a bundle, when the register was lost)."""
        for chunk in chunks(entries):
            with self.transaction() as connection:
                rows = [(entry.order_id, entry.basket_digest, batch_key_id, "", now) for entry in chunk]
                before = connection.total_changes
                connection.executemany(_INSERT_MISSING, rows)
                if connection.total_changes > before:
                    connection.execute(_INSERT_UNREAD, (batch_key_id, "", len(rows), b""))
