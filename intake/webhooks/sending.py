"""Passing changes on: some at a time, each until the receiver took it, ever less often while it does not.

Why here: the register keeps changes, posting sends one; when each is tried is decided here.
Must not: forget a change that no receiver took, or hold the register while it waits for the network.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from intake.errors import IntakeError
from intake.webhooks.message import headers_of, message_of
from intake.webhooks.posting import Posted, post
from intake.webhooks.settings import Endpoint
from transfer.register import Register
from transfer.register_changes import Postponed, StatusChange

# Seconds until the next try: what the specification recommends. After the last one a person decides.
WAITS = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
TOGETHER = 8
_A_ROUND = 64
_SPREAD = 10  # a tenth, so that what failed together does not come together


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round did. ``faults``: what went wrong, by rule and words of ours, with how often."""

    told: int
    postponed: int
    given_up: int
    faults: dict[str, int]

    @property
    def is_empty(self) -> bool:
        return not (self.told or self.postponed or self.given_up)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """``now``: Unix seconds. ``chance``: a number from 0 to below the one given."""

    register: Register
    endpoint: Endpoint
    now: Callable[[], int]
    chance: Callable[[int], int]

    def run_round(self) -> Round:
        """Try what is due, at most 64; what the receiver took is forgotten, the rest comes again."""
        changes = self.register.due_changes(self.now(), _A_ROUND)
        if not changes:
            return Round(told=0, postponed=0, given_up=0, faults={})
        told: list[int] = []
        postponed: list[Postponed] = []
        faults: dict[str, int] = {}
        with ThreadPoolExecutor(TOGETHER, thread_name_prefix="webhook") as threads:
            for change, posted in zip(changes, threads.map(self._post, changes), strict=True):
                if not posted.rule:
                    told.append(change.number)
                    continue
                postponed.append(Postponed(number=change.number, next_at=self._next(change, posted)))
                fault = f"{posted.rule}: {posted.detail}"
                faults[fault] = faults.get(fault, 0) + 1
        self.register.settle_changes(told, postponed)
        given_up = sum(entry.next_at is None for entry in postponed)
        return Round(told=len(told), postponed=len(postponed) - given_up, given_up=given_up, faults=faults)

    def _post(self, change: StatusChange) -> Posted:
        message = message_of(change)
        return post(self.endpoint, message, headers_of(message, self.endpoint.secrets, self.now()))

    def _next(self, change: StatusChange, posted: Posted) -> int | None:
        if posted.is_gone or change.tries >= len(WAITS):
            return None
        wait = WAITS[change.tries]
        return self.now() + max(wait + self.chance(wait // _SPREAD + 1), posted.retry_after)


@contextlib.contextmanager
def alone(state: Path) -> Iterator[None]:
    """At most one sender a node, so that no message is under way twice; ``WEBHOOK-SENDER`` when there is one."""
    descriptor = os.open(state / "webhooks.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise IntakeError(
                "WEBHOOK-SENDER",
                "another intake webhooks send is at work for this node",
                "leave it to that one",
            ) from error
        yield
    finally:
        os.close(descriptor)
