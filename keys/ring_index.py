"""What the key ring knows about its keys and may be read without any secret.

Why here: the ring's file and its operations share these types; they are data and nothing else.
Must not: hold a private key, card data or free text.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from keys.public.roll import Count, Hex16, Hex32, KeyEntry, Node, Number


class DestroyReason(StrEnum):
    """Why a key was destroyed; an enumeration, because evidence and returns admit no free text."""

    BATCH_DONE = "batch-done"  # its bundle was processed, what is held has hold keys of its own
    ANSWERED = "answered"  # the held order has its answer
    LIMIT = "limit"  # the hold limit, or a batch key open for too long
    EXPIRED = "expired"  # destroy_at of a key that was never used
    REVOKED = "revoked"
    LOST = "lost"  # it was on a machine or medium that is gone; a new epoch began without it


class RingBackend(StrEnum):
    """Where the ring secret lives; only with a TPM can an old copy of the disk open nothing."""

    FILE = "file"
    TPM = "tpm"


class KeyRole(StrEnum):
    """What a destroyed key was for."""

    BATCH = "batch"
    HOLD = "hold"


class FormerKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An earlier identity of a node.

    ``until`` is the last sequence that it may have signed; None while it may still sign the next bundle,
    because no bundle of a newer key has been accepted yet.
    """

    public_key: Hex32
    replaced_at: Count
    until: Count | None = None


class RingNode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One enrolled intake node. ``public_key`` is its Ed25519 identity; times are Unix seconds."""

    node: Node
    public_key: Hex32
    next_number: Number
    roll_number: Count
    roll_prev: Hex32
    enrolled_at: Count
    retired_at: Count | None = None
    former_keys: tuple[FormerKey, ...] = ()  # the oldest first


class BatchKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A live batch key: issued, and opened since ``opened_at`` when that is set."""

    entry: KeyEntry
    issued_at: Count
    opened_at: Count | None = None


class HoldKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A live hold key, made for the card of one order."""

    key_id: Hex16
    public_key: Hex32
    order_id: Hex16
    made_at: Count
    destroy_at: Count


class Destroyed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What remains of a key. ``node`` and ``number`` are a batch key's, ``order_id`` is a hold key's."""

    key_id: Hex16
    role: KeyRole
    epoch: Number  # in which it was issued
    node: Node | None = None
    number: Number | None = None
    order_id: Hex16 | None = None
    issued_at: Count
    opened_at: Count | None = None
    destroyed_at: Count
    reason: DestroyReason


class RingIndex(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="key-ring"
):
    """The public half of the ring's file. The wrapped half has a record a key: batch keys, then hold keys."""

    format: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    epoch: Number
    nodes: list[RingNode]
    batch_keys: list[BatchKey]
    hold_keys: list[HoldKey]
    destroyed: list[Destroyed]
    lost_before_epoch: Count = 0  # keys of earlier epochs may be lost without being listed; 0: none are


def epitaph_of_batch_key(key: BatchKey, reason: DestroyReason, now: int) -> Destroyed:
    """What remains of a batch key that dies at ``now``."""
    return Destroyed(
        key_id=key.entry.key_id.hex(),
        role=KeyRole.BATCH,
        epoch=key.entry.epoch,
        node=key.entry.node,
        number=key.entry.number,
        issued_at=key.issued_at,
        opened_at=key.opened_at,
        destroyed_at=now,
        reason=reason,
    )


def epitaph_of_hold_key(key: HoldKey, epoch: int, reason: DestroyReason, now: int) -> Destroyed:
    """What remains of a hold key of this ``epoch`` that dies at ``now``."""
    return Destroyed(
        key_id=key.key_id,
        role=KeyRole.HOLD,
        epoch=epoch,
        order_id=key.order_id,
        issued_at=key.made_at,
        destroyed_at=now,
        reason=reason,
    )


def lost(index: RingIndex, *, epoch: int, now: int) -> RingIndex:
    """The ring of a recovered keystore: every key that ``index`` had is gone, and a new epoch begins."""
    gone = [epitaph_of_batch_key(key, DestroyReason.LOST, now) for key in index.batch_keys]
    gone += [epitaph_of_hold_key(key, index.epoch, DestroyReason.LOST, now) for key in index.hold_keys]
    return RingIndex(
        epoch=epoch,
        nodes=index.nodes,
        batch_keys=[],
        hold_keys=[],
        destroyed=index.destroyed + gone,
        lost_before_epoch=epoch,
    )
