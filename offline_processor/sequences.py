"""Going on behind bundles that a lost ledger had accepted: a quorum sets a node's last sequence and digest.

Why here: the node deleted those bundles when their receipts came, so nobody will ever send them again.
Must not: go back, or let what cannot be known any more be forgotten in silence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from offline_processor.errors import ProcessorError
from offline_processor.ledger import bundles, reports
from offline_processor.ledger.bundles import BundleState
from offline_processor.ledger.ledger import Ledger
from transfer.wire.manifest import ENVELOPES_NAME, bundle_name


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceSet:
    """What was skipped: bundles ``first`` to ``last`` of ``node``; ``closed`` were known, but their copies are gone.

    ``charged`` are orders (ids, hex) that the acquirer's report shows charged and this ledger has never seen: they
    were in what was skipped, or in bundles that are still to come.
    """

    node: str
    first: int
    last: int
    closed: tuple[int, ...]
    charged: tuple[str, ...]


def set_sequence(
    ledger: Ledger, spool: Path, *, node: str, sequence: int, manifest: str, now: int
) -> SequenceSet:
    """The node's next bundle is ``sequence`` + 1 and names ``manifest`` (hex) as the one before. ``SEQUENCE-BACK``.

    ``spool`` holds our copies of the node's bundles.
    """
    chain = bundles.chain_of(ledger, node)
    if sequence <= chain.last_sequence:
        raise ProcessorError(
            "SEQUENCE-BACK",
            f"bundle {chain.last_sequence} of {node} is accepted already; {sequence} is not beyond it",
            "nothing is to be set: have the online side push, and run; its bundles say what is next",
        )
    open_bundles = [
        bundle
        for bundle in bundles.unsettled(ledger)
        if bundle.node == node
        and bundle.state is BundleState.ACCEPTED
        and not (spool / bundle_name(bundle.sequence) / ENVELOPES_NAME).is_file()
    ]
    with ledger.atomic():
        bundles.save_chain(ledger, replace(chain, last_sequence=sequence, last_manifest=manifest))
        facts = {"from": chain.last_sequence, "to": sequence, "manifest": manifest}
        ledger.append("sequence-set", node, now, facts)
        for bundle in open_bundles:
            bundles.mark_screened(ledger, bundle, screened_to=bundle.screened_to, finished=True)
            ledger.append(
                "bundle-closed", f"{node}/{bundle.sequence}", now, {"screened_to": bundle.screened_to}
            )
    return SequenceSet(
        node=node,
        first=chain.last_sequence + 1,
        last=sequence,
        closed=tuple(bundle.sequence for bundle in open_bundles),
        charged=tuple(reports.unknown_orders(ledger)),
    )


def in_words(done: SequenceSet) -> list[str]:
    """What a person has to know, and to do."""
    lines = [
        f"The next bundle of {done.node} is {done.last + 1}.",
        f"Bundles {done.first} to {done.last} are skipped: this ledger knows nothing of their orders, and never will.",
    ]
    if done.closed:
        numbers = ", ".join(map(str, done.closed))
        lines.append(
            f"Bundles {numbers} were accepted, but our copies are gone: their unread orders are skipped too."
        )
    if done.charged:
        lines += [
            f"The acquirer's report shows {len(done.charged)} orders charged that this ledger has never seen.",
            "Those that no later bundle brings were in what is skipped. Look each order id up in the shop's own list;",
            "send the goods if the address is known from elsewhere, else give the money back through the acquirer:",
        ]
        lines += [f"  {order_id}" for order_id in done.charged]
    lines += [
        "Customers of the skipped bundles who were not charged were told so by the lost ledger's returns.",
        f"Who was not told sees no answer at {done.node}: `spool-sync status` there lists these orders. Write to them.",
    ]
    return lines
