"""One window ahead: boxes are opened in a second thread while the ledger records the window before.

Why here: opening is C code that lets other threads run, and a commit waits for the disk; together they fit two cores.
Must not: run more than one window ahead; there are two card tables, and memory must not grow with the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Window = TypeVar("Window")
Result = TypeVar("Result")


def one_ahead(windows: Iterator[Window], work: Callable[[Window], Result]) -> Iterator[Result]:
    """``work`` on each window, in order; the next one is under way while the caller has the one before.

    ``windows`` itself is advanced in the caller's thread.
    """
    with ThreadPoolExecutor(max_workers=1) as worker:
        pending: Future[Result] | None = None
        for window in windows:
            following = worker.submit(work, window)
            if pending is not None:
                yield pending.result()
            pending = following
        if pending is not None:
            yield pending.result()
