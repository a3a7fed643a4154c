"""Holding: cards without an answer are sealed again, each to a hold key of its own, so that batch keys die on time.

Why here: the life of hold keys from making to destruction, with the ledger and the ring kept in step.
Must not: let a hold key outlive an answer or its limit, or count a card as held before both files are durable.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from keys.errors import RuleError
from keys.private.unseal import SealingKey
from keys.ring import KeyRing
from offline_processor.cards import CardTable
from offline_processor.frames import positions
from offline_processor.ledger import orders
from offline_processor.ledger.bundles import BundleRecord
from offline_processor.ledger.ledger import Ledger
from offline_processor.outcomes import ANSWERED
from offline_processor.stages import OrderState, Settled
from transfer.wire.envelope import decode_envelope
from transfer.wire.header import SUITE_SEALED_BOX, decode_header
from transfer.wire.ids import OrderId
from transfer.wire.records import Reason

_ANSWERED = ", ".join(f"'{rule}'" for rule in sorted(ANSWERED))
HOLD_KEYS = 2_000
"""The most hold keys that live at a time: a bundle full of bad orders must not fill the key ring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCard:
    """A card waiting under its hold key. ``key_id`` 16 bytes; ``destroy_at`` Unix seconds."""

    key_id: bytes
    box: bytes
    destroy_at: int


def hold_unanswered(
    ledger: Ledger,
    ring: KeyRing,
    cards: CardTable,
    bundle: BundleRecord,
    batch_key: SealingKey,
    envelopes: Path,
    *,
    destroy_at: int,
    now: int,
) -> int:
    """Seal again every card of the bundle whose order is held or quarantined; returns how many could be.

    A quarantined order whose card does not open is to be ordered again at once: there is nothing to wait for.
    At most ``HOLD_KEYS`` live at a time, orders without an answer first; beyond that a quarantined order waits
    without its card.
    """
    room = max(0, HOLD_KEYS - len(ring.hold_records()))
    wanted = {
        position: OrderId(order_id)
        for order_id, position in ledger.rows(
            "SELECT order_id, position FROM orders AS o WHERE node = ? AND sequence = ? AND state IN"  # noqa: S608
            f" ('held', 'quarantined') AND rule NOT IN ({_ANSWERED})"
            " AND NOT EXISTS (SELECT 1 FROM held_card AS h WHERE h.order_id = o.order_id)"
            " ORDER BY state, position LIMIT ?",
            (bundle.node, bundle.sequence, room),
        )
    }
    window: list[OrderId] = []
    unreadable: list[OrderId] = []
    held = 0
    for position, raw in positions(envelopes, wanted):
        card = _open(cards, len(window), raw, batch_key)
        if card is not Card.OPEN:
            unreadable += [wanted[position]] if card is Card.UNREADABLE else []
            continue
        window.append(wanted[position])
        if len(window) == cards.size:
            held += _hold_window(ledger, ring, cards, window, destroy_at=destroy_at, now=now)
            window = []
    with ledger.atomic():
        orders.settle(ledger, [_unreadable(order_id) for order_id in unreadable], now=now)
    return held + _hold_window(ledger, ring, cards, window, destroy_at=destroy_at, now=now)


class Card(Enum):
    """What a quarantined order's card is good for. OTHER: sealed in a way or to a key that is not this bundle's."""

    OPEN = 1
    UNREADABLE = 2
    OTHER = 3


def _open(cards: CardTable, slot: int, raw: bytes, batch_key: SealingKey) -> Card:
    """Open the card of an envelope into a slot."""
    try:
        envelope = decode_envelope(raw)
        header = decode_header(envelope.header)
    except RuleError:
        return Card.OTHER
    if not isinstance(cards.open(slot, envelope.card_box, batch_key), str):
        return Card.OPEN
    ours = header.suite == SUITE_SEALED_BOX and header.batch_key_id == batch_key.key_id
    return Card.UNREADABLE if ours else Card.OTHER


def _unreadable(order_id: OrderId) -> Settled:
    return Settled(
        order_id=order_id,
        state=OrderState.ORDER_AGAIN,
        reason=Reason.NOT_READABLE,
        rule="CARD-UNREADABLE",
    )


def _hold_window(
    ledger: Ledger, ring: KeyRing, cards: CardTable, window: list[OrderId], *, destroy_at: int, now: int
) -> int:
    if not window:
        return 0
    keys = ring.new_hold_keys(
        map(bytes.fromhex, window), destroy_at=destroy_at, now=now
    )  # durable before anything is sealed to them
    boxes = [cards.reseal(slot, key.public_key) for slot, key in enumerate(keys)]
    cards.wipe()
    with ledger.atomic():
        for order_id, key, box in zip(window, keys, boxes, strict=True):
            ledger.execute(
                "INSERT INTO held_card (order_id, key_id, box, destroy_at) VALUES (?, ?, ?, ?)",
                (order_id, key.key_id.hex(), box, destroy_at),
            )
            ledger.append("card-held", order_id, now, {"key": key.key_id.hex(), "destroy_at": destroy_at})
    return len(window)


def held_card(ledger: Ledger, order_id: str) -> HeldCard | None:
    """The card kept for a held order, or None."""
    row = ledger.row("SELECT key_id, box, destroy_at FROM held_card WHERE order_id = ?", (order_id,))
    return HeldCard(key_id=bytes.fromhex(row[0]), box=row[1], destroy_at=row[2]) if row else None


def due(ledger: Ledger, ring: KeyRing, *, now: int) -> tuple[list[bytes], list[bytes]]:
    """The hold keys that must die: those answered (or never recorded as held), and those at their limit."""
    limits, open_keys = {}, set()
    for key_id, state, rule, destroy_at in ledger.rows(
        "SELECT h.key_id, o.state, o.rule, h.destroy_at FROM held_card AS h JOIN orders AS o USING (order_id)"
    ):
        limits[bytes.fromhex(key_id)] = destroy_at
        if state in (OrderState.HELD, OrderState.QUARANTINED) and rule not in ANSWERED:
            open_keys.add(bytes.fromhex(key_id))
    live = [bytes.fromhex(record.key_id) for record in ring.hold_records()]
    answered = [key_id for key_id in live if key_id not in open_keys]
    return answered, [key_id for key_id in live if key_id in open_keys and limits[key_id] <= now]


def forget(ledger: Ledger, ring: KeyRing, *, now: int) -> int:
    """Drop the cards whose hold key is destroyed, in the caller's transaction; returns how many must order again.

    At the limit the CVV dies, not the order: an order that was never sent, or was reversed, becomes "order again";
    one whose outcome is not known stays held until its reversal is answered.
    """
    dead = [
        (order_id, state, live is not None or rule in ANSWERED)
        for order_id, key_id, state, rule, live in ledger.rows(
            "SELECT h.order_id, h.key_id, o.state, o.rule, l.number FROM held_card AS h"
            " JOIN orders AS o USING (order_id) LEFT JOIN live_attempt AS l ON l.number = o.number"
        )
        if ring.hold_key(bytes.fromhex(key_id)) is None
    ]
    ledger.execute_many("DELETE FROM held_card WHERE order_id = ?", [(order_id,) for order_id, _, _ in dead])
    again = [
        Settled(
            order_id=OrderId(order_id), state=OrderState.ORDER_AGAIN, reason=Reason.EXPIRED, rule="HOLD-LIMIT"
        )
        for order_id, state, goes_on in dead
        if state in (OrderState.HELD, OrderState.QUARANTINED) and not goes_on
    ]
    orders.settle(ledger, again, now=now)
    return len(again)


def expire_unopenable(ledger: Ledger, *, older_than: int, now: int) -> int:
    """Quarantined orders without a kept card, older than the limit, become "order again"; returns how many."""
    rows = ledger.rows(
        "SELECT o.order_id FROM orders AS o JOIN bundle AS b ON b.node = o.node AND b.sequence = o.sequence"
        " WHERE o.state = 'quarantined' AND b.state = 'settled' AND o.changed_at <= ?"
        " AND NOT EXISTS (SELECT 1 FROM held_card AS h WHERE h.order_id = o.order_id)",
        (older_than,),
    )
    again = [
        Settled(
            order_id=OrderId(row[0]), state=OrderState.ORDER_AGAIN, reason=Reason.EXPIRED, rule="HOLD-LIMIT"
        )
        for row in list(rows)
    ]
    if again:
        with ledger.atomic():
            orders.settle(ledger, again, now=now)
    return len(again)
