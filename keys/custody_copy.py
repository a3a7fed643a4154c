"""The custody copy: all that must outlive the offline machine, sealed to the key that M of N custodians rebuild.

Why here: what is in a copy, how it is told to be whole, and what a new epoch starts with, belong together.
Must not: hold a batch or hold key, or be believed before its signature was checked.

Three lines of text: canonical JSON of what is public (the indexes of keystore and ring); base64 of a sealed box
of ``digest("custody-copy", line 1) || secrets``; hex of the offline identity's signature over the digest of both.
So damage is found without a single share. Anyone could make a copy with an identity of their own: whoever
recovers compares the identity's fingerprint with the one on paper, and nodes trust no other.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec.structs import replace

from keys.errors import KeysError
from keys.keystore_file import from_secrets
from keys.keystore_index import KeystoreIndex
from keys.private.locked import LockedBuffer, zero_stack
from keys.private.reseal import seal_view
from keys.private.sign import sign
from keys.private.unseal import UnsealError, open_box_into
from keys.public import canonical
from keys.public.digest import DIGEST_SIZE, digest, equal
from keys.public.roll import Count
from keys.public.seal import SEAL_OVERHEAD
from keys.public.verify import signature_is_good
from keys.ring_index import RingIndex, lost

if TYPE_CHECKING:
    from keys.keystore_file import LongLivedKeys
    from keys.private.unseal import SealingKey
    from keys.ring_index import RingBackend

SIZE_LIMIT: Final = 64 * 1024 * 1024
_DOMAIN: Final = "custody-copy"
_CONTEXT: Final = b"sealed-orders/v1/custody-copy\0"
_LINES: Final = 3


class CopyIndex(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="custody-copy",
):
    """What anyone may read of a copy made at ``copied_at`` (Unix seconds)."""

    format: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    copied_at: Count
    keystore: KeystoreIndex
    ring: RingIndex


def sealed(keys: LongLivedKeys, ring: RingIndex, now: int) -> bytes:
    """The copy of this moment. ``CUSTODY-NONE`` when the keystore has no custody."""
    custody = keys.index.custody
    if custody is None:
        raise KeysError(
            "CUSTODY-NONE",
            "this keystore has no custodians, so there is nobody to seal a copy to",
            "a keystore with custodians is made by `key-ceremony run`",
        )
    first = canonical.encode(CopyIndex(copied_at=now, keystore=keys.index, ring=ring))
    secrets = keys.secrets()
    with LockedBuffer(DIGEST_SIZE + sum(secret.nbytes for secret in secrets)) as plaintext:
        plaintext.view[:DIGEST_SIZE] = digest(_DOMAIN, first)
        place = DIGEST_SIZE
        for secret in secrets:
            plaintext.view[place : place + secret.nbytes] = secret
            place += secret.nbytes
        box = seal_view(plaintext.view, bytes.fromhex(custody.public_key))
    zero_stack()
    signed = first + b"\n" + base64.b64encode(box) + b"\n"
    signature = sign(keys.identity, _message(signed))
    return signed + signature.hex().encode("ascii") + b"\n"


def look(copy: bytes) -> CopyIndex:
    """What the copy says, once its signature shows it to be whole. ``CUSTODY-DAMAGED``."""
    return _parse(copy)[0]


def opened(
    copy: bytes, custody_key: SealingKey, *, now: int, epoch_above: int, ring_backend: RingBackend
) -> tuple[LongLivedKeys, RingIndex]:
    """What a recovered keystore starts with: its long-lived keys, and a ring of a new epoch without live keys.

    The new epoch is above the copy's and above ``epoch_above``.
    Raises ``CUSTODY-DAMAGED``, or ``CUSTODY-OTHER`` when the copy is whole and sealed to another custody.
    """
    index, first, box = _parse(copy)
    custody = index.keystore.custody
    if custody is None:
        raise _damaged()
    if custody.public_key != custody_key.public_key.hex():
        raise KeysError(
            "CUSTODY-OTHER",
            f"this copy is whole, but it is sealed to another custody (set {custody.set_id})",
            "take the copy that belongs to these shares, or the shares that belong to this copy",
        )
    epoch = max(index.keystore.epoch, epoch_above) + 1
    keystore = replace(
        index.keystore, epoch=epoch, made_with=index.keystore.identity, ring_backend=ring_backend
    )
    if len(box) <= SEAL_OVERHEAD + DIGEST_SIZE:
        raise _damaged()
    with LockedBuffer(len(box) - SEAL_OVERHEAD) as plaintext:
        try:
            open_box_into(box, custody_key.public_key, custody_key.private, plaintext.view)
        except UnsealError as error:
            raise _damaged() from error
        if not equal(plaintext.view[:DIGEST_SIZE], digest(_DOMAIN, first)):
            raise _damaged()
        keys = from_secrets(keystore, plaintext.view[DIGEST_SIZE:])
    zero_stack()
    if keys is None:
        raise _damaged()
    return keys, lost(index.ring, epoch=epoch, now=now)


def _parse(copy: bytes) -> tuple[CopyIndex, bytes, bytes]:
    lines = copy.split(b"\n")
    if len(copy) > SIZE_LIMIT or len(lines) != _LINES + 1 or lines[3]:
        raise _damaged()
    try:
        index = canonical.decode(lines[0], CopyIndex, limit=SIZE_LIMIT, what="custody copy")
        box = base64.b64decode(lines[1], validate=True)
        signature = bytes.fromhex(lines[2].decode("ascii"))
    except (KeysError, binascii.Error, ValueError) as error:
        raise _damaged() from error
    spelled = (base64.b64encode(box), signature.hex().encode("ascii"))
    message = _message(lines[0] + b"\n" + lines[1] + b"\n")
    identity = bytes.fromhex(index.keystore.identity)
    if spelled != (lines[1], lines[2]) or not signature_is_good(identity, message, signature):
        raise _damaged()
    return index, lines[0], box


def _message(signed: bytes) -> bytes:
    return _CONTEXT + digest(_DOMAIN, signed)


def _damaged() -> KeysError:
    return KeysError(
        "CUSTODY-DAMAGED",
        "this custody copy is damaged or was altered",
        "no share is to blame: take another copy (every ceremony, rotation and backup wrote one)",
    )
