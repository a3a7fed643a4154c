"""The switch between Ctrl-C and the work: a run ends where nothing is with the acquirer.

Why here: the signal comes at any moment, and the work asks for it only between two windows.
Must not: catch a signal itself, or keep a second one from ending the process at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class StopSwitch:
    """``asked`` is True once somebody wants to stop."""

    def __init__(self) -> None:
        self.asked = False
        self._at_work = False

    def ask(self) -> bool:
        """Ask the work to stop; False when nobody would listen, or was asked before: then stop at once."""
        listens = self._at_work and not self.asked
        self.asked = True
        return listens

    @contextmanager
    def listens(self) -> Iterator[None]:
        """Inside, the work looks at ``asked`` after every window."""
        before, self._at_work = self._at_work, True
        try:
            yield
        finally:
            self._at_work = before
