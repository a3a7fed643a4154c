"""Retiring an intake node: nothing of it is accepted any more, and what is still open of it is named.

Why here: a lost or restored node never goes on; it is enrolled anew, and its old chain is closed here.
Must not: drop an order of the node that was accepted before.
"""

from __future__ import annotations

from dataclasses import dataclass

from keys.errors import KeysError
from keys.keystore import Keystore
from offline_processor.acquirers import report
from offline_processor.key_record import say_destroyed
from offline_processor.ledger import bundles
from offline_processor.ledger.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """A node at its end: its last bundle, which are unfinished, which orders wait, which returns it never confirmed.

    ``retired_before`` (Unix seconds): an earlier command had retired it then.
    """

    node: str
    last_sequence: int
    last_manifest: str
    unsettled: tuple[int, ...]
    waiting: tuple[str, ...]
    last_return: int
    confirmed_return: int
    keys_destroyed: int
    retired_before: int | None = None


def retire(ledger: Ledger, keystore: Keystore, node: str, *, now: int) -> Retired:
    """Retire ``node``; its unused keys are destroyed. A repeat finishes what a crash left. ``KEY-NODE-UNKNOWN``."""
    known = keystore.ring.node(node)
    if known is None:
        raise KeysError(
            "KEY-NODE-UNKNOWN", f"node {node} is not enrolled", "`key-ceremony status` lists the nodes"
        )
    destroyed = keystore.ring.retire_node(node, now)
    say_destroyed(ledger, keystore.ring, now=now)
    chain = bundles.chain_of(ledger, node)
    if not is_recorded(ledger, node):
        with ledger.atomic():
            facts = {"last_sequence": chain.last_sequence, "last_manifest": chain.last_manifest}
            ledger.append("node-retired", node, now, facts)
    waiting = ledger.rows(
        "SELECT order_id FROM orders WHERE node = ? AND state IN ('screened', 'held', 'quarantined')"
        " ORDER BY number",
        (node,),
    )
    return Retired(
        node=node,
        last_sequence=chain.last_sequence,
        last_manifest=chain.last_manifest,
        unsettled=tuple(bundle.sequence for bundle in bundles.unsettled(ledger) if bundle.node == node),
        waiting=tuple(order_id for (order_id,) in list(waiting)),
        last_return=chain.return_number,
        confirmed_return=chain.confirmed_return,
        keys_destroyed=len(destroyed),
        retired_before=known.retired_at,
    )


def is_recorded(ledger: Ledger, node: str) -> bool:
    """The ledger says that this node was retired; a keystore from an older copy may not know it."""
    return (
        ledger.row("SELECT 1 FROM entry WHERE kind = 'node-retired' AND subject = ? LIMIT 1", (node,))
        is not None
    )


def in_words(done: Retired) -> list[str]:
    """What a person has to know of it."""
    state = "is retired"
    if done.retired_before is not None:
        state = f"was retired already, on {report.in_words(done.retired_before)}"
    lines = [
        f"{done.node} {state}. Last bundle accepted: {done.last_sequence}; later ones are refused (BUNDLE-RETIRED).",
        f"Unused batch keys destroyed: {done.keys_destroyed}.",
    ]
    if done.unsettled:
        numbers = ", ".join(map(str, done.unsettled))
        lines.append(f"Bundles still at work, which the next run finishes: {numbers}.")
    if done.waiting:
        lines.append(f"Orders of it that wait ({len(done.waiting)}), and are finished as ever:")
        lines += [f"  {order_id}" for order_id in done.waiting]
    if done.last_return > done.confirmed_return:
        lines.append(
            f"It confirmed return {done.confirmed_return} of {done.last_return}: what later returns said may not have"
            " reached its customers. No more returns are made for it."
        )
    lines.append(
        f"What {done.node} took after bundle {done.last_sequence} is known there alone: `spool-sync retire` names every"
        " order without a receipt. Enrol its successor under a new node id."
    )
    return lines
