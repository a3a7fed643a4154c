"""The sealing keys that the offline side has revoked: remembered for ever, whatever a later roll lists.

Why here: intake and spool-sync must refuse the same keys, also after the return that said so is long gone.
Must not: forget a key, or take in a revocation whose signature was not checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from keys.durable import write_durable
from keys.errors import RuleError
from keys.public import canonical
from keys.public.roll import KeyRoll
from transfer.errors import TransferError
from transfer.wire.manifest import Version
from transfer.wire.records import Revocation

REVOKED_NAME = "revoked.json"
_LIMIT = 16 * 1024 * 1024


class _Revoked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: Version = 1
    revocations: list[Revocation]


def revocations(state: Path) -> list[Revocation]:
    """Every revocation that this node has taken in, by key id. ``TRUST-REVOKED`` when the file is damaged."""
    try:
        raw = (state / REVOKED_NAME).read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _damaged(state) from error
    try:
        return canonical.decode(raw, _Revoked, limit=_LIMIT, what="list of revoked keys").revocations
    except RuleError as error:
        raise _damaged(state) from error


def revoked_keys(state: Path) -> frozenset[bytes]:
    """The ids (16 bytes) of the keys that may never be sealed to again."""
    return frozenset(bytes.fromhex(revocation.key) for revocation in revocations(state))


def remember(state: Path, new: Iterable[Revocation]) -> list[Revocation]:
    """Add revocations durably; those that were not known before. Repeating changes nothing."""
    known = {revocation.key: revocation for revocation in revocations(state)}
    added: dict[str, Revocation] = {}
    for revocation in new:
        if revocation.key not in known:
            added[revocation.key] = revocation
    if added:
        together = known | added
        content = _Revoked(revocations=[together[key] for key in sorted(together)])
        write_durable(state / REVOKED_NAME, canonical.encode(content))
    return list(added.values())


def without(roll: KeyRoll, revoked: frozenset[bytes]) -> KeyRoll:
    """The roll without its revoked keys."""
    if not revoked:
        return roll
    return msgspec.structs.replace(
        roll,
        order_keys=[entry for entry in roll.order_keys if entry.key_id not in revoked],
        batch_keys=[entry for entry in roll.batch_keys if entry.key_id not in revoked],
    )


def _damaged(state: Path) -> TransferError:
    return TransferError(
        "TRUST-REVOKED",
        f"{state / REVOKED_NAME} cannot be read, so nobody knows which keys were revoked",
        "restore it from a copy; if there is none, retire this node and enrol it under a new node id",
    )
