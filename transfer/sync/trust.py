"""What this node trusts: the newest key roll, signed by an offline identity that was pinned by its fingerprint.

Why here: intake installs the first roll with it, spool-sync every later one, by the same rules.
Must not: exchange a pinned identity but by its own handover or a person's word, or take a roll that is older.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from keys.durable import make_directory, write_durable
from keys.errors import RuleError
from keys.public import canonical
from keys.public.fingerprint import fingerprint, matches
from keys.public.minisign import MinisignPublicKey, signature_matches
from keys.public.roll import ROLL_COMMENT, ROLL_LIMIT, KeyRoll, decode_roll, roll_digest
from transfer.errors import TransferError
from transfer.sync.handover import Identities
from transfer.sync.identities import (
    IDENTITIES_NAME,
    NODE_IDENTITY_NAME,
    OFFERED_NAME,
    TRUSTED_NAME,
    check_pin,
    follow,
    load_identities,
    load_identity,
    node_identity,
    offered_identity,
    pin_identity,
    read_limited,
)
from transfer.sync.revoked import revoked_keys, without
from transfer.wire.ids import check_node_id
from transfer.wire.manifest import KEYROLL_NAME, SIGNATURE_LIMIT

__all__ = (
    "BEFORE_NAME",
    "IDENTITIES_NAME",
    "NODE_IDENTITY_NAME",
    "TRUSTED_NAME",
    "RollChange",
    "Trust",
    "accept_roll",
    "chain_break",
    "check_pin",
    "check_trusted",
    "follow",
    "judge_roll",
    "listed_roll",
    "load",
    "load_identities",
    "load_identity",
    "load_roll",
    "node_identity",
    "offered_identity",
    "pin",
)

BEFORE_NAME = "keyroll.before.json"
_ROLL_SIGNATURE_NAME = "keyroll.json.minisig"


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


def pin(state: Path, directory: Path, *, node: str, spoken: str, replace: bool = False) -> Trust:
    """Pin the offline identity and install the roll from an enrolment's ``directory``; repeating it is harmless.

    ``spoken``: the identity's fingerprint as the offline side read it out. ``replace``: take it in place of another
    one that is pinned, and its roll whatever the number of the roll in use. Raises ``TRUST-FILES``,
    ``TRUST-FINGERPRINT``, ``TRUST-PINNED``, ``TRUST-ROLL``, or what ``decode_roll`` and ``accept_roll`` raise.
    """
    check_node_id(node)
    identity = offered_identity(directory)
    if not matches(identity.public_key, spoken):
        raise TransferError(
            "TRUST-FINGERPRINT",
            f"{directory / OFFERED_NAME} does not have the fingerprint that was given",
            "have it read out again; if it still differs, the files were exchanged: do not use them",
        )
    raw = read_limited(directory / KEYROLL_NAME, ROLL_LIMIT)
    signature = read_limited(directory / _ROLL_SIGNATURE_NAME, SIGNATURE_LIMIT).decode("utf-8", "replace")
    if not signature_matches(identity, raw, signature, ROLL_COMMENT):
        raise TransferError("TRUST-ROLL", "the key roll is not signed by the offline identity beside it")
    decode_roll(raw, node=node, identity=identity.public_key)
    make_directory(state)
    pin_identity(state, identity, replace=replace)
    accept_roll(state, raw, node=node)
    return load(state, node=node)


def load_roll(state: Path, *, node: str) -> KeyRoll:
    """The key roll in use, verified anew and without revoked keys; ``TRUST-NONE`` when there is none."""
    return without(listed_roll(state, node=node), revoked_keys(state))


def listed_roll(state: Path, *, node: str) -> KeyRoll:
    """The key roll in use with all that it lists, also keys that were revoked: for what must outlive them."""
    known = load_identities(state)
    try:
        raw = read_limited(state / KEYROLL_NAME, ROLL_LIMIT)
    except TransferError as error:
        raise TransferError("TRUST-NONE", "there is no key roll yet", "run: intake trust") from error
    return _decode_under(known, raw, node=node)


def check_trusted(state: Path, raw: bytes, *, node: str) -> None:
    """Raise as ``decode_roll`` does unless an identity that is trusted now has signed this roll."""
    _decode_under(load_identities(state), raw, node=node)


def load(state: Path, *, node: str) -> Trust:
    """Identity and roll together."""
    return Trust(identity=load_identity(state), roll=load_roll(state, node=node))


def judge_roll(state: Path, raw: bytes, *, node: str, signer: bytes | None = None) -> RollChange:
    """Whether a roll is newer than the one in use; nothing is changed.

    ``signer``: who must have signed it, the pinned identity unless given. Raises ``ROLL-FORK`` for the same number
    with other bytes, and what ``decode_roll`` raises.
    """
    known = load_identities(state)
    offered = decode_roll(raw, node=node, identity=signer or known.pinned)
    try:
        current_raw = read_limited(state / KEYROLL_NAME, ROLL_LIMIT)
        current = _decode_under(known, current_raw, node=node)
    except RuleError:
        return RollChange.NEWER  # there is none, or it is of an identity that is trusted no more
    old, new = (current.epoch, current.number), (offered.epoch, offered.number)
    if new < old:
        return RollChange.OLDER
    if new > old:
        return RollChange.NEWER
    if raw != current_raw:
        raise TransferError(
            "ROLL-FORK",
            f"key roll {offered.number} came twice with different content",
            "the offline side may have been restored from a copy: ask its operator before going on",
        )
    return RollChange.SAME


def accept_roll(state: Path, raw: bytes, *, node: str, signer: bytes | None = None) -> RollChange:
    """Put a roll in use if ``judge_roll`` finds it newer; it raises as that does."""
    change = judge_roll(state, raw, node=node, signer=signer)
    if change is RollChange.NEWER:
        if (state / KEYROLL_NAME).exists():
            write_durable(state / BEFORE_NAME, read_limited(state / KEYROLL_NAME, ROLL_LIMIT))
        write_durable(state / KEYROLL_NAME, raw)
    return change


def chain_break(state: Path) -> str:
    """What is wrong with the chain of rolls, for a person, or "". It is evidence; nothing depends on it."""
    try:
        raw, before = (read_limited(state / name, ROLL_LIMIT) for name in (KEYROLL_NAME, BEFORE_NAME))
        roll, earlier = (
            canonical.decode(part, KeyRoll, limit=ROLL_LIMIT, what="key roll") for part in (raw, before)
        )
    except RuleError:
        return ""
    # Between rolls that do not follow one another there are some that this node never saw.
    follows = (roll.epoch, roll.number) == (earlier.epoch, earlier.number + 1)
    if not follows or roll.prev == roll_digest(before).hex():
        return ""
    return f"key roll {roll.number} does not name roll {earlier.number} of this node as the one before it"


def _decode_under(known: Identities, raw: bytes, *, node: str) -> KeyRoll:
    """A roll that was taken in may be of the pinned identity, its announced successor, or the one just before."""
    refusal: RuleError | None = None
    for key in known.of_rolls:
        try:
            return decode_roll(raw, node=node, identity=key)
        except RuleError as error:
            refusal = refusal or error
    raise refusal or AssertionError("there is always a pinned identity")
