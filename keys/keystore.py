"""The offline keystore: one directory, opened with one passphrase or with two that two people hold.

Why here: all private keys of the offline side are made, kept, replaced and found in this one place.
Must not: exist half-made, be opened by two processes at once, or let a rehearsal pass for the real thing.

``master.key`` (and ``master.second.key``) hold a random master key under the passphrases. The master wraps
``keys`` (identity, vault key, order keys) and the ring's secret, which wraps ``ring``; ``lock`` is held while
open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from keys import custody_copy, issuing, rotation
from keys.keystore_disk import KeystoreFiles
from keys.keystore_index import OVERLAP, Cryptoperiods, DestroyedOrderKey, FormerIdentity, KeystoreIndex
from keys.keystore_place import refuse_existing
from keys.master_key import claims_rehearsal
from keys.public.minisign import MinisignPublicKey
from keys.public.roll import KeyEntry, KeyRoll
from keys.ring import KeyRing
from keys.ring_index import RingBackend, RingIndex

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from keys.custody import Custody
    from keys.keystore_file import OrderKey
    from keys.private.locked import LockedBuffer
    from keys.private.sign import SigningKey
    from keys.private.unseal import SealingKey
    from keys.public.announcement import Handover, Revocation

__all__ = ["Keystore", "claims_rehearsal"]


class Keystore:
    """An open keystore. Leaving its ``with`` block (or ``close``) wipes every key and lets go of the lock.

    Key ids have 16 bytes, times are Unix seconds. A method that changes something is durable on return.
    """

    __slots__ = ("_files",)

    def __init__(self, files: KeystoreFiles) -> None:
        self._files = files

    @classmethod
    def create(
        cls,
        path: Path,
        passphrases: Sequence[LockedBuffer],
        *,
        rehearsal: bool,
        now: int,
        custody: Custody | None = None,
        ring_backend: RingBackend = RingBackend.FILE,
        periods: Cryptoperiods = Cryptoperiods(),  # noqa: B008  a frozen value
    ) -> Self:
        """Make all keys, durably or not at all, and open the keystore. ``passphrases``: one, or two.

        Raises ``KEYSTORE-EXISTS``, ``KEYSTORE-BUSY`` or ``KEYSTORE-PASSPHRASES``.
        """
        refuse_existing(path)
        kept = rotation.first_keys(
            rehearsal=rehearsal, now=now, custody=custody, ring_backend=ring_backend, periods=periods
        )
        ring = RingIndex(epoch=kept.index.epoch, nodes=[], batch_keys=[], hold_keys=[], destroyed=[])
        return cls(KeystoreFiles.build(path, passphrases, kept, ring))

    @classmethod
    def recover(
        cls,
        path: Path,
        passphrases: Sequence[LockedBuffer],
        copy: bytes,
        custody_key: SealingKey,
        *,
        now: int,
        epoch_above: int = 0,
        ring_backend: RingBackend = RingBackend.FILE,
    ) -> Self:
        """A new keystore from a custody copy: the same long-lived keys and nodes, a new epoch, no batch or hold key.

        Raises ``CUSTODY-DAMAGED``, ``CUSTODY-OTHER`` or what ``create`` raises.
        """
        refuse_existing(path)
        kept, ring = custody_copy.opened(
            copy, custody_key, now=now, epoch_above=epoch_above, ring_backend=ring_backend
        )
        return cls(KeystoreFiles.build(path, passphrases, kept, ring))

    @classmethod
    def open(cls, path: Path, passphrases: Sequence[LockedBuffer]) -> Self:
        """Load all keys into locked memory, and settle what a crash left of a change.

        Raises ``KEYSTORE-MISSING``, ``KEYSTORE-BUSY``, ``KEYSTORE-DAMAGED``, or what ``master_key.read`` raises.
        """
        return cls(KeystoreFiles.open(path, passphrases))

    # What it is

    @property
    def path(self) -> Path:
        return self._files.path

    @property
    def ring(self) -> KeyRing:
        return self._files.ring

    @property
    def index(self) -> KeystoreIndex:
        """What is no secret of the long-lived keys, as a custody copy states it."""
        return self._files.kept.index

    @property
    def rehearsal(self) -> bool:
        return self.index.rehearsal

    @property
    def epoch(self) -> int:
        return self.index.epoch

    @property
    def made_at(self) -> int:
        return self.index.made_at

    @property
    def periods(self) -> Cryptoperiods:
        return self.index.periods

    @property
    def ring_backend(self) -> RingBackend:
        return self.index.ring_backend

    @property
    def custody(self) -> Custody | None:
        record = self.index.custody
        return None if record is None else record.custody()

    @property
    def vault_key(self) -> LockedBuffer:
        return self._files.kept.vault_key

    def custody_copy(self, now: int, custody: Custody | None = None) -> bytes:
        """All that outlives this machine, sealed to the custody key, or to that of ``custody``. ``CUSTODY-NONE``."""
        kept = self._files.kept if custody is None else rotation.in_custody(self._files.kept, custody)
        return custody_copy.sealed(kept, self.ring.index(), now)

    def replace_custody(self, custody: Custody) -> None:
        """Copies from now on open with the shares of ``custody`` only; older copies still open with the older set."""
        self._files.adopt(rotation.in_custody(self._files.kept, custody))

    # The offline identity

    @property
    def identity(self) -> SigningKey:
        """What signs now."""
        return self._files.kept.identity

    @property
    def identities(self) -> tuple[MinisignPublicKey, ...]:
        """The identity of now and all former ones, the newest first: for checking what we once signed."""
        former = [bytes.fromhex(each.public_key) for each in reversed(self.former_identities)]
        return tuple(MinisignPublicKey(public_key=key) for key in (self.identity.public_key, *former))

    @property
    def former_identities(self) -> tuple[FormerIdentity, ...]:
        return self.index.former_identities

    @property
    def handover(self) -> Handover | None:
        """What the nodes that still trust the former identity must be shown; None when none waits for it."""
        return self.index.handover

    @property
    def handover_waits_for(self) -> tuple[str, ...]:
        """The nodes that have not confirmed the handover."""
        return rotation.waiting(self._files.kept.index, self.ring.nodes())

    def signer_for(self, confirmed_handover: bool) -> SigningKey:  # noqa: FBT001  the contract's form
        """What signs for a node that has, or has not, confirmed the handover."""
        former = self._files.kept.former_identity
        return self.identity if confirmed_handover or former is None else former

    def signer_of(self, node: str) -> SigningKey:
        """What signs for ``node``: the former identity until it has confirmed the handover."""
        return self.signer_for(node not in self.handover_waits_for)

    def confirm_handover(self, node: str) -> None:
        """``node`` has confirmed the handover. With the last node the former identity's key is destroyed."""
        if self.handover is not None:
            self._files.adopt(rotation.confirmed(self._files.kept, node, self.ring.nodes()))

    def rotate_identity(self, now: int, *, compromised: bool = False) -> Handover | None:
        """A new offline identity, and the handover that the old one signs too; None when it is compromised.

        Raises ``KEY-HANDOVER`` while an earlier handover lasts (not when ``compromised``).
        """
        nodes = [node.node for node in self.ring.nodes() if node.retired_at is None]
        self._files.adopt(rotation.new_identity(self._files.kept, nodes, now, compromised=compromised))
        return self.handover

    # Order keys

    @property
    def order_keys(self) -> tuple[OrderKey, ...]:
        """The live order keys, the newest last."""
        return self._files.kept.order_keys

    @property
    def destroyed_order_keys(self) -> tuple[DestroyedOrderKey, ...]:
        return self.index.destroyed_order_keys

    def order_key(self, key_id: bytes) -> SealingKey | None:
        """The order key of this id; None when it is not ours, or is destroyed."""
        return next((key for key in self._files.kept.order_private if key.key_id == key_id), None)

    def rotate_order_key(self, now: int, overlap: int = OVERLAP) -> OrderKey:
        """A new order key, in use at once; the older ones are sealed to for ``overlap`` seconds more at most."""
        self._files.adopt(rotation.new_order_key(self._files.kept, now, overlap))
        return self.order_keys[-1]

    def revoke_order_key(self, number: int, now: int) -> OrderKey | None:
        """Never seal to this order key again; it opens what it has until its time. ``KEY-UNKNOWN``.

        Returns the new order key that was made because no other may be sealed to.
        """
        newest = self.index.next_order_number
        self._files.adopt(rotation.revoked(self._files.kept, number, now))
        return self.order_keys[-1] if self.order_keys[-1].number == newest else None

    def destroy_due_order_keys(self, now: int) -> list[DestroyedOrderKey]:
        """Destroy the order keys whose time has come, in memory and on disk; what remains of them."""
        before = len(self.destroyed_order_keys)
        self._files.adopt(rotation.without_due_keys(self._files.kept, now))
        return list(self.destroyed_order_keys[before:])

    @property
    def revocations(self) -> tuple[Revocation, ...]:
        """All revoked or lost keys, signed by the identity of now."""
        return self.revocations_by(self.identity)

    def revocations_by(self, signer: SigningKey) -> tuple[Revocation, ...]:
        """The same, signed by ``signer``: a node believes one identity at a time."""
        return issuing.revocations(self._files.kept, self.ring.destroyed_records(), signer)

    # What is issued to a node

    def order_entries(self, node: str, now: int, signer: SigningKey | None = None) -> list[KeyEntry]:
        """The order keys that may still be sealed to, signed for ``node``, the newest last."""
        return issuing.order_entries(self._files.kept, node, now, signer or self.signer_of(node))

    def issue_batch_keys(
        self, node: str, count: int, *, now: int, seal: int | None = None, destroy: int | None = None
    ) -> list[KeyEntry]:
        """``KeyRing.issue_batch_keys`` with this identity; ``seal``, ``destroy`` in seconds from ``now``."""
        seal_until = now + (self.periods.batch_seal if seal is None else seal)
        destroy_at = now + (self.periods.batch_destroy if destroy is None else destroy)
        return self.ring.issue_batch_keys(
            node,
            count,
            identity=self.signer_of(node),
            now=now,
            seal_until=seal_until,
            destroy_at=destroy_at,
        )

    def make_roll(self, node: str, *, now: int, signer: SigningKey | None = None) -> KeyRoll:
        """The next key roll of ``node``: order keys and unused batch keys that may be used. ``KEY-NODE-UNKNOWN``.

        Every entry is signed by ``signer``, else by ``signer_of(node)``.
        """
        signs = signer or self.signer_of(node)
        return self.ring.make_roll(
            node, order_keys=self.order_entries(node, now, signs), now=now, signer=signs
        )

    # Its life

    def close(self) -> None:
        """Wipe every key from memory and let go of the lock; a second time does nothing."""
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
