"""What lies on the medium, in plain words, before anything of it is taken in.

Why here: the operator sees which medium this is, and whether it was here before, while it can still be exchanged.
Must not: accept, copy or open anything: receiving judges its own copy by itself, whatever was shown here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from keys.errors import RuleError
from offline_processor.ledger import bundles, orders
from offline_processor.ledger.bundles import BundleState
from offline_processor.ledger.ledger import Ledger
from offline_processor.receiving import check_signature
from offline_processor.reception import is_known, node_keys
from offline_processor.workplace import Workplace
from transfer.errors import TransferError
from transfer.sync.drop import list_units
from transfer.sync.medium import Direction, Medium, admit_or_note
from transfer.sync.reading import open_file, read_file
from transfer.wire.envelope import iter_frames
from transfer.wire.header import HEADER_SIZE, decode_header
from transfer.wire.ids import NodeId
from transfer.wire.manifest import (
    ENVELOPES_LIMIT,
    ENVELOPES_NAME,
    MANIFEST_LIMIT,
    MANIFEST_NAME,
    SIGNATURE_LIMIT,
    SIGNATURE_NAME,
    decode_bundle_manifest,
)


class Verdict(StrEnum):
    """NEW: its turn. SEEN: taken in before. EARLY: another one is missing before it. REFUSED: see the rule."""

    NEW = "new"
    SEEN = "seen"
    EARLY = "early"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class OnMedium:
    """One bundle as its signed manifest says. ``known``: orders whose ids the ledger has already.

    ``of_people``: it carries people's requests about their data, and no order.
    """

    node: str
    sequence: int
    verdict: Verdict
    orders: int = 0
    known: int = 0
    of_people: bool = False
    why: RuleError | None = None

    def in_words(self) -> str:
        """As an operator is told."""
        orders = "1 order" if self.orders == 1 else f"{self.orders} orders"
        if self.of_people:
            orders = f"people's requests about their data: {self.orders}"
        match self.verdict:
            case Verdict.SEEN:
                return f"bundle {self.sequence} from {self.node}: taken in before; nothing of it is charged again"
            case Verdict.REFUSED:
                said = f"{self.why.rule}: {self.why.message}" if self.why else ""
                return f"bundle {self.sequence} from {self.node}: REFUSED, {said}"
            case Verdict.EARLY:
                return (
                    f"bundle {self.sequence} from {self.node}: {orders}; it cannot be taken in, because one before it"
                    " is missing"
                )
            case Verdict.NEW:
                known = f", {self.known} already known" if self.known else ""
                return f"bundle {self.sequence} from {self.node}: {orders}{known}"


@dataclass(slots=True, kw_only=True)
class Contents:
    """All that is in the drop. ``label`` is "" for a plain directory; ``refused``: what is wrong with the medium.

    ``medium``: None where there is none that may be used.
    """

    medium: Medium | None = None
    bundles: list[OnMedium] = field(default_factory=list)
    refused: list[RuleError] = field(default_factory=list)

    @property
    def label(self) -> str:
        return self.medium.marker.label if self.medium and self.medium.marker else ""

    @property
    def new(self) -> list[OnMedium]:
        return [bundle for bundle in self.bundles if bundle.verdict is Verdict.NEW]

    def lines(self) -> Iterator[str]:
        """For a person. Bundles that were here before are counted, not listed: a medium may carry many."""
        if self.medium is None:
            return
        if self.label:
            yield f"Medium {self.label!r}"
        seen = [bundle for bundle in self.bundles if bundle.verdict is Verdict.SEEN]
        for bundle in seen[-1:]:
            more = f" (and {len(seen) - 1} older)" if len(seen) > 1 else ""
            yield f"{bundle.in_words()}{more}"
        yield from (bundle.in_words() for bundle in self.bundles if bundle.verdict is not Verdict.SEEN)
        if not self.new:
            yield (
                "Nothing new is on it. If you expect orders today, this may be an older medium, or nobody filled it:"
                " ask for spool-sync push"
            )

    def as_document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "medium": self.label,
            "bundles": [
                {
                    "node": bundle.node,
                    "sequence": bundle.sequence,
                    "verdict": bundle.verdict.value,
                    "orders": bundle.orders,
                    "known_already": bundle.known,
                    "rule": bundle.why.rule if bundle.why else "",
                }
                for bundle in self.bundles
            ],
            "refused": [
                {"rule": error.rule, "message": error.message, "remedy": error.remedy}
                for error in self.refused
            ],
        }


def inspect(place: Workplace) -> Contents:
    """Look at the IN drop as receiving would, and change nothing."""
    found = Contents()
    nodes = [node.node for node in place.keystore.ring.nodes()]
    medium = admit_or_note(
        place.drop_in, Direction.IN, shop=place.media_of, nodes=nodes, home=place.state, into=found.refused
    )
    if medium is None:
        return found
    found.medium = medium
    for node in place.keystore.ring.nodes():
        if node.retired_at is None and medium.takes(node.node):
            _look_at_node(place, medium, NodeId(node.node), found)
    return found


def _look_at_node(place: Workplace, medium: Medium, node: NodeId, found: Contents) -> None:
    try:
        names = list_units(place.drop_in, node, "b")
        found.refused += medium.strangers(node)
    except TransferError as error:
        found.refused.append(error)
        return
    expected = bundles.chain_of(place.ledger, node).last_sequence + 1
    for name in names:
        bundle = _look_at_bundle(place, node, name, expected)
        found.bundles.append(bundle)
        expected += bundle.verdict is Verdict.NEW


def _look_at_bundle(place: Workplace, node: NodeId, name: str, expected: int) -> OnMedium:
    source, sequence = place.drop_in / node / name, int(name[1:])
    try:
        if is_known(place, node, source):
            return OnMedium(node=node, sequence=sequence, verdict=Verdict.SEEN)
        raw = read_file(source, MANIFEST_NAME, MANIFEST_LIMIT)
        signature = read_file(source, SIGNATURE_NAME, SIGNATURE_LIMIT)
        check_signature(raw, signature, node_keys(place.keystore.ring, node, sequence), name)
        manifest = decode_bundle_manifest(raw)
        if manifest.sequence < expected:
            raise TransferError(
                "BUNDLE-FORK",
                "another bundle of this number was taken in before",
                "ask the online side which medium this is",
            )
        with open_file(source, ENVELOPES_NAME, min(ENVELOPES_LIMIT, manifest.envelopes_size)) as envelopes:
            known = _known(place.ledger, iter_frames(envelopes))
    except RuleError as error:
        return OnMedium(node=node, sequence=sequence, verdict=Verdict.REFUSED, why=error)
    return OnMedium(
        node=node,
        sequence=sequence,
        verdict=Verdict.NEW if manifest.sequence == expected else Verdict.EARLY,
        orders=manifest.count,
        known=known,
        of_people=manifest.batch_key is None and manifest.count > 0,
    )


def _known(ledger: Ledger, frames: Iterator[bytes]) -> int:
    """How many envelopes have ids that the ledger has; what cannot be read is judged by screening."""
    known = 0
    for raw in frames:
        try:
            order_id = decode_header(raw[:HEADER_SIZE]).order_id
        except RuleError:
            continue
        known += ledger.row("SELECT 1 FROM orders WHERE order_id = ?", (order_id.hex(),)) is not None
    return known


def newest_taken_in(ledger: Ledger) -> Sequence[str]:
    """Where each node's chain stands, in words: what the next medium is expected to bring."""
    return [
        f"{node}: bundle {last} was the last, bundle {last + 1} is next"
        for node, last in ledger.rows("SELECT node, last_sequence FROM node ORDER BY node")
    ]


def unsettled(ledger: Ledger) -> Sequence[str]:
    """Bundles that were taken in and are not done: what an earlier run left."""
    lines = []
    for bundle in bundles.unsettled(ledger):
        left = "not read yet"
        if bundle.state is BundleState.SCREENED:
            waiting = orders.count_waiting(ledger, node=bundle.node, sequence=bundle.sequence)
            left = f"{waiting} still to be charged"
            left += (
                f" (confirmed before: {bundle.confirmed})" if bundle.confirmed else ", nothing confirmed yet"
            )
        lines.append(
            f"bundle {bundle.sequence} from {bundle.node}: {bundle.orders} orders, taken in before; {left}"
        )
    return lines
