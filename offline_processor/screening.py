"""Judging an opened order and its card: do all parts belong together, can it be charged at all.

Why here: pure rules on typed values, so that every rule has a test of its own (RULES.md).
Must not: do I/O, keep a card, or know the acquirer.
"""

from __future__ import annotations

from iso4217 import Currency

from keys.public.digest import equal
from offline_processor.stages import OpenedOrder, Quarantined, ScreenedOrder
from transfer.wire.basket import basket_digest
from transfer.wire.card import CardView

_CURRENCIES = frozenset(currency.code for currency in Currency if currency.exponent is not None)


def screen(opened: OpenedOrder) -> ScreenedOrder | Quarantined:
    """Check an order compartment against its header, its basket digest and its own total."""
    order = opened.compartment
    rule = ""
    if not equal(order.header.encode(), opened.header_digest.hex().encode()):
        rule = "ORDER-HEADER"
    elif not equal(
        basket_digest(nonce=bytes.fromhex(order.nonce), items=order.items, total=order.total),
        opened.basket_digest,
    ):
        rule = "ORDER-BASKET-DIGEST"
    elif sum(item.quantity * item.price for item in order.items) != order.total.amount:
        rule = "ORDER-TOTAL"
    elif order.total.currency not in _CURRENCIES:
        rule = "ORDER-CURRENCY"
    if rule:
        return Quarantined(
            position=opened.position, order_id=opened.order_id, basket_digest=opened.basket_digest, rule=rule
        )
    return ScreenedOrder(
        position=opened.position,
        order_id=opened.order_id,
        basket_digest=opened.basket_digest,
        amount=order.total.amount,
        currency=order.total.currency,
        compartment=order,
    )


def card_fault(
    card: CardView, *, header_digest: bytes, order_box_digest: bytes, amount: int, currency: str
) -> str:
    """The rule by which this card does not belong to this order, or an empty string."""
    if not equal(card.header_digest, header_digest):
        return "CARD-HEADER"
    if not equal(card.order_box_digest, order_box_digest):
        return "CARD-ORDER-BOX"
    if card.amount != amount or card.currency != currency:
        return "ORDER-AMOUNT"
    return ""


def expired(card: CardView, *, year: int, month: int) -> bool:
    """True after the last moment of the printed month, judged when charging (``CARD-EXPIRED``)."""
    return (card.expiry_year, card.expiry_month) < (year, month)
