"""The simulated acquirer as a process of its own, at the other end of a real line.

Why here: every test that runs the real link or the real command starts its acquirer in one way.
Must not: leave a process behind, or show a test anything of the acquirer but its address and its books.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PATIENCE = 30.0
_END_PATIENCE = 10.0
_STEP = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A running acquirer: where it listens, its books, and the file of faults that it reads again when it changes."""

    process: subprocess.Popen[bytes]
    address: str
    books: Path
    control: Path

    def faults(self, *rules: str) -> None:
        """These faults from the next message on, and no others."""
        beside = self.control.with_name(f".{self.control.name}.new")
        beside.write_text("".join(f"{rule}\n" for rule in rules), encoding="ascii")
        beside.replace(self.control)

    def end(self) -> None:
        """Ask it to end, and see that it does."""
        self.process.terminate()
        try:
            self.process.wait(timeout=_END_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start(books: Path, *options: str) -> Line:
    """Start it; the caller ends it."""
    where = books.with_name(f"{books.name}.port")
    control = books.with_name(f"{books.name}.faults")
    where.unlink(missing_ok=True)
    words = ("--books", books, "--port-file", where, "--control", control, *options)
    process = subprocess.Popen(
        [sys.executable, "-m", "offline_processor", "simulate-acquirer", *map(str, words)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + _PATIENCE
    while not where.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"the simulated acquirer did not start: {process.wait()}")
        time.sleep(_STEP)
    return Line(process=process, address=where.read_text("ascii").strip(), books=books, control=control)


@contextmanager
def simulator(books: Path, *options: str) -> Iterator[Line]:
    """It, as long as the context lasts; ``options`` as ``simulate-acquirer`` takes them."""
    line = start(books, *options)
    try:
        yield line
    finally:
        line.end()


_running: dict[Path, Line] = {}


def line_of(books: Path) -> Line:
    """The one acquirer with these books, started when it is first wanted; ``end_lines`` ends it."""
    line = _running.get(books)
    if line is None or line.process.poll() is not None:
        line = _running[books] = start(books)
    return line


def end_lines() -> None:
    """End every acquirer that ``line_of`` has started."""
    for line in _running.values():
        line.end()
    _running.clear()
