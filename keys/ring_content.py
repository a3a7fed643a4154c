"""What a key ring holds at one moment, and what it holds after a change. Values, no I/O.

Why here: which keys live, die or are due is one question; the ring (keys/ring.py) only makes the answer durable.
Must not: write anything, wipe a key that may still be on disk, or let a destroyed key come back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from keys import ring_nodes
from keys.errors import KeysError
from keys.private.unseal import SealingKey
from keys.public.roll import KeyEntry
from keys.ring_index import (
    BatchKey,
    Destroyed,
    DestroyReason,
    HoldKey,
    RingIndex,
    RingNode,
    epitaph_of_batch_key,
    epitaph_of_hold_key,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RingContent:
    """Nodes by name, keys and what remains of dead ones by key id; ``keys`` has the private halves of the live ones."""

    epoch: int
    lost_before_epoch: int
    nodes: Mapping[str, RingNode]
    batch: Mapping[bytes, BatchKey]
    hold: Mapping[bytes, HoldKey]
    destroyed: Mapping[bytes, Destroyed]
    keys: Mapping[bytes, SealingKey]

    @classmethod
    def of(cls, index: RingIndex, keys: Mapping[bytes, SealingKey]) -> RingContent:
        return cls(
            epoch=index.epoch,
            lost_before_epoch=index.lost_before_epoch,
            nodes={node.node: node for node in index.nodes},
            batch={key.entry.key_id: key for key in index.batch_keys},
            hold={bytes.fromhex(key.key_id): key for key in index.hold_keys},
            destroyed={bytes.fromhex(key.key_id): key for key in index.destroyed},
            keys=keys,
        )

    def index(self) -> RingIndex:
        """All of it without a private key."""
        return RingIndex(
            epoch=self.epoch,
            nodes=list(self.nodes.values()),
            batch_keys=list(self.batch.values()),
            hold_keys=list(self.hold.values()),
            destroyed=list(self.destroyed.values()),
            lost_before_epoch=self.lost_before_epoch,
        )

    def unused(self, node: str) -> list[KeyEntry]:
        """The entries of the node's batch keys that no bundle has used yet, in the order of their numbers."""
        entries = [
            key.entry for key in self.batch.values() if key.entry.node == node and key.opened_at is None
        ]
        return sorted(entries, key=lambda entry: entry.number)

    def without(
        self,
        dead: Sequence[bytes],
        reason: DestroyReason,
        now: int,
        nodes: Mapping[str, RingNode] | None = None,
    ) -> tuple[RingContent, list[Destroyed]]:
        """The ring after these live keys died, and what remains of them; their private halves are not wiped yet."""
        records = {key_id: self._epitaph(key_id, reason, now) for key_id in dead}
        after = replace(
            self,
            nodes=self.nodes if nodes is None else nodes,
            batch={key_id: key for key_id, key in self.batch.items() if key_id not in records},
            hold={key_id: key for key_id, key in self.hold.items() if key_id not in records},
            destroyed={**self.destroyed, **records},
            keys={key_id: key for key_id, key in self.keys.items() if key_id not in records},
        )
        return after, list(records.values())

    def living(self, key_ids: Iterable[bytes]) -> list[bytes]:
        """Those that are not destroyed yet, each once. ``KEY-UNKNOWN`` for one that never was."""
        wanted = list(dict.fromkeys(key_ids))
        for key_id in wanted:
            if key_id not in self.keys and key_id not in self.destroyed:
                raise unknown(key_id)
        return [key_id for key_id in wanted if key_id in self.keys]

    def revocable(self, node: str, numbers: Sequence[int] | None) -> list[bytes]:
        """The unused batch keys of ``node`` with these numbers (None: all). Raises as ``KeyRing.revoke_batch_keys``."""
        issued = ring_nodes.known(self.nodes, node).next_number
        unused = {entry.number: entry.key_id for entry in self.unused(node)}
        if numbers is None:
            return list(unused.values())
        for number in numbers:
            if not 0 < number < issued:
                raise KeysError("KEY-UNKNOWN", f"node {node} was never issued a batch key {number}")
            if any((key.entry.node, key.entry.number) == (node, number) for key in self.batch.values()):
                if number in unused:
                    continue
                remedy = "finish it with `offline-processor run`, which destroys the key"
                raise KeysError("KEY-IN-USE", f"a bundle of batch key {number} is being processed", remedy)
        return [unused[number] for number in dict.fromkeys(numbers) if number in unused]

    def overdue(self, now: int, hold_limit: int) -> list[bytes]:
        """The ids of keys that must die: past ``destroy_at``, or opened ``hold_limit`` seconds ago."""
        batch = [
            key_id
            for key_id, key in self.batch.items()
            if now >= key.entry.destroy_at
            or (key.opened_at is not None and now >= key.opened_at + hold_limit)
        ]
        return batch + [key_id for key_id, key in self.hold.items() if now >= key.destroy_at]

    def _epitaph(self, key_id: bytes, reason: DestroyReason, now: int) -> Destroyed:
        if key_id in self.batch:
            return epitaph_of_batch_key(self.batch[key_id], reason, now)
        return epitaph_of_hold_key(self.hold[key_id], self.epoch, reason, now)


def unknown(key_id: bytes) -> KeysError:
    """The refusal of an id that no key of this ring ever had."""
    return KeysError("KEY-UNKNOWN", f"no batch or hold key {key_id.hex()} was ever in this ring")
