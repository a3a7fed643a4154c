"""The key ring: batch and hold keys from their making to their destruction, and the nodes they are issued to.

Why here: the offline side destroys these keys daily, so they are kept apart from the keys that are backed up.
Must not: return before a change is durable, sign with another key than the given identity, or know orders.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final, Self

from msgspec.structs import replace

from keys import ring_nodes
from keys.entries import sign_entry, signed_by
from keys.private.unseal import SealingKey, generate_sealing_key
from keys.public.roll import KeyEntry, KeyRoll, Role, encode_roll, roll_digest
from keys.ring_content import RingContent, unknown
from keys.ring_file import RingFile
from keys.ring_index import (
    BatchKey,
    Destroyed,
    DestroyReason,
    HoldKey,
    RingBackend,
    RingIndex,
    RingNode,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from keys.private.locked import LockedBuffer
    from keys.private.sign import SigningKey
    from keys.ring_file import Keys

HOLD_LIMIT: Final = 72 * 3600


class KeyRing:
    """All live batch and hold keys, in memory and on disk. Key ids are 16 bytes, times Unix seconds."""

    __slots__ = ("_content", "_file")

    def __init__(self, file: RingFile, index: RingIndex, keys: Keys) -> None:
        self._file = file
        self._content = RingContent.of(index, keys)

    @classmethod
    def create(
        cls,
        directory: Path,
        master: LockedBuffer,
        *,
        epoch: int,
        backend: RingBackend = RingBackend.FILE,
        index: RingIndex | None = None,
    ) -> Self:
        """A ring without keys in a new keystore, or with the ``index`` (without live keys) of a recovered one.

        The caller makes the directory durable.
        """
        file = RingFile(directory, master, backend)
        if index is None:
            index = RingIndex(epoch=epoch, nodes=[], batch_keys=[], hold_keys=[], destroyed=[])
        file.create(index)
        return cls(file, index, {})

    @classmethod
    def open(cls, directory: Path, master: LockedBuffer, *, backend: RingBackend = RingBackend.FILE) -> Self:
        """Load the ring and repair what a crash left of a change. Raises ``KEYSTORE-DAMAGED``."""
        file = RingFile(directory, master, backend)
        return cls(file, *file.open())

    @property
    def epoch(self) -> int:
        return self._content.epoch

    @property
    def lost_before_epoch(self) -> int:
        """Keys of earlier epochs may be lost without being listed; 0: none are."""
        return self._content.lost_before_epoch

    @property
    def backend(self) -> RingBackend:
        """Where the ring secret is kept."""
        return self._file.backend

    def index(self) -> RingIndex:
        """All that the ring knows, without a private key: what a custody copy carries of it."""
        return self._content.index()

    # Nodes and what is issued to them

    def nodes(self) -> list[RingNode]:
        return list(self._content.nodes.values())

    def node(self, node: str) -> RingNode | None:
        return self._content.nodes.get(node)

    def enrolled(self, node: str) -> RingNode:
        """The node of this name; ``KEY-NODE-UNKNOWN`` when it is not enrolled or is retired."""
        return ring_nodes.known(self._content.nodes, node)

    def enrol_node(self, node: str, public_key: bytes, now: int) -> None:
        """Take in a node's Ed25519 key, whose fingerprint a person has compared. A repeat changes nothing.

        Raises ``KEY-NODE-NAME``, ``KEY-NODE-EXISTS`` (the name has another key, or is retired) or
        ``KEY-NODE-KEY`` (the key has another name).
        """
        nodes = ring_nodes.enrol(self._content.nodes, node, public_key, now)
        if nodes is not None:
            self._save(dataclasses.replace(self._content, nodes=nodes))

    def rotate_node(self, node: str, public_key: bytes, now: int) -> None:
        """Give ``node`` a new Ed25519 identity, whose fingerprint a person has compared. A repeat changes nothing.

        The old one becomes a former key. Raises ``KEY-NODE-UNKNOWN`` or ``KEY-NODE-KEY``.
        """
        nodes = ring_nodes.rotate(self._content.nodes, node, public_key, now)
        if nodes is not None:
            self._save(dataclasses.replace(self._content, nodes=nodes))

    def settle_node_key(self, node: str, sequence: int, public_key: bytes | None = None) -> None:
        """Bundle ``sequence``, signed by ``public_key`` (None: the present one), is accepted: older keys end before."""
        nodes = ring_nodes.settle(self._content.nodes, node, sequence, public_key)
        if nodes is not None:
            self._save(dataclasses.replace(self._content, nodes=nodes))

    def retire_node(self, node: str, now: int) -> list[Destroyed]:
        """End ``node`` for ever, and destroy its unused keys, in one step. A repeat changes nothing."""
        found = self._content.nodes.get(node)
        if found is not None and found.retired_at is not None:
            return []
        retired = replace(self.enrolled(node), retired_at=now)
        unused = [entry.key_id for entry in self.unused(node)]
        return self._destroy(unused, DestroyReason.REVOKED, now, nodes={**self._content.nodes, node: retired})

    def issue_batch_keys(
        self, node: str, count: int, *, identity: SigningKey, now: int, seal_until: int, destroy_at: int
    ) -> list[KeyEntry]:
        """Make ``count`` numbered batch keys for ``node`` and sign their entries. ``KEY-NODE-UNKNOWN``."""
        known = self.enrolled(node)
        batch, keys = dict(self._content.batch), dict(self._content.keys)
        for number in range(known.next_number, known.next_number + count):
            key = generate_sealing_key()
            entry = sign_entry(
                identity,
                role=Role.BATCH,
                node=node,
                epoch=self._content.epoch,
                number=number,
                public_key=key.public_key,
                seal_until=seal_until,
                destroy_at=destroy_at,
            )
            batch[key.key_id] = BatchKey(entry=entry, issued_at=now)
            keys[key.key_id] = key
        numbered = replace(known, next_number=known.next_number + count)
        issued = [key.entry for key_id, key in batch.items() if key_id not in self._content.batch]
        nodes = {**self._content.nodes, node: numbered}
        self._save(dataclasses.replace(self._content, nodes=nodes, batch=batch, keys=keys))
        return issued

    def unused(self, node: str) -> list[KeyEntry]:
        """The entries of the node's batch keys that no bundle has used yet, in the order of their numbers."""
        return self._content.unused(node)

    def make_roll(
        self, node: str, *, order_keys: Sequence[KeyEntry], now: int, signer: SigningKey | None = None
    ) -> KeyRoll:
        """The next key roll of ``node``: ``order_keys`` (newest last) and its unused batch keys that may be used.

        With a ``signer`` every batch key's entry is its, whoever signed when the key was issued.
        """
        known = self.enrolled(node)
        roll = KeyRoll(
            node=node,
            epoch=self._content.epoch,
            number=known.roll_number + 1,
            prev=known.roll_prev,
            issued_at=now,
            order_keys=list(order_keys),
            batch_keys=[
                entry if signer is None else signed_by(signer, entry)
                for entry in self.unused(node)
                if now < entry.seal_until
            ],
        )
        rolled = replace(known, roll_number=roll.number, roll_prev=roll_digest(encode_roll(roll)).hex())
        self._save(dataclasses.replace(self._content, nodes={**self._content.nodes, node: rolled}))
        return roll

    # Batch keys

    def batch_key(self, key_id: bytes) -> SealingKey | None:
        """The live batch key of this id; None when it was never issued, or is destroyed."""
        return self._content.keys[key_id] if key_id in self._content.batch else None

    def batch_record(self, key_id: bytes) -> BatchKey | None:
        """Its entry (node, number, times) and when it was first opened."""
        return self._content.batch.get(key_id)

    def batch_records(self) -> list[BatchKey]:
        return list(self._content.batch.values())

    def knows_batch_key(self, node: str, key_id: bytes) -> bool:
        """True when this key was issued to ``node``: it is live, destroyed, or listed as lost."""
        live, dead = self._content.batch.get(key_id), self._content.destroyed.get(key_id)
        return (live is not None and live.entry.node == node) or (dead is not None and dead.node == node)

    def mark_opened(self, key_id: bytes, now: int) -> None:
        """Note that a bundle of this key is being opened; only the first time counts. ``KEY-UNKNOWN``."""
        key = self._content.batch.get(key_id)
        if key is None:
            raise unknown(key_id)
        if key.opened_at is None:
            opened = {**self._content.batch, key_id: replace(key, opened_at=now)}
            self._save(dataclasses.replace(self._content, batch=opened))

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
        content = self._content
        self._save(dataclasses.replace(content, hold={**content.hold, **hold}, keys={**content.keys, **keys}))
        return list(keys.values())

    def hold_key(self, key_id: bytes) -> SealingKey | None:
        """The live hold key of this id; None when there is none, or it is destroyed."""
        return self._content.keys[key_id] if key_id in self._content.hold else None

    def hold_records(self) -> list[HoldKey]:
        return list(self._content.hold.values())

    # Destruction

    def destroy(self, key_ids: Iterable[bytes], *, reason: DestroyReason, now: int) -> list[Destroyed]:
        """Destroy these keys, in memory and on disk, by replacing the ring secret once.

        Returns the records of the keys that this call destroyed. A key that is destroyed already is passed
        over, so that a run that was cut short can repeat its call. ``KEY-UNKNOWN``, and nothing done, for one
        that never was.
        """
        dead = self._content.living(key_ids)
        return self._destroy(dead, reason, now) if dead else []

    def revoke_batch_keys(self, node: str, numbers: Sequence[int] | None, now: int) -> list[Destroyed]:
        """Destroy unused batch keys of ``node`` (None: all of them), so that nothing sealed to them opens.

        Raises ``KEY-NODE-UNKNOWN``, ``KEY-UNKNOWN`` (never issued in this epoch) or ``KEY-IN-USE`` (a bundle
        of it is being processed).
        """
        doomed = self._content.revocable(node, numbers)
        return self.destroy(doomed, reason=DestroyReason.REVOKED, now=now)

    def overdue(self, now: int, *, hold_limit: int = HOLD_LIMIT) -> list[bytes]:
        """The ids of keys that must die: past ``destroy_at``, or opened ``hold_limit`` seconds ago."""
        return self._content.overdue(now, hold_limit)

    def find_destroyed(self, key_id: bytes) -> Destroyed | None:
        return self._content.destroyed.get(key_id)

    def destroyed_records(self) -> list[Destroyed]:
        return list(self._content.destroyed.values())

    def close(self) -> None:
        """Wipe every key and the ring secret from memory."""
        for key in self._content.keys.values():
            key.close()
        self._file.close()

    def _destroy(
        self,
        dead: Sequence[bytes],
        reason: DestroyReason,
        now: int,
        nodes: Mapping[str, RingNode] | None = None,
    ) -> list[Destroyed]:
        doomed = [self._content.keys[key_id] for key_id in dead]
        after, records = self._content.without(dead, reason, now, nodes)
        self._file.save_destroying(after.index(), after.keys)
        self._content = after
        for key in doomed:
            key.close()
        return records

    def _save(self, after: RingContent) -> None:
        """Make the new state durable, then adopt it."""
        self._file.save(after.index(), after.keys)
        self._content = after
