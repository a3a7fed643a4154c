"""Silence: what this node should have heard from the offline side by now, and what it should have sent.

Why here: /readyz, `intake status` and `spool-sync status` must raise the same alarm by the same clock.
Must not: guess who is at fault; a lost medium, a dead timer and a stopped machine look the same from here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from transfer.register import Register
from transfer.sync.node import LAST_RETURN
from transfer.sync.notices import DAY, Notice

_LOOK_AGAIN = 60  # seconds; /readyz is asked more often than anything here changes


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Unix seconds, 0 for none: newest return, oldest bundle without a receipt, oldest order that waits."""

    returned_at: int
    unanswered_since: int
    waiting_since: int


def heard(register: Register) -> Heard:
    """What the register knows."""
    last = register.fact(LAST_RETURN) or {}
    return Heard(
        returned_at=last.get("time", 0),
        unanswered_since=register.unanswered_since(),
        waiting_since=register.waiting_since(),
    )


def of_silence(found: Heard, *, now: int, days: int) -> list[Notice]:
    """RETURN-SILENT: nothing came although a bundle waits for an answer. PUSH-SILENT: orders wait for a push."""
    notices = []
    # A bundle that was cut while the clock was ahead tells nothing of when: then the newest return does.
    quiet_since = max(found.unanswered_since if found.unanswered_since <= now else 0, found.returned_at)
    if found.unanswered_since and quiet_since and now - quiet_since > days * DAY:
        notices.append(
            Notice(
                rule="RETURN-SILENT",
                message=f"nothing was heard from the offline side for {(now - quiet_since) // DAY} days, "
                f"and it should be every {days}",
                remedy="ask its operator; if a medium was lost, spool-sync push writes all unanswered onto another",
            )
        )
    if found.waiting_since and now - found.waiting_since > days * DAY:
        notices.append(
            Notice(
                rule="PUSH-SILENT",
                message=f"orders have waited in the spool for {(now - found.waiting_since) // DAY} days",
                remedy="see whether spool-sync watch or its timer still runs, and whether a medium is in",
            )
        )
    return notices


def silence_of(read: Callable[[], Heard], *, days: int) -> Callable[[int], list[Notice]]:
    """``of_silence`` at any time, with a look at the register once a minute."""
    looked_at, found = 0, Heard(returned_at=0, unanswered_since=0, waiting_since=0)

    def notices(now: int) -> list[Notice]:
        nonlocal looked_at, found
        if not looked_at <= now < looked_at + _LOOK_AGAIN:
            looked_at, found = now, read()
        return of_silence(found, now=now, days=days)

    return notices
