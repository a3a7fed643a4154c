"""The identities on a node's disk: the offline side's that is pinned, those before it, and the node's own public key.

Why here: a pull, the trust in a new identity and every check read and change them by the same steps.
Must not: judge a handover or a key roll; ``handover`` and ``trust`` do.

`trusted.pub` is the pinned identity; `identities.json` holds the newest handover and the identities before; each is
replaced whole, in an order in which a crash leaves a state that the repeated step brings to the same end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path

import msgspec

from keys.durable import create_durable, fsync_directory, write_durable
from keys.public import canonical
from keys.public.fingerprint import fingerprint
from keys.public.minisign import MinisignPublicKey
from keys.public.roll import Hex32
from transfer.errors import TransferError
from transfer.sync.handover import Identities
from transfer.wire.manifest import SIGNATURE_LIMIT, Version
from transfer.wire.records import Handover

TRUSTED_NAME = "trusted.pub"
IDENTITIES_NAME = "identities.json"
NODE_IDENTITY_NAME = "identity.pub"
OFFERED_NAME = "identity.pub"
_PUBLIC_MODE = 0o644
_KNOWN_LIMIT = 1024 * 1024


class _Known(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: Version = 1
    before: Hex32 | None
    former: list[Hex32]
    handover: Handover | None


def offered_identity(directory: Path) -> MinisignPublicKey:
    """The offline identity in an enrolment's ``directory``; ``TRUST-FILES`` or ``KEY-PUBLIC``."""
    raw = read_limited(directory / OFFERED_NAME, SIGNATURE_LIMIT)
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


def pin_identity(state: Path, identity: MinisignPublicKey, *, replace: bool) -> None:
    """Pin an identity whose fingerprint a person has compared; raises as ``check_pin`` does."""
    if check_pin(state, identity, replace=replace) is not None:
        _replace_pinned(state, identity)
        return
    with contextlib.suppress(FileExistsError):
        create_durable(state / TRUSTED_NAME, identity.encode().encode("ascii"), _PUBLIC_MODE)
    check_pin(state, identity, replace=False)  # if another was pinned at the same moment, that one stays


def load_identity(state: Path) -> MinisignPublicKey:
    """The pinned offline identity; ``TRUST-NONE`` before ``intake trust``."""
    try:
        raw = read_limited(state / TRUSTED_NAME, SIGNATURE_LIMIT)
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
        raw = read_limited(state / NODE_IDENTITY_NAME, SIGNATURE_LIMIT)
    except TransferError as error:
        remedy = "run: spool-sync init-node"
        raise TransferError("NODE-MISSING", f"there is no node identity in {state}", remedy) from error
    return MinisignPublicKey.decode(raw.decode("utf-8", "replace"))


def _replace_pinned(state: Path, identity: MinisignPublicKey) -> None:
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


def read_limited(path: Path, limit: int) -> bytes:
    """A small file of this node or of an enrolment; ``TRUST-FILES``."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            raw = file.read(limit + 1)
    except OSError as error:
        raise TransferError("TRUST-FILES", f"cannot read {path}: {error.strerror}") from error
    if len(raw) > limit:
        raise TransferError("TRUST-FILES", f"{path} is larger than {limit} bytes")
    return raw
