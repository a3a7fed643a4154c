"""Progress bars, for a person at a terminal only.

Why here: a bar must be gone before a question is asked, and come back for the next stage.
Must not: print anything where nobody watches.
"""

from __future__ import annotations

from rich.console import Console
from rich.progress import Progress, TaskID


class Bars:
    """One bar a stage on standard error; nothing at all unless ``shown``."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def advance(self, what: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` orders are through the stage ``what``."""
        if not self._shown:
            return
        if self._bars is None:
            self._bars = Progress(console=Console(stderr=True), transient=True)
            self._bars.start()
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total)
        self._bars.update(self._tasks[what], completed=done, total=total)

    def stop(self) -> None:
        """Take the bars off the screen; the next ``advance`` begins new ones."""
        if self._bars is not None:
            self._bars.stop()
        self._bars, self._tasks = None, {}
