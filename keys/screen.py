"""A person's private screen: what is shown there is gone when they step back.

Why here: shares and answers of a ceremony and of a quorum are shown and typed on the terminal itself.
Must not: write to standard output, keep what was typed, or leave a share on the screen or in its history.
"""

from __future__ import annotations

import contextlib
import os
import termios
from typing import TYPE_CHECKING, Final

from keys.errors import KeysError

if TYPE_CHECKING:
    from collections.abc import Iterator

# The alternate screen has no history; where a terminal has no such screen, clearing takes history along.
_ENTER: Final = "\x1b[?1049h"
_LEAVE: Final = "\x1b[?1049l"
_CLEAR: Final = "\x1b[H\x1b[2J\x1b[3J"
_LINE_LIMIT: Final = 4096
_ANSWERS: Final = {"yes": True, "y": True, "no": False, "n": False}


class Screen:
    """The controlling terminal. ``mark`` (REHEARSAL) stands on top of every page, ``heading`` below it."""

    def __init__(self, terminal: int, *, mark: str = "") -> None:
        self._terminal = terminal
        self.mark = mark
        self.heading = ""

    def page(self, *lines: str) -> None:
        """A cleared screen with the mark, the heading and ``lines``."""
        self._write(_CLEAR)
        if self.mark:
            self.say(self.mark, "")
        if self.heading:
            self.say(self.heading, "")
        self.say(*lines)

    def say(self, *lines: str) -> None:
        """More lines on this page."""
        for line in lines:
            shown = "".join(character if character.isprintable() else "\ufffd" for character in line)
            self._write(shown + "\n")

    def clear(self) -> None:
        """Nothing on the screen, and nothing in the history of a terminal that keeps one."""
        self._write(_CLEAR)

    def ask(self, prompt: str) -> str:
        """What a person types, without blanks around it. Typed ahead counts for nothing.

        Raises ``KeyboardInterrupt`` when the terminal is gone or Ctrl-D was typed.
        """
        termios.tcflush(self._terminal, termios.TCIFLUSH)
        self._write(f"{prompt}: ")
        try:
            typed = os.read(self._terminal, _LINE_LIMIT)
        except OSError as error:  # hung up
            raise KeyboardInterrupt from error
        if not typed:
            raise KeyboardInterrupt
        return typed.decode("utf-8", "replace").strip()

    def wait(self, what: str) -> None:
        """Until a person presses Enter."""
        self.ask(f"{what} (press Enter)")

    def confirm(self, question: str) -> bool:
        """True for ``yes``, False for ``no``; whatever else is typed is asked again."""
        while (answer := _ANSWERS.get(self.ask(f"{question} (yes/no)").lower())) is None:
            self.say("Type yes or no.")
        return answer

    def _write(self, text: str) -> None:
        rest = memoryview(text.encode("utf-8", "replace"))
        try:
            while rest:
                rest = rest[os.write(self._terminal, rest) :]
        except OSError as error:
            raise KeyboardInterrupt from error


@contextlib.contextmanager
def private_screen(*, mark: str = "") -> Iterator[Screen]:
    """The terminal's other screen; cleared and left at the end, whatever happens. ``CEREMONY-TERMINAL``."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise KeysError(
            "CEREMONY-TERMINAL",
            "there is no terminal where people could be asked",
            "run it at the machine's own keyboard and screen",
        ) from error
    try:
        screen = Screen(terminal, mark=mark)
        screen._write(_ENTER + _CLEAR)  # noqa: SLF001  its own constructor
        try:
            yield screen
        finally:
            with contextlib.suppress(KeyboardInterrupt):
                screen._write(_CLEAR + _LEAVE)  # noqa: SLF001
    finally:
        os.close(terminal)
