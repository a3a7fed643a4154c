"""The file operations of a drop: descriptors below an open directory, plain files only, bounded reads.

Why here: writing and reading a unit share them; what they refuse and every fault of a medium has a rule.
Must not: follow a link on a medium, or read more than it was told to expect.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from keys.public.digest import equal
from transfer.errors import TransferError

_CHUNK = 1 << 20
_ROOM_PER_FILE = 64 * 1024  # a large cluster, and the directory's own growth
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
NAMES_SHOWN = 5
_NAME_SHOWN = 60
_UNIT_NAMES = 100  # far more than any unit has
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A file's size and SHA-256 (hex)."""

    size: int
    sha256: str


# What the system says, and what it means for a medium. Whatever is not here is MEDIUM-WRITE.
_FAULTS = {
    errno.EROFS: "MEDIUM-READ-ONLY",
    errno.ENOSPC: "MEDIUM-FULL",
    errno.EDQUOT: "MEDIUM-FULL",
    errno.EFBIG: "MEDIUM-FULL",  # FAT32 takes no file of 4 GiB
    errno.EIO: "MEDIUM-DAMAGED",
    errno.EUCLEAN: "MEDIUM-DAMAGED",
    errno.EBADMSG: "MEDIUM-DAMAGED",
    errno.ENODEV: "MEDIUM-NONE",
    errno.ENXIO: "MEDIUM-NONE",
    errno.ENOMEDIUM: "MEDIUM-NONE",
    errno.ENOTCONN: "MEDIUM-NONE",
    errno.ESTALE: "MEDIUM-NONE",
}
_WAYS_OUT = {
    "MEDIUM-READ-ONLY": "move its write switch, or mount it for writing, and repeat the command",
    "MEDIUM-FULL": "make room or take another medium, and repeat the command",
    "MEDIUM-DAMAGED": "the medium is failing: take another, and repeat the command",
    "MEDIUM-NONE": "insert and mount the medium, or correct the path in the configuration; it is never created",
    "MEDIUM-WRITE": "check who may write there, or take another medium, and repeat the command",
}


@contextlib.contextmanager
def open_drop(drop: Path) -> Iterator[int]:
    """A descriptor of the drop itself, which may be a mount point but is never made; ``MEDIUM-NONE``."""
    try:
        descriptor = os.open(drop, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        rule = "MEDIUM-DAMAGED" if error.errno == errno.EIO else "MEDIUM-NONE"
        message = f"there is no drop at {drop}: {error.strerror}"
        raise TransferError(rule, message, _WAYS_OUT[rule]) from error
    with closing(descriptor):
        yield descriptor


@contextlib.contextmanager
def open_unit(source: Path, rule: str) -> Iterator[int]:
    """A descriptor of the unit at DROP/NODE/NAME; refused by ``rule`` unless both are plain directories."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(open_drop(source.parent.parent))
        try:
            for name in (source.parent.name, source.name):
                place = stack.enter_context(closing(os.open(name, FOLDER, dir_fd=place)))
        except OSError as error:
            raise refusal(rule, source, "it is not there as a plain directory") from error
        yield place


@contextlib.contextmanager
def open_or_make_folder(parent: int, name: str, where: Path) -> Iterator[int]:
    """The plain directory ``name`` in ``parent``, made when missing."""
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:
        _refuse_other_case(parent, name, where)
    try:
        descriptor = os.open(name, FOLDER, dir_fd=parent)
    except OSError as error:
        raise refusal("MEDIUM-UNEXPECTED", where, f"{shown([name])} is no plain directory") from error
    with closing(descriptor):
        yield descriptor


def _refuse_other_case(parent: int, name: str, where: Path) -> None:
    """On exFAT ``B00000001`` is found under ``b00000001``, but whoever lists names does not take it for a unit."""
    if not is_there(name.upper(), parent):
        return
    with os.scandir(parent) as entries:
        if not any(entry.name == name for entry in entries):
            raise refusal(
                "MEDIUM-UNEXPECTED", where, f"{shown([name])} is there under a name in another case"
            )


@contextlib.contextmanager
def closing(descriptor: int) -> Iterator[int]:
    """The descriptor, closed at the end."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def medium_errors(where: Path) -> Iterator[None]:
    """What the system says of a medium, as the rule that it means (``_FAULTS``)."""
    try:
        yield
    except OSError as error:
        raise fault(where, error) from error


def fault(where: Path, error: OSError) -> TransferError:
    """The refusal that an error of the system means, at ``where`` on a medium."""
    rule = _FAULTS.get(error.errno or 0, "MEDIUM-WRITE")
    return TransferError(rule, f"{where} failed: {error.strerror}", _WAYS_OUT[rule])


@contextlib.contextmanager
def open_plain(unit: int, file: str, limit: int, source: Path, rule: str) -> Iterator[int]:
    """A plain file of the unit, open for reading; refused by ``rule`` when it is another thing or above ``limit``.

    A file with a second name (a hard link) is refused too: whoever made it may mean a file that is not his.
    """
    try:
        descriptor = _open_file(unit, file)
    except OSError as error:
        if error.errno == errno.EIO:
            raise fault(source / file, error) from error
        raise refusal(rule, source, f"{file} cannot be read as a plain file ({error.strerror})") from error
    with closing(descriptor):
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            raise refusal(rule, source, f"{file} is no plain file of at most {limit} bytes")
        if status.st_nlink > 1:
            raise refusal(rule, source, f"{file} has {status.st_nlink} names (hard links)")
        yield descriptor


def _open_file(unit: int, file: str) -> int:
    # To open a device may do something by itself, so it is not opened to find out that it is one.
    if not stat.S_ISREG(os.stat(file, dir_fd=unit, follow_symlinks=False).st_mode):
        raise OSError(errno.EINVAL, "not a plain file")
    return os.open(file, READ, dir_fd=unit)


def plain_size(unit: int, file: str) -> int | None:
    """The size of a plain file of the unit; None when there is none."""
    try:
        status = os.stat(file, dir_fd=unit, follow_symlinks=False)
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def chunks(descriptor: int, most: int) -> Iterator[bytes]:
    """The content from where the descriptor stands, at most ``most`` bytes."""
    while most > 0 and (part := os.read(descriptor, min(_CHUNK, most))):
        most -= len(part)
        yield part


def measure(parts: Iterable[bytes]) -> Measured:
    """Size and digest of a content."""
    state, size = hashlib.sha256(), 0
    for part in parts:
        state.update(part)
        size += len(part)
    return Measured(size=size, sha256=state.hexdigest())


def matches(unit: int, file: str, wanted: Measured) -> bool:
    """True when the medium itself, not the cache, holds a plain file of this size and digest."""
    try:
        descriptor = _open_file(unit, file)
    except OSError:
        return False
    with closing(descriptor):
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size != wanted.size or status.st_nlink > 1:
            return False
        try:
            # Ask the medium, not the cache that still holds what was meant to be written: only clean pages leave it.
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            found = measure(chunks(descriptor, wanted.size + 1))
        except OSError:
            return False
        return found.size == wanted.size and equal(found.sha256.encode(), wanted.sha256.encode())


def check_room(place: int | Path, size: int, files: int, where: Path, *, rule: str = "MEDIUM-FULL") -> None:
    """Refused by ``rule`` unless ``size`` bytes in ``files`` files fit there; ``MEDIUM-READ-ONLY``."""
    found = os.statvfs(place)
    if found.f_flag & os.ST_RDONLY:
        raise TransferError(
            "MEDIUM-READ-ONLY", f"{where} cannot be written: read-only", _WAYS_OUT["MEDIUM-READ-ONLY"]
        )
    free, needed = found.f_bavail * found.f_frsize, size + files * _ROOM_PER_FILE
    if free < needed:
        raise TransferError(
            rule,
            f"{where} needs {needed} bytes, but only {free} are free",
            _WAYS_OUT["MEDIUM-FULL"] if rule == "MEDIUM-FULL" else "make room on this machine's disk",
        )


def names_in(unit: int) -> list[str]:
    """The names in a unit; no more than are needed to refuse it."""
    with os.scandir(unit) as entries:
        names = []
        for entry in entries:
            names.append(entry.name)
            if len(names) > _UNIT_NAMES:
                break
    return names


def remove_file(unit: int, file: str, where: Path) -> None:
    """Delete a file that may not be there; ``MEDIUM-UNEXPECTED`` when it is a directory."""
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file, dir_fd=unit)
    except IsADirectoryError as error:
        raise refusal("MEDIUM-UNEXPECTED", where, f"{file} is a directory") from error


def is_there(path: str, folder: int) -> bool:
    """True when the path, itself no link, is there."""
    try:
        os.stat(path, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return True


def sync_all(*descriptors: int) -> None:
    """Make directories durable, the innermost first."""
    for descriptor in descriptors:
        os.fsync(descriptor)


def shown(names: Iterable[str]) -> str:
    """Some names of a medium for a message: nothing in them can drive a terminal, and none fills the screen."""
    listed = sorted(names)
    plain = (
        "".join(character if character.isprintable() else "�" for character in name[:_NAME_SHOWN])
        for name in listed[:NAMES_SHOWN]
    )
    more = f" and {len(listed) - NAMES_SHOWN} more" if len(listed) > NAMES_SHOWN else ""
    return ", ".join(plain) + more


def refusal(rule: str, where: Path, what: str) -> TransferError:
    """A refusal of what lies at ``where``."""
    remedy = "find out who put it there; nothing of it was used. The other side can write it again"
    return TransferError(rule, f"{where} is refused: {what}", remedy)
