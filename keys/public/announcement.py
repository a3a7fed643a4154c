"""What the offline side announces about its own keys: a revoked sealing key, the handover of its identity.

Why here: the keystore makes these facts, returns carry them, and intake checks them with public keys alone.
Must not: sign, or carry anything that the signature does not cover.
"""

from __future__ import annotations

import struct

import msgspec

from keys.public.digest import digest
from keys.public.roll import Count, Hex16, Hex32, Hex64, Node, Number, Role
from keys.public.verify import signature_is_good


class KeyRevocation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Never seal to ``key`` (a 16-byte key id) again; the offline identity signs this."""

    key: Hex16
    role: Role
    epoch: Number
    revoked_at: Count
    signature: Hex64


class Revocation(KeyRevocation, frozen=True, kw_only=True):
    """What the keystore knows of a revocation: ``node`` is whose batch key it was, None for an order key."""

    node: Node | None = None


class Handover(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From ``start`` (Unix seconds) on, the new offline identity signs; both identities sign this."""

    epoch: Number
    start: Count = msgspec.field(name="from")
    old_identity: Hex32
    new_identity: Hex32
    old_signature: Hex64
    new_signature: Hex64


def revocation_message(*, role: Role, epoch: int, key: bytes, revoked_at: int) -> bytes:
    """What the offline identity signs to revoke a key (``key`` is its 16-byte id)."""
    packed = struct.pack(">BI16sQ", 1 if role is Role.ORDER else 2, epoch, key, revoked_at)
    return b"sealed-orders/v1/revocation\0" + digest("revocation", packed)


def handover_message(*, epoch: int, start: int, old_identity: bytes, new_identity: bytes) -> bytes:
    """What the old and the new offline identity both sign."""
    packed = struct.pack(">IQ32s32s", epoch, start, old_identity, new_identity)
    return b"sealed-orders/v1/handover\0" + digest("handover", packed)


def revocation_is_good(revocation: KeyRevocation, identity: bytes) -> bool:
    """True when ``identity`` (32 bytes, Ed25519) has signed it."""
    message = revocation_message(
        role=revocation.role,
        epoch=revocation.epoch,
        key=bytes.fromhex(revocation.key),
        revoked_at=revocation.revoked_at,
    )
    return signature_is_good(identity, message, bytes.fromhex(revocation.signature))


def handover_is_good(handover: Handover) -> bool:
    """True when both identities that it names have signed it. Whether the old one is trusted is not said."""
    old, new = bytes.fromhex(handover.old_identity), bytes.fromhex(handover.new_identity)
    message = handover_message(epoch=handover.epoch, start=handover.start, old_identity=old, new_identity=new)
    return (
        old != new
        and signature_is_good(old, message, bytes.fromhex(handover.old_signature))
        and signature_is_good(new, message, bytes.fromhex(handover.new_signature))
    )
