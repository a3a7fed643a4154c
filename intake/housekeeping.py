"""What the server erases by itself, at its start and every hour: what was kept for as long as was promised.

Why here: a promise to erase must not hang on somebody's remembering a command.
Must not: stop the server when it fails; the next hour tries again, and the log says where.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

_EVERY_SECONDS = 3600.0
_log = logging.getLogger("intake")


class Housekeeping:
    """Does each of ``tasks`` in a thread of its own."""

    def __init__(self, tasks: Sequence[Callable[[], object]]) -> None:
        self._tasks = tasks
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Once at once, and then every hour."""
        self._thread.start()

    def stop(self) -> None:
        """End it, and wait for a task under way."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            for task in self._tasks:
                try:
                    task()
                except Exception as error:  # noqa: BLE001  a full disk today must not end the erasing for good
                    _log.error("housekeeping failed: %s", type(error).__name__)
            if self._ended.wait(_EVERY_SECONDS):
                return
