"""Until when an authorisation may be taken, and which come to their end while their goods are still here.

Why here: dispatch, expiry, the vault's deadlines and the operator's warning go by the same times.
Must not: change anything, or count days in any other way than schemes and configuration do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from offline_processor.config import ChargingConfig
from offline_processor.ledger.ledger import Ledger
from offline_processor.schemes import authorisation_days

_DAY: Final = 86_400
WARNED_SECONDS: Final = 2 * _DAY
"""So long before its end a person is told of it."""

_STANDING: Final = (
    "SELECT o.order_id, o.card, o.release_at, l.attempt, l.sent_at, l.currency, l.amount - (SELECT"
    " coalesce(sum(amount), 0) FROM operation AS p WHERE p.number = o.number AND p.attempt = l.attempt"
    " AND p.kind = 'capture' AND p.state != 'failed')"
    " FROM orders AS o JOIN live_attempt AS l USING (number)"
    " WHERE o.state = 'authorised' AND l.state = 'approved' AND l.sent_at <= ?"
    " AND NOT EXISTS (SELECT 1 FROM operation AS v WHERE v.number = o.number AND v.attempt = l.attempt"
    " AND v.kind = 'void' AND v.state != 'failed') ORDER BY o.number"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An authorisation of which ``amount`` (minor units) is neither taken nor released; times in Unix seconds.

    ``release_at``: when its goods can go at the earliest, 0 for at once; ``until``: when it may be taken no more.
    """

    order_id: str
    amount: int
    currency: str
    release_at: int
    sent_at: int
    until: int


def taken_until(card: str, sent_at: int, *, attempt: int, charging: ChargingConfig) -> int:
    """Until when (Unix seconds) an authorisation that was sent at that time may be taken.

    ``card``: its first six digits and what follows; ``attempt``: 1 for the order's first.
    """
    days = authorisation_days(card, again=attempt > 1, agreed=charging.authorisation_days)
    return sent_at + days * _DAY


def standing(ledger: Ledger, charging: ChargingConfig, *, until: int) -> list[Standing]:
    """The authorisations that are not taken whole, and may be no more from ``until`` on; oldest order first."""
    found = (
        Standing(
            order_id=order_id,
            amount=left,
            currency=currency,
            release_at=release_at,
            sent_at=sent_at,
            until=taken_until(card, sent_at, attempt=attempt, charging=charging),
        )
        for order_id, card, release_at, attempt, sent_at, currency, left in list(
            ledger.rows(_STANDING, (until - _DAY,))  # none ends in less than a day
        )
    )
    return [item for item in found if item.until <= until]


def ending(ledger: Ledger, charging: ChargingConfig, *, now: int) -> list[Standing]:
    """Those that end soon although their goods can go: a person has to send or to cancel them."""
    found = standing(ledger, charging, until=now + WARNED_SECONDS)
    # A pre-order whose goods come later is authorised anew when they do.
    return [item for item in found if now < item.until and item.release_at < item.until]
