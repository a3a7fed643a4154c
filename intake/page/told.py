"""What customers are told about their order: one text a state and reason, honest about how long each takes.

Why here: the status page shows these, and a test holds them against every state and reason there is.
Must not: promise what the software cannot know, or say why a bank refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from intake.forms import OrderStatus
from transfer.wire.records import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """``heading`` and ``text`` of a state; ``step``: how far along, 0 for none."""

    heading: str
    text: str
    step: int


STEPS = ("Received", "On its way to our offline server", "Being processed", "Payment accepted", "Dispatched")


def every(hours: int) -> str:
    """``hours`` between two carryings, in words."""
    if hours % 24 == 0:
        days = hours // 24
        return "once a day" if days == 1 else f"every {days} days"
    return "once an hour" if hours == 1 else f"every {hours} hours"


def within(days: int) -> str:
    """``days`` that something takes at most as a rule, in words."""
    return "within a day" if days == 1 else f"within {days} days"


def told(hours: int, days: int) -> Mapping[OrderStatus, Told]:
    """The texts by state. ``hours``: how often orders are carried to the offline server.

    ``days``: how soon after the payment records are sent, as a rule.
    """
    often, soon = every(hours), within(days)
    return {
        OrderStatus.RECEIVED: Told(
            heading="We have received your order",
            text="It is sealed and waits to be carried to our offline server. Somebody carries the orders over by "
            f"hand, usually {often}. Your card has not been charged yet.",
            step=1,
        ),
        OrderStatus.IN_TRANSIT: Told(
            heading="Your order is on its way to our offline server",
            text="It is being carried there or is being processed. The answer comes back the same way, usually with "
            f"the next carrying ({often}). Until then this page cannot know whether your card was charged.",
            step=2,
        ),
        OrderStatus.HELD: Told(
            heading="Your order is being processed",
            text="It has reached our offline server, and its payment is not settled yet. We see to it within three "
            "days. Please do not order again: that could charge you twice.",
            step=3,
        ),
        OrderStatus.AUTHORISED: Told(
            heading="Your payment is authorised",
            text=f"Your bank has reserved the amount. It is taken only when we send your records, usually {soon}, and "
            "this page then says so.",
            step=4,
        ),
        OrderStatus.PAID: Told(
            heading="Your order is paid",
            text="Your bank has accepted the payment, and your card's security code has been destroyed. We pack your "
            f"records next and send them, usually {soon}.",
            step=4,
        ),
        OrderStatus.DECLINED: Told(
            heading="Your payment was declined",
            text="Your card was not charged, and nothing will be sent.",
            step=0,
        ),
        OrderStatus.ORDER_AGAIN: Told(
            heading="Please order again",
            text="Your order could not be processed, and your card was not charged. Nothing of your card is kept.",
            step=0,
        ),
        OrderStatus.DISPATCHED: Told(
            heading="Your records are on their way to you",
            text="We have handed the parcel to the post. How long the post takes depends on where you live, and this "
            "page cannot see it.",
            step=5,
        ),
        OrderStatus.REFUNDED: Told(
            heading="Your payment is cancelled or returned",
            text="We have told your bank to give the amount back, or not to take it. Most banks show that within five "
            "to ten working days.",
            step=0,
        ),
    }


REASONS: Mapping[Reason, str] = {
    Reason.NONE: "",
    Reason.UNDER_REVIEW: "A person looks at it before it goes on.",
    Reason.CARD_DECLINED: "Your bank did not accept this payment. Another card may work; only your bank can say why.",
    Reason.CARD_EXPIRED: "The card has expired. Please use another one.",
    Reason.NEW_CARD: "Your bank asks for a new card: this one has been replaced or blocked.",
    Reason.TRY_LATER: "Your bank could not accept it for now. The same card may work later.",
    Reason.CALL_BANK: "Your bank wants to speak with you first. Please call the number on your card.",
    Reason.NOT_READABLE: "Our offline server could not read the order. The fault is ours, not your card's.",
    Reason.EXPIRED: "It reached our offline server too late: by then we had destroyed the key that opens your card.",
}
