"""The doctor: spool, bundles, receipts and status board compared with each other.

Why here: each of them is repaired by the next push or pull on its own; only here all are held against one another.
Must not: repair what a person has to decide, or delete anything but what a receipt or a whole copy covers.

A finding is `safe` when a repair changes nothing that was promised: it makes again what is derived, or deletes what
is settled. Everything else needs a person, and says what that person can do.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from keys.durable import fsync_directory
from keys.errors import RuleError
from transfer.register import REBUILD, Register
from transfer.spool import read_group, scan_group
from transfer.sync.checking import check_kept, check_signed
from transfer.sync.node import Node
from transfer.sync.plan import gap
from transfer.sync.settling import settle
from transfer.wire.manifest import (
    ENVELOPES_NAME,
    MANIFEST_NAME,
    NO_PREVIOUS,
    SIGNATURE_NAME,
    bundle_manifest_digest,
    bundle_name,
)

_NAMED = 20  # orders that a finding names


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be. ``repaired`` is only ever true of a ``safe`` one."""

    rule: str
    message: str
    remedy: str
    safe: bool = False
    repaired: bool = False

    @classmethod
    def of(cls, error: RuleError) -> Self:
        """What a check refused, and a person has to decide."""
        return cls(rule=error.rule, message=error.message, remedy=error.remedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doctor:
    """One look at one node; run it inside ``node.alone()``. ``repair``: do what is safe, and say so."""

    node: Node
    register: Register
    now: int
    repair: bool

    def look(self) -> list[Finding]:
        """Everything that was found, in the order in which it should be dealt with."""
        damaged = list(self._register())
        if damaged:
            return damaged  # nothing can be compared with it
        return [
            *self._interrupted(),
            *self._spool(),
            *self._outbox(),
            *self._kept(),
            *self._receipts(),
            *self._left_over(),
        ]

    def _interrupted(self) -> Iterator[Finding]:
        """With ``repair``, what an interrupted push left is brought to an end first, as the next push would."""
        if self.repair:
            with contextlib.suppress(RuleError):  # a gap is found and said below
                for done in settle(self.node, self.register, now=self.now).repaired:
                    yield Finding(
                        rule="OUTBOX-UNFINISHED",
                        message=f"an interrupted push: {done}",
                        remedy="",
                        safe=True,
                        repaired=True,
                    )

    def _register(self) -> Iterator[Finding]:
        for line in self.register.faults():
            yield Finding(
                rule="REGISTER-DAMAGED",
                message=f"the register is damaged: {line}",
                remedy=REBUILD,
            )

    def _spool(self) -> Iterator[Finding]:
        """Groups against rows, both ways."""
        spool = self.node.spool()
        # Rows before groups: a row is written only when its group is durable, so none of these may lack one.
        acknowledged = set(self.register.uncut_keys())
        for path in spool.aside():
            yield Finding(
                rule="SPOOL-DAMAGED",
                message=f"{path} is a damaged group that a push put aside",
                remedy="find out what damaged it; when its missing orders are dealt with, delete it",
            )
        known = set(self.register.missing())
        for partition in spool.partitions():
            key = partition.batch_key_id
            waiting = self.register.uncut_of(key).keys() - known
            found: set[str] = set()
            strange = False
            unknown = 0
            for group in spool.groups(key):
                try:
                    with contextlib.suppress(FileNotFoundError):  # it was cut meanwhile
                        ids = [order_id for order_id, _, _, _ in scan_group(group)[1]]
                        found.update(ids)
                        if not all(order_id in waiting for order_id in ids):
                            unknown += self._without_row(ids)
                except RuleError as error:
                    strange = True
                    yield Finding.of(error)
            if unknown:
                yield self._index(key, unknown)
            lost = [order_id for order_id in waiting if order_id not in found]
            if lost and not strange:
                yield _missing(sorted(lost))
            acknowledged.discard(key)
        for key in sorted(acknowledged):
            yield _missing(sorted(self.register.uncut_of(key).keys() - known))
        if known:
            yield _missing(sorted(known))

    def _without_row(self, ids: list[str]) -> int:
        with self.register.transaction():
            pass  # a worker that has just made its group durable now has its rows in too
        return sum(self.register.lookup(order_id) is None for order_id in ids)

    def _index(self, key: bytes, unknown: int) -> Finding:
        if self.repair:
            self.register.index_groups(key, self.node.spool().groups(key), self.now)
        return Finding(
            rule="REGISTER-BEHIND",
            message=f"{unknown} orders lie in the spool and are not in the register",
            remedy="doctor --repair enters them; so does the next push",
            safe=True,
            repaired=self.repair,
        )

    def _outbox(self) -> Iterator[Finding]:
        """The chain of bundles, each signed and entered."""
        previous, expected = NO_PREVIOUS, 1
        last = self.register.last_sequence()
        for seen in self.node.outbox_listing(recorded=last):
            place = self.node.bundle(seen.sequence)
            if not seen.complete and not seen.recorded:
                yield Finding(
                    rule="OUTBOX-UNFINISHED",
                    message=f"{bundle_name(seen.sequence)} was never signed: an interrupted push",
                    remedy="doctor --repair discards it; so does the next push. Its orders are still in the spool",
                    safe=True,
                )
                continue
            while expected < seen.sequence:
                yield Finding.of(gap(expected))
                expected += 1
                previous = ""
            expected += 1
            try:
                manifest = check_signed(self.node, seen.sequence)
            except RuleError as error:
                yield Finding.of(error)
                previous = ""
                continue
            digest = bundle_manifest_digest((place / MANIFEST_NAME).read_bytes())
            if previous and manifest.prev != previous:
                yield Finding(
                    rule="OUTBOX-DAMAGED",
                    message=f"{place} does not follow the bundle before it",
                    remedy="restore the outbox; if it is lost, retire this node and enrol it under a new node id",
                )
            previous = digest
            row = self.register.bundle(seen.sequence)
            if row is None:
                yield Finding(
                    rule="REGISTER-BEHIND",
                    message=f"{bundle_name(seen.sequence)} is signed, but not in the register",
                    remedy="doctor --repair enters it; so does the next push",
                    safe=True,
                )
            elif row.manifest != digest:
                yield Finding(
                    rule="OUTBOX-DAMAGED",
                    message=f"{place} is another bundle than the register recorded",
                    remedy="this state mixes two copies: retire the node and enrol it under a new node id",
                )
        for sequence in range(expected, last + 1):
            yield Finding.of(gap(sequence))

    def _kept(self) -> Iterator[Finding]:
        """Envelopes against signatures and receipts."""
        for seen in self.node.outbox_listing(recorded=self.register.last_sequence()):
            if not seen.complete or not seen.recorded:
                continue
            row = self.register.bundle(seen.sequence)
            if row is None:
                continue
            if row.outcome and seen.envelopes:
                yield self._settled(seen.sequence)
            elif not row.outcome and not seen.envelopes:
                yield Finding(
                    rule="OUTBOX-LOST",
                    message=f"the envelopes of {bundle_name(seen.sequence)} ({row.orders} orders) are gone, "
                    "and no receipt for it has come",
                    remedy="look for them on the drop or in a backup and put them back; if the offline side has them, "
                    "its next return brings the receipt",
                )
            elif seen.envelopes:
                try:
                    manifest = check_kept(self.node, seen.sequence)
                    yield from self._contents(seen.sequence, manifest.batch_key)
                except RuleError as error:
                    yield Finding.of(error)

    def _settled(self, sequence: int) -> Finding:
        place = self.node.bundle(sequence)
        if self.repair:
            os.unlink(place / ENVELOPES_NAME)
            fsync_directory(place)
        return Finding(
            rule="OUTBOX-SETTLED",
            message=f"{bundle_name(sequence)} has its receipt, and its envelopes are still kept",
            remedy="doctor --repair deletes them",
            safe=True,
            repaired=self.repair,
        )

    def _contents(self, sequence: int, batch_key: str | None) -> Iterator[Finding]:
        """The orders of a kept bundle against the register: every one that should be in it is."""
        if batch_key is None:
            return
        recorded = self.register.orders_of(sequence)
        inside = {entry.order_id for entry in read_group(self.node.bundle(sequence) / ENVELOPES_NAME)}
        lost = sorted(recorded - inside)
        if lost:
            yield Finding(
                rule="OUTBOX-LOST",
                message=f"{len(lost)} orders should be in {bundle_name(sequence)} and are not: {_some(lost)}",
                remedy="ask these customers to order again; find out who changed the register",
            )

    def _receipts(self) -> Iterator[Finding]:
        """Receipts against the status board."""
        silent = self.register.settled_without_status()
        if silent:
            yield Finding(
                rule="STATUS-MISSING",
                message=f"{len(silent)} orders are in bundles with a receipt, but no return told their state: "
                f"{_some(silent)}",
                remedy="ask the offline operator for their state (offline-processor status)",
            )

    def _left_over(self) -> Iterator[Finding]:
        """What crashes leave and nobody needs."""
        incoming = self.node.incoming
        if incoming.is_dir() and not any(
            (copy / SIGNATURE_NAME).exists() for copy in incoming.iterdir() if copy.is_dir()
        ):
            if self.repair:
                shutil.rmtree(incoming)
            yield Finding(
                rule="INCOMING-UNFINISHED",
                message="a return was only half copied by an interrupted pull",
                remedy="doctor --repair removes the copy; the next pull fetches it again",
                safe=True,
                repaired=self.repair,
            )


def _missing(order_ids: list[str]) -> Finding:
    return Finding(
        rule="ORDERS-MISSING",
        message=f"{len(order_ids)} orders were acknowledged, but their envelopes are in no group and no bundle: "
        f"{_some(order_ids)}",
        remedy="find out who touched the spool; ask these customers to order again",
    )


def _some(order_ids: list[str]) -> str:
    more = f" and {len(order_ids) - _NAMED} more" if len(order_ids) > _NAMED else ""
    return ", ".join(order_ids[:_NAMED]) + more
