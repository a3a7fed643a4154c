"""The key ring: batch and hold keys from their making to their destruction, and the nodes they are issued to.

Why here: the offline side destroys these keys daily, so they are kept apart from the keys that are backed up.
Must not: return before a change is durable, sign with another key than the given identity, or know orders.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Self

from msgspec.structs import replace

from keys.entries import sign_entry
from keys.errors import KeysError
from keys.private.unseal import SealingKey, generate_sealing_key
from keys.public.roll import NODE_PATTERN, KeyEntry, KeyRoll, Role, encode_roll, roll_digest
from keys.ring_file import RingFile
from keys.ring_index import BatchKey, Destroyed, DestroyReason, HoldKey, KeyRole, RingIndex, RingNode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from keys.private.locked import LockedBuffer
    from keys.private.sign import SigningKey
    from keys.ring_file import Keys

HOLD_LIMIT: Final = 72 * 3600
_NO_ROLL: Final = "00" * 32


class KeyRing:
    """All live batch and hold keys, in memory and on disk. Key ids are 16 bytes, times Unix seconds."""

    __slots__ = ("_batch", "_destroyed", "_epoch", "_file", "_hold", "_keys", "_nodes")

    def __init__(self, file: RingFile, index: RingIndex, keys: Keys) -> None:
        self._file = file
        self._epoch = index.epoch
        self._nodes = {node.node: node for node in index.nodes}
        self._batch = {key.entry.key_id: key for key in index.batch_keys}
        self._hold = {bytes.fromhex(key.key_id): key for key in index.hold_keys}
        self._destroyed = {bytes.fromhex(key.key_id): key for key in index.destroyed}
        self._keys = keys

    @classmethod
    def create(cls, directory: Path, master: LockedBuffer, *, epoch: int) -> Self:
        """An empty ring in a new keystore; the caller makes the directory durable."""
        file = RingFile(directory, master)
        index = RingIndex(epoch=epoch, nodes=[], batch_keys=[], hold_keys=[], destroyed=[])
        file.create(index)
        return cls(file, index, {})

    @classmethod
    def open(cls, directory: Path, master: LockedBuffer) -> Self:
        """Load the ring and repair what a crash left of a change. Raises ``KEYSTORE-DAMAGED``."""
        file = RingFile(directory, master)
        return cls(file, *file.open())

    @property
    def epoch(self) -> int:
        return self._epoch

    # Nodes and what is issued to them

    def nodes(self) -> list[RingNode]:
        return list(self._nodes.values())

    def node(self, node: str) -> RingNode | None:
        return self._nodes.get(node)

    def enrol_node(self, node: str, public_key: bytes, now: int) -> None:
        """Take in a node's Ed25519 key, whose fingerprint a person has compared. A repeat changes nothing.

        Raises ``KEY-NODE-NAME``, ``KEY-NODE-EXISTS`` (the name has another key, or is retired) or
        ``KEY-NODE-KEY`` (the key has another name).
        """
        if re.search(NODE_PATTERN, node) is None:
            remedy = "1 to 32 of a-z, 0-9 and '-', not '-' first"
            raise KeysError("KEY-NODE-NAME", "this is not a node id", remedy)
        known = self._nodes.get(node)
        if known is not None and known.public_key == public_key.hex() and known.retired_at is None:
            return
        if known is not None:
            remedy = "a restored or lost node never goes on: enrol it under a new node id"
            raise KeysError("KEY-NODE-EXISTS", f"node {node} is enrolled with another key", remedy)
        for other in self._nodes.values():
            if other.public_key == public_key.hex():
                remedy = "run `spool-sync init-node` on the new node: every node has a key of its own"
                raise KeysError("KEY-NODE-KEY", f"this key belongs to node {other.node}", remedy)
        enrolled = RingNode(
            node=node,
            public_key=public_key.hex(),
            next_number=1,
            roll_number=0,
            roll_prev=_NO_ROLL,
            enrolled_at=now,
        )
        self._save(nodes={**self._nodes, node: enrolled})

    def issue_batch_keys(
        self, node: str, count: int, *, identity: SigningKey, now: int, seal_until: int, destroy_at: int
    ) -> list[KeyEntry]:
        """Make ``count`` numbered batch keys for ``node`` and sign their entries. ``KEY-NODE-UNKNOWN``."""
        known = self._known(node)
        batch, keys = dict(self._batch), dict(self._keys)
        for number in range(known.next_number, known.next_number + count):
            key = generate_sealing_key()
            entry = sign_entry(
                identity,
                role=Role.BATCH,
                node=node,
                epoch=self._epoch,
                number=number,
                public_key=key.public_key,
                seal_until=seal_until,
                destroy_at=destroy_at,
            )
            batch[key.key_id] = BatchKey(entry=entry, issued_at=now)
            keys[key.key_id] = key
        numbered = replace(known, next_number=known.next_number + count)
        issued = [key.entry for key_id, key in batch.items() if key_id not in self._batch]
        self._save(nodes={**self._nodes, node: numbered}, batch=batch, keys=keys)
        return issued

    def unused(self, node: str) -> list[KeyEntry]:
        """The entries of the node's batch keys that no bundle has used yet, in the order of their numbers."""
        entries = [
            key.entry for key in self._batch.values() if key.entry.node == node and key.opened_at is None
        ]
        return sorted(entries, key=lambda entry: entry.number)

    def make_roll(self, node: str, *, order_keys: Sequence[KeyEntry], now: int) -> KeyRoll:
        """The next key roll of ``node``: ``order_keys`` (newest last) and all of its unused batch keys."""
        known = self._known(node)
        roll = KeyRoll(
            node=node,
            epoch=self._epoch,
            number=known.roll_number + 1,
            prev=known.roll_prev,
            issued_at=now,
            order_keys=list(order_keys),
            batch_keys=self.unused(node),
        )
        rolled = replace(known, roll_number=roll.number, roll_prev=roll_digest(encode_roll(roll)).hex())
        self._save(nodes={**self._nodes, node: rolled})
        return roll

    # Batch keys

    def batch_key(self, key_id: bytes) -> SealingKey | None:
        """The live batch key of this id; None when it was never issued, or is destroyed."""
        return self._keys[key_id] if key_id in self._batch else None

    def batch_record(self, key_id: bytes) -> BatchKey | None:
        """Its entry (node, number, times) and when it was first opened."""
        return self._batch.get(key_id)

    def batch_records(self) -> list[BatchKey]:
        return list(self._batch.values())

    def mark_opened(self, key_id: bytes, now: int) -> None:
        """Note that a bundle of this key is being opened; only the first time counts. ``KEY-UNKNOWN``."""
        key = self._batch.get(key_id)
        if key is None:
            raise _unknown(key_id)
        if key.opened_at is None:
            self._save(batch={**self._batch, key_id: replace(key, opened_at=now)})

    # Hold keys

    def new_hold_keys(self, order_ids: Iterable[bytes], *, now: int, destroy_at: int) -> list[SealingKey]:
        """One hold key for each order (16-byte ids), in their order, all durable in one save."""
        made = [(order_id, generate_sealing_key()) for order_id in order_ids]
        if not made:
            return []
        hold = {
            key.key_id: HoldKey(
                key_id=key.key_id.hex(),
                public_key=key.public_key.hex(),
                order_id=order_id.hex(),
                made_at=now,
                destroy_at=destroy_at,
            )
            for order_id, key in made
        }
        keys = {key.key_id: key for _, key in made}
        self._save(hold={**self._hold, **hold}, keys={**self._keys, **keys})
        return list(keys.values())

    def hold_key(self, key_id: bytes) -> SealingKey | None:
        """The live hold key of this id; None when there is none, or it is destroyed."""
        return self._keys[key_id] if key_id in self._hold else None

    def hold_records(self) -> list[HoldKey]:
        return list(self._hold.values())

    # Destruction

    def destroy(self, key_ids: Iterable[bytes], *, reason: DestroyReason, now: int) -> list[Destroyed]:
        """Destroy these keys, in memory and on disk, by replacing the ring secret once.

        Returns the records of the keys that this call destroyed. A key that is destroyed already is passed
        over, so that a run that was cut short can repeat its call. ``KEY-UNKNOWN``, and nothing done, for one
        that never was.
        """
        wanted = dict.fromkeys(key_ids)
        for key_id in wanted:
            if key_id not in self._keys and key_id not in self._destroyed:
                raise _unknown(key_id)
        dead = {key_id: self._epitaph(key_id, reason, now) for key_id in wanted if key_id in self._keys}
        if not dead:
            return []
        doomed = [self._keys[key_id] for key_id in dead]
        self._save(
            batch={key_id: key for key_id, key in self._batch.items() if key_id not in dead},
            hold={key_id: key for key_id, key in self._hold.items() if key_id not in dead},
            destroyed={**self._destroyed, **dead},
            keys={key_id: key for key_id, key in self._keys.items() if key_id not in dead},
        )
        for key in doomed:
            key.close()
        return list(dead.values())

    def overdue(self, now: int, *, hold_limit: int = HOLD_LIMIT) -> list[bytes]:
        """The ids of keys that must die: past ``destroy_at``, or opened ``hold_limit`` seconds ago."""
        batch = [
            key_id
            for key_id, key in self._batch.items()
            if now >= key.entry.destroy_at
            or (key.opened_at is not None and now >= key.opened_at + hold_limit)
        ]
        return batch + [key_id for key_id, key in self._hold.items() if now >= key.destroy_at]

    def find_destroyed(self, key_id: bytes) -> Destroyed | None:
        return self._destroyed.get(key_id)

    def destroyed_records(self) -> list[Destroyed]:
        return list(self._destroyed.values())

    def close(self) -> None:
        """Wipe every key and the ring secret from memory."""
        for key in self._keys.values():
            key.close()
        self._file.close()

    def _known(self, node: str) -> RingNode:
        known = self._nodes.get(node)
        if known is None or known.retired_at is not None:
            remedy = "enrol it first: `key-ceremony enrol-node`"
            raise KeysError("KEY-NODE-UNKNOWN", f"node {node} is not enrolled", remedy)
        return known

    def _epitaph(self, key_id: bytes, reason: DestroyReason, now: int) -> Destroyed:
        if key_id in self._batch:
            entry = self._batch[key_id].entry
            role, node, number, order_id = KeyRole.BATCH, entry.node, entry.number, None
        else:
            role, node, number, order_id = KeyRole.HOLD, None, None, self._hold[key_id].order_id
        return Destroyed(
            key_id=key_id.hex(),
            role=role,
            node=node,
            number=number,
            order_id=order_id,
            destroyed_at=now,
            reason=reason,
        )

    def _save(
        self,
        *,
        nodes: dict[str, RingNode] | None = None,
        batch: dict[bytes, BatchKey] | None = None,
        hold: dict[bytes, HoldKey] | None = None,
        destroyed: dict[bytes, Destroyed] | None = None,
        keys: Keys | None = None,
    ) -> None:
        """Make the new state durable, then adopt it; a destruction goes together with a new ring secret."""
        new_nodes = self._nodes if nodes is None else nodes
        new_batch = self._batch if batch is None else batch
        new_hold = self._hold if hold is None else hold
        new_destroyed = self._destroyed if destroyed is None else destroyed
        new_keys = self._keys if keys is None else keys
        index = RingIndex(
            epoch=self._epoch,
            nodes=list(new_nodes.values()),
            batch_keys=list(new_batch.values()),
            hold_keys=list(new_hold.values()),
            destroyed=list(new_destroyed.values()),
        )
        if destroyed is None:
            self._file.save(index, new_keys)
        else:
            self._file.save_destroying(index, new_keys)
        self._nodes, self._batch, self._hold = new_nodes, new_batch, new_hold
        self._destroyed, self._keys = new_destroyed, new_keys


def _unknown(key_id: bytes) -> KeysError:
    return KeysError("KEY-UNKNOWN", f"no batch or hold key {key_id.hex()} was ever in this ring")
