"""What wakes a watch early: watchdog's events, where there are any.

Why here: an event saves waiting, and nothing more; the scan that follows does the work, and comes anyway.
Must not: tell what happened, or be relied on: events overflow, a remount makes them deaf, some file systems send none.

Only a few directories are watched, none of them with all that is below: the drops, the directories in which they are
mounted, and the spool's own (a new partition in it means that another is full). Groups that arrive wake nobody.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent, FileSystemEventHandler
    from watchdog.observers.api import BaseObserver, ObservedWatch

_RENEW = 60.0  # seconds
_Place = tuple[int, int]
_QUIET = ("opened", "closed_no_write", "closed", "modified")  # looking into a drop is no news of it


class Waker:
    """Waits until something happens, somebody calls ``wake``, or the time is up. Ends by ``stop``."""

    def __init__(self, paths: Iterable[Path], *, events: bool) -> None:
        self._paths = tuple(dict.fromkeys(paths))
        # Its `put` may interrupt its own `get` in the same thread, as a signal handler does; an Event's may not.
        self._woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._observer: BaseObserver | None = None
        self._watches: dict[Path, tuple[_Place, ObservedWatch]] = {}
        self._renewed_at = -_RENEW
        if events:
            self._observer = _observer()
        self.rearm()

    def wake(self) -> None:
        """End the waiting that is under way, or the next one. Safe in a signal handler."""
        self._woken.put(None)

    def wait(self, seconds: float) -> bool:
        """True when it was woken before ``seconds`` were over."""
        woken = False
        with contextlib.suppress(queue.Empty):
            self._woken.get(timeout=seconds)
            woken = True
            while True:
                self._woken.get_nowait()
        return woken

    def rearm(self) -> None:
        """Watch what is there now: after a mount, the same path is another directory.

        The same medium mounted again looks like the same directory and is deaf all the same, so every watch is renewed
        from time to time, whatever it looks like. What is missed meanwhile is found by the look that follows.
        """
        if self._observer is None:
            return
        renew = time.monotonic() - self._renewed_at >= _RENEW
        if renew:
            self._renewed_at = time.monotonic()
        for path in self._paths:
            place = _place(path)
            known = self._watches.get(path)
            if known is not None and known[0] == place and not renew:
                continue
            if known is not None:
                del self._watches[path]
                with contextlib.suppress(Exception):  # what it watched is gone; so may be its descriptor
                    self._observer.unschedule(known[1])
            if place is not None:
                with contextlib.suppress(OSError):  # too many watches, or gone again: the scan does without
                    self._watches[path] = (place, self._observer.schedule(_handler(self.wake), str(path)))

    def stop(self) -> None:
        """End the observer's threads."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(timeout=5)
            self._observer = None


def _observer() -> BaseObserver | None:
    """Watchdog's, running; None on a machine that has neither it nor inotify to spare."""
    try:
        from watchdog.observers import Observer  # noqa: PLC0415  the offline side has no watchdog

        observer = Observer()
        observer.start()
    except (ImportError, OSError):
        return None
    return observer


def _handler(wake: Callable[[], None]) -> FileSystemEventHandler:
    from watchdog import events  # noqa: PLC0415

    class Handler(events.FileSystemEventHandler):
        def on_any_event(self, event: FileSystemEvent) -> None:
            if event.event_type not in _QUIET:
                wake()

    return Handler()


def _place(path: Path) -> _Place | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
