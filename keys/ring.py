"""The key ring: batch and hold keys from their making to their destruction, and the nodes they are issued to.

Why here: the offline side destroys these keys daily, so they are kept apart from the keys that are backed up.
Must not: return before a change is durable, sign with another key than the given identity, or know orders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from msgspec.structs import replace

from keys import ring_nodes
from keys.entries import sign_entry, signed_by
from keys.errors import KeysError
from keys.private.unseal import SealingKey, generate_sealing_key
from keys.public.roll import KeyEntry, KeyRoll, Role, encode_roll, roll_digest
from keys.ring_file import RingFile
from keys.ring_index import (
    BatchKey,
    Destroyed,
    DestroyReason,
    HoldKey,
    RingBackend,
    RingIndex,
    RingNode,
    epitaph_of_batch_key,
    epitaph_of_hold_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from keys.private.locked import LockedBuffer
    from keys.private.sign import SigningKey
    from keys.ring_file import Keys

HOLD_LIMIT: Final = 72 * 3600


class KeyRing:
    """All live batch and hold keys, in memory and on disk. Key ids are 16 bytes, times Unix seconds."""

    __slots__ = ("_batch", "_destroyed", "_epoch", "_file", "_hold", "_keys", "_nodes", "lost_before_epoch")

    def __init__(self, file: RingFile, index: RingIndex, keys: Keys) -> None:
        self._file = file
        self._epoch = index.epoch
        self._nodes = {node.node: node for node in index.nodes}
        self._batch = {key.entry.key_id: key for key in index.batch_keys}
        self._hold = {bytes.fromhex(key.key_id): key for key in index.hold_keys}
        self._destroyed = {bytes.fromhex(key.key_id): key for key in index.destroyed}
        self._keys = keys
        self.lost_before_epoch = index.lost_before_epoch

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
        return self._epoch

    @property
    def backend(self) -> RingBackend:
        """Where the ring secret is kept."""
        return self._file.backend

    def index(self) -> RingIndex:
        """All that the ring knows, without a private key: what a custody copy carries of it."""
        return self._index(self._nodes, self._batch, self._hold, self._destroyed)

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
        nodes = ring_nodes.enrol(self._nodes, node, public_key, now)
        if nodes is not None:
            self._save(nodes=nodes)

    def rotate_node(self, node: str, public_key: bytes, now: int) -> None:
        """Give ``node`` a new Ed25519 identity, whose fingerprint a person has compared. A repeat changes nothing.

        The old one becomes a former key. Raises ``KEY-NODE-UNKNOWN`` or ``KEY-NODE-KEY``.
        """
        nodes = ring_nodes.rotate(self._nodes, node, public_key, now)
        if nodes is not None:
            self._save(nodes=nodes)

    def settle_node_key(self, node: str, sequence: int, public_key: bytes | None = None) -> None:
        """Bundle ``sequence``, signed by ``public_key`` (None: the present one), is accepted: older keys end before."""
        nodes = ring_nodes.settle(self._nodes, node, sequence, public_key)
        if nodes is not None:
            self._save(nodes=nodes)

    def retire_node(self, node: str, now: int) -> list[Destroyed]:
        """End ``node`` for ever, and destroy its unused keys, in one step. A repeat changes nothing."""
        found = self._nodes.get(node)
        if found is not None and found.retired_at is not None:
            return []
        retired = replace(ring_nodes.known(self._nodes, node), retired_at=now)
        unused = [entry.key_id for entry in self.unused(node)]
        return self._destroy(unused, DestroyReason.REVOKED, now, nodes={**self._nodes, node: retired})

    def issue_batch_keys(
        self, node: str, count: int, *, identity: SigningKey, now: int, seal_until: int, destroy_at: int
    ) -> list[KeyEntry]:
        """Make ``count`` numbered batch keys for ``node`` and sign their entries. ``KEY-NODE-UNKNOWN``."""
        known = ring_nodes.known(self._nodes, node)
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

    def make_roll(
        self, node: str, *, order_keys: Sequence[KeyEntry], now: int, signer: SigningKey | None = None
    ) -> KeyRoll:
        """The next key roll of ``node``: ``order_keys`` (newest last) and its unused batch keys that may be used.

        With a ``signer`` every batch key's entry is its, whoever signed when the key was issued.
        """
        known = ring_nodes.known(self._nodes, node)
        roll = KeyRoll(
            node=node,
            epoch=self._epoch,
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

    def knows_batch_key(self, node: str, key_id: bytes) -> bool:
        """True when this key was issued to ``node``: it is live, destroyed, or listed as lost."""
        live, dead = self._batch.get(key_id), self._destroyed.get(key_id)
        return (live is not None and live.entry.node == node) or (dead is not None and dead.node == node)

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
        dead = [key_id for key_id in wanted if key_id in self._keys]
        return self._destroy(dead, reason, now) if dead else []

    def revoke_batch_keys(self, node: str, numbers: Sequence[int] | None, now: int) -> list[Destroyed]:
        """Destroy unused batch keys of ``node`` (None: all of them), so that nothing sealed to them opens.

        Raises ``KEY-NODE-UNKNOWN``, ``KEY-UNKNOWN`` (never issued in this epoch) or ``KEY-IN-USE`` (a bundle
        of it is being processed).
        """
        issued = ring_nodes.known(self._nodes, node).next_number
        unused = {entry.number: entry.key_id for entry in self.unused(node)}
        if numbers is None:
            return self.destroy(unused.values(), reason=DestroyReason.REVOKED, now=now)
        for number in numbers:
            if not 0 < number < issued:
                raise KeysError("KEY-UNKNOWN", f"node {node} was never issued a batch key {number}")
            if any((key.entry.node, key.entry.number) == (node, number) for key in self._batch.values()):
                if number in unused:
                    continue
                remedy = "finish it with `offline-processor run`, which destroys the key"
                raise KeysError("KEY-IN-USE", f"a bundle of batch key {number} is being processed", remedy)
        doomed = [unused[number] for number in dict.fromkeys(numbers) if number in unused]
        return self.destroy(doomed, reason=DestroyReason.REVOKED, now=now)

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

    def _destroy(
        self, dead: Sequence[bytes], reason: DestroyReason, now: int, nodes: dict[str, RingNode] | None = None
    ) -> list[Destroyed]:
        records = {key_id: self._epitaph(key_id, reason, now) for key_id in dead}
        doomed = [self._keys[key_id] for key_id in dead]
        self._save(
            nodes=nodes,
            batch={key_id: key for key_id, key in self._batch.items() if key_id not in records},
            hold={key_id: key for key_id, key in self._hold.items() if key_id not in records},
            destroyed={**self._destroyed, **records},
            keys={key_id: key for key_id, key in self._keys.items() if key_id not in records},
        )
        for key in doomed:
            key.close()
        return list(records.values())

    def _epitaph(self, key_id: bytes, reason: DestroyReason, now: int) -> Destroyed:
        if key_id in self._batch:
            return epitaph_of_batch_key(self._batch[key_id], reason, now)
        return epitaph_of_hold_key(self._hold[key_id], self._epoch, reason, now)

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
        index = self._index(new_nodes, new_batch, new_hold, new_destroyed)
        if destroyed is None:
            self._file.save(index, new_keys)
        else:
            self._file.save_destroying(index, new_keys)
        self._nodes, self._batch, self._hold = new_nodes, new_batch, new_hold
        self._destroyed, self._keys = new_destroyed, new_keys

    def _index(
        self,
        nodes: dict[str, RingNode],
        batch: dict[bytes, BatchKey],
        hold: dict[bytes, HoldKey],
        destroyed: dict[bytes, Destroyed],
    ) -> RingIndex:
        return RingIndex(
            epoch=self._epoch,
            nodes=list(nodes.values()),
            batch_keys=list(batch.values()),
            hold_keys=list(hold.values()),
            destroyed=list(destroyed.values()),
            lost_before_epoch=self.lost_before_epoch,
        )


def _unknown(key_id: bytes) -> KeysError:
    return KeysError("KEY-UNKNOWN", f"no batch or hold key {key_id.hex()} was ever in this ring")
