"""Inbound: the newest return, fetched and verified whole, is taken in.

Why here: the only place where what came back over the gap changes this node's roll, statuses and outbox.
Must not: apply a byte of a return before all of it was verified, or trust a name or size that is not signed.

Order of taking in: the verified copy is durable in `incoming`; revocations, identity, roll, statuses and receipts
are applied; receipted envelopes are deleted; last, the copy becomes `returns/NAME` and rides in the next bundle.
A crash before that repeats all of it from the copy, to the same result.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from keys.durable import fsync_directory
from keys.errors import RuleError
from keys.public.fingerprint import fingerprint
from keys.public.roll import Role
from transfer.register import Register
from transfer.spool import Spool
from transfer.sync import revoked, trust
from transfer.sync.fetching import Fetching
from transfer.sync.handover import Identities, Step, revocation_is_ours
from transfer.sync.node import LAST_RETURN, WORTH_CONFIRMING, Node
from transfer.sync.plan import newer_returns
from transfer.sync.returned import VerifiedReturn, read_records, same_digest
from transfer.sync.trust import RollChange
from transfer.wire.manifest import (
    ENVELOPES_NAME,
    KEYROLL_NAME,
    MANIFEST_NAME,
    RECORDS_NAME,
    SIGNATURE_NAME,
    bundle_manifest_digest,
    bundle_name,
    decode_bundle_manifest,
    return_numbers,
)
from transfer.wire.records import (
    Handover,
    Outcome,
    Receipt,
    Record,
    Refusal,
    Revocation,
    StatusRecord,
    StatusState,
    SubjectAnswer,
)

_KEPT = (MANIFEST_NAME, SIGNATURE_NAME)
_NOT_CHARGED = frozenset({StatusState.DECLINED, StatusState.ORDER_AGAIN})
_STATUS_BACK = "STATUS-BACK"
_SHOWN = 20


@dataclass(slots=True, kw_only=True)
class PullReport:
    """What one pull did. ``findings``: what a person must look at. ``refused``: returns that were not taken.

    ``handover``: whether the offline identity's handover was announced or completed by this return. ``untold``:
    orders of which a return of a new epoch should have told and did not.
    """

    taken: str | None = None
    handover: Step = Step.NONE
    trusted: str = ""
    untold: list[str] = field(default_factory=list)
    roll: RollChange | None = None
    statuses: int = 0
    unknown_orders: int = 0
    receipts: list[int] = field(default_factory=list)
    revoked: int = 0
    subject_answers: int = 0
    findings: list[str] = field(default_factory=list)
    refused: list[RuleError] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """One pull of one node; run it inside ``node.alone()``."""

    node: Node
    register: Register
    spool: Spool
    report: PullReport = field(default_factory=PullReport)

    def run(self, drop: Path) -> PullReport:
        """Take in the newest good return above the last one; older ones say nothing that it does not say."""
        newest = self.node.newest_return()
        taken = (newest.epoch, newest.number) if newest else None
        fetching = Fetching(node=self.node, register=self.register, refused=self.report.refused)
        offered = newer_returns(fetching.offered(drop), taken=taken)
        verified = fetching.interrupted(offered[0] if offered else (0, 0), taken)
        if verified is None:
            verified = fetching.newest_good(drop, offered, taken)
        if verified is not None:
            self._apply(verified)
        shutil.rmtree(self.node.incoming, ignore_errors=True)
        return self.report

    def _apply(self, verified: VerifiedReturn) -> None:
        state, node = self.node.state, self.node.node
        copy, manifest, signer = verified.path, verified.manifest, verified.signer
        before = self._roll_keys()
        raw_roll = (copy / KEYROLL_NAME).read_bytes()
        # The roll is judged first: if it is a fork, nothing of this return was used.
        trust.judge_roll(state, raw_roll, node=node, signer=signer)
        others = [
            record for record in read_records(copy / RECORDS_NAME) if not isinstance(record, StatusRecord)
        ]
        # Before the roll, so that no worker ever sees a roll that lists a key and not that it was revoked.
        self._revoke([record for record in others if isinstance(record, Revocation)], verified.identities)
        trust.follow(state, verified.identities)
        self.report.roll = trust.accept_roll(state, raw_roll, node=node, signer=signer)
        self._tell_handover(verified)
        known, unknown = self.register.update_statuses(self._statuses(copy), epoch=manifest.epoch)
        self.report.statuses, self.report.unknown_orders = known, unknown
        self.register.take_receipts([record for record in others if isinstance(record, Receipt)])
        answers = [record for record in others if isinstance(record, SubjectAnswer)]
        self.register.take_answers(answers)
        self.report.subject_answers = len(answers)
        for record in others:
            self._take(record)
        self._tell_new_epoch(manifest.epoch)
        self.register.set_fact(
            WORTH_CONFIRMING,
            known + unknown > 0 or any(not _answers_nothing(record) for record in others),
        )
        self.register.set_fact(
            LAST_RETURN,
            {
                "name": copy.name,
                "time": manifest.time,
                "epoch": manifest.epoch,
                "accepted": manifest.accepted,
                "findings": self.report.findings,
            },
        )
        self._mark_taken(copy)
        # A worker may be about to choose a key of the roll before: its partitions stay until the next return.
        self.spool.prune(before | self._roll_keys())
        self.report.taken = copy.name

    def _statuses(self, copy: Path) -> Iterator[StatusRecord]:
        """The return's statuses but those that take back a charge: whoever was told "paid" must not order again."""

        def all_of_them() -> Iterator[StatusRecord]:
            return (
                record for record in read_records(copy / RECORDS_NAME) if isinstance(record, StatusRecord)
            )

        not_charged = (record.order for record in all_of_them() if record.state in _NOT_CHARGED)
        back = frozenset(self.register.told_charged(not_charged))
        if back:
            self.report.findings.append(
                f"{_STATUS_BACK}: the offline side says of {len(back)} orders that they were not charged, and said "
                f"before that they were; they stay as they were told: {', '.join(sorted(back)[:_SHOWN])}. Have its "
                "operator look them up in the acquirer's books"
            )
        return (
            record for record in all_of_them() if record.order not in back or record.state not in _NOT_CHARGED
        )

    def _roll_keys(self) -> set[bytes]:
        """Every batch key that a worker may still choose, also one that it does not yet know to be revoked."""
        try:
            return {
                entry.key_id for entry in trust.listed_roll(self.node.state, node=self.node.node).batch_keys
            }
        except RuleError:
            return set()

    def _tell_handover(self, verified: VerifiedReturn) -> None:
        self.report.handover = verified.step
        self.report.trusted = fingerprint(verified.identities.pinned)
        if broken := trust.chain_break(self.node.state):
            self.report.findings.append(f"ROLL-CHAIN: {broken}")

    def _tell_new_epoch(self, epoch: int) -> None:
        """After a restore offline: which orders it does not know of any more, although it has given their receipts."""
        last = self.register.fact(LAST_RETURN) or {}
        if last and epoch > last.get("epoch", epoch):
            self.report.untold = self.register.untold(epoch)
        if self.report.untold:
            self.report.findings.append(
                f"EPOCH-UNTOLD: the offline side was restored (epoch {epoch}) and tells nothing of "
                f"{len(self.report.untold)} orders whose receipts it gave before"
            )

    def _take(self, record: Record) -> None:
        match record:
            case Receipt():
                self._settle_bundle(record)
            case Refusal():
                self.report.findings.append(
                    f"the offline side refused a bundle: {record.rule}; it waits for {bundle_name(record.expected)}"
                )
            case Revocation() | Handover() | SubjectAnswer():
                pass  # taken in before
            case StatusRecord():
                raise AssertionError("statuses are taken in before")

    def _settle_bundle(self, receipt: Receipt) -> None:
        """Delete a bundle's envelopes, but only if the receipt is for this very bundle."""
        place = self.node.bundle(receipt.sequence)
        try:
            raw = (place / MANIFEST_NAME).read_bytes()
        except FileNotFoundError:
            raw = b""
        if not raw or not same_digest(bundle_manifest_digest(raw), receipt.manifest):
            self.report.findings.append(
                f"the receipt for {bundle_name(receipt.sequence)} is for another bundle of that number: "
                "its envelopes are kept; this state may be an old copy"
            )
        elif decode_bundle_manifest(raw).count != receipt.orders:
            self.report.findings.append(
                f"the receipt for {bundle_name(receipt.sequence)} counts {receipt.orders} orders, "
                "not those of the bundle: its envelopes are kept"
            )
        elif (place / ENVELOPES_NAME).exists():
            os.unlink(place / ENVELOPES_NAME)
            fsync_directory(place)
            self.report.receipts.append(receipt.sequence)

    def _revoke(self, revocations: list[Revocation], identities: Identities) -> None:
        good = []
        for record in revocations:
            if revocation_is_ours(identities, record):
                good.append(record)
            else:
                self.report.findings.append(
                    f"REVOCATION-SIGNATURE: a revocation of key {record.key} is not signed and was ignored"
                )
        revoked.remember(self.node.state, good)
        for record in good:
            if record.role is Role.BATCH:
                self.spool.close(bytes.fromhex(record.key))  # also for a worker that has not looked yet
        self.report.revoked = len(good)

    def _mark_taken(self, copy: Path) -> None:
        for path in copy.iterdir():
            if path.name not in _KEPT:
                path.unlink()
        fsync_directory(copy)
        os.rename(copy, self.node.returns / copy.name)
        fsync_directory(self.node.returns)
        for older in self.node.returns.iterdir():
            if return_numbers(older.name) and older.name < copy.name:
                shutil.rmtree(older)


def _answers_nothing(record: Record) -> bool:
    """A receipt of a bundle without orders: to confirm it would only bring another one."""
    return isinstance(record, Receipt) and record.outcome is Outcome.EMPTY
