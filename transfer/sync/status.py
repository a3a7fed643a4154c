"""How a node stands: keys left, orders waiting, bundles on their way, the last return, and what to worry about.

Why here: the command line and later the online status board show the same facts.
Must not: change anything, or need a passphrase.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from keys.errors import RuleError
from keys.public.fingerprint import fingerprint
from keys.public.roll import KeyRoll
from transfer.register import Register
from transfer.sync.node import LAST_RETURN, Node
from transfer.sync.trust import load_identity, load_roll, node_identity
from transfer.wire.manifest import MANIFEST_NAME, decode_bundle_manifest

LOW_KEYS = 5
_LATE = 7 * 86_400
_SOON = 14 * 86_400


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
class Overview:
    """Everything that may be shown of a node. Times are Unix seconds, 0 for never."""

    node: str
    fingerprint: str
    trusted: str
    roll: int
    keys_left: int
    waiting: int
    partitions: list[PartitionStatus]
    in_flight: list[BundleStatus]
    last_return: str
    last_return_time: int
    missing: list[str]
    findings: list[str]
    warnings: list[str]


def look(node: Node, register: Register, *, now: int) -> Overview:
    """The node's state at ``now``. ``NODE-MISSING`` before ``init-node``; a missing roll is a warning."""
    own = node_identity(node.state)
    partitions = node.spool().partitions()
    roll, warnings = _roll(node)
    spent = {part.batch_key_id for part in partitions if part.closed or node.spool().is_full(part)}
    left = keys_left(roll, spent, now=now) if roll else 0
    in_flight = _in_flight(node, register)
    last = register.fact(LAST_RETURN) or {}
    missing = register.missing()
    if roll:
        warnings += _key_warnings(roll, left, now)
    if missing:
        warnings.append(f"{len(missing)} acknowledged orders are missing from the spool")
    late = [bundle.sequence for bundle in in_flight if now - bundle.cut_at > _LATE]
    if late:
        warnings.append(f"no receipt for bundle {late[0]} for more than {_LATE // 86_400} days")
    return Overview(
        node=node.node,
        fingerprint=fingerprint(own.public_key),
        trusted=_trusted(node),
        roll=roll.number if roll else 0,
        keys_left=left,
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
        last_return=last.get("name", ""),
        last_return_time=last.get("time", 0),
        missing=missing,
        findings=last.get("findings", []),
        warnings=warnings,
    )


def keys_left(roll: KeyRoll, spent: Collection[bytes], *, now: int) -> int:
    """How many batch keys may still be sealed to."""
    return sum(now < entry.seal_until and entry.key_id not in spent for entry in roll.batch_keys)


def _roll(node: Node) -> tuple[KeyRoll | None, list[str]]:
    try:
        return load_roll(node.state, node=node.node), []
    except RuleError as error:
        return None, [f"{error.rule}: {error.message}"]


def _trusted(node: Node) -> str:
    try:
        return fingerprint(load_identity(node.state).public_key)
    except RuleError:
        return ""


def _key_warnings(roll: KeyRoll, left: int, now: int) -> list[str]:
    warnings = []
    if left == 0:
        warnings.append("out of batch keys: no order can be taken until a return brings new ones")
    elif left < LOW_KEYS:
        warnings.append(f"only {left} batch keys are left: push, and bring a return soon")
    end = max((entry.seal_until for entry in roll.order_keys), default=0)
    if end <= now:
        warnings.append("the order key has expired: no order can be taken until a return brings a new one")
    elif end - now < _SOON:
        warnings.append(f"the order key expires in {(end - now) // 86_400} days: bring a return soon")
    return warnings


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
