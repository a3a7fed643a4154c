"""Bundles in the ledger: each node's chain, and how far the work on each bundle has come.

Why here: receiving asks what comes next, and a resumed run asks what is left to do.
Must not: read a medium; it records what receiving has verified.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

import msgspec

from offline_processor.errors import ProcessorError
from offline_processor.ledger.ledger import Ledger, Row
from offline_processor.stages import ReceivedBundle
from transfer.wire.manifest import NO_PREVIOUS
from transfer.wire.records import Outcome, RefusalRule


class BundleState(StrEnum):
    """ACCEPTED: verified, nothing opened. SCREENED: all orders judged. SETTLED: receipt due, batch key destroyed."""

    ACCEPTED = "accepted"
    SCREENED = "screened"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeChain:
    """Where a node's chains stand: the last bundle accepted, the last return made, the last one confirmed."""

    node: str
    last_sequence: int = 0
    last_manifest: str = NO_PREVIOUS
    return_number: int = 0
    confirmed_return: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleRecord:
    """One bundle's row. ``batch_key`` is hex or None; ``screened_to`` the number of envelopes judged so far."""

    node: str
    sequence: int
    manifest: str
    batch_key: str | None
    orders: int
    state: BundleState
    outcome: Outcome
    screened_to: int
    confirmed: str


_COLUMNS = "node, sequence, manifest, batch_key, orders, state, outcome, screened_to, confirmed"


def chain_of(ledger: Ledger, node: str) -> NodeChain:
    """A node's chains; at their beginning when nothing came from it yet."""
    row = ledger.row(
        "SELECT last_sequence, last_manifest, return_number, confirmed_return FROM node WHERE node = ?",
        (node,),
    )
    if row is None:
        return NodeChain(node=node)
    return NodeChain(
        node=node,
        last_sequence=row[0],
        last_manifest=row[1],
        return_number=row[2],
        confirmed_return=row[3],
    )


def save_chain(ledger: Ledger, chain: NodeChain) -> None:
    """Write a node's chains in the current transaction."""
    ledger.execute(
        "INSERT OR REPLACE INTO node (node, last_sequence, last_manifest, return_number, confirmed_return)"
        " VALUES (?, ?, ?, ?, ?)",
        (chain.node, chain.last_sequence, chain.last_manifest, chain.return_number, chain.confirmed_return),
    )


def accept(ledger: Ledger, bundle: ReceivedBundle, *, outcome: Outcome, now: int) -> None:
    """Record a verified bundle and what it confirms; the current transaction moves the node's chain on."""
    chain = chain_of(ledger, bundle.node)
    manifest = bundle.manifest
    save_chain(
        ledger,
        replace(
            chain,
            last_sequence=bundle.sequence,
            last_manifest=bundle.manifest_digest,
            confirmed_return=max(chain.confirmed_return, bundle.confirms),
        ),
    )
    ledger.execute(
        f"INSERT INTO bundle ({_COLUMNS}, accepted_at, settled_at, told) VALUES (?,?,?,?,?,?,?,0,'',?,0,0)",  # noqa: S608
        (
            bundle.node,
            bundle.sequence,
            bundle.manifest_digest,
            manifest.batch_key,
            manifest.count,
            BundleState.ACCEPTED.value,
            outcome.value,
            now,
        ),
    )
    ledger.execute("DELETE FROM refusal WHERE node = ?", (bundle.node,))
    facts = {
        "manifest": bundle.manifest_digest,
        "batch_key": manifest.batch_key or "",
        "orders": manifest.count,
        "confirms": bundle.confirms,
        "signed_by": bundle.signed_by.hex(),
    }
    ledger.append("bundle-accepted", f"{bundle.node}/{bundle.sequence}", now, facts)


def last_signer(ledger: Ledger, node: str) -> bytes | None:
    """The public key (32 bytes) that signed the last accepted bundle of a node; None when there is none."""
    row = ledger.row(
        "SELECT facts FROM entry WHERE kind = 'bundle-accepted' AND subject GLOB ? ORDER BY id DESC LIMIT 1",
        (f"{node}/*",),
    )
    return bytes.fromhex(msgspec.json.decode(row[0], type=_Signed).signed_by) if row else None


class _Signed(msgspec.Struct, frozen=True):
    signed_by: str


def refuse(ledger: Ledger, node: str, rule: RefusalRule, *, now: int) -> None:
    """Remember that a bundle of ``node`` was refused, so that the next return says so; it says the same only once."""
    chain = chain_of(ledger, node)
    expected = chain.last_sequence + 1
    ledger.append("bundle-refused", node, now, {"rule": rule.value, "expected": expected})
    if rule is RefusalRule.LEDGER_BEHIND:
        ledger.set_counter("behind", 1)
    if ledger.row("SELECT rule, expected FROM refusal WHERE node = ?", (node,)) != (rule.value, expected):
        ledger.execute(
            "INSERT OR REPLACE INTO refusal (node, rule, expected, seen_at, told) VALUES (?, ?, ?, ?, ?)",
            (node, rule.value, expected, now, chain.return_number + 1),
        )


def check_not_behind(ledger: Ledger) -> None:
    """Refuse (``LEDGER-BEHIND``) to work once a bundle has proved that this ledger is an old copy."""
    if ledger.counter("behind"):
        raise ProcessorError(
            "LEDGER-BEHIND",
            "an intake node has seen a return that this ledger does not know: it is an old copy",
            "put the newest ledger back, or the mirror's (offline-processor mirror --take); with this one, orders"
            " could be charged a second time. If both are lost, move the keystore away, restore the last backup"
            " (offline-processor restore) and reconcile it (offline-processor reconcile)",
        )


def manifest_of(ledger: Ledger, node: str, sequence: int) -> str | None:
    """The manifest digest of an accepted bundle, hex, or None."""
    row = ledger.row("SELECT manifest FROM bundle WHERE node = ? AND sequence = ?", (node, sequence))
    return str(row[0]) if row else None


def sequence_of_key(ledger: Ledger, batch_key: str) -> tuple[str, int] | None:
    """The bundle that used a batch key, or None."""
    row = ledger.row("SELECT node, sequence FROM bundle WHERE batch_key = ?", (batch_key,))
    return (str(row[0]), int(row[1])) if row else None


def unsettled(ledger: Ledger) -> Iterator[BundleRecord]:
    """The bundles that still have work to do, oldest first."""
    rows = ledger.rows(
        f"SELECT {_COLUMNS} FROM bundle WHERE state != 'settled'"  # noqa: S608  only column names
        " ORDER BY accepted_at, node, sequence"
    )
    for row in list(rows):
        yield _record(row)


def mark_screened(ledger: Ledger, bundle: BundleRecord, *, screened_to: int, finished: bool) -> None:
    """How many envelopes are judged, in the same transaction as their orders."""
    state = BundleState.SCREENED if finished else BundleState.ACCEPTED
    ledger.execute(
        "UPDATE bundle SET screened_to = ?, state = ? WHERE node = ? AND sequence = ?",
        (screened_to, state.value, bundle.node, bundle.sequence),
    )


def mark_confirmed(ledger: Ledger, bundle: BundleRecord, total: str, *, now: int) -> None:
    """A person has confirmed the control total, so that a resumed run need not ask again."""
    ledger.execute(
        "UPDATE bundle SET confirmed = ? WHERE node = ? AND sequence = ?",
        (total, bundle.node, bundle.sequence),
    )
    ledger.append("total-confirmed", f"{bundle.node}/{bundle.sequence}", now, {"total": total})


def mark_settled(ledger: Ledger, bundle: BundleRecord, *, now: int) -> None:
    """Every order has an outcome or hold and the batch key is gone: the receipt may be given."""
    ledger.execute(
        "UPDATE bundle SET state = 'settled', settled_at = ?, told = ? WHERE node = ? AND sequence = ?",
        (now, chain_of(ledger, bundle.node).return_number + 1, bundle.node, bundle.sequence),
    )
    ledger.append(
        "bundle-settled", f"{bundle.node}/{bundle.sequence}", now, {"outcome": bundle.outcome.value}
    )


def _record(row: Row) -> BundleRecord:
    node, sequence, manifest, batch_key, orders, state, outcome, screened_to, confirmed = row
    return BundleRecord(
        node=node,
        sequence=sequence,
        manifest=manifest,
        batch_key=batch_key,
        orders=orders,
        state=BundleState(state),
        outcome=Outcome(outcome),
        screened_to=screened_to,
        confirmed=confirmed,
    )
