"""Outbound: partitions become signed bundles in the outbox, and the outbox is written to the drop.

Why here: the only place that empties a partition, and so the one that must never lose or double an order.
Must not: read more of an envelope than its header, keep state that is not derived from what is on disk, or
delete a group before the bundle that holds it is whole, durable and recorded.

The order of a cut: closed, exclusive lock, envelopes, manifest, signature (each durable), record, remove. A crash
anywhere is repaired by doing it again: an unsigned bundle is discarded, a signed one recorded, then removed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import assert_never

from keys.durable import create_durable, fsync_directory, write_new_file
from keys.public.roll import KeyRoll
from transfer.errors import TransferError
from transfer.register import Register
from transfer.spool import Entry, Spool, read_group
from transfer.sync.checking import check_kept, is_signed_by_us
from transfer.sync.contents import Contents, gather_each, gather_requests, gather_whole
from transfer.sync.drop import Progress, list_units, no_progress, remove_unit, write_unit
from transfer.sync.media import Measured
from transfer.sync.node import WORTH_CONFIRMING, Node
from transfer.sync.plan import (
    Clear,
    Cut,
    lost_keys,
    must_confirm,
    plan_cuts,
    plan_writes,
    sign_of_life_is_due,
)
from transfer.sync.push_report import CutBundle, PushReport
from transfer.sync.reading import read_file
from transfer.sync.retired import load_retired
from transfer.sync.settling import BUNDLE_FILES, bundle_row, settle
from transfer.wire.manifest import (
    ENVELOPES_NAME,
    MANIFEST_LIMIT,
    MANIFEST_NAME,
    NO_PREVIOUS,
    SIGNATURE_LIMIT,
    SIGNATURE_NAME,
    BundleManifest,
    bundle_manifest_digest,
    bundle_name,
    decode_bundle_manifest,
    encode_manifest,
)

Sign = Callable[[bytes], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """One push of one node; run it inside ``node.alone()``."""

    node: Node
    register: Register
    spool: Spool
    roll: KeyRoll
    sign: Sign
    now: int
    sign_of_life: int = 0  # seconds after which a bundle without orders says that this node lives; 0: never
    progress: Progress = no_progress
    # Raises when it is not the medium any more that was admitted.
    check_drop: Callable[[], None] = lambda: None
    report: PushReport = field(default_factory=PushReport)

    def run(self, drop: Path, *, empty: bool = False) -> PushReport:
        """Cut what waits, and write every bundle without a receipt to ``drop``.

        ``empty``: make a bundle even if there is neither an order nor a return to confirm (it asks for keys).
        """
        on_drop = list_units(drop, self.node.node, "b")  # before a key is used up: is there a drop at all?
        self.settle()
        self._refuse_old_copy(drop, on_drop)
        retired = load_retired(self.node.state)
        if retired is None or not retired.lost:
            self.cut_all()
            self._carry_requests()
        due = empty or self._must_confirm() or self._must_show_life()
        # A retired node asks for no keys and confirms nothing: its chain ends with its last orders.
        if retired is None and not self.report.cut and due:
            self._make_bundle(None, ())
        self._write(drop, on_drop)
        return self.report

    def settle(self) -> None:
        """Repair what an interrupted push left."""
        settled = settle(self.node, self.register, now=self.now)
        self.report.repaired += settled.repaired
        self.report.missing += settled.missing

    def _refuse_old_copy(self, drop: Path, on_drop: list[str]) -> None:
        """``NODE-BEHIND`` when the drop holds a bundle that this node signed and this state does not know."""
        known = self.register.last_sequence()
        for name in on_drop:
            if name <= bundle_name(known):
                continue
            made = self._made_by_us(drop / self.node.node / name)
            # The signed number counts: whoever renames a bundle on a medium must not end a node by it.
            if made is not None and made.sequence > known:
                raise TransferError(
                    "NODE-BEHIND",
                    f"{drop} holds bundle {made.sequence} of this node, but this state only knows bundles up to "
                    f"{known}",
                    "this state is an old copy: retire the node and enrol it under a new node id",
                )

    def _made_by_us(self, unit: Path) -> BundleManifest | None:
        try:
            raw = read_file(unit, MANIFEST_NAME, MANIFEST_LIMIT)
            signature = read_file(unit, SIGNATURE_NAME, SIGNATURE_LIMIT).decode("utf-8", "replace")
        except TransferError:
            return None
        return decode_bundle_manifest(raw) if is_signed_by_us(self.node, raw, signature) else None

    def cut_all(self) -> None:
        """Cut every partition that holds groups, in the order of the keys. An empty one keeps its key."""
        acknowledged = self.register.uncut_keys()  # before the listing: a row's group is older than the row
        keys = [found.batch_key_id for found in self.spool.partitions() if found.groups]
        numbers = {entry.key_id: (entry.epoch, entry.number) for entry in self.roll.batch_keys}
        for action in plan_cuts(keys, numbers=numbers, bundled=self.register.bundled_keys(keys)):
            match action:
                case Clear(batch_key_id=key):
                    self._clear(key)
                case Cut(batch_key_id=key):
                    self._cut(key)
                case _:
                    assert_never(action)
        for key in lost_keys(acknowledged, keys):
            self.report.missing += self.register.record_missing(key, (), self.now)

    def _carry_requests(self) -> None:
        """What people asked about their data goes in a bundle of its own, which needs no batch key."""
        waiting = self.node.subjects.waiting()
        if waiting:
            self._make_bundle(None, waiting)
            self.node.subjects.mark_sent(waiting)

    def _cut(self, key: bytes) -> None:
        self.spool.close(key)
        with self.spool.exclusive(key):
            self._make_bundle(key, self.spool.groups(key))
            self.spool.remove(key)

    def _clear(self, key: bytes) -> None:
        with self.spool.exclusive(key):
            for group in self.spool.groups(key):
                waiting = self.register.uncut(key, [entry.order_id for entry in self._whole(key, group)])
                if waiting:
                    raise TransferError(
                        "SPOOL-LATE",
                        f"{group} holds {len(waiting)} orders that are not in the bundle of their batch key",
                        "their key is used up. If this file was put back after a push had missed it, move it away: "
                        "its customers have to order again. Else keep the state directory and report this",
                    )
            self.spool.remove(key)
        self.report.repaired.append(f"partition {key.hex()} emptied")

    def _make_bundle(self, key: bytes | None, groups: Iterable[Path]) -> None:
        sequence = self.register.last_sequence() + 1
        place = self.node.bundle(sequence)
        place.mkdir(0o700)  # durable with its contents, before anybody relies on it
        contents = self._gather(key, list(groups), place / ENVELOPES_NAME)
        if key is not None and not contents.count:
            shutil.rmtree(place)  # nothing but second copies: the key is spent, but needs no bundle
            self.report.missing += self.register.record_missing(key, (), self.now)
            return
        newest = self.node.newest_return()
        manifest = BundleManifest(
            node=self.node.node,
            sequence=sequence,
            prev=self._previous(sequence),
            batch_key=key.hex() if key is not None else None,
            count=contents.count,
            envelopes_sha256=contents.sha256,
            envelopes_size=contents.size,
            time=self.now,
            newest_return=newest.signed if newest else None,
        )
        raw = encode_manifest(manifest)
        signature = self.sign(raw)
        write_new_file(place / MANIFEST_NAME, [raw])
        fsync_directory(place)
        create_durable(place / SIGNATURE_NAME, signature.encode("utf-8"))
        fsync_directory(self.node.outbox)
        self.report.missing += self.register.record_bundle(
            bundle_row(manifest, raw), lambda: _order_ids(place / ENVELOPES_NAME), all_uncut=True
        )
        self.report.cut.append(
            CutBundle(
                sequence=sequence,
                orders=manifest.count,
                size=manifest.envelopes_size,
                batch_key=manifest.batch_key,
                repeats=contents.repeats,
            )
        )

    def _gather(self, key: bytes | None, groups: Sequence[Path], place: Path) -> Contents:
        if key is None:
            return gather_requests(groups, place)
        whole = gather_whole(self.register, key, groups, place)
        if whole is not None:
            return whole
        aside = partial(self._put_aside, key)
        return gather_each(self.register, key, groups, place, self.now, damaged=aside)

    def _whole(self, key: bytes, group: Path) -> list[Entry]:
        """The entries of a group whose bundle was made; none of one that is damaged, which is put aside."""
        try:
            return list(read_group(group))
        except TransferError as error:
            self._put_aside(key, group, error)
            return []

    def _put_aside(self, key: bytes, group: Path, error: TransferError) -> None:
        """One damaged group stops no other order. Its own are named: no bundle lists them, so they are missing."""
        kept = self.spool.put_aside(key, group)
        remedy = (
            "the orders in it that no bundle carries are named as missing: ask these customers to order again"
        )
        self.report.damaged.append(
            TransferError(error.rule, f"{error.message}; it was put aside as {kept}", remedy)
        )

    def _previous(self, sequence: int) -> str:
        if sequence == 1:
            return NO_PREVIOUS
        return bundle_manifest_digest((self.node.bundle(sequence - 1) / MANIFEST_NAME).read_bytes())

    def _must_confirm(self) -> bool:
        newest = self.node.newest_return()
        last = self.register.last_sequence()
        carried = None
        if last:
            manifest = decode_bundle_manifest((self.node.bundle(last) / MANIFEST_NAME).read_bytes())
            carried = manifest.newest_return.manifest if manifest.newest_return else None
        return must_confirm(
            newest=newest.signed.manifest if newest else None,
            carried=carried,
            worth_it=self.register.fact(WORTH_CONFIRMING) is not False,
        )

    def _must_show_life(self) -> bool:
        recorded = self.register.last_sequence()
        last = self.register.bundle(recorded)
        listing = self.node.outbox_listing(recorded=recorded)
        return sign_of_life_is_due(
            last_cut=last.cut_at if last else 0,
            in_flight=len(plan_writes(listing)),
            now=self.now,
            every=self.sign_of_life,
        )

    def _write(self, drop: Path, on_drop: list[str]) -> None:
        listing = self.node.outbox_listing(recorded=self.register.last_sequence())
        for sequence in plan_writes(listing):
            name = bundle_name(sequence)
            try:
                self.check_drop()
                fresh = write_bundle(self.node, sequence, drop, self.progress)
            except TransferError as error:
                self.report.refused.append(error)
                self.report.unwritten.append(name)
                if error.rule in {"MEDIUM-UNEXPECTED", "OUTBOX-DAMAGED"}:
                    continue  # what is wrong with this one stops none of the others
                return
            (self.report.written if fresh else self.report.already_there).append(name)
        # What has its receipt only takes up room on the medium.
        settled = {bundle_name(bundle.sequence) for bundle in listing if not bundle.envelopes}
        for name in sorted(settled.intersection(on_drop)):
            try:
                remove_unit(drop, self.node.node, name, dict.fromkeys(BUNDLE_FILES))
            except TransferError as error:
                self.report.refused.append(error)
            else:
                self.report.removed.append(name)


def write_bundle(node: Node, sequence: int, drop: Path, progress: Progress = no_progress) -> bool:
    """Write a kept bundle to ``drop``; False when it is there already, whole. Raises as ``write_unit`` does.

    The envelopes are compared with what the manifest signs: ``OUTBOX-DAMAGED`` when it is our copy that has changed.
    """
    place = node.bundle(sequence)
    files = {file: place / file for file in BUNDLE_FILES}
    manifest = decode_bundle_manifest((place / MANIFEST_NAME).read_bytes())
    envelopes = Measured(size=manifest.envelopes_size, sha256=manifest.envelopes_sha256)
    signed = {ENVELOPES_NAME: envelopes}
    try:
        return write_unit(drop, node.node, bundle_name(sequence), files, progress, signed=signed)
    except TransferError as error:
        if error.rule == "MEDIUM-DAMAGED":
            check_kept(node, sequence)  # is it the medium, or our own disk?
        raise


def _order_ids(envelopes: Path) -> set[str]:
    return {entry.order_id for entry in read_group(envelopes)}
