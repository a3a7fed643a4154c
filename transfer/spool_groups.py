"""Group files: envelopes that came together, in one immutable file of a partition.

Why here: intake writes them, the cut and every check read them, and all must mean the same by a whole one.
Must not: open or judge an envelope, or change a file once it has its name.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from keys.durable import create_durable
from keys.errors import RuleError
from keys.public.seal import KEY_ID_SIZE
from transfer.errors import TransferError
from transfer.wire.envelope import FRAME_LIMIT, LENGTH_SIZE, frame, iter_frames
from transfer.wire.header import HEADER_SIZE

GROUP_NAME = re.compile(r"g-[0-9]{8}-([0-9]{4})-[0-9a-f]{16}\.grp", re.ASCII)
UNFINISHED_NAME = re.compile(r"\.g-.*\.tmp", re.ASCII)
_BATCH_KEY_ID = slice(36, 36 + KEY_ID_SIZE)
_ORDER_ID = slice(4, 20)
_BASKET_DIGEST = slice(60, HEADER_SIZE)
_DIGEST_SIZE = 32
_LENGTH = struct.Struct(">I")
_TALLY = struct.Struct(">QQ")
GROUP_LIMIT = 9_999
_READ_SIZE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One envelope of a group: its order id (32 hex digits), basket digest (32 bytes) and whole bytes."""

    order_id: str
    basket_digest: bytes
    envelope: bytes


@dataclass(slots=True, kw_only=True)
class OpenGroup:
    """Envelopes on their way into one group file, under the partition's shared lock until the end.

    Ends by ``commit`` or ``abandon``; also a context manager, which abandons what was not committed.
    """

    batch_key_id: bytes
    sha256: bytes = b""  # of the file that ``commit`` wrote
    _directory: Path
    _lock: int
    _frames: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._frames)

    def append(self, envelope: bytes) -> None:
        """Add one envelope; ``SPOOL-KEY`` when its header names another batch key than the partition's."""
        if envelope[_BATCH_KEY_ID] != self.batch_key_id:
            raise TransferError("SPOOL-KEY", "an envelope names another batch key than its partition's")
        if len(self._frames) >= GROUP_LIMIT:
            raise TransferError("SPOOL-GROUP", f"a group holds at most {GROUP_LIMIT} envelopes")
        self._frames.append(frame(envelope))

    def commit(self, keep: Collection[int] | None = None) -> str:
        """Make the group durable under a new name, which is returned, and let go of the lock.

        ``keep``: the places (from 0) of the envelopes that are written; None for all. Nothing to write: "".
        On ``OSError`` nothing may be acknowledged; another try needs a new group, never this file again.
        """
        try:
            frames = self._frames if keep is None else [self._frames[place] for place in sorted(keep)]
            if not frames:
                return ""
            data = b"".join(frames)
            orders, size = read_tally(self._lock)
            name = f"g-{orders % 10**8:08d}-{len(frames):04d}-{secrets.token_hex(8)}.grp"
            create_durable(self._directory / name, data)
            write_tally(self._lock, orders + len(frames), size + len(data))
            self.sha256 = hashlib.sha256(data).digest()
            return name
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go of the lock; what was not committed is forgotten."""
        self._frames = []
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()


def read_group(path: Path) -> Iterator[Entry]:
    """Every envelope of a group file, in order; ``SPOOL-DAMAGED`` when it is not whole."""
    with path.open("rb", buffering=_READ_SIZE) as file:
        try:
            for envelope in iter_frames(file):
                yield Entry(
                    order_id=envelope[_ORDER_ID].hex(),
                    basket_digest=envelope[_BASKET_DIGEST],
                    envelope=envelope,
                )
        except RuleError as error:
            raise _damaged(path, error.message) from error


def scan_group(path: Path) -> tuple[bytes, list[tuple[str, bytes, int, int]]]:
    """A group file whole, and of each envelope: order id, basket digest, where its frame begins and ends.

    For the cut, which looks at every order of the spool: the same as ``read_group`` at a fraction of its time.
    """
    data = path.read_bytes()
    found = []
    start, end = 0, len(data)
    while start < end:
        if end - start < LENGTH_SIZE:
            raise _damaged(path, "the file ends inside a frame's length")
        (size,) = _LENGTH.unpack_from(data, start)
        at, after = start + LENGTH_SIZE, start + LENGTH_SIZE + size
        if not HEADER_SIZE <= size <= FRAME_LIMIT or after > end:
            raise _damaged(path, f"a frame of {size} bytes is not allowed, or cut short")
        digest = data[at + HEADER_SIZE - _DIGEST_SIZE : at + HEADER_SIZE]
        found.append((data[at + _ORDER_ID.start : at + _ORDER_ID.stop].hex(), digest, start, after))
        start = after
    return data, found


def _damaged(path: Path, why: str) -> TransferError:
    return TransferError(
        "SPOOL-DAMAGED",
        f"{path} is damaged: {why}",
        "put a good copy in its place before the next push, if there is one: the push puts it aside, and names the "
        "acknowledged orders that it held and that no bundle carries",
    )


def read_tally(lock: int) -> tuple[int, int]:
    """Orders and bytes of a partition, as its lock file counts them; not durable, so no more than a hint."""
    raw = os.pread(lock, _TALLY.size, 0)
    if len(raw) < _TALLY.size:
        return 0, 0
    orders, size = _TALLY.unpack(raw)
    return orders, size


def write_tally(lock: int, orders: int, size: int) -> None:
    """What ``read_tally`` gives from now on."""
    os.pwrite(lock, _TALLY.pack(orders, size), 0)
