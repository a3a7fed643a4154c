"""Changes of the long-lived keys: a new order key, a new identity, a revocation, a destruction at its time.

Why here: each is a function from the keys of before to the keys of after; the keystore makes one durable at a time.
Must not: write anything, wipe a key that may still be on disk, or bring a destroyed key or number back.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from keys.entries import sign_handover
from keys.errors import KeysError
from keys.keystore_file import LongLivedKeys
from keys.keystore_index import (
    Cryptoperiods,
    CustodyRecord,
    DestroyedOrderKey,
    FormerIdentity,
    KeystoreIndex,
    OrderKeyRecord,
)
from keys.private.secretbox import generate_key
from keys.private.sign import generate_signing_key
from keys.private.unseal import generate_sealing_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keys.custody import Custody
    from keys.private.unseal import SealingKey
    from keys.ring_index import RingBackend, RingNode

_FIRST_EPOCH: Final = 1


def first_keys(
    *, rehearsal: bool, now: int, custody: Custody | None, ring_backend: RingBackend, periods: Cryptoperiods
) -> LongLivedKeys:
    """All keys of a new keystore."""
    identity = generate_signing_key()
    record, key = _make_order_key(1, now, periods)
    index = KeystoreIndex(
        rehearsal=rehearsal,
        epoch=_FIRST_EPOCH,
        made_at=now,
        made_with=identity.public_key.hex(),
        identity=identity.public_key.hex(),
        order_keys=(record,),
        custody=None if custody is None else CustodyRecord.of(custody),
        ring_backend=ring_backend,
        periods=periods,
    )
    return LongLivedKeys(index=index, identity=identity, vault_key=generate_key(), order_private=(key,))


def in_custody(keys: LongLivedKeys, custody: Custody) -> LongLivedKeys:
    """The same keys, whose copies only a quorum of the new share set opens."""
    return dataclasses.replace(keys, index=replace(keys.index, custody=CustodyRecord.of(custody)))


def new_order_key(keys: LongLivedKeys, now: int, overlap: int) -> LongLivedKeys:
    """One more order key; the others end ``overlap`` seconds from ``now``, or earlier."""
    record, key = _make_order_key(keys.index.next_order_number, now, keys.index.periods)
    older = tuple(
        replace(each, seal_until=min(each.seal_until, now + overlap)) for each in keys.index.order_keys
    )
    index = replace(keys.index, order_keys=(*older, record))
    return dataclasses.replace(keys, index=index, order_private=(*keys.order_private, key))


def revoked(keys: LongLivedKeys, number: int, now: int) -> LongLivedKeys:
    """Order key ``number`` is revoked, and replaced when no other may be sealed to. ``KEY-UNKNOWN``."""
    found = next((key for key in keys.index.order_keys if key.number == number), None)
    if found is None:
        remedy = "`key-ceremony status` lists the order keys there are"
        raise KeysError("KEY-UNKNOWN", f"there is no live order key {number}", remedy)
    if found.revoked_at is not None:
        return keys
    order_keys = tuple(replace(key, revoked_at=now) if key is found else key for key in keys.index.order_keys)
    changed = dataclasses.replace(keys, index=replace(keys.index, order_keys=order_keys))
    if any(key.may_be_issued(now) for key in changed.order_keys):
        return changed
    return new_order_key(changed, now, overlap=0)


def without_due_keys(keys: LongLivedKeys, now: int) -> LongLivedKeys:
    """Order keys at their ``destroy_at`` are gone; what remains of them is in the index."""
    due = [key for key in keys.order_keys if now >= key.destroy_at]
    if not due:
        return keys
    dead = tuple(
        DestroyedOrderKey(
            number=key.number,
            key_id=key.key.key_id.hex(),
            made_at=key.made_at,
            seal_until=key.seal_until,
            destroyed_at=now,
            revoked_at=key.revoked_at,
        )
        for key in due
    )
    gone = {key.number for key in due}
    index = replace(
        keys.index,
        order_keys=tuple(key for key in keys.index.order_keys if key.number not in gone),
        destroyed_order_keys=(*keys.index.destroyed_order_keys, *dead),
    )
    private = tuple(key.key for key in keys.order_keys if key.number not in gone)
    return dataclasses.replace(keys, index=index, order_private=private)


def new_identity(keys: LongLivedKeys, nodes: Sequence[str], now: int, *, compromised: bool) -> LongLivedKeys:
    """A new identity. Unless ``compromised``, the old one signs a handover and stays until ``nodes`` confirmed."""
    if keys.index.handover is not None and not compromised:
        remedy = (
            "carry the returns to the nodes that have not confirmed it, or retire them; "
            "when the identity may be known to others, rotate it with --compromised"
        )
        raise KeysError("KEY-HANDOVER", "an earlier handover of the identity is not confirmed yet", remedy)
    old, new = keys.identity, generate_signing_key()
    former = FormerIdentity(public_key=old.public_key.hex(), until=now, compromised=compromised)
    # Whoever has a stolen key could sign a handover as well, so then none is made: people must compare again.
    lasts = bool(nodes) and not compromised
    index = replace(
        keys.index,
        identity=new.public_key.hex(),
        former_identities=(*keys.index.former_identities, former),
        handover=sign_handover(old, new, epoch=keys.index.epoch, start=now) if lasts else None,
        handover_waits_for=tuple(nodes) if lasts else (),
    )
    return dataclasses.replace(keys, index=index, identity=new, former_identity=old if lasts else None)


def confirmed(keys: LongLivedKeys, node: str, nodes: Sequence[RingNode]) -> LongLivedKeys:
    """``node`` has confirmed the handover; with the last one the former identity is dropped."""
    left = tuple(each for each in waiting(keys.index, nodes) if each != node)
    if left:
        if left == keys.index.handover_waits_for:
            return keys
        return dataclasses.replace(keys, index=replace(keys.index, handover_waits_for=left))
    index = replace(keys.index, handover=None, handover_waits_for=())
    return dataclasses.replace(keys, index=index, former_identity=None)


def waiting(index: KeystoreIndex, nodes: Sequence[RingNode]) -> tuple[str, ...]:
    """The nodes that have neither confirmed the handover nor been retired."""
    retired = {node.node for node in nodes if node.retired_at is not None}
    return tuple(node for node in index.handover_waits_for if node not in retired)


def close_dropped(before: LongLivedKeys, after: LongLivedKeys) -> None:
    """Wipe the keys of ``before`` that ``after`` does not have."""
    kept = {id(key) for key in (after.identity, after.former_identity, *after.order_private)}
    for key in (before.identity, before.former_identity, *before.order_private):
        if key is not None and id(key) not in kept:
            key.close()


def _make_order_key(number: int, now: int, periods: Cryptoperiods) -> tuple[OrderKeyRecord, SealingKey]:
    key = generate_sealing_key()
    record = OrderKeyRecord(
        number=number,
        public_key=key.public_key.hex(),
        made_at=now,
        seal_until=now + periods.order_seal,
        destroy_at=now + periods.order_destroy,
    )
    return record, key
