"""What this node trusts: the offline identity, pinned by its fingerprint, and the newest key roll it signed.

Why here: intake installs the first roll with it, spool-sync every later one, by the same rules.
Must not: replace a pinned identity, or take a roll that is older than the one in use.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from keys.durable import create_durable, make_directory, write_durable
from keys.public.fingerprint import fingerprint, matches
from keys.public.minisign import MinisignPublicKey, signature_matches
from keys.public.roll import ROLL_COMMENT, ROLL_LIMIT, KeyRoll, decode_roll
from transfer.errors import TransferError
from transfer.wire.ids import check_node_id
from transfer.wire.manifest import KEYROLL_NAME, SIGNATURE_LIMIT

TRUSTED_NAME = "trusted.pub"
NODE_IDENTITY_NAME = "identity.pub"
_IDENTITY_NAME = "identity.pub"
_ROLL_SIGNATURE_NAME = "keyroll.json.minisig"
_PUBLIC_MODE = 0o644


class RollChange(Enum):
    """What became of a roll that was offered."""

    NEWER = auto()
    SAME = auto()
    OLDER = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """The pinned offline identity and the roll in use."""

    identity: MinisignPublicKey
    roll: KeyRoll

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.identity.public_key)


def pin(state: Path, directory: Path, *, node: str, spoken: str) -> Trust:
    """Pin the offline identity and install the roll from an enrolment's ``directory``; repeating it is harmless.

    ``spoken``: the identity's fingerprint as the offline side read it out. Raises ``TRUST-FILES``,
    ``TRUST-FINGERPRINT``, ``TRUST-PINNED``, ``TRUST-ROLL``, or what ``decode_roll`` and ``accept_roll`` raise.
    """
    check_node_id(node)
    identity = MinisignPublicKey.decode(
        _read(directory / _IDENTITY_NAME, SIGNATURE_LIMIT).decode("utf-8", "replace")
    )
    if not matches(identity.public_key, spoken):
        raise TransferError(
            "TRUST-FINGERPRINT",
            f"{directory / _IDENTITY_NAME} does not have the fingerprint that was given",
            "have it read out again; if it still differs, the files were exchanged: do not use them",
        )
    raw = _read(directory / KEYROLL_NAME, ROLL_LIMIT)
    signature = _read(directory / _ROLL_SIGNATURE_NAME, SIGNATURE_LIMIT).decode("utf-8", "replace")
    if not signature_matches(identity, raw, signature, ROLL_COMMENT):
        raise TransferError("TRUST-ROLL", "the key roll is not signed by the offline identity beside it")
    decode_roll(raw, node=node, identity=identity.public_key)
    make_directory(state)
    _pin_identity(state, identity)
    accept_roll(state, raw, node=node)
    return load(state, node=node)


def load_identity(state: Path) -> MinisignPublicKey:
    """The pinned offline identity; ``TRUST-NONE`` before ``intake trust``."""
    try:
        raw = _read(state / TRUSTED_NAME, SIGNATURE_LIMIT)
    except TransferError as error:
        raise TransferError("TRUST-NONE", "no offline identity is pinned yet", "run: intake trust") from error
    return MinisignPublicKey.decode(raw.decode("utf-8", "replace"))


def node_identity(state: Path) -> MinisignPublicKey:
    """The node's own public key; ``NODE-MISSING`` before ``init-node``."""
    try:
        raw = _read(state / NODE_IDENTITY_NAME, SIGNATURE_LIMIT)
    except TransferError as error:
        remedy = "run: spool-sync init-node"
        raise TransferError("NODE-MISSING", f"there is no node identity in {state}", remedy) from error
    return MinisignPublicKey.decode(raw.decode("utf-8", "replace"))


def load_roll(state: Path, *, node: str) -> KeyRoll:
    """The key roll in use, verified anew; ``TRUST-NONE`` when there is none."""
    identity = load_identity(state)
    try:
        raw = _read(state / KEYROLL_NAME, ROLL_LIMIT)
    except TransferError as error:
        raise TransferError("TRUST-NONE", "there is no key roll yet", "run: intake trust") from error
    return decode_roll(raw, node=node, identity=identity.public_key)


def load(state: Path, *, node: str) -> Trust:
    """Identity and roll together."""
    return Trust(identity=load_identity(state), roll=load_roll(state, node=node))


def accept_roll(state: Path, raw: bytes, *, node: str) -> RollChange:
    """Verify a roll against the pinned identity and put it in use if its (epoch, number) is higher.

    Raises ``ROLL-FORK`` for the same number with other bytes, and what ``decode_roll`` raises.
    """
    offered = decode_roll(raw, node=node, identity=load_identity(state).public_key)
    try:
        current_raw = _read(state / KEYROLL_NAME, ROLL_LIMIT)
    except TransferError:
        current_raw = b""
    if current_raw:
        current = decode_roll(current_raw, node=node, identity=load_identity(state).public_key)
        old, new = (current.epoch, current.number), (offered.epoch, offered.number)
        if new < old:
            return RollChange.OLDER
        if new == old:
            if raw != current_raw:
                raise TransferError(
                    "ROLL-FORK",
                    f"key roll {offered.number} came twice with different content",
                    "the offline side may have been restored from a copy: ask its operator before going on",
                )
            return RollChange.SAME
    write_durable(state / KEYROLL_NAME, raw)
    return RollChange.NEWER


def _pin_identity(state: Path, identity: MinisignPublicKey) -> None:
    try:
        create_durable(state / TRUSTED_NAME, identity.encode().encode("ascii"), _PUBLIC_MODE)
    except FileExistsError:
        pinned = load_identity(state)
        if pinned.public_key != identity.public_key:
            raise TransferError(
                "TRUST-PINNED",
                f"this node already trusts another offline identity, {fingerprint(pinned.public_key)}",
                "a pinned identity is never exchanged: enrol a new node, or check which directory this is",
            ) from None


def _read(path: Path, limit: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            raw = file.read(limit + 1)
    except OSError as error:
        raise TransferError("TRUST-FILES", f"cannot read {path}: {error.strerror}") from error
    if len(raw) > limit:
        raise TransferError("TRUST-FILES", f"{path} is larger than {limit} bytes")
    return raw
