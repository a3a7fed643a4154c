"""Files that are whole or not there, also after a power cut.

Why here: every room writes such files, and write, fsync, rename, fsync of the directory must be one code.
Must not: be used on carried media, where neither rename nor link can be trusted.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Bytes = bytes | bytearray | memoryview


def write_durable(path: Path, data: Bytes, mode: int = 0o600) -> None:
    """Put ``data`` at ``path`` in place of what is there; durable on return, the old content on failure."""
    with _written_beside(path, data, mode) as temporary:
        os.rename(temporary, path)
        fsync_directory(path.parent)


def create_durable(path: Path, data: Bytes, mode: int = 0o600) -> None:
    """Put ``data`` at ``path`` durably; ``FileExistsError``, and nothing changed, when the name is taken."""
    with _written_beside(path, data, mode) as temporary:
        # A link, unlike a rename, fails when the name is taken, so two writers cannot both think they won.
        os.link(temporary, path, follow_symlinks=False)
        os.unlink(temporary)
        fsync_directory(path.parent)


def write_new_file(path: Path, parts: Sequence[Bytes], mode: int = 0o600) -> None:
    """Write and fsync a file that must not exist yet. The name is durable only after ``fsync_directory``."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        os.fchmod(descriptor, mode)  # the umask must not decide
        for part in parts:
            write_all(descriptor, part)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: Bytes) -> None:
    """Write every byte of ``data``, however often the system takes only some of them."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def fsync_directory(path: Path) -> None:
    """Make the names in directory ``path`` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path, mode: int = 0o700) -> None:
    """Make ``path`` and its missing parents, each durable; one that exists is left as it is."""
    if path.is_dir():
        return
    make_directory(path.parent, mode)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode)
    if not path.is_dir():
        raise NotADirectoryError(path)
    fsync_directory(path.parent)


def replace_erasing(path: Path, data: Bytes) -> None:
    """Put ``data`` durably in place of a file whose old bytes must not stay: overwritten where they lie, then removed.

    Steps, each durable before the next: ``.new`` written; ``.old`` linked to the live file; ``.new`` renamed over
    it, the moment of change; ``.old`` overwritten and removed. ``settle_erasing`` undoes or ends it after a crash.
    On flash, or a file system that copies on write, overwriting may not reach the old place: see README.
    """
    new, old = _beside(path)
    write_new_file(new, [data])
    # A second name keeps the old file within reach, so that a crash cannot leave it unwiped and nameless.
    os.link(path, old)
    fsync_directory(path.parent)
    os.rename(new, path)
    fsync_directory(path.parent)
    erase(old)


def settle_erasing(path: Path) -> None:
    """After a crash in ``replace_erasing``: drop what never became live, and erase what is no longer live."""
    new, old = _beside(path)
    changed = False
    if old.exists():
        changed = True
        # Before the rename both names are the same file, and overwriting it would destroy what is live.
        if path.exists() and old.samefile(path):
            old.unlink()
        else:
            erase(old)
    if new.exists():
        changed = True
        erase(new)
    if changed:
        fsync_directory(path.parent)


def erase(path: Path) -> None:
    """Overwrite a file in place, make that durable, then remove it (the caller fsyncs the directory)."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        write_all(descriptor, os.urandom(os.fstat(descriptor).st_size))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    path.unlink()


def _beside(path: Path) -> tuple[Path, Path]:
    return path.with_name(f"{path.name}.new"), path.with_name(f"{path.name}.old")


@contextlib.contextmanager
def _written_beside(path: Path, data: Bytes, mode: int) -> Iterator[Path]:
    # A fresh name for every try: after a failed fsync the same file must never be fsynced again.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        write_new_file(temporary, [data], mode)
        yield temporary
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
