"""Units read from a drop without trusting the medium: what is copied is plain, bounded and named as it must be.

Why here: both sides of the gap read media, by the same code.
Must not: follow a link, read more than a limit, or know what a unit means.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from keys.durable import fsync_directory, make_directory, write_all
from transfer.sync.media import (
    CREATE,
    Measured,
    check_room,
    chunks,
    closing,
    fault,
    measure,
    medium_errors,
    names_in,
    open_plain,
    open_unit,
    plain_size,
    refusal,
    shown,
)
from transfer.wire.manifest import SIGNATURE_NAME

_BUFFER = 1 << 20


def copy_unit(source: Path, destination: Path, limits: Mapping[str, int]) -> None:
    """Copy the unit at ``source`` (DROP/NODE/NAME) to the new directory ``destination``, durably.

    It must hold exactly the files that ``limits`` names, plain, none larger than its limit; else
    ``BUNDLE-FORMAT`` or ``RETURN-FORMAT``. The signature file is written last. ``SPOOL-SPACE``: no room for it here.
    """
    rule = format_rule(source.name)
    make_directory(destination.parent)
    destination.mkdir(0o700)
    with open_unit(source, rule) as unit:
        _refuse_other_names(unit, limits, source, rule)
        size = sum(min(plain_size(unit, file) or 0, limit) for file, limit in limits.items())
        check_room(destination, size, len(limits), destination, rule="SPOOL-SPACE")
        for file in sorted(limits, key=lambda file: file == SIGNATURE_NAME):
            _copy_in(unit, file, destination / file, limits[file], source, rule)
    fsync_directory(destination)
    fsync_directory(destination.parent)


def check_names(source: Path, files: Iterable[str]) -> None:
    """Refuse the unit at ``source`` as ``copy_unit`` does when it does not hold exactly ``files``."""
    rule = format_rule(source.name)
    with open_unit(source, rule) as unit:
        _refuse_other_names(unit, files, source, rule)


def read_file(source: Path, file: str, limit: int) -> bytes:
    """One small plain file of the unit at ``source``; refused as ``copy_unit`` refuses it."""
    rule = format_rule(source.name)
    with open_unit(source, rule) as unit, open_plain(unit, file, limit, source, rule) as descriptor:
        raw = b"".join(_medium_chunks(descriptor, limit + 1, source / file))
        if len(raw) > limit:
            raise refusal(rule, source, f"{file} is larger than {limit} bytes")
        return raw


@contextmanager
def open_file(source: Path, file: str, limit: int) -> Iterator[BinaryIO]:
    """A plain file of the unit at ``source`` to read in parts; refused as ``copy_unit`` refuses it."""
    rule = format_rule(source.name)
    with (
        medium_errors(source / file),
        open_unit(source, rule) as unit,
        open_plain(unit, file, limit, source, rule) as descriptor,
        os.fdopen(os.dup(descriptor), "rb", buffering=_BUFFER) as opened,
    ):
        yield opened


def measure_file(source: Path, file: str, limit: int) -> Measured:
    """Size and digest of a plain file of the unit at ``source``, read past the cache; refused as by ``copy_unit``."""
    rule = format_rule(source.name)
    with open_unit(source, rule) as unit, open_plain(unit, file, limit, source, rule) as descriptor:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return measure(_medium_chunks(descriptor, limit + 1, source / file))


def format_rule(name: str) -> str:
    """The rule that refuses a unit of this name when it is not formed as FORMAT.md says."""
    return "BUNDLE-FORMAT" if name.startswith("b") else "RETURN-FORMAT"


def _refuse_other_names(unit: int, files: Iterable[str], source: Path, rule: str) -> None:
    wanted = sorted(files)
    with medium_errors(source):
        names = sorted(names_in(unit))
    if names != wanted:
        strange = shown(set(names) ^ set(wanted))
        raise refusal(rule, source, f"it must hold exactly {', '.join(wanted)}; not so: {strange}")


def _copy_in(unit: int, file: str, destination: Path, limit: int, source: Path, rule: str) -> None:
    with (
        open_plain(unit, file, limit, source, rule) as descriptor,
        closing(os.open(destination, CREATE, 0o600)) as copy,
    ):
        size = 0
        # The file may grow while it is read: the limit is on what is copied, not on what was announced.
        for part in _medium_chunks(descriptor, limit + 1, source / file):
            size += len(part)
            write_all(copy, part)
        if size > limit:
            raise refusal(rule, source, f"{file} is larger than {limit} bytes")
        os.fsync(copy)


def _medium_chunks(descriptor: int, most: int, where: Path) -> Iterator[bytes]:
    parts = chunks(descriptor, most)
    while True:
        try:
            part = next(parts, None)
        except OSError as error:
            raise fault(where, error) from error
        if part is None:
            return
        yield part
