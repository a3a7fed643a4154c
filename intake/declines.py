"""Who tries stolen cards: which networks' orders come back declined again and again.

Why here: no card is seen or kept, so the only trace is where orders came from and how they fared.
Must not: keep an address (a keyed digest, for a week), or hold an order up: what is noted may be lost in a crash.

Each worker appends to a file of its own a record for each new order of a customer: its id, its network's tag, the time.
When a return has come, the statuses of those orders are counted by tag. A network with several orders of which nearly
all were declined may go on ordering, but slowly.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from keys.durable import make_directory
from transfer.retention import RULES, Kept

SETTLED_MINIMUM = 5
DECLINED_PART = 0.75
_DAY = 86_400
_KEPT_DAYS = RULES[Kept.CALLER].seconds // _DAY
_NAME = "callers"
_RECORD = struct.Struct(">16sQQ")  # order id, tag, Unix seconds
_TOGETHER = 64
_AT_ONCE = 500
_DECLINED = "declined"
_CHARGED = frozenset({"authorised", "paid", "dispatched", "refunded"})
Statuses = Callable[[list[str]], Mapping[str, str]]


class Callers:
    """Where new orders came from, in the node's ``state``, written by this ``worker`` (a process id)."""

    def __init__(self, state: Path, worker: int) -> None:
        self._directory = state / _NAME
        make_directory(self._directory)
        self._worker = worker
        self._new: list[bytes] = []

    def note(self, order_id: bytes, tag: int, now: float) -> None:
        """Remember an order (16 bytes) of a tag (64 bits); it is written with some others."""
        self._new.append(_RECORD.pack(order_id, tag, int(now)))
        if len(self._new) >= _TOGETHER:
            self.flush(now)

    def flush(self, now: float) -> None:
        """Write what was noted. A disk that takes nothing costs the record, not an order."""
        if not self._new:
            return
        whole = b"".join(self._new)
        self._new.clear()
        path = self._directory / f"{int(now) // _DAY}-{self._worker}"
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, whole)
            finally:
                os.close(descriptor)

    def tags(self, now: float) -> dict[int, list[str]]:
        """The orders (ids, hex) of each tag, of the last days; what is older is removed."""
        self.erase_old(now)
        found: dict[int, list[str]] = defaultdict(list)
        for path in self._directory.iterdir():
            for order_id, tag, _ in _records(path):
                found[tag].append(order_id.hex())
        return found

    def erase_old(self, now: float) -> int:
        """Remove the days whose time is over; how many records that were."""
        oldest = int(now) // _DAY - _KEPT_DAYS + 1
        erased = 0
        for path in self._directory.iterdir():
            day = path.name.partition("-")[0]
            if not day.isdigit() or int(day) < oldest:
                erased += sum(1 for _ in _records(path))
                path.unlink(missing_ok=True)
        return erased


class Suspects:
    """The tags that may order only slowly. ``news`` changes with each return; ``statuses`` asks the register."""

    def __init__(self, callers: Callers, *, news: Callable[[], str], statuses: Statuses) -> None:
        self._callers = callers
        self._news = news
        self._statuses = statuses
        self._seen = ""
        self._tags: frozenset[int] = frozenset()

    def __contains__(self, tag: object) -> bool:
        return tag in self._tags

    def look(self, now: float) -> None:
        """Count again if there is news, or another day began. For a thread: it may take a second."""
        seen = f"{self._news()} {int(now) // _DAY}"
        if seen != self._seen:
            with contextlib.suppress(OSError):  # the next look may find the disk better
                self._tags = frozenset(self._suspicious(self._callers.tags(now)))
                self._seen = seen

    def _suspicious(self, tags: Mapping[int, list[str]]) -> Iterator[int]:
        for tag, orders in tags.items():
            if len(orders) >= SETTLED_MINIMUM and is_suspicious(self._of(orders)):
                yield tag

    def _of(self, orders: list[str]) -> Iterator[str]:
        for start in range(0, len(orders), _AT_ONCE):
            yield from self._statuses(orders[start : start + _AT_ONCE]).values()


def is_suspicious(statuses: Iterable[str]) -> bool:
    """Whether so few of an acquirer's answers are good that it is hardly one person with one bad card."""
    counts = Counter(statuses)
    declined = counts[_DECLINED]
    settled = declined + sum(counts[status] for status in _CHARGED)
    return settled >= SETTLED_MINIMUM and declined >= DECLINED_PART * settled


def _records(path: Path) -> Iterator[tuple[bytes, int, int]]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:  # another worker found it too old
        return
    yield from _RECORD.iter_unpack(content[: len(content) // _RECORD.size * _RECORD.size])
