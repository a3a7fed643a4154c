"""Reading a passphrase byte by byte into locked memory, from a terminal, a descriptor or a file.

Why here: getpass and open().read() leave the passphrase behind as Python objects; this never makes one.
Must not: take a passphrase from a command line or the environment, or echo any of it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import termios
from typing import TYPE_CHECKING, Final

from keys.errors import KeysError
from keys.private.locked import LockedBuffer
from keys.private.swap import OnSwap, check_swap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE_LIMIT: Final = 1024
SHORTEST_NEW: Final = 12
_NEWLINE: Final = 0x0A
_FIRST_PRINTABLE: Final = 0x20
_DELETE: Final = 0x7F
_LOCAL_MODES: Final = 3


def read_passphrase(
    *,
    file: Path | None = None,
    descriptor: int | None = None,
    prompt: str = "Passphrase",
    new: bool = False,
    second: bool = False,
    on_swap: OnSwap = OnSwap.REFUSE,
) -> LockedBuffer:
    """The passphrase from ``descriptor``, else from ``file``, else from the terminal; a buffer of its size.

    ``new`` asks twice on a terminal and refuses a short one; ``second``: of a keystore that has two.
    Raises ``KEY-PASSPHRASE-SOURCE``,
    ``KEY-PASSPHRASE-FORM``, ``KEY-PASSPHRASE-SHORT``, ``KEY-PASSPHRASE-TWICE``, ``KEY-FILE-MODE`` or
    ``SWAP-NOT-ENCRYPTED``: no key of ours opens without a passphrase, so here nobody can forget to look.
    """
    check_swap(on_swap)
    if descriptor is not None:
        passphrase = from_descriptor(descriptor)
    elif file is not None:
        passphrase = from_file(file)
    else:
        passphrase = from_terminal(prompt, twice=new, second=second)
    if new:
        check_new(passphrase)
    return passphrase


def from_descriptor(descriptor: int) -> LockedBuffer:
    """The first line, or all that there is. Not a byte beyond the newline is taken from the descriptor."""
    try:
        passphrase, _ = _read_line(descriptor)
    except OSError as error:
        message = f"cannot read a passphrase from descriptor {descriptor}: {error.strerror}"
        remedy = "open it for the command, for example `--passphrase-fd 3 3< FILE`"
        raise KeysError("KEY-PASSPHRASE-SOURCE", message, remedy) from error
    return passphrase


def from_file(path: Path) -> LockedBuffer:
    """The only line of a file that nobody but its owner can read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        message = f"cannot read the passphrase file {path}: {error.strerror}"
        remedy = f"make it (one line, then chmod 600 {path}), or correct its name in the configuration"
        raise KeysError("KEY-PASSPHRASE-SOURCE", message, remedy) from error
    try:
        check_private(path, os.fstat(descriptor))
        passphrase, ended = _read_line(descriptor)
        if not ended and os.read(descriptor, 1):
            passphrase.close()
            raise KeysError("KEY-PASSPHRASE-FORM", f"{path} has more than one line", "put one line into it")
    finally:
        os.close(descriptor)
    return passphrase


def from_terminal(prompt: str, *, twice: bool = False, second: bool = False) -> LockedBuffer:
    """Ask on the controlling terminal, without echo; with ``twice`` both answers must be the same.

    A new one that is too short is refused before it is asked for once more.
    """
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        what, option, key = "passphrase", "--passphrase-fd", "passphrase_file"
        if second:
            what, option, key = "second passphrase", "--second-passphrase-fd", "second_passphrase_file"
        raise KeysError(
            "KEY-PASSPHRASE-SOURCE",
            f"there is no terminal to ask for the {what} ({prompt})",
            f"give it with {option} N, or name a file as {key} in the configuration",
        ) from error
    try:
        passphrase = _ask(terminal, prompt)
        if twice:
            check_new(passphrase)
            with _ask(terminal, f"{prompt}, once more") as again:
                if again.view != passphrase.view:
                    passphrase.close()
                    raise KeysError("KEY-PASSPHRASE-TWICE", "the two passphrases differ", "type it again")
    finally:
        os.close(terminal)
    return passphrase


def check_new(passphrase: LockedBuffer) -> None:
    """Refuse a new passphrase of less than 12 characters (UTF-8); one that exists is never judged."""
    characters = sum(1 for byte in passphrase.view if byte & 0xC0 != 0x80)  # noqa: PLR2004  continuation bytes
    if characters < SHORTEST_NEW:
        passphrase.close()
        raise KeysError(
            "KEY-PASSPHRASE-SHORT",
            f"a new passphrase has at least {SHORTEST_NEW} characters",
            "six words drawn at random are better than any word with digits in it",
        )


def check_private(path: Path, status: os.stat_result) -> None:
    """Refuse (``KEY-FILE-MODE``) what is no plain file, or what others than its owner can read or write."""
    if not stat.S_ISREG(status.st_mode):
        raise KeysError("KEY-FILE-MODE", f"{path} is not a plain file")
    if status.st_mode & 0o077:
        message = f"{path} can be read or changed by other users (mode {stat.S_IMODE(status.st_mode):04o})"
        raise KeysError("KEY-FILE-MODE", message, f"chmod 600 {path}, and think about who may have read it")


def _ask(terminal: int, prompt: str) -> LockedBuffer:
    with _without_echo(terminal):
        os.write(terminal, f"{prompt}: ".encode())
        try:
            passphrase, _ = _read_line(terminal)
        finally:
            os.write(terminal, b"\n")
    return passphrase


@contextlib.contextmanager
def _without_echo(terminal: int) -> Iterator[None]:
    before = termios.tcgetattr(terminal)
    silent = termios.tcgetattr(terminal)
    silent[_LOCAL_MODES] &= ~(termios.ECHO | termios.ECHONL)
    termios.tcsetattr(terminal, termios.TCSAFLUSH, silent)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)


def _read_line(descriptor: int) -> tuple[LockedBuffer, bool]:
    """Read up to a newline (not kept) or the end; the flag says whether the end was met."""
    ended = False
    length = 0
    with LockedBuffer(SIZE_LIMIT + 1) as line:
        while length <= SIZE_LIMIT:
            # readv fills the locked place itself, so not even one byte of the passphrase becomes an object.
            ended = os.readv(descriptor, [line.view[length : length + 1]]) == 0
            if ended or line.view[length] == _NEWLINE:
                break
            length += 1
        if length > SIZE_LIMIT:
            raise KeysError("KEY-PASSPHRASE-FORM", f"a passphrase has at most {SIZE_LIMIT} bytes")
        if length == 0:
            raise KeysError("KEY-PASSPHRASE-FORM", "the passphrase is empty")
        if any(byte < _FIRST_PRINTABLE or byte == _DELETE for byte in line.view[:length]):
            remedy = "type it again; a file must hold the passphrase and one newline, no carriage return"
            raise KeysError("KEY-PASSPHRASE-FORM", "the passphrase has a control character in it", remedy)
        return LockedBuffer(length).copy_from(line.view[:length]), ended
