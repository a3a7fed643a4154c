"""An order's status as the customer sees it, and its entity tag.

Why here: the API and the pages must name the same states for the same order.
Must not: invent a state; before the first return there are two, after it those of FORMAT.md.
"""

from __future__ import annotations

import hashlib

from intake.forms import OrderStatus, Status

_PENDING = frozenset({OrderStatus.RECEIVED, OrderStatus.IN_TRANSIT, OrderStatus.HELD, OrderStatus.AUTHORISED})
_TAG_SIZE = 8


def is_pending(status: Status) -> bool:
    """True while the status will change by itself."""
    return status.status in _PENDING


def entity_tag(status: Status) -> str:
    """A strong entity tag of the status document."""
    text = f"{status.order_id} {status.status} {status.reason} {status.changed_at}"
    return f'"{hashlib.blake2b(text.encode(), digest_size=_TAG_SIZE).hexdigest()}"'


def matches(if_none_match: str, tag: str) -> bool:
    """True when the If-None-Match header names ``tag`` (weak comparison) or ``*``."""
    named = (part.strip().removeprefix("W/") for part in if_none_match.split(","))
    return any(part in (tag, "*") for part in named)
