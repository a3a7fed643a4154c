"""What the keystore's directory holds of the keys that live long: identity, vault key, order keys.

Why here: the form on disk is one thing, the life of an open keystore (keys/keystore.py) another.
Must not: hold batch or hold keys; those are in the key ring, and never in a backup.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from keys import keyfile
from keys.durable import write_new_file
from keys.errors import KeysError
from keys.private import strongbox
from keys.private.locked import LockedBuffer
from keys.private.secretbox import KEY_SIZE, UnwrapError, generate_key
from keys.private.sign import SEED_SIZE, SigningKey, generate_signing_key, signing_key
from keys.private.unseal import (
    PRIVATE_KEY_SIZE,
    SealingKey,
    generate_sealing_key,
    public_key_of,
    sealing_key,
)
from keys.public.roll import Count, Hex32, Number
from keys.ring import KeyRing

if TYPE_CHECKING:
    from pathlib import Path

MASTER_NAME: Final = "master.key"
_KEYS_NAME: Final = "keys"
_FIRST_EPOCH: Final = 1


class _OrderKeyRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    number: Number
    public_key: Hex32
    made_at: Count
    seal_until: Count
    destroy_at: Count


class _Index(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="keystore"
):
    format: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    rehearsal: bool
    epoch: Number
    made_at: Count
    identity: Hex32
    order_keys: list[_OrderKeyRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderKey:
    """An order key with its cryptoperiod (Unix seconds); ``number`` counts them from 1."""

    key: SealingKey
    number: int
    made_at: int
    seal_until: int
    destroy_at: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LongLivedKeys:
    """What `keys` holds, in locked memory."""

    rehearsal: bool
    epoch: int
    made_at: int
    identity: SigningKey
    vault_key: LockedBuffer
    order_keys: tuple[OrderKey, ...]


def load(path: Path, master: LockedBuffer) -> LongLivedKeys:
    """Open `keys` under the master key; ``KEYSTORE-DAMAGED`` when it is not whole."""
    try:
        file = (path / _KEYS_NAME).read_bytes()
        with strongbox.opened(master, file, _Index, "keystore") as (index, secrets):
            if secrets.nbytes != SEED_SIZE + KEY_SIZE + PRIVATE_KEY_SIZE * len(index.order_keys):
                raise damaged(path)
            identity = signing_key(secrets[:SEED_SIZE])
            vault_key = LockedBuffer(KEY_SIZE).copy_from(secrets[SEED_SIZE : SEED_SIZE + KEY_SIZE])
            order_keys = _order_keys(path, index, secrets[SEED_SIZE + KEY_SIZE :])
    except (OSError, UnwrapError) as error:
        raise damaged(path) from error
    if identity.public_key.hex() != index.identity:
        raise damaged(path)
    return LongLivedKeys(
        rehearsal=index.rehearsal,
        epoch=index.epoch,
        made_at=index.made_at,
        identity=identity,
        vault_key=vault_key,
        order_keys=order_keys,
    )


def damaged(path: Path) -> KeysError:
    """The refusal of a keystore that is not what was stored."""
    remedy = "the passphrase is not to blame: restore the keystore from a copy"
    return KeysError("KEYSTORE-DAMAGED", f"the keystore {path} is damaged or was altered", remedy)


def write_new(
    directory: Path,
    passphrase: LockedBuffer,
    master: LockedBuffer,
    *,
    rehearsal: bool,
    order_times: tuple[int, int, int],
) -> None:
    """Make all keys and write every file of a new keystore; ``order_times`` is made, seal until, destroy at."""
    made_at, seal_until, destroy_at = order_times
    order = generate_sealing_key()
    record = _OrderKeyRecord(
        number=1,
        public_key=order.public_key.hex(),
        made_at=made_at,
        seal_until=seal_until,
        destroy_at=destroy_at,
    )
    identity = generate_signing_key()
    index = _Index(
        rehearsal=rehearsal,
        epoch=_FIRST_EPOCH,
        made_at=made_at,
        identity=identity.public_key.hex(),
        order_keys=[record],
    )
    with identity.secret, order.private, generate_key() as vault_key:
        secrets = [identity.seed, vault_key.view, order.private.view]
        write_new_file(directory / _KEYS_NAME, [strongbox.lay_out(master, index, secrets)])
    KeyRing.create(directory, master, epoch=_FIRST_EPOCH).close()
    kind = keyfile.Kind.REHEARSAL if rehearsal else keyfile.Kind.KEYSTORE
    cost = keyfile.INTERACTIVE if rehearsal else keyfile.MODERATE
    # Last, and with an fsync of the directory: with the master key the keystore is complete.
    keyfile.create(directory / MASTER_NAME, kind, identity.public_key, master.view, passphrase, cost)


def _order_keys(path: Path, index: _Index, secrets: memoryview) -> tuple[OrderKey, ...]:
    keys = []
    for place, record in enumerate(index.order_keys):
        private = LockedBuffer(PRIVATE_KEY_SIZE)
        private.copy_from(secrets[place * PRIVATE_KEY_SIZE : (place + 1) * PRIVATE_KEY_SIZE])
        key = sealing_key(bytes.fromhex(record.public_key), private)
        if public_key_of(private) != key.public_key:
            raise damaged(path)
        keys.append(
            OrderKey(
                key=key,
                number=record.number,
                made_at=record.made_at,
                seal_until=record.seal_until,
                destroy_at=record.destroy_at,
            )
        )
    return tuple(keys)
