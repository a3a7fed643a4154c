"""Counters in memory that all workers share: how often each tag was seen in a sliding window.

Why here: a limit that each worker counts for itself is as many limits as there are workers.
Must not: grow with the number of clients, keep anything but counts of keyed digests, or be waited for on a disk.

The window slides by the usual estimate: what was counted in the window before counts by the part of it that is still
within reach. The table has a fixed number of places in buckets; where a bucket is full, the tag that was seen least and
longest ago gives way, so that a flood of addresses forgets those that did least.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Sequence

import msgspec

_BUCKETS = 8192  # a power of two
_PLACES = 8
_PLACE = struct.Struct("<QIII")  # tag, number of the window, count in it, count in the one before
_BUCKET = struct.Struct("<" + "QIII" * _PLACES)
_FIELDS = 4
KEY_SIZE = 32
_SIZE = KEY_SIZE + _BUCKETS * _BUCKET.size
_COUNT_MAXIMUM = 2**32 - 1


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """At most ``limit`` in any ``seconds`` (1 or more each)."""

    limit: int
    seconds: int


class RateTable:
    """The table in the memory that ``make_table`` made. Not for threads: the event loop counts."""

    def __init__(self, memory: int) -> None:
        self._lock = memory
        self._memory = mmap.mmap(memory, _SIZE)
        self.key = bytes(self._memory[:KEY_SIZE])

    def take(self, wanted: Sequence[tuple[int, Rate]], now: float) -> int:
        """Count one for each tag (64 bits, not 0), or none at all: 0, or after how many seconds to come again."""
        # A lock of the process, so that it does not matter that all workers inherited one file description.
        fcntl.lockf(self._lock, fcntl.LOCK_EX, 1)
        try:
            found = [self._find(tag, rate, now) for tag, rate in wanted]
            waits = [
                wait
                for (_, rate), (_, _, current, before) in zip(wanted, found, strict=True)
                if (wait := _wait(rate, now, current, before))
            ]
            if waits:
                return max(waits)
            for (tag, _), (at, window, current, before) in zip(wanted, found, strict=True):
                _PLACE.pack_into(self._memory, at, tag, window, min(current + 1, _COUNT_MAXIMUM), before)
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN, 1)
        return 0

    def wait(self, wanted: Sequence[tuple[int, Rate]], now: float) -> int:
        """What ``take`` would answer, without counting; read without the lock: an answer may be one request old."""
        longest = 0
        for tag, rate in wanted:
            _, _, current, before = self._find(tag, rate, now)
            longest = max(longest, _wait(rate, now, current, before))
        return longest

    def _find(self, tag: int, rate: Rate, now: float) -> tuple[int, int, int, int]:
        """Where the tag's place is, and window, count and count before as of now."""
        window = int(now) // rate.seconds
        start = KEY_SIZE + (tag & (_BUCKETS - 1)) * _BUCKET.size
        bucket = _BUCKET.unpack_from(self._memory, start)
        tags = bucket[::_FIELDS]
        if tag in tags:
            place = tags.index(tag)
            _, counted, current, before = bucket[place * _FIELDS : (place + 1) * _FIELDS]
            if counted == window - 1:
                current, before = 0, current
            elif counted != window:
                current = before = 0
        else:
            place = tags.index(0) if 0 in tags else _least(bucket)
            current = before = 0
        return start + place * _PLACE.size, window, current, before


def make_table(key: bytes) -> int:
    """The descriptor of a fresh table in memory, with the ``key`` (32 bytes) under which this start's tags are made."""
    if len(key) != KEY_SIZE:
        raise ValueError("a key of 32 bytes is wanted")
    descriptor = os.memfd_create("rates", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, _SIZE)
    os.pwrite(descriptor, key, 0)
    return descriptor


def _least(bucket: Sequence[int]) -> int:
    """The place whose tag gives way: the one that was counted least, of the oldest window among those."""
    return min(
        range(_PLACES),
        key=lambda place: (
            bucket[place * _FIELDS + 2] + bucket[place * _FIELDS + 3],
            bucket[place * _FIELDS + 1],
        ),
    )


def _wait(rate: Rate, now: float, current: int, before: int) -> int:
    """Whole seconds until one more fits; 0 when it fits now."""
    passed = now % rate.seconds
    room = rate.limit - 1 - current
    if room >= before * (1 - passed / rate.seconds):
        return 0
    if room >= 0:
        # The window before slides out far enough while this one lasts.
        until = rate.seconds * (1 - room / before) - passed
    else:
        until = rate.seconds - passed + rate.seconds * max(0.0, 1 - (rate.limit - 1) / current)
    return int(until) + 1
