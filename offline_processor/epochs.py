"""Epochs: a keystore that was recovered begins a new one, and the ledger takes note before anything else happens.

Why here: after a recovery batch and hold keys are gone and the ring's memory begins anew; the ledger must know.
Must not: let a ledger that remembers nothing pass for one that nothing happened to.
"""

from __future__ import annotations

from keys.keystore import Keystore
from keys.recovery import refresh_copy
from offline_processor import retirement
from offline_processor.errors import ProcessorError
from offline_processor.key_record import destruction, is_older
from offline_processor.ledger import bundles
from offline_processor.ledger.ledger import Ledger
from offline_processor.reconciliation import is_required, require

FIRST_EPOCH = 1


def begin_epoch(ledger: Ledger, keystore: Keystore, *, now: int) -> None:
    """Record the keystore's epoch when it is new to the ledger; ``LEDGER-EPOCH`` when it is past.

    The keys that the recovery lost are recorded as destroyed, once each.
    """
    known = ledger.counter("epoch")
    if keystore.epoch == known:
        if is_older(keystore.ring, ledger):
            raise ProcessorError(
                "LEDGER-EPOCH",
                f"the ledger knows of keys of epoch {known} that this keystore does not have, or has alive though they"
                " are destroyed: the keystore is an old copy, or this epoch was begun twice",
                "put the newest keystore back; if this one was recovered, move it away and recover once more, with"
                f" --epoch-above {known}",
            )
        return
    if keystore.epoch < known:
        raise ProcessorError(
            "LEDGER-EPOCH",
            f"this keystore is of epoch {keystore.epoch}, but the ledger has seen epoch {known}:"
            " the keystore is an old copy",
            "put the newest keystore back; with this one, keys that were revoked would be used again",
        )
    if keystore.epoch > FIRST_EPOCH:
        _bring_up(ledger, keystore, now=now)
    with ledger.atomic():
        if keystore.epoch > FIRST_EPOCH:
            _begin(ledger, keystore, known, now=now)
        ledger.set_counter("epoch", keystore.epoch)


def _bring_up(ledger: Ledger, keystore: Keystore, *, now: int) -> None:
    """A keystore may come from a copy older than the ledger: no node or key that was ended since comes back with it."""
    ring = keystore.ring
    for node in [node for node in ring.nodes() if node.retired_at is None]:
        if retirement.is_recorded(ledger, node.node):
            ring.retire_node(node.node, now)
            continue
        signer = bundles.last_signer(ledger, node.node)
        if signer is not None and signer.hex() not in {
            node.public_key,
            *(key.public_key for key in node.former_keys),
        }:
            ring.rotate_node(node.node, signer, now)
        if signer is not None:
            ring.settle_node_key(node.node, bundles.chain_of(ledger, node.node).last_sequence, signer)
    told = {what for (what,) in list(ledger.rows("SELECT DISTINCT what FROM announcement"))}
    for key in keystore.order_keys:
        if key.revoked_at is None and f"revocation/{key.key.key_id.hex()}" in told:
            keystore.revoke_order_key(key.number, now)
    refresh_copy(keystore, now)


def _begin(ledger: Ledger, keystore: Keystore, known: int, *, now: int) -> None:
    # The ring that is gone was the only witness on this machine that the ledger is the newest one; an old one would
    # have paid orders ordered again.
    if not is_required(ledger):
        require(ledger, now=now)
    ledger.append("epoch-begun", str(keystore.epoch), now, {"epoch": keystore.epoch, "before": known})
    said = {key for (key,) in list(ledger.rows("SELECT subject FROM entry WHERE kind = 'key-destroyed'"))}
    records = keystore.ring.destroyed_records()
    for record in records:
        if record.key_id not in said:
            ledger.append("key-destroyed", record.key_id, now, destruction(record, keystore.ring))
    ledger.set_counter("keys-destroyed", len(records))
