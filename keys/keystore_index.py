"""What the keystore knows about its long-lived keys and may be read without any secret.

Why here: the keystore's file and the custody copy carry the same facts; they are data and nothing else.
Must not: hold a private key, or anything about batch and hold keys (keys/ring_index.py has those).
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from keys.custody import FEWEST, MOST, Custody
from keys.public.announcement import Handover
from keys.public.roll import Count, Hex16, Hex32, Node, Number
from keys.ring_index import RingBackend

DAY: Final = 24 * 3600
ORDER_SEAL: Final = 180 * DAY
ORDER_DESTROY: Final = 400 * DAY
BATCH_SEAL: Final = 14 * DAY
BATCH_DESTROY: Final = 28 * DAY
OVERLAP: Final = 14 * DAY


class Cryptoperiods(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long keys are sealed to, and when they are destroyed, in seconds from their making."""

    order_seal: Number = ORDER_SEAL
    order_destroy: Number = ORDER_DESTROY
    batch_seal: Number = BATCH_SEAL
    batch_destroy: Number = BATCH_DESTROY


class OrderKeyRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A live order key with its cryptoperiod; ``number`` counts them from 1 and never comes twice."""

    number: Number
    public_key: Hex32
    made_at: Count
    seal_until: Count
    destroy_at: Count
    revoked_at: Count | None = None


class DestroyedOrderKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What remains of an order key."""

    number: Number
    key_id: Hex16
    made_at: Count
    seal_until: Count
    destroyed_at: Count
    revoked_at: Count | None = None


class FormerIdentity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An offline identity that signed until ``until``. A compromised one may be in a thief's hands."""

    public_key: Hex32
    until: Count
    compromised: bool


class CustodyRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``Custody`` as it is stored."""

    public_key: Hex32
    threshold: Annotated[int, msgspec.Meta(ge=FEWEST, le=MOST)]
    shares: Annotated[int, msgspec.Meta(ge=FEWEST, le=MOST)]
    set_id: Annotated[int, msgspec.Meta(ge=0, lt=2**15)]

    @classmethod
    def of(cls, custody: Custody) -> CustodyRecord:
        return cls(
            public_key=custody.public_key.hex(),
            threshold=custody.threshold,
            shares=custody.shares,
            set_id=custody.set_id,
        )

    def custody(self) -> Custody:
        return Custody(
            public_key=bytes.fromhex(self.public_key),
            threshold=self.threshold,
            shares=self.shares,
            set_id=self.set_id,
        )


class KeystoreIndex(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="keystore"
):
    """The readable half of the file `keys`.

    Its secrets are: the identity's seed; while a handover lasts the former identity's seed; the vault key;
    the private order keys, in the order of ``order_keys``.
    """

    format: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    rehearsal: bool
    epoch: Number
    made_at: Count
    made_with: Hex32  # the identity that the key files were made with
    identity: Hex32
    former_identities: tuple[FormerIdentity, ...] = ()  # the oldest first
    handover: Handover | None = None
    handover_waits_for: tuple[Node, ...] = ()  # nodes that have not confirmed it
    order_keys: tuple[OrderKeyRecord, ...]
    destroyed_order_keys: tuple[DestroyedOrderKey, ...] = ()
    custody: CustodyRecord | None
    ring_backend: RingBackend
    periods: Cryptoperiods

    @property
    def next_order_number(self) -> int:
        """Counts on from every order key that there ever was."""
        used = [key.number for key in self.order_keys] + [key.number for key in self.destroyed_order_keys]
        return max(used, default=0) + 1
