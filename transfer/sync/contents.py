"""The envelopes file of a bundle, made of the groups of a partition.

Why here: what goes into a bundle, and that it goes in once, is decided here and nowhere else.
Must not: sign, record or delete anything.

Nearly every partition holds exactly the groups that the register has recorded, byte for byte; each order of them is
acknowledged and in no other, so they are copied as they lie. Any other partition is read order by order.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from keys.durable import write_all
from keys.public.digest import equal
from transfer.errors import TransferError
from transfer.register import Register
from transfer.spool import scan_group
from transfer.wire.envelope import frame
from transfer.wire.manifest import COUNT_LIMIT, ENVELOPES_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """An envelopes file, durable: size in bytes, SHA-256 (hex). ``repeats``: copies of an order that were left out."""

    count: int
    size: int
    sha256: str
    repeats: int = 0


def gather_whole(register: Register, key: bytes, groups: Sequence[Path], place: Path) -> Contents | None:
    """Copy the groups as they lie; None, and no file, unless they are exactly those that the register recorded."""
    recorded = register.whole_groups(key)
    if not recorded or recorded.keys() != {group.name for group in groups}:
        return None
    with _Envelopes(place) as envelopes:
        for group in groups:
            count, sha256 = recorded[group.name]
            data = group.read_bytes()
            if not equal(hashlib.sha256(data).digest(), sha256):
                break
            envelopes.add(data, count)
        else:
            return envelopes.finish()
    place.unlink()
    return None


def gather_each(
    register: Register,
    key: bytes,
    groups: Sequence[Path],
    place: Path,
    now: int,
    *,
    damaged: Callable[[Path, TransferError], None],
) -> Contents:
    """Add every order of the groups once, and only where the register says it belongs; count the others.

    A group that is not whole is handed to ``damaged`` and left out: where an envelope in it begins is not known.
    """
    ours = register.uncut_of(key)
    kept: set[str] = set()
    repeats = 0
    with _Envelopes(place) as envelopes:
        for group in groups:
            try:
                data, entries = scan_group(group)
            except TransferError as error:
                damaged(group, error)
                continue
            ids = [order_id for order_id, _, _, _ in entries]
            if not ours.keys() >= set(ids):
                # An order whose worker died between its group and its row gets its row now, so that a retry of it
                # anywhere is answered as known and it cannot come into a second bundle.
                register.index_groups(key, [group], now)
                ours |= register.uncut(key, ids)
            frames = []
            for order_id, digest, start, end in entries:
                if ours.get(order_id) == digest and order_id not in kept:
                    kept.add(order_id)
                    frames.append((start, end))
            repeats += len(entries) - len(frames)
            envelopes.add(b"".join(data[start:end] for start, end in frames), len(frames))
        return envelopes.finish(repeats)


def gather_requests(requests: Sequence[Path], place: Path) -> Contents:
    """The envelopes file of a bundle without orders: of sealed requests, each in a file of its own, or of nothing."""
    with _Envelopes(place) as envelopes:
        for request in requests:
            envelopes.add(frame(request.read_bytes()), 1)
        return envelopes.finish()


class _Envelopes:
    """A new file, written in one go and digested on the way."""

    def __init__(self, path: Path) -> None:
        self._count = self._size = 0
        self._state = hashlib.sha256()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def add(self, data: bytes, count: int) -> None:
        self._state.update(data)
        self._count += count
        self._size += len(data)
        if self._count > COUNT_LIMIT or self._size > ENVELOPES_LIMIT:
            raise TransferError("SPOOL-LIMIT", "a partition holds more than one bundle may carry")
        write_all(self._descriptor, data)

    def finish(self, repeats: int = 0) -> Contents:
        os.fsync(self._descriptor)
        return Contents(count=self._count, size=self._size, sha256=self._state.hexdigest(), repeats=repeats)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
