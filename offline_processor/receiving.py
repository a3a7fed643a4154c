"""Receiving: a spooled copy of a bundle is verified whole before one order of it is read.

Why here: bytes in, trust out; the drop was already left behind, so nothing can change under the checks.
Must not: read from a medium, open an order, or accept a bundle in part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from keys.errors import RuleError
from keys.public.digest import equal
from keys.public.minisign import MinisignPublicKey, is_cut_short, signature_matches
from offline_processor.errors import ProcessorError
from offline_processor.ledger.bundles import NodeChain
from offline_processor.stages import ReceivedBundle, SpooledBundle
from transfer.wire.envelope import iter_frames
from transfer.wire.manifest import (
    BUNDLE_COMMENT,
    ENVELOPES_NAME,
    MANIFEST_NAME,
    RETURN_COMMENT,
    SIGNATURE_NAME,
    BundleManifest,
    ReturnManifest,
    SignedText,
    bundle_manifest_digest,
    bundle_name,
    decode_bundle_manifest,
    decode_return_manifest,
    return_manifest_digest,
)
from transfer.wire.records import RefusalRule

_READ_SIZE = 1 << 20
_OLD_COPY = (
    "this ledger is an old copy: put the newest one back, or the mirror's (offline-processor mirror --take). If both"
    " are lost, restore the last backup into an empty place (offline-processor restore --epoch-above N, with the"
    " highest epoch that a return's name shows: r0002-… is 2) and reconcile it (offline-processor reconcile)"
)
_GONE = (
    "; if it cannot, because the ledger that was lost had accepted that bundle, a quorum goes on behind it:"
    " offline-processor set-sequence"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What the offline side knows, asked of ledger and key ring while a bundle is checked.

    ``return_of`` gives the manifest digest of a return that was made, ``used_by`` the bundle that used a batch key
    (hex), ``issued`` whether a batch key was ever issued to this node. ``node_keys`` are those that may have signed
    this bundle, ``identities`` those that ever signed our returns; returns of epochs before ``forgotten_before`` may
    be unknown, because the ledger was restored and reconciled since.
    """

    chain: NodeChain
    node_keys: Sequence[MinisignPublicKey]
    identities: Sequence[MinisignPublicKey]
    forgotten_before: int
    used_by: Callable[[str], tuple[str, int] | None]
    issued: Callable[[str], bool]
    return_of: Callable[[int], str | None]


class BundleRefusedError(ProcessorError):
    """A bundle is refused whole; ``refusal`` is what its node is told."""

    def __init__(self, refusal: RefusalRule, message: str, remedy: str = "") -> None:
        super().__init__(refusal.value, message, remedy)
        self.refusal = refusal


def receive(spooled: SpooledBundle, known: Knowledge) -> ReceivedBundle:
    """Verify the copy by FORMAT.md, section 10; raises ``BundleRefusedError`` with one of its rules."""
    raw = (spooled.path / MANIFEST_NAME).read_bytes()
    signature = (spooled.path / SIGNATURE_NAME).read_bytes()
    signed_by = check_signature(raw, signature, known.node_keys, spooled.name)
    manifest = _manifest(raw, spooled)
    manifest_digest = bundle_manifest_digest(raw)
    confirms = _confirmed_return(manifest.newest_return, known)
    _check_chain(manifest, known)
    _check_batch_key(manifest, known)
    envelopes = spooled.path / ENVELOPES_NAME
    _check_envelopes(envelopes, manifest)
    return ReceivedBundle(
        node=spooled.node,
        sequence=manifest.sequence,
        manifest=manifest,
        manifest_digest=manifest_digest,
        confirms=confirms,
        envelopes=envelopes,
        signed_by=signed_by.public_key,
    )


def check_signature(
    manifest: bytes, signature: bytes, node_keys: Sequence[MinisignPublicKey], name: str
) -> MinisignPublicKey:
    """Refuse a manifest that the node has not signed; asked of the medium too, before anything large is copied.

    Returns the one of ``node_keys`` that did.
    """
    text = signature.decode("utf-8", "replace")
    for node_key in node_keys:
        if signature_matches(node_key, manifest, text, BUNDLE_COMMENT):
            return node_key
    if is_cut_short(text):
        raise BundleRefusedError(
            RefusalRule.SIGNATURE,
            f"{name} is not complete: its signature file is cut short, as an interrupted writer leaves it",
            "nothing of it was read; the next spool-sync push writes it again. If it stays so, take another medium",
        )
    raise BundleRefusedError(
        RefusalRule.SIGNATURE,
        f"{name} is not signed by the node in whose place it lies",
        "find out where this medium comes from; nothing of it was read",
    )


def _manifest(raw: bytes, spooled: SpooledBundle) -> BundleManifest:
    try:
        manifest = decode_bundle_manifest(raw)
    except RuleError as error:
        raise BundleRefusedError(RefusalRule.FORMAT, f"{spooled.name}: {error.message}") from error
    consistent = manifest.batch_key is None or manifest.count > 0  # subject requests alone need no batch key
    if manifest.node != spooled.node or bundle_name(manifest.sequence) != spooled.name or not consistent:
        raise BundleRefusedError(
            RefusalRule.FORMAT, f"{spooled.name}: the manifest contradicts itself or its place"
        )
    return manifest


def _confirmed_return(signed: SignedText | None, known: Knowledge) -> int:
    """The number of the return that the bundle confirms; 0 for none, or one that a restored ledger has forgotten."""
    if signed is None:
        return 0
    raw = signed.manifest.encode("utf-8", errors="replace")
    try:
        if not any(
            signature_matches(identity, raw, signed.signature, RETURN_COMMENT)
            for identity in known.identities
        ):
            raise BundleRefusedError(RefusalRule.RETURN, "the return manifest inside the bundle is not ours")
        confirmed: ReturnManifest = decode_return_manifest(raw)
    except RuleError as error:
        raise BundleRefusedError(
            RefusalRule.RETURN, "the return manifest inside the bundle is not genuine"
        ) from error
    chain = known.chain
    if confirmed.node != chain.node:
        raise BundleRefusedError(
            RefusalRule.RETURN, "the return manifest inside the bundle is another node's"
        )
    if known.return_of(confirmed.number) == return_manifest_digest(raw):
        return confirmed.number
    if confirmed.epoch >= known.forgotten_before:
        raise BundleRefusedError(
            RefusalRule.LEDGER_BEHIND,
            f"{chain.node} has seen return {confirmed.number}, which this ledger does not know",
            _OLD_COPY,
        )
    return 0


def _check_chain(manifest: BundleManifest, known: Knowledge) -> None:
    chain = known.chain
    if manifest.sequence <= chain.last_sequence:
        raise BundleRefusedError(
            RefusalRule.FORK,
            f"{chain.node} sent another bundle {manifest.sequence} before",
            "the node was restored from a copy: retire it and enrol it under a new node id",
        )
    if manifest.sequence != chain.last_sequence + 1 or manifest.prev != chain.last_manifest:
        raise BundleRefusedError(
            RefusalRule.SEQUENCE,
            f"bundle {manifest.sequence} of {chain.node} came, but bundle {chain.last_sequence + 1} is next",
            f"have the online side write bundle {chain.last_sequence + 1} again (spool-sync push)"
            + (_GONE if known.forgotten_before else ""),
        )


def _check_batch_key(manifest: BundleManifest, known: Knowledge) -> None:
    if manifest.batch_key is None:
        return
    if not known.issued(manifest.batch_key) or known.used_by(manifest.batch_key) is not None:
        raise BundleRefusedError(
            RefusalRule.KEY,
            f"bundle {manifest.sequence} uses a batch key that was not issued to this node or was used before",
        )


def check_copy(path: Path, manifest_digest: str) -> None:
    """Check a copy that was fetched once more against the accepted manifest; ``BUNDLE-DAMAGED`` if it differs."""
    raw = (path / MANIFEST_NAME).read_bytes()
    manifest = decode_bundle_manifest(raw)
    if bundle_manifest_digest(raw) != manifest_digest:
        raise _damaged(manifest)
    _check_envelopes(path / ENVELOPES_NAME, manifest)


def _check_envelopes(path: Path, manifest: BundleManifest) -> None:
    try:
        with path.open("rb", buffering=_READ_SIZE) as source:
            reader = _Digesting(source)
            count = sum(1 for _ in iter_frames(reader))
    except RuleError as error:
        raise _damaged(manifest) from error
    if (
        count != manifest.count
        or reader.size != manifest.envelopes_size
        or not equal(reader.hexdigest().encode(), manifest.envelopes_sha256.encode())
    ):
        raise _damaged(manifest)


class _Digesting:
    """A file that is digested as it is read."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._state = hashlib.sha256()
        self.size = 0

    def read(self, size: int, /) -> bytes:
        part = self._source.read(size)
        self._state.update(part)
        self.size += len(part)
        return part

    def hexdigest(self) -> str:
        return self._state.hexdigest()


def _damaged(manifest: BundleManifest) -> BundleRefusedError:
    return BundleRefusedError(
        RefusalRule.DAMAGED,
        f"the envelopes of bundle {manifest.sequence} are not those that the node signed",
        "have the online side write the bundle again (spool-sync push), onto another medium",
    )
