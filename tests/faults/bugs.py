"""Planted bugs: mistakes that a tired programmer makes, each put into the running code of one child.

Why here: a sweep that finds nothing proves nothing unless it is known to find these.
Must not: change a file of the code, or be noticed by anybody while nothing breaks; a test sees to that.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from intake import groups
from keys import durable
from keys.private.locked import LockedBuffer
from keys.private.unseal import sealing_key
from keys.ring_index import DestroyReason
from offline_processor import attempts, batch, bundle_work, holding, reporting
from offline_processor.acquirers.protocol import Authorisation
from offline_processor.charging import Answer, AttemptState
from offline_processor.ledger import bundles, ledger, operations, orders
from offline_processor.outcomes import outcome_of
from offline_processor.stages import OrderState
from offline_processor.workplace import destroy_keys, envelopes_of
from tests.offline_processor.simulated import SimulatedAcquirer
from transfer import register, spool
from transfer.sync import inbound, outbound, returned, trust
from transfer.sync.drop import write_unit
from transfer.sync.plan import newer_returns
from transfer.wire.manifest import ENVELOPES_NAME, SIGNATURE_NAME

Patch = pytest.MonkeyPatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """``plant`` puts it in; ``steps``: where the sweep looks first; ``media``: what has to become of the medium."""

    plant: Callable[[Patch], None]
    steps: tuple[str, ...]
    media: str = ""


def _acknowledge_before_write(patch: Patch) -> None:
    real = groups.GroupCommit.enter

    def enter(self: groups.GroupCommit, **given: Any) -> Any:
        outcome = real(self, **given)
        return groups.Outcome.NEW if isinstance(outcome, asyncio.Future) else outcome

    def close(self: groups.GroupCommit) -> None:
        self._thread.shutdown(wait=True)
        for group in (*self._full, self._filling):
            if group is not None and group.orders:
                self._register.commit_group(group.spool, group.orders, self._now())

    patch.setattr(groups.GroupCommit, "enter", enter)
    patch.setattr(groups.GroupCommit, "close", close)


def _register_before_group(patch: Patch) -> None:
    def commit_group(self: register.Register, group: Any, new: Sequence[Any], now: int) -> Any:
        with group:
            places = [place for place, order in enumerate(new) if self.lookup(order.order_id) is None]
            rows = [
                (new[place].order_id, new[place].basket_digest, group.batch_key_id, "later", now)
                for place in places
            ]
            with self.transaction() as connection:
                connection.executemany(register._INSERT, rows)
            group.commit(places)
            return [
                register.Committed.NEW if place in places else register.Committed.SAME
                for place in range(len(new))
            ]

    patch.setattr(register.Register, "commit_group", commit_group)


def _unlink_before_copy(patch: Patch) -> None:
    real = outbound.Push._make_bundle

    def make_bundle(self: outbound.Push, key: bytes | None, found: Iterable[Path]) -> None:
        if key is None:
            real(self, key, found)
            return
        with tempfile.TemporaryDirectory() as memory:
            kept = [Path(shutil.copy(group, memory)) for group in found]
            self.spool.remove(key)
            real(self, key, kept)

    patch.setattr(outbound.Push, "_make_bundle", make_bundle)


def _no_repair_of_a_cut(patch: Patch) -> None:
    patch.setattr(outbound.Push, "settle", lambda self: None)


def _delete_when_copied(patch: Patch) -> None:
    real = outbound.Push._write

    def write(self: outbound.Push, drop: Path, on_drop: list[str]) -> None:
        real(self, drop, on_drop)
        for bundle in self.node.outbox.iterdir():
            (bundle / ENVELOPES_NAME).unlink(missing_ok=True)

    patch.setattr(outbound, "remove_unit", lambda drop, node, name, files: None)
    patch.setattr(outbound.Push, "_write", write)


def _roll_written_in_place(patch: Patch) -> None:
    def write(path: Path, data: bytes, mode: int = 0o600) -> None:
        del mode
        path.write_bytes(data)

    patch.setattr(trust, "write_durable", write)


def _taken_before_it_is_applied(patch: Patch) -> None:
    mark, apply = inbound.Pull._mark_taken, inbound.Pull._apply

    def applied(self: inbound.Pull, verified: Any, *more: Any) -> None:
        with tempfile.TemporaryDirectory() as memory:
            spare = Path(memory) / verified.path.name
            shutil.copytree(verified.path, spare)
            mark(self, verified.path)
            apply(self, replace(verified, path=spare), *more)

    patch.setattr(inbound.Pull, "_mark_taken", lambda self, copy: None)
    patch.setattr(inbound.Pull, "_apply", applied)


def _repeat_accepted(patch: Patch) -> None:
    real, mark = returned.Expected.judge, inbound.Pull._mark_taken

    def judge(self: returned.Expected, *given: Any, **named: Any) -> Any:
        return real(self, *given, **{**named, "taken": None})

    def mark_taken(self: inbound.Pull, copy: Path) -> None:
        shutil.rmtree(self.node.returns / copy.name, ignore_errors=True)
        mark(self, copy)

    patch.setattr(inbound.Pull, "_mark_taken", mark_taken)
    patch.setattr(inbound, "newer_returns", lambda names, *, taken: newer_returns(names, taken=None))
    patch.setattr(returned.Expected, "judge", judge)


def _no_intent(patch: Patch) -> None:
    def charge(till: Any, window: Any, *, now: int) -> Any:
        ready, books = window.ready, till.ledger
        with books.atomic():
            references = orders.next_references(
                books, [item.order for item in ready], epoch=till.epoch, now=now
            )
            orders.settle(books, window.decided, now=now)
        pairs = zip(ready, references, strict=True)
        heard = dict(
            till.acquirer.authorise(Authorisation(reference=sent, card=item.card) for item, sent in pairs)
        )
        intents = [orders.Intent(reference=sent, card="", vault=b"", vault_until=now) for sent in references]
        window.cards.wipe()
        found = [outcome_of(sent, heard.get(place)) for place, sent in enumerate(references)]
        outcomes = [outcome.settled for outcome in found]
        with books.atomic():
            orders.record_intents(books, intents, now=now)
            orders.record_events(books, [outcome.move for outcome in found], now=now)
            told = [(sent, "", outcome) for sent, outcome in zip(references, outcomes, strict=True)]
            orders.settle_charged(books, told, now=now)
            taken = [
                operations.whole(outcome.move.sent, outcome.move.approval)
                for outcome in found
                if outcome.settled.state is OrderState.PAID
            ]
            owed = operations.owe(books, taken, now=now)
        return attempts.Charged(outcomes=[*window.decided, *outcomes], owed=owed, unsent=0)

    for module in (attempts, bundle_work):
        patch.setattr(module, "charge", charge)


def _new_number_for_each_try(patch: Patch) -> None:
    def recover(ledger: Any, *, now: int) -> int:
        del now
        found = list(orders.open_attempts(ledger, AttemptState.INTENT))
        with ledger.atomic():
            ledger.execute_many(
                "DELETE FROM live_attempt WHERE number = ?", [(sent.number,) for sent, _ in found]
            )
        return len(found)

    patch.setattr(batch, "recover_intents", recover)


def _intents_not_recovered(patch: Patch) -> None:
    patch.setattr(batch, "recover_intents", lambda ledger, *, now: 0)


def _outcome_apart_from_order(patch: Patch) -> None:
    real = orders.settle_charged

    def settle(ledger: Any, outcomes: Any, *, now: int) -> None:
        ledger._connection.executemany(
            "INSERT INTO entry (id, at, kind, subject, facts, chain) VALUES (?, ?, ?, ?, ?, ?)",
            ledger._pending,
        )
        ledger._pending.clear()
        ledger._connection.execute("COMMIT")
        ledger._connection.execute("BEGIN IMMEDIATE")
        real(ledger, outcomes, now=now)

    patch.setattr(orders, "settle_charged", settle)


def _receipt_before_outcome(patch: Patch) -> None:
    real = vars(batch)["charge_bundle"]

    def charge_bundle(place: Any, till: Any, tables: Any, bundle: Any, report: Any) -> None:
        with place.ledger.atomic():
            bundles.mark_settled(place.ledger, bundle, now=place.clock())
        real(place, till, tables, bundle, report)

    patch.setattr(batch, "charge_bundle", charge_bundle)


def _key_destroyed_before_cards_are_held(patch: Patch) -> None:
    real = vars(batch)["settle_bundle"]

    def settle_bundle(place: Any, cards: Any, bundle: Any, report: Any) -> None:
        now, ring = place.clock(), place.keystore.ring
        key_id = bytes.fromhex(bundle.batch_key or "")
        key = ring.batch_key(key_id)
        if key is not None:
            private = LockedBuffer(key.private.size).copy_from(key.private.view)
            copy = sealing_key(key.public_key, private)
            destroy_keys(place, [key_id], DestroyReason.BATCH_DONE)
            limit = now + place.hold_seconds
            where = envelopes_of(place, bundle)
            holding.hold_unanswered(place.ledger, ring, cards, bundle, copy, where, destroy_at=limit, now=now)
        real(place, cards, bundle, report)

    patch.setattr(batch, "settle_bundle", settle_bundle)


def _return_leaves_before_it_is_recorded(patch: Patch) -> None:
    real = vars(reporting)["write_durable"]

    def write(path: Path, data: bytes, mode: int = 0o600) -> None:
        real(path, data, mode)
        if path.name == SIGNATURE_NAME:
            unit = path.parent
            drop = unit.parents[4] / "medium" / "out"
            files = {name: unit / name for name in reporting.RETURN_FILES}
            write_unit(drop, unit.parent.name, unit.name, files)

    patch.setattr(reporting, "write_durable", write)


def _reversal_not_sent(patch: Patch) -> None:
    def reverse(self: SimulatedAcquirer, window: Sequence[Any]) -> list[Any]:
        del self
        sent = [getattr(one, "reference", one) for one in window]
        return [
            Answer(stan=one.stan, rrn=one.rrn, amount=one.amount, currency=one.currency, code="00")
            for one in sent
        ]

    patch.setattr(SimulatedAcquirer, "reverse", reverse)


# What only a power cut shows: everything is in its right order, but the disk is not told to keep it so.


def _no_file_fsync(patch: Patch) -> None:
    real, is_directory = os.fsync, _is_directory

    def fsync(descriptor: int) -> None:
        if is_directory(descriptor):
            real(descriptor)

    patch.setattr(os, "fsync", fsync)


def _no_directory_fsync(patch: Patch) -> None:
    real, is_directory = os.fsync, _is_directory

    def fsync(descriptor: int) -> None:
        if not is_directory(descriptor):
            real(descriptor)

    patch.setattr(os, "fsync", fsync)


def _ledger_not_flushed(patch: Patch) -> None:
    real = ledger.Ledger._read_tip

    def read_tip(self: ledger.Ledger) -> None:
        self._connection.execute("PRAGMA synchronous = NORMAL")
        real(self)

    patch.setattr(ledger.Ledger, "_read_tip", read_tip)


def _rename_before_fsync(patch: Patch) -> None:
    def write(path: Path, data: bytes, mode: int = 0o600) -> None:
        temporary = path.with_name(f".{path.name}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        os.write(descriptor, data)
        os.rename(temporary, path)
        durable.fsync_directory(path.parent)
        os.fsync(descriptor)
        os.close(descriptor)

    for module in (trust, reporting, spool):
        patch.setattr(module, "write_durable", write)


def _is_directory(descriptor: int) -> bool:
    return os.fstat(descriptor).st_mode & 0o170000 == 0o040000


BUGS: dict[str, Bug] = {
    "acknowledge before the group is written": Bug(plant=_acknowledge_before_write, steps=("orders",)),
    "register an order before its group is written": Bug(plant=_register_before_group, steps=("orders",)),
    "unlink the spool's groups before they are copied": Bug(plant=_unlink_before_copy, steps=("push",)),
    "leave an interrupted cut as it is": Bug(plant=_no_repair_of_a_cut, steps=("push",)),
    "delete a bundle when it is copied": Bug(plant=_delete_when_copied, steps=("push",), media="lost"),
    "write the key roll in place": Bug(plant=_roll_written_in_place, steps=("pull",)),
    "mark a return as taken before it is applied": Bug(plant=_taken_before_it_is_applied, steps=("pull",)),
    "accept a repeated return": Bug(plant=_repeat_accepted, steps=("pull again",), media="old"),
    "send before the intent is recorded": Bug(plant=_no_intent, steps=("run",)),
    "a new trace number for each try, without a reversal": Bug(
        plant=_new_number_for_each_try, steps=("run",)
    ),
    "skip the recovery of intents": Bug(plant=_intents_not_recovered, steps=("run",)),
    "record outcome and order in two transactions": Bug(plant=_outcome_apart_from_order, steps=("run",)),
    "give the receipt before the outcome": Bug(plant=_receipt_before_outcome, steps=("run",)),
    "destroy the batch key before cards are held": Bug(
        plant=_key_destroyed_before_cards_are_held, steps=("run",)
    ),
    "let a return leave before it is recorded": Bug(
        plant=_return_leaves_before_it_is_recorded, steps=("run",)
    ),
}
"""What a kill shows."""

POWER_BUGS: dict[str, Bug] = {
    "no fsync of files": Bug(plant=_no_file_fsync, steps=("orders", "push", "pull")),
    "no fsync of directories": Bug(plant=_no_directory_fsync, steps=("orders",)),
    "rename before fsync": Bug(plant=_rename_before_fsync, steps=("pull",)),
    "intents recorded without a flush": Bug(plant=_ledger_not_flushed, steps=("run",)),
}
"""What only the loss of power shows."""

LIFE_BUGS: dict[str, Bug] = {
    "charge again without the reversal": Bug(plant=_reversal_not_sent, steps=()),
    "delete a bundle when it is copied": Bug(plant=_delete_when_copied, steps=()),
}
"""What shows in the course of a shop's life."""

ALL = BUGS | POWER_BUGS | LIFE_BUGS
