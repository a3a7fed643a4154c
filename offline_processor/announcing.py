"""What returns announce about our own keys: revocations, and the handover of the offline identity.

Why here: each goes into every return of a node until a bundle confirms one that carried it.
Must not: take an announcement for known because it was sent.
"""

from __future__ import annotations

from collections.abc import Iterator

from keys.keystore import Keystore
from offline_processor.ledger.bundles import chain_of
from offline_processor.ledger.ledger import Ledger
from transfer.wire.records import Handover, Record, Revocation

Announcement = tuple[str, Record]
"""What it is called in the ledger, and the record of the return."""


def waiting(ledger: Ledger, keystore: Keystore, node: str) -> list[Announcement]:
    """What no confirmed return of this node has carried yet."""
    confirmed = chain_of(ledger, node).confirmed_return
    known = {
        what
        for (what,) in ledger.rows(
            "SELECT what FROM announcement WHERE node = ? AND told <= ?", (node, confirmed)
        )
    }
    return [(what, record) for what, record in _all(keystore, node) if what not in known]


def is_due(ledger: Ledger, keystore: Keystore, node: str) -> bool:
    """True when something is in no return of this node yet."""
    told = _told(ledger, node)
    return any(what not in told for what, _ in waiting(ledger, keystore, node))


def mark_told(ledger: Ledger, node: str, announced: list[Announcement], *, number: int, now: int) -> None:
    """The return of this number carries these; the first that does counts. In the caller's transaction."""
    told = _told(ledger, node)
    for what, _ in announced:
        if what not in told:
            ledger.execute(
                "INSERT INTO announcement (node, what, told) VALUES (?, ?, ?)", (node, what, number)
            )
            ledger.append("announced", f"{node}/{number}", now, {"what": what})


def take_confirmations(ledger: Ledger, keystore: Keystore) -> None:
    """Tell the keystore which nodes have taken the handover; what a crash left untold is told by the next run."""
    for node in keystore.handover_waits_for:
        if not any(isinstance(record, Handover) for _, record in waiting(ledger, keystore, node)):
            keystore.confirm_handover(node)


def unconfirmed(ledger: Ledger, keystore: Keystore, node: str) -> list[str]:
    """The names of what waits for this node's confirmation."""
    return [what for what, _ in waiting(ledger, keystore, node)]


def _all(keystore: Keystore, node: str) -> Iterator[Announcement]:
    handover = keystore.handover
    if handover is not None and node in keystore.handover_waits_for:
        record = Handover(
            epoch=handover.epoch,
            start=handover.start,
            old_identity=handover.old_identity,
            new_identity=handover.new_identity,
            old_signature=handover.old_signature,
            new_signature=handover.new_signature,
        )
        yield f"handover/{handover.new_identity}", record
    for revocation in keystore.revocations_by(keystore.signer_of(node)):
        if revocation.node in (None, node):
            yield (
                f"revocation/{revocation.key}",
                Revocation(
                    key=revocation.key,
                    role=revocation.role,
                    epoch=revocation.epoch,
                    revoked_at=revocation.revoked_at,
                    signature=revocation.signature,
                ),
            )


def _told(ledger: Ledger, node: str) -> set[str]:
    return {what for (what,) in list(ledger.rows("SELECT what FROM announcement WHERE node = ?", (node,)))}
