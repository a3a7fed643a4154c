"""Key entries and key rolls: the public keys that the offline side issues to one intake node.

Why here: the ceremony writes the first roll and the transfer room carries all later ones; both stand above this room.
Must not: trust a field of an entry that its signature does not cover.
"""

from __future__ import annotations

import struct
from enum import StrEnum
from typing import Annotated

import msgspec

from keys.errors import KeysError
from keys.public import canonical
from keys.public.digest import digest
from keys.public.seal import key_id
from keys.public.verify import signature_is_good

NODE_PATTERN = r"^[a-z0-9][a-z0-9-]{0,31}$(?!\n)"
ROLL_COMMENT = "sealed-orders v1 key-roll"
ROLL_LIMIT = 4 * 1024 * 1024

Node = Annotated[str, msgspec.Meta(pattern=NODE_PATTERN)]
Hex16 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}$(?!\n)")]
Hex32 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
Hex64 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{128}$(?!\n)")]
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Number = Annotated[int, msgspec.Meta(ge=1, lt=2**32)]


class Role(StrEnum):
    """What a sealing key seals."""

    ORDER = "order"
    BATCH = "batch"


_ROLE_BYTE = {Role.ORDER: 1, Role.BATCH: 2}


class KeyEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One signed public key. Times are Unix seconds; ``number`` counts the node's keys of that role."""

    role: Role
    node: Node
    epoch: Number
    number: Number
    public_key: Hex32
    seal_until: Count
    destroy_at: Count
    signature: Hex64

    @property
    def key_id(self) -> bytes:
        return key_id(bytes.fromhex(self.public_key))


class KeyRoll(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="key-roll"
):
    """Everything that one intake node may seal to; complete in itself, ``prev`` is evidence only."""

    format: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    node: Node
    epoch: Number
    number: Number
    prev: Hex32
    issued_at: Count
    order_keys: list[KeyEntry]
    batch_keys: list[KeyEntry]


def entry_message(
    *, role: Role, node: str, epoch: int, number: int, public_key: bytes, seal_until: int, destroy_at: int
) -> bytes:
    """What the offline identity signs for one key (FORMAT.md, section 9): a digest, so a page can rebuild it."""
    name = node.encode("ascii")
    packed = struct.pack(">BB", _ROLE_BYTE[role], len(name)) + name
    packed += struct.pack(">II32sQQ", epoch, number, public_key, seal_until, destroy_at)
    return b"sealed-orders/v1/key-entry\0" + digest("key-entry", packed)


def check_entry(entry: KeyEntry, identity: bytes) -> None:
    """Refuse (``ROLL-ENTRY``) an entry that ``identity`` (32 bytes, Ed25519) has not signed."""
    message = entry_message(
        role=entry.role,
        node=entry.node,
        epoch=entry.epoch,
        number=entry.number,
        public_key=bytes.fromhex(entry.public_key),
        seal_until=entry.seal_until,
        destroy_at=entry.destroy_at,
    )
    if not signature_is_good(identity, message, bytes.fromhex(entry.signature)):
        raise KeysError(
            "ROLL-ENTRY", f"{entry.role} key {entry.number} is not signed by the offline identity"
        )


def encode_roll(roll: KeyRoll) -> bytes:
    """The canonical bytes of a key roll."""
    return canonical.encode(roll)


def roll_digest(raw: bytes) -> bytes:
    """What the next roll names as ``prev``."""
    return digest("key-roll", raw)


def decode_roll(raw: bytes, *, node: str, identity: bytes) -> KeyRoll:
    """Parse a roll and check it whole: its node, each entry's role, node, epoch and signature, no key twice.

    Raises ``FORMAT-JSON``, ``ROLL-NODE`` or ``ROLL-ENTRY``.
    """
    roll = canonical.decode(raw, KeyRoll, limit=ROLL_LIMIT, what="key roll")
    if roll.node != node:
        raise KeysError("ROLL-NODE", f"this key roll is for node {roll.node}, not for {node}")
    seen: set[str] = set()
    for role, entries in ((Role.ORDER, roll.order_keys), (Role.BATCH, roll.batch_keys)):
        for entry in entries:
            if (
                entry.role is not role
                or entry.node != node
                or entry.epoch > roll.epoch
                or entry.public_key in seen
            ):
                raise KeysError(
                    "ROLL-ENTRY", f"{entry.role} key {entry.number} does not belong into this roll"
                )
            seen.add(entry.public_key)
            check_entry(entry, identity)
    return roll
