"""The conductor: one run of the offline processor, from the drop to the return.

Why here: the only module that knows the order of the stages; every step can be repeated after a crash.
Must not: hold rules of its own; each stage's module decides, this one calls them in turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime

from keys.ring_index import DestroyReason
from offline_processor import announcing, holding, operations, reporting
from offline_processor.acquirers.protocol import Verb
from offline_processor.attempts import (
    MAX_ATTEMPTS,
    OpenedWindow,
    ReadyOrder,
    Till,
    end_retries,
    open_stored,
    recover_intents,
)
from offline_processor.bundle_work import (
    Tables,
    card_expired,
    charge_bundle,
    charge_window,
    expire_bundle,
    screen_bundle,
    settle_bundle,
    stops,
)
from offline_processor.cards import CardTable
from offline_processor.control_total import ControlTotal, waiting_total
from offline_processor.dispatch import void_expired
from offline_processor.epochs import begin_epoch
from offline_processor.key_record import say_emptied
from offline_processor.ledger import bundles, orders, vault
from offline_processor.ledger.bundles import BundleRecord
from offline_processor.old_ledger import check_not_behind
from offline_processor.reception import receive_all
from offline_processor.reconciliation import check_reconciled
from offline_processor.reversing import reverse_unknown
from offline_processor.screening import expired
from offline_processor.stages import OrderState, Settled
from offline_processor.workplace import (
    RunReport,
    Workplace,
    destroy_keys,
    destroy_order_keys,
    is_missing,
)
from transfer.errors import TransferError
from transfer.sync.medium import Direction, admit_or_note
from transfer.wire.ids import OrderId
from transfer.wire.records import Reason


def run(place: Workplace) -> RunReport:
    """One whole run. Safe to repeat at any point: everything begins from what ledger and ring hold.

    ``place.confirm`` raises when the control total is not confirmed; nothing new is charged then.
    """
    report = RunReport()
    begin(place, report)
    # Before anything is sent: a bundle may prove that this ledger is an old copy.
    receive_all(place, report)
    announcing.take_confirmations(place.ledger, place.keystore)
    charge_all(place, report)
    if not report.stopped:
        write_returns(place, report)
    return report


def begin(place: Workplace, report: RunReport) -> None:
    """Before any step: refuse a wrong clock or ledger, mark interrupted attempts, destroy keys at their limit."""
    place.ledger.check_clock(place.clock())
    begin_epoch(place.ledger, place.keystore, now=place.clock())
    check_reconciled(place.ledger)
    check_not_behind(place.ledger, place.keystore.ring)
    report.interrupted = recover_intents(place.ledger, now=place.clock())
    _destroy_overdue(place, report)


def take_in(place: Workplace, report: RunReport) -> None:
    """The step that receives: bundles are copied, verified, accepted and screened. Nothing is sent to anybody."""
    receive_all(place, report)
    announcing.take_confirmations(place.ledger, place.keystore)
    screen_all(place, report)


def screen_all(place: Workplace, report: RunReport) -> None:
    """Judge every order that was received, and let go of those whose key is dead."""
    for bundle in at_work(place):
        screen_bundle(place, bundle, report)
        expire_bundle(place, bundle, report)


def charge_all(place: Workplace, report: RunReport) -> None:
    """The step that charges: old business first, then what is confirmed, bundle by bundle, each to its end."""
    if place.acquirer is None:
        raise AssertionError("to charge needs an acquirer")
    acquirer = place.acquirer
    place = replace(place, window=min(place.window, acquirer.window or place.window))
    till = Till(
        ledger=place.ledger,
        acquirer=acquirer,
        vault_key=place.keystore.vault_key,
        epoch=place.keystore.epoch,
        charging=place.charging,
    )
    # Who keys orders at a terminal is asked at each one, and must be able to leave there.
    listens = place.stop.listens if acquirer.window is None else nullcontext
    with CardTable(place.window) as cards, CardTable(place.window) as more_cards:
        with listens():
            _finish_old_business(place, till, cards, report)
        if report.stopped:
            return
        screen_all(place, report)
        if report.acquirer_silent:
            return
        total = waiting_total(place.ledger)
        if total.orders:
            place.confirm(total)
        with listens():
            _charge_bundles(place, till, (cards, more_cards), total, report)


def _charge_bundles(
    place: Workplace, till: Till, tables: Tables, total: ControlTotal, report: RunReport
) -> None:
    # The total was that of all of them: after a stop or a crash none is asked for again.
    with place.ledger.atomic():
        for bundle in list(at_work(place)):
            if not bundle.confirmed:
                bundles.mark_confirmed(place.ledger, bundle, str(total), now=place.clock())
    for bundle in at_work(place):
        if stops(place, report):
            break
        charge_bundle(place, till, tables, bundle, report)
        if report.acquirer_silent or report.stopped:
            break
        settle_bundle(place, tables[0], bundle, report)


def at_work(place: Workplace) -> Iterator[BundleRecord]:
    """The bundles with work to do; one whose copy is lost waits until it is fetched again (``BUNDLE-COPY``)."""
    return (bundle for bundle in bundles.unsettled(place.ledger) if not is_missing(place, bundle))


def _destroy_overdue(place: Workplace, report: RunReport) -> None:
    """Keys at their limit die first, so that a bundle which comes too late is known for what it is."""
    ring = place.keystore.ring
    overdue = ring.overdue(place.clock(), hold_limit=place.hold_seconds)
    unused = {entry.key_id for node in ring.nodes() for entry in ring.unused(node.node)}
    never_used = [key_id for key_id in overdue if key_id in unused]
    report.keys_destroyed += destroy_keys(place, never_used, DestroyReason.EXPIRED)
    used = [key_id for key_id in overdue if key_id not in unused]
    report.keys_destroyed += destroy_keys(place, used, DestroyReason.LIMIT)
    report.order_keys_destroyed += destroy_order_keys(place)


def _finish_old_business(place: Workplace, till: Till, cards: CardTable, report: RunReport) -> None:
    """What earlier runs left: reversals (always before any charge), holds at their limit, reversed orders."""
    ledger, now = place.ledger, place.clock()
    report.reversed = reverse_unknown(till, cards, window=place.window, now=now)
    with ledger.atomic():
        void_expired(ledger, place.charging, now=now)
    report.add_operations(operations.send_owed(till, cards, window=place.window, now=now))
    with ledger.atomic():
        if not till.acquirer.needs_card(Verb.REFUND):
            vault.erase_unneeded(ledger, vault.finished(ledger))
        vault.erase_due(ledger, now=now)
    _release_holds(place, report)
    report.count(
        OrderState.ORDER_AGAIN,
        holding.expire_unopenable(ledger, older_than=now - place.hold_seconds, now=now),
    )
    _retry_reversed(place, till, cards, report)
    _retry_declined(place, till, cards, report)
    _release_holds(place, report)
    stops(place, report)


def _release_holds(place: Workplace, report: RunReport) -> None:
    """Destroy the hold keys that are answered or at their limit, then let go of their cards."""
    now = place.clock()
    answered, limit = holding.due(place.ledger, place.keystore.ring, now=now)
    if answered:
        say_emptied(place.ledger, [(key_id, {}) for key_id in answered], now=now)
    report.keys_destroyed += destroy_keys(place, answered, DestroyReason.ANSWERED)
    report.keys_destroyed += destroy_keys(place, limit, DestroyReason.LIMIT)
    with place.ledger.atomic():
        report.count(OrderState.ORDER_AGAIN, holding.forget(place.ledger, place.keystore.ring, now=now))


def _retry_reversed(place: Workplace, till: Till, cards: CardTable, report: RunReport) -> None:
    """Reversed orders may be attempted afresh, from the bundle while its key lives, else from the kept card."""
    kept = []
    for order, batch_key in orders.without_attempt(place.ledger):
        if place.keystore.ring.batch_key(bytes.fromhex(batch_key)) is None:
            kept.append(order)
            continue
        with place.ledger.atomic():
            orders.reopen(place.ledger, order.order_id, now=place.clock())
    for start in range(0, len(kept), place.window):
        if stops(place, report) or report.acquirer_silent:
            return
        window = _open_kept(place, cards, kept[start : start + place.window])
        charge_window(place, till, window, report)


def _retry_declined(place: Workplace, till: Till, cards: CardTable, report: RunReport) -> None:
    """Declines that said "later" are tried again from the vault, within their limits and without a CVV."""
    report.count(OrderState.DECLINED, end_retries(place.ledger, now=place.clock()))
    due = vault.due(place.ledger, now=place.clock())
    for start in range(0, len(due), place.window):
        if stops(place, report) or report.acquirer_silent:
            return
        window = open_stored(till, cards, due[start : start + place.window])
        charge_window(place, till, window, report)


def _open_kept(place: Workplace, cards: CardTable, window: list[orders.WaitingOrder]) -> OpenedWindow:
    """Open held cards with their hold keys; an order without one, or tried too often, is to be ordered again."""
    today = datetime.fromtimestamp(place.clock(), UTC)
    ready: list[ReadyOrder] = []
    decided: list[Settled] = []
    for order in window:
        order_id = OrderId(order.order_id)
        kept = holding.held_card(place.ledger, order_id)
        hold_key = place.keystore.ring.hold_key(kept.key_id) if kept else None
        if kept is None or hold_key is None:
            decided.append(_again(order_id, Reason.EXPIRED, "HOLD-LIMIT"))
        elif order.attempts >= MAX_ATTEMPTS:
            decided.append(_again(order_id, Reason.TRY_LATER, "CHARGE-GIVEN-UP"))
        else:
            card = cards.open(len(ready), kept.box, hold_key)
            if isinstance(card, str):
                decided.append(_again(order_id, Reason.NOT_READABLE, card))
            elif expired(card, year=today.year, month=today.month):
                decided.append(card_expired(order_id))
            else:
                ready.append(ReadyOrder(order=order, slot=len(ready), card=card))
    return OpenedWindow(orders=window, ready=ready, decided=decided, cards=cards)


def _again(order_id: OrderId, reason: Reason, rule: str) -> Settled:
    return Settled(order_id=order_id, state=OrderState.ORDER_AGAIN, reason=reason, rule=rule)


def write_returns(place: Workplace, report: RunReport) -> None:
    """The step that answers: make the returns that are due, write them, and say what may be taken out."""
    outbox = place.state / "returns"
    nodes = [node.node for node in place.keystore.ring.nodes()]
    medium = admit_or_note(
        place.drop_out, Direction.OUT, shop=place.media_of, nodes=nodes, home=place.state, into=report.refused
    )
    whole = True
    for node in place.keystore.ring.nodes():
        if node.retired_at is not None:
            continue
        if reporting.is_due(place.ledger, place.keystore, node.node, now=place.clock()) or reporting.is_lost(
            place.ledger, outbox, node.node
        ):
            reporting.make_return(place.ledger, place.keystore, outbox, node.node, now=place.clock())
        if medium is None or not medium.takes(node.node):
            continue  # the return is kept, and the run that finds its medium writes it
        try:
            medium.check()
            written = reporting.write_newest(place.ledger, outbox, place.drop_out, node.node)
            report.returns += [written] if written else []
            report.answered.append(node.node)
        except TransferError as error:
            report.refused.append(error)  # the return is kept, and the next run writes it
            whole = False
    if medium is not None and whole:
        try:
            report.safe_to_remove = medium.settle()
        except TransferError as error:
            report.refused.append(error)
