"""The spool: one partition of group files for each batch key, and its locks.

Why here: intake workers write it while the cutter empties it, and both must obey the same locks.
Must not: open or judge an envelope, change a file once it has its name, or be used without its partition's lock.

A worker holds the partition's lock shared from choosing the key until its group is durable. The cutter makes
`closed` durable, takes the lock exclusively, and then lists: no group can appear behind its back.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from keys.durable import fsync_directory, make_directory, write_durable
from keys.public.roll import KeyEntry, KeyRoll
from transfer.errors import TransferError
from transfer.spool_groups import (
    GROUP_LIMIT,
    GROUP_NAME,
    UNFINISHED_NAME,
    Entry,
    OpenGroup,
    read_group,
    read_tally,
    scan_group,
    write_tally,
)

__all__ = ("GROUP_LIMIT", "Entry", "OpenGroup", "Partition", "Spool", "choose", "read_group", "scan_group")

_LOCK = "lock"
_ASIDE = "damaged"
_CLOSED = "closed"
_PARTITION = re.compile(r"[0-9a-f]{32}", re.ASCII)
_FREED_AT_ONCE = 256  # files whose room one thread gives back
_WAIT = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One batch key's partition as it lies on disk."""

    batch_key_id: bytes
    closed: bool
    groups: int
    orders: int
    size: int


def choose(roll: KeyRoll, *, now: int, taken: Collection[bytes]) -> KeyEntry | None:
    """The batch key to seal to: the lowest number that may be sealed to now and is not ``taken``; None: out of keys."""
    fit = (entry for entry in roll.batch_keys if now < entry.seal_until and entry.key_id not in taken)
    return min(fit, key=lambda entry: (entry.epoch, entry.number), default=None)


class Spool:
    """All partitions below ``root``. A partition takes about ``max_orders`` and ``max_bytes``.

    The limits are exact for one worker; several overshoot by no more than the groups they have open.
    """

    def __init__(self, root: Path, *, max_orders: int = 10_000, max_bytes: int = 64 * 1024 * 1024) -> None:
        self.root = root
        self.max_orders = max_orders
        self.max_bytes = max_bytes
        self._tallied: set[bytes] = set()
        make_directory(root)

    def open_current(self, roll: KeyRoll, now: int) -> OpenGroup | None:
        """A group on the key that ``choose`` names among those whose partition takes orders; None: out of keys."""
        taken: set[bytes] = set()
        while entry := choose(roll, now=now, taken=taken):
            group = self.open_group(entry.key_id)
            if group is not None:
                return group
            taken.add(entry.key_id)
        return None

    def open_group(self, batch_key_id: bytes) -> OpenGroup | None:
        """Begin a group; None when the partition is closed or full, which it then stays. Never waits."""
        directory = self._directory(batch_key_id)
        lock = self._open_lock(directory)
        try:
            # Only the cutter takes the lock exclusively, and only after it has closed the partition.
            if _try_lock(lock, fcntl.LOCK_SH) and not _is_closed(directory):
                if batch_key_id not in self._tallied:
                    self._tally_again(directory, lock)
                    self._tallied.add(batch_key_id)
                orders, size = read_tally(lock)
                if orders < self.max_orders and size < self.max_bytes:
                    group = OpenGroup(batch_key_id=batch_key_id, _directory=directory, _lock=lock)
                    lock = -1
                    return group
            return None
        finally:
            if lock >= 0:
                os.close(lock)

    def partitions(self) -> list[Partition]:
        """Every partition that was ever begun and not pruned, by key id."""
        names = (entry.name for entry in os.scandir(self.root) if entry.is_dir(follow_symlinks=False))
        return [self.partition(bytes.fromhex(name)) for name in sorted(names) if _PARTITION.fullmatch(name)]

    def partition(self, batch_key_id: bytes) -> Partition:
        """One partition's state; an empty open one when it was never begun."""
        directory = self._directory(batch_key_id)
        groups, orders, size = _count(directory)
        return Partition(
            batch_key_id=batch_key_id, closed=_is_closed(directory), groups=groups, orders=orders, size=size
        )

    def is_full(self, partition: Partition) -> bool:
        """True when a partition takes no more orders, although it is open."""
        return partition.orders >= self.max_orders or partition.size >= self.max_bytes

    def close(self, batch_key_id: bytes) -> None:
        """Durably: no new group is begun in this partition, for ever. Groups that are open may still commit."""
        directory = self._directory(batch_key_id)
        make_directory(directory)
        if not _is_closed(directory):
            write_durable(directory / _CLOSED, b"")
        else:
            # Whoever wrote it may have died before it was durable.
            fsync_directory(directory)

    @contextlib.contextmanager
    def exclusive(self, batch_key_id: bytes, *, patience: float = 30.0) -> Iterator[None]:
        """Wait for the workers with open groups (``patience`` seconds, then ``SPOOL-BUSY``), then hold them off."""
        directory = self._directory(batch_key_id)
        if not _is_closed(directory):
            raise TransferError("SPOOL-OPEN", f"partition {batch_key_id.hex()} must be closed first")
        lock = self._open_lock(directory)
        try:
            end = time.monotonic() + patience
            while not _try_lock(lock, fcntl.LOCK_EX):
                if time.monotonic() > end:
                    raise TransferError(
                        "SPOOL-BUSY",
                        f"an intake worker has held partition {batch_key_id.hex()} for {patience:.0f} seconds",
                        "repeat the command; if it stays so, restart intake",
                    )
                time.sleep(_WAIT)
            yield
        finally:
            os.close(lock)

    def groups(self, batch_key_id: bytes) -> list[Path]:
        """The group files of a partition, oldest first."""
        try:
            return sorted(
                path for path in self._directory(batch_key_id).iterdir() if GROUP_NAME.fullmatch(path.name)
            )
        except FileNotFoundError:
            return []

    def put_aside(self, batch_key_id: bytes, group: Path) -> Path:
        """Move a damaged group out of its partition, durably, for a person to look at; where it lies then."""
        aside = self.root / _ASIDE
        make_directory(aside)
        # Its digits tell its partition, and its own name is random: nothing there is ever replaced.
        kept = aside / f"{batch_key_id.hex()}-{group.name}"
        os.rename(group, kept)
        fsync_directory(aside)
        fsync_directory(group.parent)
        return kept

    def aside(self) -> list[Path]:
        """The damaged groups that a cut put aside and nobody has dealt with."""
        try:
            return sorted((self.root / _ASIDE).iterdir())
        except FileNotFoundError:
            return []

    def remove(self, batch_key_id: bytes) -> None:
        """Delete a closed partition's groups and what crashes left of others; ``closed`` stays. Hold it exclusively.

        The names are gone, durably, on return. Giving the room back takes some file systems milliseconds a file:
        it happens when the last descriptor is closed, which a thread does while the caller goes on.
        """
        directory = self._directory(batch_key_id)
        if not _is_closed(directory):
            raise TransferError("SPOOL-OPEN", f"partition {batch_key_id.hex()} must be closed first")
        held: list[int] = []
        try:
            for path in directory.iterdir():
                if GROUP_NAME.fullmatch(path.name) or UNFINISHED_NAME.fullmatch(path.name):
                    if len(held) < _FREED_AT_ONCE:
                        held.append(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC))
                    os.unlink(path)
            fsync_directory(directory)
        finally:
            threading.Thread(target=_close_all, args=(held,), name="spool-room").start()

    def prune(self, keep: Collection[bytes]) -> int:
        """Delete partitions that are closed, empty and not of a key in ``keep``; how many. They pile up otherwise.

        ``keep`` must hold every key that a worker may still choose: those of the roll in use and of the one before.
        """
        spent = [
            partition.batch_key_id
            for partition in self.partitions()
            if partition.closed and not partition.groups and partition.batch_key_id not in keep
        ]
        for batch_key_id in spent:
            with self.exclusive(batch_key_id):
                if not self.groups(batch_key_id):
                    shutil.rmtree(self._directory(batch_key_id))
        return len(spent)

    def _directory(self, batch_key_id: bytes) -> Path:
        return self.root / batch_key_id.hex()

    def _open_lock(self, directory: Path) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(directory / _LOCK, flags, 0o600)
        except FileNotFoundError:
            make_directory(directory)
            return os.open(directory / _LOCK, flags, 0o600)

    def _tally_again(self, directory: Path, lock: int) -> None:
        # The tally is not durable: it is made anew by each process, from the names, when it first comes here.
        _, orders, size = _count(directory)
        known_orders, known_size = read_tally(lock)
        if orders > known_orders or size > known_size:
            write_tally(lock, max(orders, known_orders), max(size, known_size))


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _count(directory: Path) -> tuple[int, int, int]:
    groups = orders = size = 0
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            found = GROUP_NAME.fullmatch(entry.name)
            if found:
                groups += 1
                orders += int(found[1])
                with contextlib.suppress(FileNotFoundError):
                    size += entry.stat(follow_symlinks=False).st_size
    return groups, orders, size


def _is_closed(directory: Path) -> bool:
    return os.path.lexists(directory / _CLOSED)


def _try_lock(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
