"""How a node stands: keys left, orders waiting, bundles on their way, the last return, and what to worry about.

Why here: the command lines and later the online status board show the same facts.
Must not: change anything, or need a passphrase.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from keys.errors import RuleError
from keys.public.fingerprint import fingerprint, words
from keys.public.roll import KeyRoll
from transfer.register import Register
from transfer.sync import notices, trust
from transfer.sync.handover import Identities
from transfer.sync.node import LAST_RETURN, Node
from transfer.sync.notices import KeyFacts, Notice
from transfer.sync.own import next_public_key
from transfer.sync.retired import Retired, load_retired
from transfer.sync.revoked import revocations
from transfer.sync.silence import heard, of_silence
from transfer.wire.manifest import MANIFEST_NAME, bundle_manifest_digest, decode_bundle_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionStatus:
    """A partition that holds orders, or the one that new orders go to."""

    batch_key: str
    groups: int
    orders: int
    size: int
    closed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleStatus:
    """A bundle whose receipt has not come."""

    sequence: int
    orders: int
    size: int
    cut_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustStatus:
    """The offline identity that is trusted, in both forms; ``successor``: the announced one; both "" for none."""

    fingerprint: str = ""
    words: str = ""
    successor: str = ""
    former: int = 0
    revoked: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptedBundle:
    """The last bundle whose envelopes were deleted upon its receipt; ``manifest`` is its digest, hex."""

    sequence: int
    manifest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Everything that may be shown of a node. Times are Unix seconds, 0 for never."""

    node: str
    fingerprint: str
    next_fingerprint: str
    trusted: TrustStatus
    roll: int
    keys_left: int
    waiting: int
    partitions: list[PartitionStatus]
    in_flight: list[BundleStatus]
    last_receipted: ReceiptedBundle | None
    last_return: str
    last_return_time: int
    retired: Retired | None
    missing: list[str]
    untold: list[str]
    findings: list[str]
    notices: list[Notice]

    @property
    def warnings(self) -> list[str]:
        """The notices as texts."""
        return [notice.text for notice in self.notices]

    @property
    def needs_person(self) -> bool:
        return bool(self.notices or self.findings)


def look(node: Node, register: Register, *, now: int) -> Overview:
    """The node's state at ``now``. ``NODE-MISSING`` before ``init-node``; a missing roll is a notice."""
    own, following = trust.node_identity(node.state), next_public_key(node.state)
    partitions = node.spool().partitions()
    spent = {part.batch_key_id for part in partitions if part.closed or node.spool().is_full(part)}
    last = register.fact(LAST_RETURN) or {}
    roll, fault = _roll(node)
    facts = key_facts(roll, spent, returned_at=last.get("time", 0))
    in_flight = _in_flight(node, register)
    retired = load_retired(node.state)
    missing = register.missing()
    untold = register.untold(last["epoch"]) if last.get("epoch", 1) > 1 else []
    found = [retired.notice] if retired else []
    found += [Notice.of(fault, stops=True)] if fault else []
    found += notices.of_keys(facts, now) if roll and not retired else []
    found += notices.of_clock(facts, now)
    found += notices.late_bundles([(bundle.sequence, bundle.cut_at) for bundle in in_flight], now)
    found += of_silence(heard(register), now=now, days=node.expect_return_days) if not retired else []
    found += of_trust(node)
    found += _of_orders(missing, untold)
    return Overview(
        node=node.node,
        fingerprint=fingerprint(own.public_key),
        next_fingerprint=fingerprint(following.public_key) if following else "",
        trusted=trust_status(node),
        roll=roll.number if roll else 0,
        keys_left=0 if retired else facts.keys_left(now),
        waiting=register.waiting(),
        partitions=[
            PartitionStatus(
                batch_key=part.batch_key_id.hex(),
                groups=part.groups,
                orders=part.orders,
                size=part.size,
                closed=part.closed,
            )
            for part in partitions
            if part.groups
        ],
        in_flight=in_flight,
        last_receipted=_last_receipted(node, register),
        last_return=last.get("name", ""),
        last_return_time=last.get("time", 0),
        retired=retired,
        missing=missing,
        untold=untold,
        findings=last.get("findings", []),
        notices=found,
    )


def document(seen: Overview) -> dict[str, Any]:
    """An overview as the JSON report that every command prints."""
    shown = asdict(seen)
    shown["retired"] = (
        None if seen.retired is None else {"at": seen.retired.retired_at, "lost": seen.retired.lost}
    )
    shown["warnings"] = seen.warnings
    return shown


def key_facts(roll: KeyRoll | None, spent: Collection[bytes], *, returned_at: int) -> KeyFacts:
    """What ``of_keys`` and ``of_clock`` judge, from a roll without its revoked keys. ``spent``: used batch keys."""
    if roll is None:
        return KeyFacts(heard_at=returned_at)
    return KeyFacts(
        order_ends=tuple(entry.seal_until for entry in roll.order_keys),
        unused_ends=tuple(entry.seal_until for entry in roll.batch_keys if entry.key_id not in spent),
        heard_at=max(roll.issued_at, returned_at),
    )


def of_trust(node: Node) -> list[Notice]:
    """HANDOVER-PENDING, ROLL-CHAIN: what is going on with the identity that signs all that comes back."""
    found = []
    known = _identities(node)
    if known and known.announced:
        new = fingerprint(bytes.fromhex(known.announced.new_identity))
        found.append(
            Notice(
                rule="HANDOVER-PENDING",
                message=f"the offline side hands over to a new identity, {new}",
                remedy="compare it with what the offline operator reads out; then push: the next bundle confirms it, "
                "and the first return of the new identity ends all trust in the old one",
            )
        )
    if broken := trust.chain_break(node.state):
        remedy = "ask the offline operator whether it was restored from a copy; the keys themselves are good"
        found.append(Notice(rule="ROLL-CHAIN", message=broken, remedy=remedy))
    return found


def _of_orders(missing: list[str], untold: list[str]) -> list[Notice]:
    found = []
    if missing:
        found.append(
            Notice(
                rule="ORDERS-MISSING",
                message=f"{len(missing)} acknowledged orders are missing from the spool",
                remedy="find out who touched the spool; ask these customers to order again",
            )
        )
    if untold:
        found.append(
            Notice(
                rule="EPOCH-UNTOLD",
                message=f"{len(untold)} orders had a receipt before the offline side was restored, but no end since",
                remedy="give their numbers to the offline operator: the acquirer's report says what was charged",
            )
        )
    return found


def _roll(node: Node) -> tuple[KeyRoll | None, RuleError | None]:
    try:
        return trust.load_roll(node.state, node=node.node), None
    except RuleError as error:
        return None, error


def _identities(node: Node) -> Identities | None:
    try:
        return trust.load_identities(node.state)
    except RuleError:
        return None


def trust_status(node: Node) -> TrustStatus:
    """Whom this node believes."""
    known = _identities(node)
    if known is None:
        return TrustStatus()
    try:
        revoked = len(revocations(node.state))
    except RuleError:
        revoked = 0  # said by the roll, which cannot be used then
    return TrustStatus(
        fingerprint=fingerprint(known.pinned),
        words=words(known.pinned),
        successor=fingerprint(known.successor) if known.successor else "",
        former=len(known.former),
        revoked=revoked,
    )


def _last_receipted(node: Node, register: Register) -> ReceiptedBundle | None:
    """What a restored offline side has to be told: it will never be sent this bundle, nor any before it."""
    listing = node.outbox_listing(recorded=register.last_sequence())
    gone = [bundle.sequence for bundle in listing if bundle.complete and not bundle.envelopes]
    if not gone:
        return None
    raw = (node.bundle(gone[-1]) / MANIFEST_NAME).read_bytes()
    return ReceiptedBundle(sequence=gone[-1], manifest=bundle_manifest_digest(raw))


def _in_flight(node: Node, register: Register) -> list[BundleStatus]:
    found = []
    for bundle in node.outbox_listing(recorded=register.last_sequence()):
        if bundle.complete and bundle.envelopes:
            manifest = decode_bundle_manifest((node.bundle(bundle.sequence) / MANIFEST_NAME).read_bytes())
            found.append(
                BundleStatus(
                    sequence=bundle.sequence,
                    orders=manifest.count,
                    size=manifest.envelopes_size,
                    cut_at=manifest.time,
                )
            )
    return found
