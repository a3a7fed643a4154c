"""What an interrupted push left, brought to an end: unsigned bundles discarded, signed ones entered.

Why here: a push begins with it, and the doctor may do it without a key or a drop.
Must not: decide by anything but the plan, or delete what was ever signed.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import assert_never

from keys.durable import fsync_directory
from transfer.register import BundleRow, Register
from transfer.spool import read_group
from transfer.sync.node import Node
from transfer.sync.plan import Discard, Record, check_outbox, plan_repairs
from transfer.wire.manifest import (
    ENVELOPES_NAME,
    MANIFEST_NAME,
    SIGNATURE_NAME,
    BundleManifest,
    bundle_manifest_digest,
    bundle_name,
    decode_bundle_manifest,
    decode_return_manifest,
)
from transfer.wire.records import Outcome, Receipt

BUNDLE_FILES = (ENVELOPES_NAME, MANIFEST_NAME, SIGNATURE_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What was repaired, in words, and which acknowledged orders turned out to be missing."""

    repaired: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def settle(node: Node, register: Register, *, now: int) -> Settled:
    """Run it inside ``node.alone()``; ``OUTBOX-GAP`` when a bundle of the chain is not there any more."""
    done = Settled()
    recorded = register.last_sequence()
    listing = node.outbox_listing(recorded=recorded)
    check_outbox(listing, recorded=recorded)
    for action in plan_repairs(listing):
        match action:
            case Discard(sequence=sequence):
                shutil.rmtree(node.bundle(sequence))
                fsync_directory(node.outbox)
                done.repaired.append(f"unfinished {bundle_name(sequence)} discarded")
            case Record(sequence=sequence):
                done.missing.extend(_enter(node, register, sequence, now))
                done.repaired.append(f"{bundle_name(sequence)} recorded")
            case _:
                assert_never(action)
    last = max((bundle.sequence for bundle in listing if bundle.complete), default=0)
    if last:
        for path in node.bundle(last).iterdir():
            if path.name not in BUNDLE_FILES:
                path.unlink()  # the temporary name of the signature
        # Whoever signed it may have died before its name was durable; nothing leaves before that.
        fsync_directory(node.bundle(last))
        fsync_directory(node.outbox)
    return done


def bundle_row(manifest: BundleManifest, raw: bytes) -> BundleRow:
    """A bundle as the register records it."""
    return BundleRow(
        sequence=manifest.sequence,
        batch_key_id=bytes.fromhex(manifest.batch_key) if manifest.batch_key else None,
        manifest=bundle_manifest_digest(raw),
        orders=manifest.count,
        cut_at=manifest.time,
    )


def _enter(node: Node, register: Register, sequence: int, now: int) -> list[str]:
    """Record a signed bundle of the outbox that the register does not know."""
    place = node.bundle(sequence)
    raw = (place / MANIFEST_NAME).read_bytes()
    manifest = decode_bundle_manifest(raw)
    contained: set[str] = set()
    if manifest.batch_key is not None and (place / ENVELOPES_NAME).exists():
        contained.update(entry.order_id for entry in read_group(place / ENVELOPES_NAME))
        # Changes nothing after a crash; after the loss of the register it brings the orders back.
        entries = read_group(place / ENVELOPES_NAME)
        register.index_entries(bytes.fromhex(manifest.batch_key), entries, now)
    missing = register.record_bundle(bundle_row(manifest, raw), lambda: contained)
    if not (place / ENVELOPES_NAME).exists() and sequence <= _accepted(node):
        # The register was lost: a receipt had come, or the envelopes would be here, but not what it said is known.
        receipt = Receipt(
            sequence=sequence,
            manifest=bundle_manifest_digest(raw),
            orders=manifest.count,
            outcome=Outcome.PROCESSED if manifest.count else Outcome.EMPTY,
            settled_at=0,
        )
        register.take_receipts([receipt])
    return missing


def _accepted(node: Node) -> int:
    """The last bundle of which the newest return tells that the offline side has it; 0 for none."""
    newest = node.newest_return()
    return decode_return_manifest(newest.signed.manifest.encode("ascii")).accepted if newest else 0
