"""Reception: new bundles are copied off the drop, verified, and accepted into the ledger in sequence.

Why here: receiving judges one copy; this fetches the copies and keeps each node's chain.
Must not: open an order, or go on with a node after one of its bundles was refused.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from keys.durable import fsync_directory, make_directory
from keys.errors import RuleError
from keys.public.digest import equal
from keys.public.minisign import MinisignPublicKey
from keys.ring import KeyRing
from offline_processor import reporting
from offline_processor.errors import ProcessorError
from offline_processor.ledger import bundles
from offline_processor.ledger.bundles import BundleRecord
from offline_processor.receiving import BundleRefusedError, Knowledge, check_copy, check_signature, receive
from offline_processor.reconciliation import FORGOTTEN
from offline_processor.stages import ReceivedBundle, SpooledBundle
from offline_processor.workplace import RunReport, Workplace, is_missing, spooled_copy
from transfer.errors import TransferError
from transfer.sync.drop import list_units
from transfer.sync.medium import Direction, admit_or_note
from transfer.sync.reading import copy_unit, read_file
from transfer.wire.ids import NodeId
from transfer.wire.manifest import (
    ENVELOPES_LIMIT,
    ENVELOPES_NAME,
    MANIFEST_LIMIT,
    MANIFEST_NAME,
    SIGNATURE_LIMIT,
    SIGNATURE_NAME,
    bundle_manifest_digest,
    bundle_name,
    decode_bundle_manifest,
)
from transfer.wire.records import Outcome, RefusalRule

_SLACK = 1024 * 1024
BUNDLE_FILES = {
    ENVELOPES_NAME: ENVELOPES_LIMIT,
    MANIFEST_NAME: MANIFEST_LIMIT,
    SIGNATURE_NAME: SIGNATURE_LIMIT,
}


def receive_all(place: Workplace, report: RunReport) -> None:
    """Copy every new bundle of every enrolled node into our spool, verify the copies, accept them in sequence."""
    nodes = [node.node for node in place.keystore.ring.nodes()]
    medium = admit_or_note(
        place.drop_in, Direction.IN, shop=place.media_of, nodes=nodes, home=place.state, into=report.refused
    )
    for node in place.keystore.ring.nodes():
        spool = place.state / "spool" / node.node
        make_directory(spool)
        _remove_settled(place, spool)
        if medium is None or not medium.takes(node.node):
            continue
        try:
            names = list_units(place.drop_in, node.node, "b")
            report.refused += medium.strangers(node.node)
        except TransferError as error:
            report.refused.append(error)  # this medium is no good; what is in the ledger goes on
            continue
        _fetch_lost_copies(place, node.node, names, report)
        if node.retired_at is not None:
            _refuse_retired(place, node.node, names, report)
            continue
        for name in names:
            if not _receive_one(place, NodeId(node.node), name, report):
                break


def _fetch_lost_copies(place: Workplace, node: str, names: list[str], report: RunReport) -> None:
    """Our copy of a bundle at work may be gone with a disk; the node keeps the bundle until its receipt is in."""
    for bundle in bundles.unsettled(place.ledger):
        if bundle.node != node or not is_missing(place, bundle):
            continue
        name, copy = bundle_name(bundle.sequence), spooled_copy(place, bundle)
        try:
            if name not in names:
                raise _copy_gone(bundle)
            fetched = copy.with_name(f"new-{name}")
            shutil.rmtree(fetched, ignore_errors=True)
            copy_unit(place.drop_in / node / name, fetched, BUNDLE_FILES)
            check_copy(fetched, bundle.manifest)
            shutil.rmtree(copy, ignore_errors=True)  # what is left of it, without its envelopes
            fetched.rename(copy)
            fsync_directory(copy.parent)
        except RuleError as error:
            report.refused.append(error)


def _copy_gone(bundle: BundleRecord) -> ProcessorError:
    return ProcessorError(
        "BUNDLE-COPY",
        f"bundle {bundle.sequence} of {bundle.node} is accepted, but our copy of it is gone and it is not in the drop",
        "have the online side write it again (spool-sync push); what the ledger knows of it waits until then."
        " If the online side has it no more, a quorum goes on behind it: offline-processor set-sequence",
    )


def _refuse_retired(place: Workplace, node: str, names: list[str], report: RunReport) -> None:
    """A retired node has no say any more; nothing of its new bundles is read, and nothing goes back."""
    last = bundle_name(bundles.chain_of(place.ledger, node).last_sequence)
    late = [name for name in names if name > last]
    if late:
        report.refused.append(
            ProcessorError(
                "BUNDLE-RETIRED",
                f"{node} is retired, but {', '.join(late[:5])} came from it",
                "find out who still runs this node; its orders must be placed again at a node that is in use",
            )
        )


def _remove_settled(place: Workplace, spool: Path) -> None:
    """Delete copies whose bundle is settled, and what a crash left half-copied."""
    at_work = {
        bundle_name(bundle.sequence)
        for bundle in bundles.unsettled(place.ledger)
        if bundle.node == spool.name
    }
    for copy in spool.iterdir():
        if copy.name not in at_work:
            shutil.rmtree(copy)


def _receive_one(place: Workplace, node: NodeId, name: str, report: RunReport) -> bool:
    """Receive one bundle; False when nothing behind it can be taken either."""
    source, spool = place.drop_in / node / name, place.state / "spool" / node
    keys = node_keys(place.keystore.ring, node, int(name[1:]))
    try:
        if is_known(place, node, source):
            # Its receipt needs no new return: every return carries it until a bundle confirms it.
            report.repeated.append(f"{node}/{name}")
            return True
        manifest = read_file(source, MANIFEST_NAME, MANIFEST_LIMIT)
        check_signature(manifest, read_file(source, SIGNATURE_NAME, SIGNATURE_LIMIT), keys, name)
        # Whatever is not known is copied aside first, so that no copy of a bundle at work is overwritten.
        spooled = SpooledBundle(node=node, name=name, path=spool / f"new-{name}")
        shutil.rmtree(spooled.path, ignore_errors=True)
        copy_unit(source, spooled.path, BUNDLE_FILES | {ENVELOPES_NAME: _announced(manifest)})
        received = receive(spooled, _knowledge(place, node, keys))
    except BundleRefusedError as error:
        shutil.rmtree(spool / f"new-{name}", ignore_errors=True)
        _refuse(place, node, error, report)
        if error.refusal is RefusalRule.LEDGER_BEHIND:
            raise
        return _is_old(place, node, name)
    except TransferError as error:
        shutil.rmtree(spool / f"new-{name}", ignore_errors=True)
        if error.rule == RefusalRule.FORMAT.value:
            _refuse(place, node, BundleRefusedError(RefusalRule.FORMAT, error.message, error.remedy), report)
        else:
            report.refused.append(error)  # our own disk or the medium, not this bundle
        return _is_old(place, node, name)
    _accept(place, received)
    report.received.append(f"{node}/{name}")
    return True


def _announced(manifest: bytes) -> int:
    """How many bytes of envelopes are worth copying: what the node signed, and a little to see that there is more."""
    try:
        return min(ENVELOPES_LIMIT, decode_bundle_manifest(manifest).envelopes_size + _SLACK)
    except RuleError:
        return _SLACK  # the copy is refused for its manifest


def _is_old(place: Workplace, node: NodeId, name: str) -> bool:
    """True for a place in the chain that is taken already, so that what lies there stops nothing."""
    return name <= bundle_name(bundles.chain_of(place.ledger, node).last_sequence)


def is_known(place: Workplace, node: NodeId, source: Path) -> bool:
    """True when this very bundle was accepted before: its manifest says so, and its envelopes are not needed again."""
    sequence = int(source.name[1:])
    accepted = bundles.manifest_of(place.ledger, node, sequence)
    if accepted is None:
        return False
    found = bundle_manifest_digest(read_file(source, MANIFEST_NAME, MANIFEST_LIMIT))
    return equal(accepted.encode(), found.encode())


def _accept(place: Workplace, received: ReceivedBundle) -> None:
    """Give the verified copy its lasting name, then record the bundle; a crash between is settled by the next run."""
    ring, key = place.keystore.ring, received.manifest.batch_key
    outcome = Outcome.PROCESSED if received.manifest.count else Outcome.EMPTY
    if key is not None:
        if ring.batch_record(bytes.fromhex(key)) is None:
            outcome = Outcome.EXPIRED  # destroyed, or lost with an earlier epoch
        else:
            ring.mark_opened(bytes.fromhex(key), now=place.clock())
    copy = received.envelopes.parent
    copy.rename(copy.with_name(bundle_name(received.sequence)))
    fsync_directory(copy.parent)
    with place.ledger.atomic():
        bundles.accept(place.ledger, received, outcome=outcome, now=place.clock())
    # From here on an earlier key of this node verifies repeats only; after a crash the next bundle does this.
    ring.settle_node_key(received.node, received.sequence, received.signed_by)


def _refuse(place: Workplace, node: NodeId, error: BundleRefusedError, report: RunReport) -> None:
    with place.ledger.atomic():
        bundles.refuse(place.ledger, node, error.refusal, now=place.clock())
    report.refused.append(error)


def node_keys(ring: KeyRing, node: NodeId, sequence: int) -> list[MinisignPublicKey]:
    """The keys of the node that may have signed this bundle, the one of now first."""
    known = ring.node(node)
    if known is None:
        return []
    former = [
        key.public_key for key in reversed(known.former_keys) if key.until is None or sequence <= key.until
    ]
    return [MinisignPublicKey(public_key=bytes.fromhex(key)) for key in (known.public_key, *former)]


def _knowledge(place: Workplace, node: NodeId, node_keys: list[MinisignPublicKey]) -> Knowledge:
    ledger, ring = place.ledger, place.keystore.ring
    return Knowledge(
        chain=bundles.chain_of(ledger, node),
        node_keys=node_keys,
        identities=place.keystore.identities,
        forgotten_before=ledger.counter(FORGOTTEN),
        used_by=lambda key: bundles.sequence_of_key(ledger, key),
        issued=lambda key: _issued(ring, bytes.fromhex(key), node),
        return_of=lambda number: reporting.return_of(ledger, node, number),
    )


def _issued(ring: KeyRing, key_id: bytes, node: NodeId) -> bool:
    """Was this key issued to the node? After a recovery a key that no copy knows may have been, and is lost."""
    if ring.knows_batch_key(node, key_id):
        return True
    another = ring.batch_record(key_id) is not None or ring.find_destroyed(key_id) is not None
    return bool(ring.lost_before_epoch) and not another
