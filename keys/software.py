"""Which software this is: its version, and a digest over the installed source files.

Why here: a ceremony record says with what it was made, so that altered software shows later.
Must not: take in what a run leaves behind (__pycache__), or anything of the machine (times, owners, paths).

The digest can be had without us, in the directory that holds the three packages:
``find keys transfer offline_processor -type f -not -path '*/__pycache__/*' | LC_ALL=C sort |
xargs b2sum -l 256 | b2sum -l 256``
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import msgspec

from keys.public.roll import Hex32

VERSION: Final = "0.1.0"
ROOMS: Final = ("keys", "offline_processor", "transfer")
_DIGEST_SIZE: Final = 32
_HOME: Final = Path(__file__).resolve().parent.parent


class Software(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The version and the digest of the source files (BLAKE2b-256, hex)."""

    version: str
    digest: Hex32


def file_digest(path: Path) -> str:
    """As `b2sum -l 256` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_DIGEST_SIZE)).hexdigest()


def installed(home: Path = _HOME) -> Software:
    """The software that is running; ``home`` is the directory that holds the packages."""
    whole = hashlib.blake2b(digest_size=_DIGEST_SIZE)
    for name in sorted(_names(home), key=lambda name: name.encode("utf-8", "surrogateescape")):
        whole.update(f"{file_digest(home / name)}  {name}\n".encode("utf-8", "surrogateescape"))
    return Software(version=VERSION, digest=whole.hexdigest())


def _names(home: Path) -> list[str]:
    return [
        path.relative_to(home).as_posix()
        for room in ROOMS
        for path in (home / room).rglob("*")
        if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts
    ]
