"""Progress bars, for a person at a terminal only.

Why here: a bar must be gone before a question is asked, and come back for the next stage.
Must not: print anything where nobody watches.
"""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft
from rich.text import Text


class _Rate(ProgressColumn):
    """Orders a second, over the last half minute."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


class Bars:
    """One bar a stage on standard error, with rate and time left; nothing at all unless ``shown``."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def advance(self, what: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` are through the stage ``what``."""
        if not self._shown:
            return
        if self._bars is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                TimeLeft(),
            )
            self._bars = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bars.start()
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total)
        self._bars.update(self._tasks[what], completed=done, total=total)

    def say(self, text: str) -> None:
        """A line above the bars, or alone where there are none."""
        (Console(stderr=True) if self._bars is None else self._bars.console).print(
            text, markup=False, highlight=False, soft_wrap=True
        )

    def stop(self) -> None:
        """Take the bars off the screen; the next ``advance`` begins new ones."""
        if self._bars is not None:
            self._bars.stop()
        self._bars, self._tasks = None, {}
