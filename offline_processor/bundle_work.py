"""The work on one accepted bundle: screen its orders, charge them, settle it.

Why here: three passes over one envelopes file, each resumable from what the ledger holds.
Must not: decide about an order or an answer; opening, screening and charging do.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import cycle, islice

from keys.private.locked import zero_stack
from keys.private.unseal import SealingKey
from keys.ring_index import DestroyReason
from offline_processor import holding, operations
from offline_processor.ahead import one_ahead
from offline_processor.attempts import MAX_ATTEMPTS, OpenedWindow, ReadyOrder, Till, charge
from offline_processor.cards import CardTable
from offline_processor.frames import numbered
from offline_processor.key_record import say_emptied
from offline_processor.ledger import bundles, orders, reports, subject_requests
from offline_processor.ledger.bundles import BundleRecord, BundleState
from offline_processor.ledger.staging import stage
from offline_processor.opening import open_order, unopened
from offline_processor.outcomes import NO_ANSWER
from offline_processor.screening import card_fault, expired, screen
from offline_processor.stages import (
    OpenedOrder,
    OrderState,
    Quarantined,
    ScreenedOrder,
    Settled,
    SubjectAsked,
)
from offline_processor.workplace import RunReport, Workplace, destroy_keys, envelopes_of, spooled_copy
from transfer.wire.envelope import decode_envelope
from transfer.wire.header import header_digest
from transfer.wire.ids import OrderId
from transfer.wire.records import Outcome, Reason
from transfer.wire.sealing import order_box_digest

Judged = ScreenedOrder | SubjectAsked | Quarantined
Tables = tuple[CardTable, CardTable]
"""Two tables: one window is with the acquirer while the next is opened."""


def screen_bundle(place: Workplace, bundle: BundleRecord, report: RunReport) -> None:
    """Open and judge every order compartment once, a window in a transaction, from where an earlier run stopped."""
    if bundle.state is not BundleState.ACCEPTED:
        return
    ledger, done, releases = place.ledger, bundle.screened_to, place.charging.releases()
    batch_key_id = bytes.fromhex(bundle.batch_key or "")
    order_keys = {order.key.key_id: order.key for order in place.keystore.order_keys}
    charged = reports.pending_ids(ledger)
    frames = numbered(envelopes_of(place, bundle), done)

    def judge(window: list[tuple[int, bytes]]) -> list[Judged]:
        if bundle.outcome is not Outcome.EXPIRED:
            return [_judge(position, raw, order_keys, batch_key_id) for position, raw in window]
        closed = [unopened(raw, position=position, rule="KEY-DESTROYED") for position, raw in window]
        # Who was charged must be sent the goods: such an order is opened, though its card never can be again.
        return [
            _judge(position, raw, order_keys, batch_key_id) if order.order_id in charged else order
            for order, (position, raw) in zip(closed, window, strict=True)
        ]

    for found in one_ahead(iter(lambda: list(islice(frames, place.window)), []), judge):
        done += len(found)
        judged = [each for each in found if not isinstance(each, SubjectAsked)]
        asked = [each for each in found if isinstance(each, SubjectAsked)]
        with ledger.atomic():
            report.subjects += subject_requests.record(ledger, asked, node=bundle.node, now=place.clock())
            staged = stage(
                ledger,
                judged,
                node=bundle.node,
                sequence=bundle.sequence,
                releases=releases,
                capture=place.charging.capture,
                now=place.clock(),
            )
            bundles.mark_screened(ledger, bundle, screened_to=done, finished=False)
        report.add_staged(staged, judged)
        place.progress("screening", done, bundle.orders)
    with ledger.atomic():
        bundles.mark_screened(ledger, bundle, screened_to=done, finished=True)


def _judge(position: int, raw: bytes, order_keys: Mapping[bytes, SealingKey], batch_key_id: bytes) -> Judged:
    opened = open_order(raw, position=position, order_keys=order_keys, batch_key_id=batch_key_id)
    return screen(opened) if isinstance(opened, OpenedOrder) else opened


def expire_bundle(place: Workplace, bundle: BundleRecord, report: RunReport) -> None:
    """Once its batch key is gone, no order of the bundle waits to be charged, nor counts in a control total."""
    if place.keystore.ring.batch_key(bytes.fromhex(bundle.batch_key or "")) is not None:
        return
    with place.ledger.atomic():
        expired_now = orders.expire(
            place.ledger, node=bundle.node, sequence=bundle.sequence, now=place.clock()
        )
    report.count(OrderState.ORDER_AGAIN, expired_now)


def charge_bundle(
    place: Workplace, till: Till, tables: Tables, bundle: BundleRecord, report: RunReport
) -> None:
    """Charge the waiting orders of a bundle, a window at a time; stop when the line is gone, or a whole one silent."""
    batch_key = place.keystore.ring.batch_key(bytes.fromhex(bundle.batch_key or ""))
    if batch_key is None:
        return
    total, done = orders.count_waiting(place.ledger, node=bundle.node, sequence=bundle.sequence), 0

    def charged(window: int) -> None:
        nonlocal done
        done += window
        place.progress("charging", done, total)

    # Orders that got no answer before come last, so that they cannot keep the others from being tried.
    for again in (False, True):
        _charge_waiting(place, till, tables, bundle, batch_key, report, charged, again=again)
        if report.acquirer_silent or report.stopped:
            return


def stops(place: Workplace, report: RunReport) -> bool:
    """True when somebody asked to stop: no window is with the acquirer now, and none is sent any more."""
    report.stopped = report.stopped or place.stop.asked
    return report.stopped


def _charge_waiting(
    place: Workplace,
    till: Till,
    tables: Tables,
    bundle: BundleRecord,
    batch_key: SealingKey,
    report: RunReport,
    charged: Callable[[int], None],
    *,
    again: bool,
) -> None:
    tables_in_turn, frames = cycle(tables), numbered(envelopes_of(place, bundle))

    def open_cards(window: list[orders.WaitingOrder]) -> OpenedWindow:
        return _open_cards(window, frames, next(tables_in_turn), batch_key, now=place.clock())

    for window in one_ahead(_waiting_windows(place, bundle, again=again), open_cards):
        outcomes = charge_window(place, till, window, report)
        charged(len(window.orders))
        sent = outcomes[len(window.decided) :]
        if len(sent) == place.window and all(outcome.rule == NO_ANSWER for outcome in sent):
            report.acquirer_silent = True
        if stops(place, report) or report.acquirer_silent:
            return


def charge_window(place: Workplace, till: Till, window: OpenedWindow, report: RunReport) -> Sequence[Settled]:
    """Charge a window, count its outcomes, and take at once what is not taken at dispatch."""
    charged = charge(till, window, now=place.clock())
    report.add(charged.outcomes, {order.order_id: (order.amount, order.currency) for order in window.orders})
    report.add_operations(operations.send(till, window.cards, charged.owed, repeat=False, now=place.clock()))
    report.acquirer_silent = report.acquirer_silent or charged.unsent > 0
    return charged.outcomes


def _waiting_windows(
    place: Workplace, bundle: BundleRecord, *, again: bool
) -> Iterator[list[orders.WaitingOrder]]:
    after = -1
    while window := orders.waiting(
        place.ledger,
        node=bundle.node,
        sequence=bundle.sequence,
        again=again,
        after=after,
        limit=place.window,
    ):
        after = window[-1].position
        yield window


def _open_cards(
    window: list[orders.WaitingOrder],
    frames: Iterator[tuple[int, bytes]],
    cards: CardTable,
    batch_key: SealingKey,
    *,
    now: int,
) -> OpenedWindow:
    """Open a window's cards into locked slots and judge each against its order."""
    today = datetime.fromtimestamp(now, UTC)
    ready: list[ReadyOrder] = []
    decided: list[Settled] = []
    for order in window:
        envelope = decode_envelope(next(raw for position, raw in frames if position == order.position))
        card = cards.open(len(ready), envelope.card_box, batch_key)
        if order.attempts >= MAX_ATTEMPTS:
            decided.append(_decided(order, OrderState.ORDER_AGAIN, Reason.TRY_LATER, "CHARGE-GIVEN-UP"))
        elif isinstance(card, str):
            # No card will ever come out of this box: nothing can be waited for.
            decided.append(_decided(order, OrderState.ORDER_AGAIN, Reason.NOT_READABLE, card))
        elif fault := card_fault(
            card,
            header_digest=header_digest(envelope.header),
            order_box_digest=order_box_digest(envelope.order_box),
            amount=order.amount,
            currency=order.currency,
        ):
            decided.append(_decided(order, OrderState.QUARANTINED, Reason.UNDER_REVIEW, fault))
        elif expired(card, year=today.year, month=today.month):
            decided.append(card_expired(OrderId(order.order_id)))
        else:
            ready.append(ReadyOrder(order=order, slot=len(ready), card=card))
    zero_stack()  # this thread's stack is where the boxes were opened
    return OpenedWindow(orders=window, ready=ready, decided=decided, cards=cards)


def _decided(order: orders.WaitingOrder, state: OrderState, reason: Reason, rule: str) -> Settled:
    return Settled(order_id=OrderId(order.order_id), state=state, reason=reason, rule=rule)


def card_expired(order_id: OrderId) -> Settled:
    """The outcome of an order whose card expired before it could be charged."""
    return Settled(
        order_id=order_id, state=OrderState.DECLINED, reason=Reason.CARD_EXPIRED, rule="CARD-EXPIRED"
    )


def settle_bundle(place: Workplace, cards: CardTable, bundle: BundleRecord, report: RunReport) -> None:
    """The end of a bundle: keep unanswered cards under hold keys, destroy the batch key, owe the receipt."""
    ledger, ring, now = place.ledger, place.keystore.ring, place.clock()
    key_id = bytes.fromhex(bundle.batch_key or "")
    batch_key = ring.batch_key(key_id)
    if batch_key is not None:
        held = holding.hold_unanswered(
            ledger,
            ring,
            cards,
            bundle,
            batch_key,
            envelopes_of(place, bundle),
            destroy_at=now + place.hold_seconds,
            now=now,
        )
        cards.wipe()
        say_emptied(ledger, [(key_id, {"orders": bundle.orders, "held": held})], now=now)
        report.keys_destroyed += destroy_keys(place, [key_id], DestroyReason.BATCH_DONE)
    with ledger.atomic():
        bundles.mark_settled(ledger, bundle, now=now)
    shutil.rmtree(spooled_copy(place, bundle), ignore_errors=True)
