"""Old ledgers: the key ring is never restored, so it remembers work that a ledger from a backup has forgotten.

Why here: with an old ledger, paid orders would be told "order again", or charged a second time.
Must not: decide what is to be done about it; a person reconciles with the acquirer's report first.
"""

from __future__ import annotations

from keys.ring import KeyRing
from keys.ring_index import Destroyed, DestroyReason
from offline_processor.errors import ProcessorError
from offline_processor.ledger import bundles
from offline_processor.ledger.ledger import Ledger


def check_not_behind(ledger: Ledger, ring: KeyRing) -> None:
    """Refuse (``LEDGER-BEHIND``) a ledger that a bundle has proved to be an old copy, or that the ring does."""
    bundles.check_not_behind(ledger)
    # A crash may leave the newest destructions unsaid, but the work before them is in the ledger first.
    for gone in ring.destroyed_records()[ledger.counter("keys-destroyed") :]:
        if _work_is_forgotten(ledger, gone):
            raise ProcessorError(
                "LEDGER-BEHIND",
                f"key {gone.key_id} died when its work was done, but this ledger knows nothing of that:"
                " it is an old copy",
                "put the newest ledger back, or the mirror's (offline-processor mirror --take); with this one, paid"
                " orders could be ordered and charged again. If both are lost, move this keystore away, restore the"
                " last backup (offline-processor restore) and reconcile it (offline-processor reconcile)",
            )


def _work_is_forgotten(ledger: Ledger, gone: Destroyed) -> bool:
    match gone.reason:
        case DestroyReason.BATCH_DONE:
            finished = ledger.row(
                "SELECT 1 FROM bundle AS b WHERE batch_key = ? AND state != 'accepted' AND NOT EXISTS (SELECT 1"
                " FROM orders AS o WHERE o.node = b.node AND o.sequence = b.sequence AND o.state = 'screened')",
                (gone.key_id,),
            )
            return finished is None
        case DestroyReason.ANSWERED:
            waiting = ledger.row(
                "SELECT 1 FROM held_card JOIN orders USING (order_id)"
                " WHERE key_id = ? AND state IN ('held', 'quarantined')",
                (gone.key_id,),
            )
            return waiting is not None
        case _:
            return False
