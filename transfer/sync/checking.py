"""Bundles and returns checked where they lie: ours against what we signed, theirs against whom we trust.

Why here: verify, resend and doctor must mean the same by "whole".
Must not: change anything but a working copy of its own, or take anything in.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from keys.errors import RuleError
from keys.public.minisign import signature_matches
from transfer.errors import TransferError
from transfer.register import Register
from transfer.spool import read_group
from transfer.sync import trust
from transfer.sync.drop import list_units
from transfer.sync.fetching import fetch
from transfer.sync.media import FOLDER, closing
from transfer.sync.medium import Medium
from transfer.sync.node import Node
from transfer.sync.own import former_identities
from transfer.sync.reading import check_names, format_rule, measure_file, read_file
from transfer.sync.returned import Expected, same_digest
from transfer.sync.settling import BUNDLE_FILES
from transfer.wire.manifest import (
    BUNDLE_COMMENT,
    ENVELOPES_NAME,
    MANIFEST_LIMIT,
    MANIFEST_NAME,
    SIGNATURE_LIMIT,
    SIGNATURE_NAME,
    BundleManifest,
    bundle_manifest_digest,
    bundle_name,
    decode_bundle_manifest,
    return_numbers,
)

_CHECKING = "checking-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was found of one thing on a drop: ``error`` is None when all is as it should be."""

    name: str
    what: str
    error: RuleError | None = None


def check_kept(node: Node, sequence: int) -> BundleManifest:
    """The manifest of a bundle in the outbox whose envelopes are kept; ``OUTBOX-DAMAGED`` unless all is as signed."""
    place = node.bundle(sequence)
    manifest = check_signed(node, sequence)
    try:
        with (place / ENVELOPES_NAME).open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        count = sum(1 for _ in read_group(place / ENVELOPES_NAME))
    except (OSError, RuleError) as error:
        raise _kept_damaged(place, "its envelopes cannot be read") from error
    if not same_digest(sha256, manifest.envelopes_sha256) or count != manifest.count:
        raise _kept_damaged(place, "its envelopes are not those that were signed")
    return manifest


def check_signed(node: Node, sequence: int) -> BundleManifest:
    """The manifest of a bundle in the outbox; ``OUTBOX-DAMAGED`` unless it says what its place says and is signed."""
    place = node.bundle(sequence)
    try:
        raw, signature = (place / MANIFEST_NAME).read_bytes(), (place / SIGNATURE_NAME).read_text("utf-8")
        manifest = decode_bundle_manifest(raw)
    except (OSError, UnicodeDecodeError, RuleError) as error:
        raise _kept_damaged(place, "its manifest or signature cannot be read") from error
    if manifest.sequence != sequence or manifest.node != node.node:
        raise _kept_damaged(place, "its manifest is another bundle's")
    if not is_signed_by_us(node, raw, signature):
        raise _kept_damaged(place, "it is not signed by this node")
    return manifest


def is_signed_by_us(node: Node, raw: bytes, signature: str) -> bool:
    """True when this node has signed a bundle's manifest, by its identity of now or by one before."""
    ours = (trust.node_identity(node.state), *reversed(former_identities(node.state)))
    return any(signature_matches(key, raw, signature, BUNDLE_COMMENT) for key in ours)


def verify_drop(node: Node, register: Register, medium: Medium) -> Iterator[Checked]:
    """Everything of this node on the drop that this node can judge, one by one."""
    for name in list_units(medium.drop, node.node, "b"):
        yield _judged(name, "bundle", partial(_check_bundle, node, register, medium.drop, name))
    for name in list_units(medium.drop, node.node, "r"):
        yield _judged(name, "return", partial(_check_return, node, register, medium.drop, name))
    for prefix, what in (("b", "bundle"), ("r", "return")):
        for name in list_units(medium.drop, node.node, prefix, unfinished=True):
            yield Checked(name=name, what=what, error=_unfinished(medium.drop / node.node / name))
    for error in medium.strangers(node.node):
        yield Checked(name=medium.drop.name, what="drop", error=error)


def _judged(name: str, what: str, check: Callable[[], str]) -> Checked:
    try:
        return Checked(name=name, what=f"{what}: {check()}")
    except RuleError as error:
        return Checked(name=name, what=what, error=error)


def _unfinished(source: Path) -> TransferError:
    return TransferError(
        format_rule(source.name),
        f"{source} is not complete, so the other side ignores it: it has no {SIGNATURE_NAME}",
        "whoever wrote it was interrupted, or its signature is gone: have it written again",
    )


def _check_bundle(node: Node, register: Register, drop: Path, name: str) -> str:
    source = drop / node.node / name
    raw = read_file(source, MANIFEST_NAME, MANIFEST_LIMIT)
    signature = read_file(source, SIGNATURE_NAME, SIGNATURE_LIMIT).decode("utf-8", "replace")
    if not is_signed_by_us(node, raw, signature):
        raise TransferError(
            "BUNDLE-SIGNATURE",
            f"{source} is not signed by this node",
            "find out where this medium comes from; spool-sync push writes our own again",
        )
    manifest = decode_bundle_manifest(raw)
    if bundle_name(manifest.sequence) != name or manifest.node != node.node:
        raise TransferError("BUNDLE-FORMAT", f"{source} does not hold the bundle that its name says")
    row = register.bundle(manifest.sequence)
    if row is None:
        raise TransferError(
            "NODE-BEHIND",
            f"{source} is signed by this node, but this state only knows bundles up to {register.last_sequence()}",
            "this state is an old copy: retire the node and enrol it under a new node id",
        )
    if not same_digest(row.manifest, bundle_manifest_digest(raw)):
        raise TransferError(
            "BUNDLE-FORK",
            f"{source} is another bundle {manifest.sequence} than the one that this state made",
            "this state is an old copy: retire the node and enrol it under a new node id",
        )
    check_names(source, BUNDLE_FILES)
    found = measure_file(source, ENVELOPES_NAME, manifest.envelopes_size)
    if found.size != manifest.envelopes_size or not same_digest(found.sha256, manifest.envelopes_sha256):
        raise TransferError(
            "BUNDLE-DAMAGED",
            f"the envelopes in {source} are not those that were signed",
            f"take another medium: spool-sync resend {manifest.sequence}",
        )
    answered = ", has its receipt" if row.outcome else ""
    return f"{manifest.count} orders, whole{answered}"


def _check_return(node: Node, register: Register, drop: Path, name: str) -> str:
    source = drop / node.node / name
    named = return_numbers(name)
    if named is None:
        raise TransferError("RETURN-FORMAT", f"{source} has no name of a return")
    with _working_place(node.state) as place:
        verified = fetch(source, place / "copy", Expected.of(node, register), named=named, taken=None)
    newest = node.newest_return()
    taken = newest is not None and named <= (newest.epoch, newest.number)
    return f"{verified.manifest.records} records, genuine, {'taken in' if taken else 'not taken in yet'}"


@contextlib.contextmanager
def _working_place(state: Path) -> Iterator[Path]:
    """A directory for copies, of this check alone; those of checks that were killed are removed."""
    with closing(os.open(state / "checking.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)) as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # nobody removes a place between its making and its locking
        for left in state.glob(f"{_CHECKING}*"):
            with (
                contextlib.suppress(BlockingIOError, FileNotFoundError),
                closing(os.open(left, FOLDER)) as lock,
            ):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left)
        place = Path(tempfile.mkdtemp(prefix=_CHECKING, dir=state))
        lock = os.open(place, FOLDER)
        fcntl.flock(lock, fcntl.LOCK_SH)
    with closing(lock):
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _kept_damaged(place: Path, why: str) -> TransferError:
    return TransferError(
        "OUTBOX-DAMAGED",
        f"{place} is damaged: {why}",
        "look for a good copy: the drop, or a backup of the outbox. If there is none, the orders in it are lost, "
        "and spool-sync doctor names them",
    )
