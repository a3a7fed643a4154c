"""What this node trusts: the offline identity, pinned by its fingerprint, and the newest key roll it signed.

Why here: intake installs the first roll with it, spool-sync every later one, by the same rules.
Must not: exchange a pinned identity but by its own handover or a person's word, or take a roll that is older.

`trusted.pub` is the pinned identity; `identities.json` holds the newest handover and the identities before; each is
replaced whole, in an order in which a crash leaves a state that the repeated step brings to the same end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Annotated

import msgspec

from keys.durable import create_durable, fsync_directory, make_directory, write_durable
from keys.errors import RuleError
from keys.public import canonical
from keys.public.fingerprint import fingerprint, matches
from keys.public.minisign import MinisignPublicKey, signature_matches
from keys.public.roll import ROLL_COMMENT, ROLL_LIMIT, Hex32, KeyRoll, decode_roll, roll_digest
from transfer.errors import TransferError
from transfer.sync.handover import Identities
from transfer.sync.revoked import revoked_keys, without
from transfer.wire.ids import check_node_id
from transfer.wire.manifest import KEYROLL_NAME, SIGNATURE_LIMIT
from transfer.wire.records import Handover

TRUSTED_NAME = "trusted.pub"
IDENTITIES_NAME = "identities.json"
NODE_IDENTITY_NAME = "identity.pub"
BEFORE_NAME = "keyroll.before.json"
_IDENTITY_NAME = "identity.pub"
_ROLL_SIGNATURE_NAME = "keyroll.json.minisig"
_PUBLIC_MODE = 0o644
_KNOWN_LIMIT = 1024 * 1024


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


class _Known(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    before: Hex32 | None
    former: list[Hex32]
    handover: Handover | None


def offered_identity(directory: Path) -> MinisignPublicKey:
    """The offline identity in an enrolment's ``directory``; ``TRUST-FILES`` or ``KEY-PUBLIC``."""
    raw = _read(directory / _IDENTITY_NAME, SIGNATURE_LIMIT)
    return MinisignPublicKey.decode(raw.decode("utf-8", "replace"))


def check_pin(state: Path, offered: MinisignPublicKey, *, replace: bool) -> MinisignPublicKey | None:
    """The identity that ``offered`` would replace, None for none. ``TRUST-PINNED`` if that was not asked for."""
    if not (state / TRUSTED_NAME).exists():
        return None
    pinned = load_identity(state)
    if pinned.public_key == offered.public_key:
        return None
    if not replace:
        raise TransferError(
            "TRUST-PINNED",
            f"this node already trusts another offline identity, {fingerprint(pinned.public_key)}",
            "check which directory this is; only if the offline side says that it made a new identity because the "
            "old one was compromised or lost: the same command with --replace",
        )
    return pinned


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
            f"{directory / _IDENTITY_NAME} does not have the fingerprint that was given",
            "have it read out again; if it still differs, the files were exchanged: do not use them",
        )
    raw = _read(directory / KEYROLL_NAME, ROLL_LIMIT)
    signature = _read(directory / _ROLL_SIGNATURE_NAME, SIGNATURE_LIMIT).decode("utf-8", "replace")
    if not signature_matches(identity, raw, signature, ROLL_COMMENT):
        raise TransferError("TRUST-ROLL", "the key roll is not signed by the offline identity beside it")
    decode_roll(raw, node=node, identity=identity.public_key)
    make_directory(state)
    replaced = check_pin(state, identity, replace=replace)
    if replaced is not None:
        _replace(state, identity)
    else:
        with contextlib.suppress(FileExistsError):
            create_durable(state / TRUSTED_NAME, identity.encode().encode("ascii"), _PUBLIC_MODE)
        check_pin(state, identity, replace=False)  # if another was pinned at the same moment, that one stays
    accept_roll(state, raw, node=node)
    return load(state, node=node)


def load_identity(state: Path) -> MinisignPublicKey:
    """The pinned offline identity; ``TRUST-NONE`` before ``intake trust``."""
    try:
        raw = _read(state / TRUSTED_NAME, SIGNATURE_LIMIT)
    except TransferError as error:
        raise TransferError("TRUST-NONE", "no offline identity is pinned yet", "run: intake trust") from error
    return MinisignPublicKey.decode(raw.decode("utf-8", "replace"))


def load_identities(state: Path) -> Identities:
    """The pinned identity with the newest handover and all that were trusted before."""
    pinned = load_identity(state).public_key
    try:
        raw = (state / IDENTITIES_NAME).read_bytes()
    except FileNotFoundError:
        return Identities(pinned=pinned)
    known = canonical.decode(raw, _Known, limit=_KNOWN_LIMIT, what="list of identities")
    return Identities(
        pinned=pinned,
        handover=known.handover,
        before=bytes.fromhex(known.before) if known.before else None,
        former=frozenset(bytes.fromhex(key) for key in known.former),
    )


def follow(state: Path, after: Identities) -> None:
    """Make what a return did to the identities durable. A crash between the steps is repaired by repeating."""
    before = load_identities(state)
    if after.pinned != before.pinned:
        _write_known(state, dataclasses.replace(after, handover=before.handover))
        _write_pinned(state, after.pinned)
    _write_known(state, after)


def node_identity(state: Path) -> MinisignPublicKey:
    """The node's own public key; ``NODE-MISSING`` before ``init-node``."""
    try:
        raw = _read(state / NODE_IDENTITY_NAME, SIGNATURE_LIMIT)
    except TransferError as error:
        remedy = "run: spool-sync init-node"
        raise TransferError("NODE-MISSING", f"there is no node identity in {state}", remedy) from error
    return MinisignPublicKey.decode(raw.decode("utf-8", "replace"))


def load_roll(state: Path, *, node: str) -> KeyRoll:
    """The key roll in use, verified anew and without revoked keys; ``TRUST-NONE`` when there is none."""
    return without(listed_roll(state, node=node), revoked_keys(state))


def listed_roll(state: Path, *, node: str) -> KeyRoll:
    """The key roll in use with all that it lists, also keys that were revoked: for what must outlive them."""
    known = load_identities(state)
    try:
        raw = _read(state / KEYROLL_NAME, ROLL_LIMIT)
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
        current_raw = _read(state / KEYROLL_NAME, ROLL_LIMIT)
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
            write_durable(state / BEFORE_NAME, _read(state / KEYROLL_NAME, ROLL_LIMIT))
        write_durable(state / KEYROLL_NAME, raw)
    return change


def chain_break(state: Path) -> str:
    """What is wrong with the chain of rolls, for a person, or "". It is evidence; nothing depends on it."""
    try:
        raw, before = (_read(state / name, ROLL_LIMIT) for name in (KEYROLL_NAME, BEFORE_NAME))
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


def _replace(state: Path, identity: MinisignPublicKey) -> None:
    """Pin another identity on a person's word; nothing that the old one signed is believed from now on."""
    known = load_identities(state)
    gone = {known.pinned, *known.of_rolls} | known.former
    if identity.public_key not in known.former:
        # Whoever had the old key could have signed any return: the numbers begin anew with the new identity.
        _put_returns_aside(state / "returns")
    _write_known(
        state, Identities(pinned=identity.public_key, former=frozenset(gone - {identity.public_key}))
    )
    _write_pinned(state, identity.public_key)


def _put_returns_aside(returns: Path) -> None:
    for path in sorted(returns.iterdir()) if returns.is_dir() else ():
        if path.name.startswith("r") and not path.name.startswith("replaced-"):
            place = path.with_name(f"replaced-{path.name}")
            number = 1
            while place.exists():
                number += 1
                place = path.with_name(f"replaced-{path.name}-{number}")
            os.rename(path, place)
            fsync_directory(returns)


def _write_pinned(state: Path, identity: bytes) -> None:
    text = MinisignPublicKey(public_key=identity).encode()
    write_durable(state / TRUSTED_NAME, text.encode("ascii"), _PUBLIC_MODE)


def _write_known(state: Path, known: Identities) -> None:
    """All of it but the pinned identity."""
    content = canonical.encode(
        _Known(
            before=known.before.hex() if known.before else None,
            former=sorted(key.hex() for key in known.former),
            handover=known.handover,
        )
    )
    path = state / IDENTITIES_NAME
    is_new = path.read_bytes() != content if path.exists() else bool(known.former or known.handover)
    if is_new:
        write_durable(path, content)


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
