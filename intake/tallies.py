"""What each worker counts, in memory that every worker can read: requests, times, refusals, limits.

Why here: workers are processes of their own, and whichever is asked for /metrics must answer for all of them.
Must not: make a series that was not known at the start (a client must not be able to), or hold anything of a request.

Each worker has a place to itself, by a lock that ends with the process; the next worker in that place counts on, so
that no sum ever falls while the server runs.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "other")
STATUSES = (
    *(200, 202, 204, 303, 304, 400, 403, 404, 405, 408, 409, 410, 413, 415, 422, 429, 500, 503),
    0,  # any other
)
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_MICROSECONDS = 1_000_000
_WORD = 8
_WORKERS_MAXIMUM = 128
_PLACE_WORDS = 32 * 1024
_IS_USED = _PLACE_WORDS - 1  # the last word of a place says whether any worker ever had it
_OTHER = "other"
_METHOD_PLACE = {method: place for place, method in enumerate(METHODS)}
_STATUS_PLACE = {status: place for place, status in enumerate(STATUSES)}


def _place(method: str, status: int) -> int:
    """Where a method and a status are counted, from where their route begins."""
    row = _METHOD_PLACE.get(method, len(METHODS) - 1)
    return row * len(STATUSES) + _STATUS_PLACE.get(status, len(STATUSES) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Which series there are: routes as templates, rules of refusals, limits by name; "other" is last of each."""

    routes: Sequence[str]
    rules: Sequence[str]
    limits: Sequence[str]

    @property
    def words(self) -> int:
        return len(self.routes) * self._words_a_route + len(self.rules) + len(self.limits)

    @property
    def _words_a_route(self) -> int:
        return len(METHODS) * len(STATUSES) + len(BUCKETS) + 2

    def request(self, route: int, method: str, status: int) -> int:
        """Where requests of a route, a method and a status are counted."""
        return self.start(route) + _place(method, status)

    def start(self, route: int) -> int:
        """Where a route's counters begin."""
        return route * self._words_a_route

    def times(self, route: int) -> int:
        """Where a route's buckets begin: one for each bound, one above all, then the sum in microseconds."""
        return self.start(route) + len(METHODS) * len(STATUSES)

    def rule(self, place: int) -> int:
        """Where refusals by a rule are counted."""
        return self.start(len(self.routes)) + place

    def limit(self, place: int) -> int:
        """Where requests beyond a limit are counted."""
        return self.rule(len(self.rules)) + place


def layout_of(*, routes: Sequence[str], rules: Sequence[str], limits: Sequence[str]) -> Layout:
    """The layout with these names, each once, and "other" last."""

    def with_other(names: Sequence[str]) -> tuple[str, ...]:
        return (*sorted(set(names) - {_OTHER}), _OTHER)

    return Layout(routes=with_other(routes), rules=with_other(rules), limits=with_other(limits))


class Tallies:
    """One worker's counters in the memory that ``make_tallies`` made. Not for threads: the event loop counts."""

    def __init__(self, memory: int, layout: Layout) -> None:
        if layout.words > _IS_USED:
            raise ValueError("more series than there is memory for")
        self.layout = layout
        self._memory = mmap.mmap(memory, _WORKERS_MAXIMUM * _PLACE_WORDS * _WORD)
        self._all = memoryview(self._memory).cast("Q")
        place = _claim(memory)
        self._words = self._of(place)
        self._all[place * _PLACE_WORDS + _IS_USED] = 1
        self._starts = {
            name: (layout.start(place), layout.times(place)) for place, name in enumerate(layout.routes)
        }
        self._start_of_others = self._starts[_OTHER]
        self._rules = {name: place for place, name in enumerate(layout.rules)}
        self._limits = {name: place for place, name in enumerate(layout.limits)}

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request; a route that is not known is "other"."""
        words = self._words
        start, times = self._starts.get(route, self._start_of_others)
        words[start + _place(method, status)] += 1
        words[times + bisect_left(BUCKETS, seconds)] += 1
        words[times + len(BUCKETS) + 1] += max(0, int(seconds * _MICROSECONDS))

    def refusal(self, rule: str) -> None:
        """Count one refusal."""
        self._words[self.layout.rule(self._rules.get(rule, len(self.layout.rules) - 1))] += 1

    def limited(self, limit: str) -> None:
        """Count one request that was beyond a limit."""
        self._words[self.layout.limit(self._limits.get(limit, len(self.layout.limits) - 1))] += 1

    def sums(self) -> Sequence[int]:
        """Every counter, added up over all workers that ever were since the server's start."""
        used = (place for place in range(_WORKERS_MAXIMUM) if self._all[place * _PLACE_WORDS + _IS_USED])
        return [sum(counts) for counts in zip(*map(self._of, used), strict=True)]

    def _of(self, place: int) -> memoryview:
        start = place * _PLACE_WORDS
        return self._all[start : start + self.layout.words]


def make_tallies() -> int:
    """The descriptor of fresh counters in memory: they begin with the server."""
    descriptor = os.memfd_create("tallies", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, _WORKERS_MAXIMUM * _PLACE_WORDS * _WORD)
    return descriptor


def _claim(memory: int) -> int:
    """The first place that no living worker has: a lock of this process, which ends with it."""
    for place in range(_WORKERS_MAXIMUM):
        try:
            fcntl.lockf(memory, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except OSError:
            continue
        return place
    raise RuntimeError("more workers than there can be")
