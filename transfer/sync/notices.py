"""What a person must know about a node's keys, clock and life: one list, whoever shows it.

Why here: `intake status`, /readyz, `spool-sync status`, push and pull must not differ in what they warn of.
Must not: read a file or a clock; whoever shows a notice gives the facts.

A notice that ``stops`` means that no order can be taken: /readyz answers 503 exactly when there is one.
A doubtful clock stops nothing: the offline side judges by its own, and destroys keys on time whatever happens here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from keys.errors import RuleError

LOW_KEYS = 5
DAY = 86_400
ORDER_KEY_SOON = 14 * DAY
BATCH_KEYS_SOON = 3 * DAY
BUNDLE_LATE = 7 * DAY
CLOCK_TOLERANCE = 300
"""Seconds that the two sides' clocks may differ."""
SILENCE = 30 * DAY
"""After so long without a word from the offline side, either the clock has jumped or nobody carries returns."""

_CARRY = "run spool-sync push, carry the medium to the offline side, and pull the return that it writes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One thing that a person must know: rule id, what is so, what to do. ``stops``: no order can be taken."""

    rule: str
    message: str
    remedy: str
    stops: bool = False

    @property
    def text(self) -> str:
        return f"{self.rule}: {self.message}"

    @classmethod
    def of(cls, error: RuleError, *, stops: bool) -> Notice:
        return cls(rule=error.rule, message=error.message, remedy=error.remedy, stops=stops)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """What there is to seal to. Times are Unix seconds, 0 for never.

    ``order_ends``: `seal_until` of each order key; ``unused_ends``: of each batch key that no bundle has used.
    Revoked keys are in neither. ``heard_at``: the newest time that the offline side has signed.
    """

    order_ends: tuple[int, ...] = ()
    unused_ends: tuple[int, ...] = ()
    heard_at: int = 0

    def keys_left(self, now: int) -> int:
        return sum(now < end for end in self.unused_ends)


def of_keys(facts: KeyFacts, now: int) -> list[Notice]:
    """KEYS-OUT, KEYS-LOW, KEYS-EXPIRING, ORDER-KEY-EXPIRED, ORDER-KEY-EXPIRING."""
    found = []
    left = facts.keys_left(now)
    expired = len(facts.unused_ends) - left
    if not left:
        also = f" ({expired} expired unused)" if expired else ""
        found.append(
            Notice(
                rule="KEYS-OUT",
                message=f"no batch key is left{also}: no order can be taken until a return brings new ones",
                remedy=_CARRY,
                stops=True,
            )
        )
    elif left < LOW_KEYS:
        found.append(Notice(rule="KEYS-LOW", message=f"only {left} batch keys are left", remedy=_CARRY))
    last = max(facts.unused_ends, default=0)
    if left and last - now < BATCH_KEYS_SOON:
        found.append(
            Notice(
                rule="KEYS-EXPIRING",
                message=f"all batch keys expire within {_days(last - now)}",
                remedy=_CARRY,
            )
        )
    return found + _of_order_key(max(facts.order_ends, default=0), now)


def of_clock(facts: KeyFacts, now: int) -> list[Notice]:
    """CLOCK-DOUBT: now is before what the offline side has signed, or implausibly long after it."""
    if not facts.heard_at:
        return []
    if now < facts.heard_at - CLOCK_TOLERANCE:
        what = f"this clock is {_span(facts.heard_at - now)} behind what the offline side has signed"
    elif now > facts.heard_at + SILENCE:
        what = (
            f"the offline side's newest word is {_span(now - facts.heard_at)} old: the clock may have jumped"
        )
    else:
        return []
    return [
        Notice(
            rule="CLOCK-DOUBT",
            message=what,
            remedy="compare this machine's clock, and the offline machine's, with a watch; if both are right, carry "
            "a bundle over and a return back",
        )
    ]


def late_bundles(cut_at: Iterable[tuple[int, int]], now: int) -> list[Notice]:
    """BUNDLE-LATE, for the first of these (sequence, time of the cut) that waits too long for its receipt."""
    late = sorted(sequence for sequence, time in cut_at if now - time > BUNDLE_LATE)
    if not late:
        return []
    message = f"no receipt for bundle {late[0]} for more than {_days(BUNDLE_LATE)}"
    return [Notice(rule="BUNDLE-LATE", message=message, remedy=_CARRY)]


def _of_order_key(end: int, now: int) -> list[Notice]:
    if end <= now:
        message = (
            "no order key may be sealed to any more: no order can be taken until a return brings a new one"
        )
        remedy = f"have the offline side rotate its order key (key-ceremony rotate order-key); then {_CARRY}"
        return [Notice(rule="ORDER-KEY-EXPIRED", message=message, remedy=remedy, stops=True)]
    if end - now < ORDER_KEY_SOON:
        message = f"the order key expires within {_days(end - now)}"
        remedy = f"have the offline side rotate its order key (key-ceremony rotate order-key); then {_CARRY}"
        return [Notice(rule="ORDER-KEY-EXPIRING", message=message, remedy=remedy)]
    return []


def _days(seconds: int) -> str:
    count = -(-seconds // DAY)
    return f"{count} day" if count == 1 else f"{count} days"


def _span(seconds: int) -> str:
    if seconds >= DAY:
        return _days(seconds)
    return f"{seconds // 60} minutes"
