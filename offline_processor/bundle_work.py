"""The work on one accepted bundle: screen its orders, charge them, settle it.

Why here: three passes over one envelopes file, each resumable from what the ledger holds.
Must not: decide about an order or an answer; opening, screening and charging do.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice

from keys.errors import RuleError
from keys.private.unseal import SealingKey
from keys.ring_index import DestroyReason
from offline_processor import holding
from offline_processor.attempts import ReadyOrder, Till, charge
from offline_processor.cards import CardTable
from offline_processor.frames import numbered
from offline_processor.ledger import bundles, orders
from offline_processor.ledger.bundles import BundleRecord, BundleState
from offline_processor.opening import open_order
from offline_processor.screening import card_fault, expired, screen
from offline_processor.stages import OpenedOrder, OrderState, Quarantined, ScreenedOrder, Settled
from offline_processor.workplace import RunReport, Workplace, destroy_keys, envelopes_of, spooled_copy
from transfer.wire.envelope import decode_envelope
from transfer.wire.header import decode_header, header_digest
from transfer.wire.ids import OrderId
from transfer.wire.records import Outcome, Reason
from transfer.wire.sealing import order_box_digest


def screen_bundle(place: Workplace, bundle: BundleRecord, report: RunReport) -> None:
    """Open and judge every order compartment once, a window in a transaction, from where an earlier run stopped."""
    if bundle.state is not BundleState.ACCEPTED:
        return
    ledger, done = place.ledger, bundle.screened_to
    envelopes = envelopes_of(place, bundle)
    frames = numbered(envelopes, done) if bundle.orders else iter(())
    batch_key_id = bytes.fromhex(bundle.batch_key or "")
    order_keys = {order.key.key_id: order.key for order in place.keystore.order_keys}
    while window := list(islice(frames, place.window)):
        if bundle.outcome is Outcome.EXPIRED:
            with ledger.atomic():
                orders.stage_expired(
                    ledger, _headers(window), node=bundle.node, sequence=bundle.sequence, now=place.clock()
                )
                done += len(window)
                bundles.mark_screened(ledger, bundle, screened_to=done, finished=False)
        else:
            judged = [_judge(position, raw, order_keys, batch_key_id) for position, raw in window]
            with ledger.atomic():
                report.known_already += orders.stage(
                    ledger, judged, node=bundle.node, sequence=bundle.sequence, now=place.clock()
                )
                done += len(window)
                bundles.mark_screened(ledger, bundle, screened_to=done, finished=False)
            for order in judged:
                if isinstance(order, Quarantined):
                    report.outcomes[OrderState.QUARANTINED.value] += 1
                    report.rules[order.rule] += 1
        place.progress("screening", done, bundle.orders)
    with ledger.atomic():
        bundles.mark_screened(ledger, bundle, screened_to=done, finished=True)


def _judge(
    position: int, raw: bytes, order_keys: Mapping[bytes, SealingKey], batch_key_id: bytes
) -> ScreenedOrder | Quarantined:
    opened = open_order(raw, position=position, order_keys=order_keys, batch_key_id=batch_key_id)
    return screen(opened) if isinstance(opened, OpenedOrder) else opened


def _headers(window: list[tuple[int, bytes]]) -> list[tuple[int, str, bytes]]:
    headers = []
    for position, raw in window:
        try:
            header = decode_header(decode_envelope(raw).header)
        except RuleError:
            continue  # nobody can be answered about an order whose id is unreadable
        headers.append((position, header.order_id.hex(), header.basket_digest))
    return headers


def charge_bundle(place: Workplace, till: Till, bundle: BundleRecord, report: RunReport) -> None:
    """Charge the waiting orders of a bundle, a window at a time; stop when a whole window got no answer."""
    ledger, after, done = place.ledger, -1, 0
    batch_key: SealingKey | None = None
    frames: Iterator[tuple[int, bytes]] = iter(())
    while window := orders.waiting(
        ledger, node=bundle.node, sequence=bundle.sequence, after=after, limit=place.window
    ):
        if batch_key is None:
            batch_key = place.keystore.ring.batch_key(bytes.fromhex(bundle.batch_key or ""))
            if batch_key is None:
                _settle_keyless(place, window, report)
                continue
            frames = numbered(envelopes_of(place, bundle), window[0].position)
        ready, decided = _open_window(place, till.cards, window, frames, batch_key)
        outcomes = charge(till, ready, decided, now=place.clock())
        report.add(outcomes, {order.order_id: (order.amount, order.currency) for order in window})
        after = window[-1].position
        done += len(window)
        place.progress("charging", done, bundle.orders)
        if ready and all(
            outcome.state is OrderState.HELD for outcome in outcomes[len(decided) :]
        ) and len(window) == place.window:
            report.acquirer_silent = True
            return


def _settle_keyless(place: Workplace, window: list[orders.WaitingOrder], report: RunReport) -> None:
    again = [
        Settled(
            order_id=OrderId(order.order_id),
            state=OrderState.ORDER_AGAIN,
            reason=Reason.EXPIRED,
            rule="KEY-DESTROYED",
        )
        for order in window
    ]
    with place.ledger.atomic():
        orders.settle(place.ledger, again, now=place.clock())
    report.add(again, {})


def _open_window(
    place: Workplace,
    cards: CardTable,
    window: list[orders.WaitingOrder],
    frames: Iterator[tuple[int, bytes]],
    batch_key: SealingKey,
) -> tuple[list[ReadyOrder], list[Settled]]:
    """Open a window's cards into locked slots and judge each against its order."""
    today = datetime.fromtimestamp(place.clock(), UTC)
    ready: list[ReadyOrder] = []
    decided: list[Settled] = []
    for order in window:
        raw = next(raw for position, raw in frames if position == order.position)
        envelope = decode_envelope(raw)
        slot = len(ready)
        card = cards.open(slot, envelope.card_box, batch_key)
        order_id = OrderId(order.order_id)
        if isinstance(card, str):
            # No card will ever come out of this box: nothing can be waited for.
            decided.append(
                Settled(order_id=order_id, state=OrderState.ORDER_AGAIN, reason=Reason.NOT_READABLE, rule=card)
            )
            continue
        fault = card_fault(
            card,
            header_digest=header_digest(envelope.header),
            order_box_digest=order_box_digest(envelope.order_box),
            amount=order.amount,
            currency=order.currency,
        )
        if fault:
            decided.append(
                Settled(
                    order_id=order_id, state=OrderState.QUARANTINED, reason=Reason.UNDER_REVIEW, rule=fault
                )
            )
        elif expired(card, year=today.year, month=today.month):
            decided.append(
                Settled(
                    order_id=order_id, state=OrderState.DECLINED, reason=Reason.CARD_EXPIRED, rule="CARD-EXPIRED"
                )
            )
        else:
            ready.append(ReadyOrder(order=order, slot=slot, card=card))
    return ready, decided


def settle_bundle(place: Workplace, cards: CardTable, bundle: BundleRecord, report: RunReport) -> None:
    """The end of a bundle: keep unanswered cards under hold keys, destroy the batch key, owe the receipt."""
    ledger, ring, now = place.ledger, place.keystore.ring, place.clock()
    key_id = bytes.fromhex(bundle.batch_key or "")
    batch_key = ring.batch_key(key_id)
    if batch_key is not None:
        holding.hold_unanswered(
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
        report.keys_destroyed += destroy_keys(place, [key_id], DestroyReason.BATCH_DONE)
    with ledger.atomic():
        bundles.mark_settled(ledger, bundle, now=now)
    shutil.rmtree(spooled_copy(place, bundle), ignore_errors=True)
