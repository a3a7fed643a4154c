"""Letting an export out: recorded first, then written whole under a name that was free, then said to be out.

Why here: nobody may have a person's data of which the disclosure log does not know.
Must not: write over a file, leave a part of one under its name, or keep personal data in a file without a name.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from keys.durable import fsync_directory, write_all
from offline_processor.errors import ProcessorError
from offline_processor.exports.making import Prepared
from offline_processor.exports.purposes import Purpose
from offline_processor.ledger import disclosures
from offline_processor.ledger.disclosures import Export
from offline_processor.ledger.ledger import Ledger

# What file systems answer that have no files without a name (FAT, some network and user-space ones).
_NO_UNNAMED_FILES: Final = (
    errno.EOPNOTSUPP,
    errno.EISDIR,
    errno.ENOENT,
    errno.EINVAL,
    errno.EPERM,
    errno.ENOSYS,
)
_MODE: Final = 0o600


def release(
    ledger: Ledger,
    prepared: Prepared,
    let_out: Callable[[str, bytes], None],
    *,
    who: str,
    now: int,
    rehearsal: bool = False,
) -> Export:
    """Record ``prepared`` as an export by ``who``, then ``let_out`` its name and bytes, and record that.

    A ``rehearsal``'s is called so: its parcels must not be ordered from a carrier.
    When letting out fails the export is withdrawn, its orders are free for another one, and the failure goes on. When
    it is broken off nobody knows whether it came out: ``settle_unfinished`` looks.
    """
    number = disclosures.next_export(ledger)
    declared = prepared.declared
    export = Export(
        id=number,
        purpose=declared.purpose.value,
        recipient=prepared.recipient,
        format=declared.format,
        fields=tuple(sorted(prepared.fields)),
        ground=declared.ground,
        at=now,
        who=who,
        name=f"{'REHEARSAL-' if rehearsal else ''}{declared.purpose}-{prepared.recipient}-{number:06d}.{prepared.kind}",
        sha256=hashlib.sha256(prepared.content).hexdigest(),
    )
    undeclared = prepared.fields - declared.fields
    if undeclared:
        raise ValueError(f"fields that {declared.purpose} does not declare: {sorted(undeclared)}")
    with ledger.atomic():
        disclosures.record(ledger, export, prepared.disclosed)
    try:
        let_out(export.name, prepared.content)
    except Exception:
        with ledger.atomic():
            disclosures.withdraw(ledger, number, now=now)
        raise
    with ledger.atomic():
        disclosures.release(ledger, number, now=now)
    return export


def settle_unfinished(
    ledger: Ledger, purpose: Purpose, directory: Path | None, *, now: int
) -> list[tuple[Export, bool]]:
    """After a crash: each export for ``purpose`` that may have come out or not, and whether it is in ``directory``.

    One that does is released; any other is withdrawn, so that its orders are exported again.
    """
    settled = []
    for export in disclosures.unfinished(ledger):
        if export.purpose != purpose:
            continue
        out = directory is not None and _is_whole(directory / export.name, export.sha256)
        with ledger.atomic():
            if out:
                disclosures.release(ledger, export.id, now=now)
            else:
                disclosures.withdraw(ledger, export.id, now=now)
        settled.append((export, out))
    return settled


def _is_whole(path: Path, sha256: str) -> bool:
    with suppress(OSError):
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    return False


def into_directory(directory: Path) -> Callable[[str, bytes], None]:
    """Lets files out into this directory, which must exist; ``USAGE-OUT-PLACE``."""
    if not directory.is_dir():
        raise ProcessorError(
            "USAGE-OUT-PLACE",
            f"{directory} is no directory",
            "make it, or mount the medium; nothing was exported",
        )

    def let_out(name: str, content: bytes) -> None:
        put(directory / name, content)

    return let_out


def put(path: Path, content: bytes) -> None:
    """Write a new file of mode 0600, durable on return, or nothing at all: ``EXPORT-EXISTS``, ``EXPORT-WRITE``.

    On a stick's file system the mode is the system's for the whole stick.
    """
    try:
        if not _put_unnamed(path, content):
            _put_named(path, content)
        try:
            fsync_directory(path.parent)
        except OSError:
            os.unlink(path)
            raise
    except FileExistsError as error:
        raise ProcessorError(
            "EXPORT-EXISTS",
            f"{path} exists already",
            "an export is never written over another file: move it away",
        ) from error
    except OSError as error:
        raise ProcessorError(
            "EXPORT-WRITE",
            f"{path} could not be written: {error.strerror}",
            "its orders are still due: free some space, or take another directory, and repeat",
        ) from error


def _put_unnamed(path: Path, content: bytes) -> bool:
    """Name the file when it is whole, so that a crash before leaves nothing; False where that is impossible."""
    try:
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, _MODE)
    except OSError as error:
        if error.errno in _NO_UNNAMED_FILES:
            return False
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _fill(descriptor, content)
        # With a directory named Python asks for linkat, which alone can follow the way to a file without a name.
        os.link(f"/proc/self/fd/{descriptor}", path.name, dst_dir_fd=directory, follow_symlinks=True)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in (*_NO_UNNAMED_FILES, errno.EXDEV):
            return False
        raise
    finally:
        os.close(directory)
        os.close(descriptor)
    return True


def _put_named(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
    try:
        _fill(descriptor, content)
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        raise
    finally:
        os.close(descriptor)


def _fill(descriptor: int, content: bytes) -> None:
    with suppress(PermissionError):  # where the file system has no modes
        os.fchmod(descriptor, _MODE)  # the umask must not decide
    write_all(descriptor, content)
    os.fsync(descriptor)
