"""A person's private screen: what is shown there is gone when they step back.

Why here: shares and answers of a ceremony and of a quorum are shown and typed on the terminal itself.
Must not: write to standard output, keep what was typed, or leave a share on the screen or in its history.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import threading
from typing import TYPE_CHECKING, Final

from keys.errors import KeysError

if TYPE_CHECKING:
    from collections.abc import Iterator

# The alternate screen has no history; where a terminal has no such screen, clearing takes history along.
_ENTER: Final = "\x1b[?1049h"
_LEAVE: Final = "\x1b[?1049l"
_CLEAR: Final = "\x1b[H\x1b[2J\x1b[3J"
_LINE_LIMIT: Final = 4096
_STOP_KEYS: Final = b"\x03\x04"
_ENDINGS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
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

    def show_until_key(self, secret: memoryview, seconds: float) -> bool:
        """Write ``secret`` (locked memory) straight to the terminal; gone at the next key (True) or in time (False).

        Raises ``KeyboardInterrupt`` after clearing when the key was Ctrl-C or Ctrl-D, the terminal is gone, or the
        process was told to end. No key stops or suspends the process while the secret stands there.
        """
        try:
            before, quiet = termios.tcgetattr(self._terminal), termios.tcgetattr(self._terminal)
        except termios.error as error:
            raise KeyboardInterrupt from error
        quiet[3] &= ~(termios.ICANON | termios.ECHO | termios.ISIG)  # Ctrl-Z must not leave it on the screen
        with _ended_by_exception():
            try:
                termios.tcsetattr(self._terminal, termios.TCSAFLUSH, quiet)  # typed ahead counts for nothing
                self._write(_CLEAR)
                self._write_view(secret)
                pressed = bool(select.select([self._terminal], [], [], seconds)[0])
                key = os.read(self._terminal, 1) if pressed else b" "
            except (OSError, termios.error) as error:
                raise KeyboardInterrupt from error
            finally:
                with contextlib.suppress(OSError, KeyboardInterrupt):
                    self._write(_CLEAR)
                with contextlib.suppress(OSError, termios.error):
                    termios.tcsetattr(self._terminal, termios.TCSAFLUSH, before)
        if not key or key in _STOP_KEYS:
            raise KeyboardInterrupt
        return pressed

    def _write(self, text: str) -> None:
        self._write_view(memoryview(text.encode("utf-8", "replace")))

    def _write_view(self, rest: memoryview) -> None:
        try:
            while rest:
                rest = rest[os.write(self._terminal, rest) :]
        except OSError as error:
            raise KeyboardInterrupt from error


@contextlib.contextmanager
def _ended_by_exception() -> Iterator[None]:
    """What would end the process raises ``KeyboardInterrupt`` instead, so that the screen is cleared first."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals come to the main thread only
        return
    before = {number: signal.signal(number, signal.default_int_handler) for number in _ENDINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
