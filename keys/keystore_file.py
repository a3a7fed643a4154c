"""The file `keys`: the keys that live long (identity, vault key, order keys), rewritten whole at every change.

Why here: the form on disk is one thing, the life of an open keystore (keys/keystore.py) another.
Must not: hold batch or hold keys (the key ring does), or leave a readable byte of an earlier version behind.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from keys.durable import replace_erasing, settle_erasing, write_new_file
from keys.errors import KeysError
from keys.keystore_index import KeystoreIndex, OrderKeyRecord
from keys.private import strongbox
from keys.private.locked import LockedBuffer
from keys.private.secretbox import KEY_SIZE, UnwrapError
from keys.private.sign import SEED_SIZE, SigningKey, signing_key
from keys.private.unseal import PRIVATE_KEY_SIZE, SealingKey, public_key_of, sealing_key

if TYPE_CHECKING:
    from pathlib import Path

KEYS_NAME: Final = "keys"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderKey:
    """A live order key with its cryptoperiod (Unix seconds); ``number`` counts them from 1."""

    key: SealingKey
    number: int
    made_at: int
    seal_until: int
    destroy_at: int
    revoked_at: int | None

    def may_be_issued(self, now: int) -> bool:
        """True while intake may seal to it."""
        return now < self.seal_until and self.revoked_at is None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LongLivedKeys:
    """What `keys` holds: the index, and in locked memory the secrets that belong to it."""

    index: KeystoreIndex
    identity: SigningKey
    former_identity: SigningKey | None = None  # while a handover lasts
    vault_key: LockedBuffer = field(repr=False)
    order_private: tuple[SealingKey, ...]  # in the order of ``index.order_keys``

    @property
    def order_keys(self) -> tuple[OrderKey, ...]:
        pairs = zip(self.index.order_keys, self.order_private, strict=True)
        return tuple(_order_key(record, key) for record, key in pairs)

    def secrets(self) -> list[memoryview]:
        """Views of all secrets, as ``from_secrets`` reads them."""
        former = [] if self.former_identity is None else [self.former_identity.seed]
        private = [key.private.view for key in self.order_private]
        return [self.identity.seed, *former, self.vault_key.view, *private]

    def close(self) -> None:
        """Wipe every key."""
        for key in self.order_private:
            key.close()
        self.identity.close()
        if self.former_identity is not None:
            self.former_identity.close()
        self.vault_key.close()


def from_secrets(index: KeystoreIndex, secrets: memoryview) -> LongLivedKeys | None:
    """Copy the keys out of ``secrets`` (joined); None when they are not those that the index names."""
    lasts = index.handover is not None
    start = SEED_SIZE * (2 if lasts else 1)
    if secrets.nbytes != start + KEY_SIZE + PRIVATE_KEY_SIZE * len(index.order_keys):
        return None
    private = secrets[start + KEY_SIZE :]
    keys = LongLivedKeys(
        index=index,
        identity=signing_key(secrets[:SEED_SIZE]),
        former_identity=signing_key(secrets[SEED_SIZE:start]) if lasts else None,
        vault_key=LockedBuffer(KEY_SIZE).copy_from(secrets[start : start + KEY_SIZE]),
        order_private=tuple(
            _private_key(record, private[place * PRIVATE_KEY_SIZE : (place + 1) * PRIVATE_KEY_SIZE])
            for place, record in enumerate(index.order_keys)
        ),
    )
    if not _belong(keys):
        keys.close()
        return None
    return keys


def load(path: Path, master: LockedBuffer) -> LongLivedKeys:
    """Open `keys` under the master key, after settling what a crash left. ``KEYSTORE-DAMAGED``."""
    settle_erasing(path / KEYS_NAME)
    try:
        file = (path / KEYS_NAME).read_bytes()
        with strongbox.opened(master, file, KeystoreIndex, "keystore") as (index, secrets):
            keys = from_secrets(index, secrets)
    except (OSError, UnwrapError) as error:
        raise damaged(path) from error
    if keys is None:
        raise damaged(path)
    return keys


def write_first(directory: Path, master: LockedBuffer, keys: LongLivedKeys) -> None:
    """Write `keys` in a new keystore; the caller makes the directory durable."""
    write_new_file(directory / KEYS_NAME, [strongbox.lay_out(master, keys.index, keys.secrets())])


def rewrite(path: Path, master: LockedBuffer, keys: LongLivedKeys) -> None:
    """Replace `keys` durably, and overwrite what it held before."""
    replace_erasing(path / KEYS_NAME, strongbox.lay_out(master, keys.index, keys.secrets()))


def damaged(path: Path) -> KeysError:
    """The refusal of a keystore that is not what was stored."""
    remedy = "the passphrase is not to blame: restore the keystore from a copy"
    return KeysError("KEYSTORE-DAMAGED", f"the keystore {path} is damaged or was altered", remedy)


def _order_key(record: OrderKeyRecord, key: SealingKey) -> OrderKey:
    return OrderKey(
        key=key,
        number=record.number,
        made_at=record.made_at,
        seal_until=record.seal_until,
        destroy_at=record.destroy_at,
        revoked_at=record.revoked_at,
    )


def _private_key(record: OrderKeyRecord, private: memoryview) -> SealingKey:
    return sealing_key(bytes.fromhex(record.public_key), LockedBuffer(PRIVATE_KEY_SIZE).copy_from(private))


def _belong(keys: LongLivedKeys) -> bool:
    index, handover = keys.index, keys.index.handover
    if keys.identity.public_key.hex() != index.identity:
        return False
    if keys.former_identity is not None and (
        handover is None or keys.former_identity.public_key.hex() != handover.old_identity
    ):
        return False
    return all(public_key_of(key.private) == key.public_key for key in keys.order_private)
