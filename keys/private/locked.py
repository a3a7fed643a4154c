"""Memory for secrets: never swapped, never in a core dump, wiped when it is given back.

Why here: a secret that was once a Python object leaves copies that nobody can find; here it never is one.
Must not: hand out ``bytes`` or ``str`` of what it holds, nor use one place for two secrets in turn.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import threading
import weakref
from typing import TYPE_CHECKING, Any, Self

from keys.errors import KeysError
from keys.private import sodium

if TYPE_CHECKING:
    from types import TracebackType

PAGE_SIZE = mmap.PAGESIZE
_SLOT_ALIGNMENT = 32
_SHARED_LIMIT = 512  # smaller secrets share pages; a larger one has pages of its own
_PR_SET_DUMPABLE = 4
_STACK_DEPTH = 64 * 1024


def harden_process() -> None:
    """No core dumps, and no other process of this user reads our memory. Call it first in every command."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot forbid memory dumps")


def zero_stack() -> None:
    """Wipe the C stack below this frame, where libsodium's functions kept their local variables.

    Costs some microseconds: call it once after a window of opened cards, not after every one.
    """
    sodium.stackzero(_STACK_DEPTH)


class _Pages:
    """Locked pages from the system; secrets are laid in one after the other and no place is used twice."""

    __slots__ = ("__weakref__", "_map", "_used", "_users", "capacity", "life", "pointer", "view")

    def __init__(self, size: int) -> None:
        self.capacity = -(-size // PAGE_SIZE) * PAGE_SIZE
        self._map = mmap.mmap(-1, self.capacity, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._map.madvise(mmap.MADV_DONTDUMP)
        self._map.madvise(mmap.MADV_DONTFORK)
        self.view = memoryview(self._map)
        self.pointer = sodium.ffi.cast("unsigned char *", sodium.from_buffer(self._map))
        self._used = 0
        self._users = 0
        self.life = _life
        for offset in range(0, self.capacity, PAGE_SIZE):
            if sodium.lib.sodium_mlock(self.pointer + offset, PAGE_SIZE) != 0:
                raise _lock_refused(self.capacity)
        _living.add(self)

    def take(self, size: int) -> int | None:
        """The offset of ``size`` unused bytes, or None when this page is full."""
        start = self._used
        if start + size > self.capacity:
            return None
        self._used = -(-(start + size) // _SLOT_ALIGNMENT) * _SLOT_ALIGNMENT
        self._users += 1
        return start

    def give_back(self) -> bool:
        """One secret less; True when it was the last, so that the pages may go back to the system."""
        self._users -= 1
        return self._users == 0


_living: weakref.WeakSet[_Pages] = weakref.WeakSet()
_parents: list[_Pages] = []
_shared: _Pages | None = None
_guard = threading.RLock()  # reentrant, because a forgotten buffer may be closed while another is made
_life = 0  # counts forks: a child has none of its parent's locked pages and must not touch their addresses


def _forget_parent() -> None:
    global _shared, _guard, _life  # noqa: PLW0603
    _shared = None
    # Kept for ever: to let go of such a map would unmap an address where this process has something else by now.
    _parents.extend(_living)
    _guard = threading.RLock()
    _life += 1


os.register_at_fork(after_in_child=_forget_parent)


def _place(size: int) -> tuple[_Pages, int]:
    global _shared  # noqa: PLW0603  one process has one set of shared pages
    if size > _SHARED_LIMIT:
        pages = _Pages(size)
    else:
        if _shared is not None and (start := _shared.take(size)) is not None:
            return _shared, start
        pages = _shared = _Pages(PAGE_SIZE)
    start = pages.take(size)
    if start is None:
        raise AssertionError("new pages hold what they were made for")
    return pages, start


class LockedBuffer:
    """``size`` bytes of locked memory, zero at first.

    ``view`` is a writable memoryview: slice it (500 cards of 128 bytes are 500 slices), never turn it into
    ``bytes``. ``pointer`` is the same place for libsodium. After ``close`` the buffer is unusable, and slices
    that somebody still holds show zeros only.
    """

    __slots__ = ("__weakref__", "_pages", "pointer", "size", "view")

    def __init__(self, size: int) -> None:
        """Raises ``MEMORY-LOCK`` when the system does not let this process lock so much."""
        if size < 1:
            raise ValueError("a locked buffer holds at least one byte")
        with _guard:
            pages, start = _place(size)
        self._pages: _Pages | None = pages
        self.size = size
        self.view: memoryview = pages.view[start : start + size]
        self.pointer: Any = pages.pointer + start

    @property
    def address(self) -> int:
        """Where it is, for functions that are reached through ctypes."""
        return sodium.address_of(self.pointer)

    def copy_from(self, source: memoryview | bytes) -> Self:
        """Fill the whole buffer from ``source``, which must have just its size."""
        self.view[:] = source
        return self

    def wipe(self) -> None:
        """Overwrite with zeros, in a way that no compiler leaves out. The buffer can be used again."""
        if self._pages is not None and self._pages.life == _life:
            sodium.lib.sodium_memzero(self.pointer, self.size)

    def close(self) -> None:
        """Wipe and give the memory back; a second time does nothing."""
        global _shared  # noqa: PLW0603
        with _guard:
            pages = self._pages
            if pages is None:
                return
            self.wipe()
            self._pages = None
            self.pointer = None  # a closed key must not work on as a key of zeros
            self.view = memoryview(b"")
            if pages.give_back() and pages is _shared:
                _shared = None  # slices that are still held keep the zeroed pages; nobody gets them again

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_pages", None) is not None:
            self.close()

    def __repr__(self) -> str:
        return f"<LockedBuffer of {self.size} bytes>"

    def __reduce__(self) -> str:
        raise TypeError("locked memory is not copied")


def _lock_refused(size: int) -> KeysError:
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    limit = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft // 1024} KiB"
    return KeysError(
        "MEMORY-LOCK",
        f"the system refused to lock {size // 1024} KiB of memory for secrets (limit: {limit})",
        "raise the limit and start again: `ulimit -l 8192` in the shell, LimitMEMLOCK=8M in the service "
        "unit, or a memlock line in /etc/security/limits.conf",
    )
