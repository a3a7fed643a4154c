"""What the keystore tells the nodes of its keys: entries of order keys, and revocations, under a given identity.

Why here: both are made anew for every return, because a node believes one identity at a time.
Must not: issue a key that is revoked or past its time, or forget a revocation because its key is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from keys.entries import sign_entry, sign_revocation
from keys.public.roll import KeyEntry, Role
from keys.ring_index import Destroyed, DestroyReason, KeyRole

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keys.keystore_file import LongLivedKeys
    from keys.private.sign import SigningKey
    from keys.public.announcement import Revocation

_ANNOUNCED: Final = (DestroyReason.REVOKED, DestroyReason.LOST)


def order_entries(keys: LongLivedKeys, node: str, now: int, signer: SigningKey) -> list[KeyEntry]:
    """The order keys that may still be sealed to, signed for ``node``, the newest last."""
    return [
        sign_entry(
            signer,
            role=Role.ORDER,
            node=node,
            epoch=keys.index.epoch,
            number=order.number,
            public_key=order.key.public_key,
            seal_until=order.seal_until,
            destroy_at=order.destroy_at,
        )
        for order in keys.order_keys
        if order.may_be_issued(now)
    ]


def revocations(
    keys: LongLivedKeys, destroyed: Iterable[Destroyed], signer: SigningKey
) -> tuple[Revocation, ...]:
    """All revoked order keys, live or destroyed, and all revoked or lost batch keys of the ring."""
    index = keys.index
    orders = [(key.key.key_id, key.revoked_at) for key in keys.order_keys]
    orders += [(bytes.fromhex(key.key_id), key.revoked_at) for key in index.destroyed_order_keys]
    of_orders = [
        sign_revocation(
            signer, role=Role.ORDER, node=None, epoch=index.epoch, key_id=key_id, revoked_at=revoked_at
        )
        for key_id, revoked_at in orders
        if revoked_at is not None
    ]
    of_batch_keys = [
        sign_revocation(
            signer,
            role=Role.BATCH,
            node=dead.node,
            epoch=dead.epoch,
            key_id=bytes.fromhex(dead.key_id),
            revoked_at=dead.destroyed_at,
        )
        for dead in destroyed
        if dead.role is KeyRole.BATCH and dead.reason in _ANNOUNCED
    ]
    return (*of_orders, *of_batch_keys)
