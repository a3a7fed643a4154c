"""Units on a drop: a bundle or return listed, and written so that it is whole or ignored.

Why here: both sides of the gap write to media, by the same code.
Must not: rely on rename, owners or times of the medium, follow a link on it, or know what a unit means.

A unit is a directory DROP/NODE/NAME of plain files; it is complete when its signature file is there, written last.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from keys.durable import write_all
from transfer.errors import TransferError
from transfer.sync.media import (
    CREATE,
    FOLDER,
    Measured,
    check_room,
    chunks,
    closing,
    is_there,
    matches,
    measure,
    medium_errors,
    names_in,
    open_drop,
    open_or_make_folder,
    plain_size,
    refusal,
    remove_file,
    shown,
    sync_all,
)
from transfer.wire.ids import check_node_id
from transfer.wire.manifest import SIGNATURE_NAME, bundle_sequence, return_numbers

ENTRIES_LIMIT = 100_000
_NO_LIMIT = 1 << 62  # for files of our own


Progress = Callable[[str, int, int], None]
"""Called with the name of the unit, how many bytes are done, and of how many."""


def no_progress(name: str, done: int, total: int) -> None:
    """Nobody watches."""


def list_units(drop: Path, node: str, prefix: str, *, unfinished: bool = False) -> list[str]:
    """Names of the complete units of ``node`` that begin with ``prefix``, in order. ``MEDIUM-NONE``: no such drop.

    ``unfinished``: those that are not complete, and so are ignored, instead.
    A link in the place of a unit is listed too, so that reading it refuses it aloud. ``MEDIUM-UNEXPECTED`` when
    the node's directory is none, or holds more entries than the limit: no more of them are looked at.
    """
    check_node_id(node)
    with medium_errors(drop), open_drop(drop) as top, node_folder(top, drop, node) as folder:
        if folder is None:
            return []
        return sorted(
            entry.name
            for entry in entries_of(folder, drop / node)
            if is_unit_name(entry.name, prefix)
            and (entry.is_symlink() or is_there(f"{entry.name}/{SIGNATURE_NAME}", folder)) is not unfinished
        )


def is_unit_name(name: str, prefix: str) -> bool:
    """True for the name of a bundle or return that begins with ``prefix``."""
    named = bundle_sequence(name) is not None or return_numbers(name) is not None
    return named and name.startswith(prefix)


def entries_of(folder: int, where: Path) -> Iterator[os.DirEntry[str]]:
    """The entries of a directory of a medium, ``MEDIUM-UNEXPECTED`` after as many as any honest one has."""
    with os.scandir(folder) as entries:
        for count, entry in enumerate(entries):
            if count >= ENTRIES_LIMIT:
                raise refusal("MEDIUM-UNEXPECTED", where, f"it holds more than {ENTRIES_LIMIT} entries")
            yield entry


@contextlib.contextmanager
def node_folder(top: int, drop: Path, node: str) -> Iterator[int | None]:
    """A descriptor of the node's directory, None when there is none; ``MEDIUM-UNEXPECTED``."""
    try:
        folder = os.open(node, FOLDER, dir_fd=top)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        if error.errno in {errno.ENOTDIR, errno.ELOOP}:
            raise refusal("MEDIUM-UNEXPECTED", drop / node, "it is no plain directory") from error
        raise
    with closing(folder):
        yield folder


def write_unit(
    drop: Path,
    node: str,
    name: str,
    files: Mapping[str, Path],
    progress: Progress = no_progress,
    *,
    signed: Mapping[str, Measured] | None = None,
) -> bool:
    """Write a unit of ``files`` (name in the unit: source path); False when it is there already, byte for byte.

    Everything is written, fsynced, read back past the cache and compared before the signature file makes it whole.
    ``signed``: what some of the files must be, where that is known better than from their sources: then the medium
    is compared with it, and a source that has changed never replaces a good copy.
    Raises ``MEDIUM-NONE``, ``-READ-ONLY``, ``-FULL``, ``-UNEXPECTED``, ``-DAMAGED`` or ``-WRITE``.
    """
    check_node_id(node)
    if not is_unit_name(name, "") or SIGNATURE_NAME not in files:
        raise ValueError("a unit has the name of a bundle or return, and a signature file")
    where = drop / node / name
    with (
        medium_errors(where),
        open_drop(drop) as top,
        open_or_make_folder(top, node, where) as folder,
        open_or_make_folder(folder, name, where) as unit,
    ):
        _refuse_strangers(unit, files, where)
        known = signed or {}
        written = not all(_is_there_already(unit, file, files[file], known.get(file)) for file in files)
        if written:
            _write_anew(unit, files, where, progress, known)
        sync_all(unit, folder, top)
    return written


def remove_unit(drop: Path, node: str, name: str, files: Mapping[str, object]) -> None:
    """Delete a unit's ``files``, the signature first, and its directory if nothing else is in it."""
    where = drop / check_node_id(node) / name
    with medium_errors(where), open_drop(drop) as top, open_or_make_folder(top, node, where) as folder:
        with open_or_make_folder(folder, name, where) as unit:
            for file in (SIGNATURE_NAME, *(file for file in files if file != SIGNATURE_NAME)):
                remove_file(unit, file, where)
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=folder)
        os.fsync(folder)


def remove_older(drop: Path, node: str, name: str, files: Iterable[str]) -> None:
    """Delete the units of a kind that ``name`` supersedes: returns are cumulative, so they only take up room.

    What cannot be deleted stays: it harms nobody, and is named as a stranger if it is one.
    """
    for older in list_units(drop, node, name[:1]):
        if older < name:
            with contextlib.suppress(TransferError):
                remove_unit(drop, node, older, dict.fromkeys(files))


def _write_anew(
    unit: int, files: Mapping[str, Path], where: Path, progress: Progress, known: Mapping[str, Measured]
) -> None:
    body = [file for file in files if file != SIGNATURE_NAME]
    # Without its signature the unit is ignored, so a half-written one is never taken for whole.
    for file in (SIGNATURE_NAME, *body):
        remove_file(unit, file, where)
    size = sum(path.stat().st_size for path in files.values())
    check_room(unit, size, len(files), where)
    done = 0

    def count(part: int) -> None:
        nonlocal done
        done += part
        progress(where.name, done, 2 * size)  # written, and read back

    written = {file: _write(unit, file, files[file], count, known.get(file)) for file in body}
    os.fsync(unit)
    for file in body:
        _read_back(unit, file, written[file], where)
        count(written[file].size)
    signature = _write(unit, SIGNATURE_NAME, files[SIGNATURE_NAME], count)
    os.fsync(unit)
    try:
        _read_back(unit, SIGNATURE_NAME, signature, where)
    except TransferError:
        remove_file(unit, SIGNATURE_NAME, where)
        raise


def _is_there_already(unit: int, file: str, source: Path, known: Measured | None) -> bool:
    if known is not None:
        return matches(unit, file, known)
    if plain_size(unit, file) != source.stat().st_size:
        return False
    with closing(os.open(source, os.O_RDONLY | os.O_CLOEXEC)) as descriptor:
        return matches(unit, file, measure(chunks(descriptor, _NO_LIMIT)))


def _write(
    unit: int, file: str, source: Path, count: Callable[[int], None], known: Measured | None = None
) -> Measured:
    """Copy ``source`` to a new file of the unit, durably, and digest it on the way unless it is ``known``."""
    with (
        closing(os.open(source, os.O_RDONLY | os.O_CLOEXEC)) as descriptor,
        closing(os.open(file, CREATE, 0o644, dir_fd=unit)) as copy,
    ):

        def written() -> Iterator[bytes]:
            for part in chunks(descriptor, _NO_LIMIT):
                write_all(copy, part)
                count(len(part))
                yield part

        if known is None:
            known = measure(written())
        else:
            deque(written(), maxlen=0)
        os.fsync(copy)
        return known


def _read_back(unit: int, file: str, wanted: Measured, where: Path) -> None:
    if not matches(unit, file, wanted):
        raise TransferError(
            "MEDIUM-DAMAGED",
            f"{where / file} does not read back as it was written",
            "the medium is failing, or lies about its size: take another, and repeat the command",
        )


def _refuse_strangers(unit: int, files: Mapping[str, Path], where: Path) -> None:
    strange = [name for name in names_in(unit) if name not in files]
    if strange:
        raise refusal("MEDIUM-UNEXPECTED", where, f"something else lies in it: {shown(strange)}")
