"""The manifests of bundles and returns: what is signed of everything that crosses.

Why here: both sides of the gap write one and read the other (FORMAT.md, sections 10 and 11).
Must not: check sequences or keys; that takes a ledger or a register.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from keys.public import canonical
from keys.public.digest import digest
from keys.public.roll import Count, Hex16, Hex32, Node, Number

BUNDLE_COMMENT = "sealed-orders v1 bundle"
RETURN_COMMENT = "sealed-orders v1 return"
MANIFEST_LIMIT = 16 * 1024
SIGNATURE_LIMIT = 1024
ENVELOPES_LIMIT = 4 * 1024**3
COUNT_LIMIT = 1_000_000
RECORDS_LIMIT = 2 * 1024**3
NO_PREVIOUS = "0" * 64

MANIFEST_NAME = "manifest.json"
SIGNATURE_NAME = "manifest.json.minisig"
ENVELOPES_NAME = "envelopes.bin"
RECORDS_NAME = "records.jsonl"
KEYROLL_NAME = "keyroll.json"

Version = Annotated[int, msgspec.Meta(ge=1, le=1)]
_BUNDLE_NAME = re.compile(r"b([0-9]{8})", re.ASCII)
_RETURN_NAME = re.compile(r"r([0-9]{4})-([0-9]{8})", re.ASCII)


class SignedText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A return's manifest.json and manifest.json.minisig, unchanged."""

    manifest: Annotated[str, msgspec.Meta(max_length=4096)]
    signature: Annotated[str, msgspec.Meta(max_length=SIGNATURE_LIMIT)]


class BundleManifest(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="bundle"
):
    """What a node signs about one bundle."""

    format: Version = 1
    node: Node
    sequence: Number
    prev: Hex32
    batch_key: Hex16 | None
    count: Annotated[int, msgspec.Meta(ge=0, le=COUNT_LIMIT)]
    envelopes_sha256: Hex32
    envelopes_size: Annotated[int, msgspec.Meta(ge=0, le=ENVELOPES_LIMIT)]
    time: Count
    newest_return: SignedText | None = msgspec.field(name="return")


class ReturnManifest(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="return"
):
    """What the offline identity signs about one return."""

    format: Version = 1
    node: Node
    epoch: Number
    number: Number
    prev: Hex32
    accepted: Count
    keyroll_sha256: Hex32
    records: Count
    records_sha256: Hex32
    records_size: Annotated[int, msgspec.Meta(ge=0, le=RECORDS_LIMIT)]
    time: Count


def encode_manifest(manifest: BundleManifest | ReturnManifest) -> bytes:
    """Canonical bytes, the file that is signed."""
    return canonical.encode(manifest)


def decode_bundle_manifest(raw: bytes) -> BundleManifest:
    """``FORMAT-JSON`` unless ``raw`` is a bundle manifest in canonical form."""
    return canonical.decode(raw, BundleManifest, limit=MANIFEST_LIMIT, what="bundle manifest")


def decode_return_manifest(raw: bytes) -> ReturnManifest:
    """``FORMAT-JSON`` unless ``raw`` is a return manifest in canonical form."""
    return canonical.decode(raw, ReturnManifest, limit=MANIFEST_LIMIT, what="return manifest")


def bundle_manifest_digest(raw: bytes) -> str:
    """``prev`` of the next bundle and ``manifest`` of the receipt, hex."""
    return digest("bundle-manifest", raw).hex()


def return_manifest_digest(raw: bytes) -> str:
    """``prev`` of the next return, hex."""
    return digest("return-manifest", raw).hex()


def bundle_name(sequence: int) -> str:
    """The directory name of a bundle in a drop or outbox."""
    return f"b{sequence:08d}"


def return_name(epoch: int, number: int) -> str:
    """The directory name of a return in a drop or outbox."""
    return f"r{epoch:04d}-{number:08d}"


def bundle_sequence(name: str) -> int | None:
    """The sequence in the name of a bundle; None for any other name."""
    found = _BUNDLE_NAME.fullmatch(name)
    return int(found[1]) if found else None


def return_numbers(name: str) -> tuple[int, int] | None:
    """The (epoch, number) in the name of a return; None for any other name."""
    found = _RETURN_NAME.fullmatch(name)
    return (int(found[1]), int(found[2])) if found else None
