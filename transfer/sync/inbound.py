"""Inbound: the newest return is copied, verified whole, and only then taken in.

Why here: the only place where what came back over the gap changes this node's roll, statuses and outbox.
Must not: apply a byte of a return before all of it was verified, or trust a name or size that is not signed.

Order of taking in: the verified copy is durable in `incoming`; roll, statuses and receipts are applied; receipted
envelopes are deleted; last, the copy becomes `returns/NAME`, which marks it as taken and rides in the next bundle.
A crash before that repeats all of it from the copy, to the same result.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from keys.durable import fsync_directory, make_directory
from keys.errors import RuleError
from keys.public.digest import equal
from keys.public.minisign import MinisignPublicKey, signature_matches
from keys.public.roll import ROLL_LIMIT, Role, decode_roll
from keys.public.verify import signature_is_good
from transfer.errors import TransferError
from transfer.register import Register
from transfer.spool import Spool
from transfer.sync.drop import copy_unit, list_units, read_file
from transfer.sync.node import LAST_RETURN, WORTH_CONFIRMING, Node
from transfer.sync.plan import newer_returns
from transfer.sync.trust import RollChange, accept_roll, load_roll
from transfer.wire.manifest import (
    ENVELOPES_NAME,
    KEYROLL_NAME,
    MANIFEST_NAME,
    RECORDS_NAME,
    RETURN_COMMENT,
    SIGNATURE_LIMIT,
    SIGNATURE_NAME,
    ReturnManifest,
    bundle_manifest_digest,
    bundle_name,
    decode_bundle_manifest,
    decode_return_manifest,
    return_name,
)
from transfer.wire.records import (
    RECORD_LIMIT,
    Handover,
    Outcome,
    Receipt,
    Record,
    Refusal,
    Revocation,
    StatusRecord,
    SubjectAnswer,
    decode_record,
    revocation_message,
)

_MANIFEST_LIMIT = 4096  # it must fit into a bundle's manifest as text
_NAME = re.compile(r"r([0-9]{4})-([0-9]{8})", re.ASCII)
_KEPT = (MANIFEST_NAME, SIGNATURE_NAME)
_READ_SIZE = 1 << 20


@dataclass(slots=True, kw_only=True)
class PullReport:
    """What one pull did. ``findings``: what a person must look at. ``refused``: returns that were not taken."""

    taken: str | None = None
    roll: RollChange | None = None
    statuses: int = 0
    unknown_orders: int = 0
    receipts: list[int] = field(default_factory=list)
    revoked: int = 0
    subject_answers: int = 0
    findings: list[str] = field(default_factory=list)
    refused: list[RuleError] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verified:
    """A return in ``incoming`` that was verified whole."""

    path: Path
    manifest: ReturnManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """One pull of one node; run it inside ``node.alone()``."""

    node: Node
    register: Register
    spool: Spool
    identity: MinisignPublicKey
    report: PullReport = field(default_factory=PullReport)

    def run(self, drop: Path) -> PullReport:
        """Take in the newest good return above the last one; older ones say nothing that it does not say."""
        newest = self.node.newest_return()
        taken = (newest.epoch, newest.number) if newest else None
        offered = newer_returns(self._offered(drop), taken=taken)
        verified = self._interrupted(offered[0] if offered else (0, 0), taken)
        if verified is None:
            verified = self._newest_good(drop, offered, taken)
        if verified is not None:
            self._apply(verified)
        shutil.rmtree(self.node.incoming, ignore_errors=True)
        return self.report

    def _interrupted(self, at_least: tuple[int, int], taken: tuple[int, int] | None) -> _Verified | None:
        """The copy that an earlier pull had begun to take in, unless the drop offers a newer return."""
        for copy in self.node.incoming.iterdir() if self.node.incoming.is_dir() else ():
            found = _NAME.fullmatch(copy.name)
            if found and (named := (int(found[1]), int(found[2]))) >= at_least:
                try:
                    raw, signature = (copy / MANIFEST_NAME).read_bytes(), (copy / SIGNATURE_NAME).read_bytes()
                    manifest = self._judge(copy, raw, signature, named, taken)
                    self._check_content(copy, manifest)
                except (RuleError, FileNotFoundError):
                    continue  # the copy was never finished, or some of its files are gone: it is fetched again
                return _Verified(path=copy, manifest=manifest)
        return None

    def _newest_good(
        self, drop: Path, offered: list[tuple[int, int]], taken: tuple[int, int] | None
    ) -> _Verified | None:
        for epoch, number in offered:
            try:
                source = drop / self.node.node / return_name(epoch, number)
                return self._fetch(source, (epoch, number), taken)
            except RuleError as error:
                self.report.refused.append(error)
        return None

    def _offered(self, drop: Path) -> Iterator[tuple[int, int]]:
        for name in list_units(drop, self.node.node, "r"):
            found = _NAME.fullmatch(name)
            if found:
                yield int(found[1]), int(found[2])

    def _fetch(self, source: Path, named: tuple[int, int], taken: tuple[int, int] | None) -> _Verified:
        """Copy one return and verify the copy. Nothing large is copied before the signature is good."""
        raw = read_file(source, MANIFEST_NAME, _MANIFEST_LIMIT)
        signature = read_file(source, SIGNATURE_NAME, SIGNATURE_LIMIT)
        manifest = self._judge(source, raw, signature, named, taken)
        shutil.rmtree(self.node.incoming, ignore_errors=True)
        make_directory(self.node.incoming)
        copy = self.node.incoming / source.name
        limits = {
            KEYROLL_NAME: ROLL_LIMIT,
            RECORDS_NAME: manifest.records_size,
            MANIFEST_NAME: len(raw),
            SIGNATURE_NAME: len(signature),
        }
        copy_unit(source, copy, limits)
        if (copy / MANIFEST_NAME).read_bytes() != raw or (copy / SIGNATURE_NAME).read_bytes() != signature:
            raise TransferError(
                "RETURN-DAMAGED", f"{source} changed while it was copied", "repeat the command"
            )
        self._check_content(copy, manifest)
        return _Verified(path=copy, manifest=manifest)

    def _judge(
        self,
        source: Path,
        raw: bytes,
        signature: bytes,
        named: tuple[int, int],
        taken: tuple[int, int] | None,
    ) -> ReturnManifest:
        if not signature_matches(self.identity, raw, signature.decode("utf-8", "replace"), RETURN_COMMENT):
            raise TransferError(
                "RETURN-SIGNATURE",
                f"{source} is not signed by the offline identity that this node trusts",
                "find out where this medium comes from; nothing of it was used",
            )
        try:
            manifest = decode_return_manifest(raw)
        except RuleError as error:
            raise TransferError("RETURN-FORMAT", f"{source} is refused: {error.message}") from error
        if manifest.node != self.node.node:
            raise TransferError("RETURN-NODE", f"{source} is a return for node {manifest.node}")
        numbers = (manifest.epoch, manifest.number)
        if taken is not None and numbers <= taken:
            raise TransferError(
                "RETURN-OLD",
                f"{source} holds return {manifest.number} of epoch {manifest.epoch}, which is not newer than the last",
                "somebody renamed an old return: find out where this medium comes from",
            )
        if numbers != named:
            raise TransferError(
                "RETURN-FORMAT", f"{source} does not have the name of the return that it holds"
            )
        last = self.register.last_sequence()
        if manifest.accepted > last:
            raise TransferError(
                "NODE-BEHIND",
                f"the offline side has accepted bundle {manifest.accepted}, but this state only knows {last}",
                "this state is an old copy: retire the node and enrol it under a new node id",
            )
        return manifest

    def _check_content(self, copy: Path, manifest: ReturnManifest) -> None:
        roll = (copy / KEYROLL_NAME).read_bytes()
        size, sha256 = _digest(copy / RECORDS_NAME)
        if (
            not _same(hashlib.sha256(roll).hexdigest(), manifest.keyroll_sha256)
            or not _same(sha256, manifest.records_sha256)
            or size != manifest.records_size
        ):
            raise TransferError(
                "RETURN-DAMAGED",
                f"{copy.name} does not hold what the offline side signed",
                "have the offline side write it again, onto another medium",
            )
        decode_roll(roll, node=self.node.node, identity=self.identity.public_key)
        try:
            count = sum(1 for _ in _records(copy / RECORDS_NAME))
        except RuleError as error:
            raise TransferError("RETURN-FORMAT", f"{copy.name} is refused: {error.message}") from error
        if count != manifest.records:
            raise TransferError("RETURN-FORMAT", f"{copy.name} holds {count} records, not {manifest.records}")

    def _apply(self, verified: _Verified) -> None:
        copy, manifest = verified.path, verified.manifest
        before = self._roll_keys()
        # The roll first: if it is refused as a fork, nothing of this return was used.
        self.report.roll = accept_roll(
            self.node.state, (copy / KEYROLL_NAME).read_bytes(), node=self.node.node
        )
        others: list[Record] = []
        known, unknown = self.register.update_statuses(_statuses(copy / RECORDS_NAME, others))
        self.report.statuses, self.report.unknown_orders = known, unknown
        receipts = [record for record in others if isinstance(record, Receipt)]
        self.register.take_receipts(receipts)
        for record in others:
            self._take(record)
        self.register.set_fact(
            WORTH_CONFIRMING,
            known + unknown > 0 or any(not _answers_nothing(record) for record in others),
        )
        self.register.set_fact(
            LAST_RETURN,
            {
                "name": copy.name,
                "time": manifest.time,
                "accepted": manifest.accepted,
                "findings": self.report.findings,
            },
        )
        self._mark_taken(copy)
        # A worker may be about to choose a key of the roll before: its partitions stay until the next return.
        self.spool.prune(before | self._roll_keys())
        self.report.taken = copy.name

    def _roll_keys(self) -> set[bytes]:
        try:
            return {entry.key_id for entry in load_roll(self.node.state, node=self.node.node).batch_keys}
        except RuleError:
            return set()

    def _take(self, record: Record) -> None:
        match record:
            case Receipt():
                self._settle_bundle(record)
            case Refusal():
                self.report.findings.append(
                    f"the offline side refused a bundle: {record.rule}; it waits for {bundle_name(record.expected)}"
                )
            case Revocation():
                self._revoke(record)
            case Handover():
                self.report.findings.append(
                    "the offline side announces a new identity: this version cannot follow; enrol a new node"
                )
            case SubjectAnswer():
                self.report.subject_answers += 1
            case StatusRecord():
                raise AssertionError("statuses are taken in before")

    def _settle_bundle(self, receipt: Receipt) -> None:
        """Delete a bundle's envelopes, but only if the receipt is for this very bundle."""
        place = self.node.bundle(receipt.sequence)
        try:
            raw = (place / MANIFEST_NAME).read_bytes()
        except FileNotFoundError:
            raw = b""
        if not raw or not _same(bundle_manifest_digest(raw), receipt.manifest):
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

    def _revoke(self, record: Revocation) -> None:
        key = bytes.fromhex(record.key)
        message = revocation_message(
            role=record.role, epoch=record.epoch, key=key, revoked_at=record.revoked_at
        )
        if not signature_is_good(self.identity.public_key, message, bytes.fromhex(record.signature)):
            self.report.findings.append(f"a revocation of key {record.key} is not signed and was ignored")
            return
        if record.role is Role.BATCH:
            self.spool.close(key)  # whatever a roll says, no worker begins a group on it again
        self.report.revoked += 1

    def _mark_taken(self, copy: Path) -> None:
        for path in copy.iterdir():
            if path.name not in _KEPT:
                path.unlink()
        fsync_directory(copy)
        os.rename(copy, self.node.returns / copy.name)
        fsync_directory(self.node.returns)
        for older in self.node.returns.iterdir():
            if _NAME.fullmatch(older.name) and older.name < copy.name:
                shutil.rmtree(older)


def _answers_nothing(record: Record) -> bool:
    """A receipt of a bundle without orders: to confirm it would only bring another one."""
    return isinstance(record, Receipt) and record.outcome is Outcome.EMPTY


def _statuses(path: Path, others: list[Record]) -> Iterator[StatusRecord]:
    """The statuses one by one; the few other records are put aside."""
    for record in _records(path):
        if isinstance(record, StatusRecord):
            yield record
        else:
            others.append(record)


def _records(path: Path) -> Iterator[Record]:
    with path.open("rb", buffering=_READ_SIZE) as file:
        while line := file.readline(RECORD_LIMIT + 2):
            if not line.endswith(b"\n"):
                raise TransferError("RETURN-FORMAT", "a record is too long or cut short")
            yield decode_record(line[:-1])


def _digest(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def _same(left: str, right: str) -> bool:
    return equal(left.encode("ascii"), right.encode("ascii"))
