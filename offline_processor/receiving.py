"""Receiving: a spooled copy of a bundle is verified whole before one order of it is read.

Why here: bytes in, trust out; the drop was already left behind, so nothing can change under the checks.
Must not: read from a medium, open an order, or accept a bundle in part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from keys.errors import RuleError
from keys.public.digest import equal
from keys.public.minisign import MinisignPublicKey, signature_matches
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What the offline side knows, asked of ledger and key ring while a bundle is checked.

    ``return_of`` gives the manifest digest of a return that was made, ``used_by`` the bundle that used a batch key
    (hex), ``issued`` whether a batch key was ever issued to this node.
    """

    chain: NodeChain
    epoch: int
    node_key: MinisignPublicKey
    identity: MinisignPublicKey
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
    check_signature(raw, (spooled.path / SIGNATURE_NAME).read_bytes(), known.node_key, spooled.name)
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
    )


def check_signature(manifest: bytes, signature: bytes, node_key: MinisignPublicKey, name: str) -> None:
    """Refuse a manifest that the node has not signed; asked of the medium too, before anything large is copied."""
    if not signature_matches(node_key, manifest, signature.decode("utf-8", "replace"), BUNDLE_COMMENT):
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
    """The number of the return that the bundle confirms, 0 for none of this epoch."""
    if signed is None:
        return 0
    raw = signed.manifest.encode("utf-8", errors="replace")
    try:
        if not signature_matches(known.identity, raw, signed.signature, RETURN_COMMENT):
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
    if confirmed.epoch < known.epoch:
        return 0
    if confirmed.epoch > known.epoch or known.return_of(confirmed.number) != return_manifest_digest(raw):
        raise BundleRefusedError(
            RefusalRule.LEDGER_BEHIND,
            f"{chain.node} has seen return {confirmed.number}, which this ledger does not know",
            "this ledger is an old copy: charge nothing until it was reconciled with the acquirer's report",
        )
    return confirmed.number


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
            f"have the online side write bundle {chain.last_sequence + 1} again (spool-sync push)",
        )


def _check_batch_key(manifest: BundleManifest, known: Knowledge) -> None:
    if manifest.batch_key is None:
        return
    if not known.issued(manifest.batch_key) or known.used_by(manifest.batch_key) is not None:
        raise BundleRefusedError(
            RefusalRule.KEY,
            f"bundle {manifest.sequence} uses a batch key that was not issued to this node or was used before",
        )


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
