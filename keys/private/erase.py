"""Replacing a file so that its old bytes are overwritten, whatever moment a crash comes at.

Why here: what wraps or held a destroyed key must not stay behind under another name or in a half-made step.
Must not: claim more than files can do: a flash medium, a journal or an old disk image may still have them.

Each step is durable before the next: ``NAME.new`` written; ``NAME.old`` linked to the live file; ``.new``
renamed over it, which is the moment of the change; ``.old`` overwritten, then removed. ``settle`` finishes
or undoes what a crash left.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from keys.durable import fsync_directory, write_all, write_new_file

if TYPE_CHECKING:
    from pathlib import Path


def replace_erasing(path: Path, data: bytes) -> None:
    """Put ``data`` in place of the file at ``path``, and overwrite what was there."""
    new, old = _names(path)
    write_new_file(new, [data])
    # A second name keeps the old file within reach, so that a crash cannot leave it unwiped and nameless.
    os.link(path, old)
    fsync_directory(path.parent)
    os.rename(new, path)
    fsync_directory(path.parent)
    erase(old)
    fsync_directory(path.parent)


def settle(path: Path) -> None:
    """After a crash: drop what never became live, and erase what is no longer live."""
    new, old = _names(path)
    changed = False
    if old.exists():
        changed = True
        # Before the rename both names are the same file, and overwriting it would kill every key.
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
    os.unlink(path)


def _names(path: Path) -> tuple[Path, Path]:
    return path.with_name(f"{path.name}.new"), path.with_name(f"{path.name}.old")
