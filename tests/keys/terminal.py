"""A person at a real terminal: starts a command on a pty, waits for what it shows, types answers."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import time
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]
ENTER, LEAVE, CLEAR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[H\x1b[2J\x1b[3J"
SHARE_WORDS = 33


class Terminal:
    """``shown`` is every byte that the terminal got. Leaving the block kills what still runs."""

    def __init__(self, *arguments: object, cwd: Path = ROOT, module: str = "keys") -> None:
        command = [sys.executable, "-m", module, *map(str, arguments)]
        self.shown = b""
        self._read = 0
        self._code: int | None = None
        self.child, self._terminal = pty.fork()
        if self.child == 0:
            os.chdir(cwd)
            os.execv(sys.executable, command)  # noqa: S606  the child of a terminal

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._code is None:
            os.kill(self.child, signal.SIGKILL)
            os.waitpid(self.child, 0)
        os.close(self._terminal)

    def expect(self, text: str, timeout: float = 60) -> str:
        """All that came up to and with ``text``, counted from what was expected before."""
        wanted = text.encode()
        deadline = time.monotonic() + timeout
        while (found := self.shown.find(wanted, self._read)) < 0:
            if not self._more(deadline):
                raise AssertionError(
                    f"no {text!r} after: {self.shown[self._read :].decode(errors='replace')}"
                )
        begin, self._read = self._read, found + len(wanted)
        return self.shown[begin : self._read].decode("utf-8", "replace")

    def send(self, line: str) -> None:
        self.send_raw(line.encode() + b"\n")

    def send_raw(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def interrupt(self) -> None:
        """Ctrl-C from a person who sees a question stand there."""
        self.wait_until_asked()
        self.send_raw(b"\x03")

    def wait_until_asked(self, timeout: float = 60) -> None:
        """Until the child sleeps: a signal between CPython's prompt and its read would wait for the next key."""
        deadline = time.monotonic() + timeout
        while not self._sleeps():
            if time.monotonic() > deadline:
                raise AssertionError("the child never waits for a key")
            time.sleep(0.05)

    def _sleeps(self) -> bool:
        return Path(f"/proc/{self.child}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"S"

    def answer(self, prompt: str, line: str) -> str:
        before = self.expect(prompt)
        self.expect(": ")
        self.send(line)
        return before

    def end(self, timeout: float = 60) -> int:
        """The exit code, once everything was read."""
        deadline = time.monotonic() + timeout
        while self._more(deadline):
            pass
        self._code = os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])
        return self._code

    def main_screen(self) -> str:
        """What is left for the next person: all that was not shown on the other screen."""
        outside = re.sub(re.escape(ENTER) + b".*?" + re.escape(LEAVE), b"", self.shown, flags=re.DOTALL)
        return outside.decode("utf-8", "replace")

    def _more(self, deadline: float) -> bool:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self._terminal], [], [], left)[0]:
            raise AssertionError(f"nothing more came: {self.shown[-600:].decode(errors='replace')}")
        try:
            got = os.read(self._terminal, 65536)
        except OSError:  # the other end is closed
            return False
        self.shown += got
        return bool(got)


def words_in(page: str) -> list[str]:
    """The numbered words of a share's page, in order."""
    rows = re.findall(r"^ ?\d{1,2} [a-z]+ +\d{1,2} [a-z]+ +\d{1,2} [a-z]+\r*$", page, re.MULTILINE)
    numbered = {int(number): word for row in rows for number, word in re.findall(r"(\d+) ([a-z]+)", row)}
    return [numbered[number] for number in range(1, SHARE_WORDS + 1)]


def trace_of(share: str, text: str) -> str | None:
    """Three words of ``share`` that follow each other in ``text``, as typed or as in a row of the grid; or None.

    Two would be found by chance once in some twenty ceremonies.
    """
    words = share.split()
    for step in (1, 11):
        for three in zip(words, words[step:], words[2 * step :], strict=False):
            if found := re.search(r"\b" + r"[\s\d]+".join(three) + r"\b", text):
                return found[0]
    return None
