"""Backups: the ledger and a custody copy in one file that only a quorum of custodians can open.

Why here: what is in it, how it is written and how it is told to be good belong together; restore reads the same form.
Must not: hold batch or hold keys or a card's box, be called good before it was read back, or overwrite a file.

The sealed content is one line of canonical JSON (``Contents``), a line with the offline identity's signature of it
(hex), the custody copy, and the ledger's snapshot. Without the signature anyone who has seen a custody copy could
seal a ledger of their own beside it: the custody key's public half is no secret, and a chain of entries no proof.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import msgspec

from keys import sealed_file
from keys.custody import Custody
from keys.durable import fsync_directory
from keys.errors import RuleError
from keys.keystore import Keystore
from keys.private.locked import LockedBuffer
from keys.private.sign import sign
from keys.public import canonical
from keys.public.digest import digest
from keys.public.roll import Count, Hex32, Number
from offline_processor.acquirers.report import in_words
from offline_processor.errors import ProcessorError
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.snapshot import Progress, take_snapshot, wipe_snapshot
from transfer.errors import TransferError
from transfer.sync.media import check_room

PURPOSE: Final = "backup"
SIZE_LIMIT: Final = 64 * 1024**3
CUSTODY_LIMIT: Final = 64 * 1024**2
CONTENTS_LIMIT: Final = 4096
_CONTEXT: Final = b"sealed-orders/v1/backup\0"
SNAPSHOT_NAME: Final = "backup.snapshot"
LAST_BACKUP: Final = "backup-made-at"
_READ: Final = 1 << 20
_PART: Final = ".part"


class Contents(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="backup"
):
    """What a backup holds, and of when. ``entries``, ``chain``, ``newest``: the tip of the ledger in it."""

    format: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    made_at: Count
    rehearsal: bool
    epoch: Number
    entries: Count
    chain: str
    newest: Count
    custody_size: Count
    custody_sha256: Hex32
    ledger_size: Count
    ledger_sha256: Hex32


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupMade:
    """A backup that was written and read back. ``sha256`` (hex) and ``size`` are the file's."""

    path: Path
    size: int
    sha256: str
    contents: Contents


def make_backup(
    ledger: Ledger, keystore: Keystore, state: Path, target: Path, *, now: int, progress: Progress
) -> BackupMade:
    """Write a backup to ``target``, a new file or a directory in which it gets a name of its own, and verify it.

    Raises ``CUSTODY-NONE``, ``BACKUP-EXISTS``, ``BACKUP-WRITE``, ``BACKUP-READBACK`` or ``BACKUP-DAMAGED``.
    """
    custody, copy = keystore.custody, keystore.custody_copy(now)
    if custody is None:
        raise AssertionError("a keystore without custody gives no copy")
    path = target / _name(now, keystore.epoch) if target.is_dir() else target
    if os.path.lexists(path):
        raise ProcessorError(
            "BACKUP-EXISTS", f"{path} exists already", "backups are never overwritten: choose another name"
        )
    snapshot = state / SNAPSHOT_NAME
    wipe_snapshot(snapshot)  # one that a crash left
    try:
        tip = take_snapshot(ledger, snapshot, progress)
        contents = Contents(
            made_at=now,
            rehearsal=keystore.rehearsal,
            epoch=keystore.epoch,
            entries=tip.entries,
            chain=tip.chain.hex(),
            newest=ledger.newest,
            custody_size=len(copy),
            custody_sha256=hashlib.sha256(copy).hexdigest(),
            ledger_size=snapshot.stat().st_size,
            ledger_sha256=_digest_of(snapshot),
        )
        line = canonical.encode(contents)
        head = line + b"\n" + sign(keystore.identity, signed_message(line)).hex().encode("ascii") + b"\n"
        with _errors(path):
            size, sha256 = _write(path, contents, head + copy, snapshot, custody, progress)
    finally:
        wipe_snapshot(snapshot)
    with ledger.atomic():
        ledger.set_counter(LAST_BACKUP, now)
        facts = {"entries": contents.entries, "chain": contents.chain, "size": size, "sha256": sha256}
        ledger.append("backup-made", path.name, now, facts)
    return BackupMade(path=path, size=size, sha256=sha256, contents=contents)


def signed_message(line: bytes) -> bytes:
    """What the offline identity signs of a backup: the line that names the digests of all its parts."""
    return _CONTEXT + digest("backup", line)


def custody_of(header: sealed_file.Header) -> Custody | None:
    """The custody that a backup's header names, for the quorum's screens; None when its notes do not say."""
    notes = header.notes
    try:
        return Custody(
            public_key=bytes.fromhex(header.public_key),
            threshold=int(notes["threshold"]),
            shares=int(notes["shares"]),
            set_id=int(notes["set"]),
        )
    except (KeyError, ValueError):
        return None


def _write(
    path: Path, contents: Contents, head: bytes, snapshot: Path, custody: Custody, progress: Progress
) -> tuple[int, str]:
    """Seal ``head`` and the snapshot beside ``path``, read it back past the cache, name it; size and SHA-256 (hex)."""
    part = path.with_name(path.name + _PART)
    with suppress(FileNotFoundError):
        part.unlink()  # sealed, and never called a backup
    plain = hashlib.sha256()
    total = contents.ledger_size + len(head)
    check_room(path.parent, total + total // 1000, 1, path)
    notes = {
        "made": in_words(contents.made_at),
        "epoch": str(contents.epoch),
        "threshold": str(custody.threshold),
        "shares": str(custody.shares),
        "set": str(custody.set_id),
    }
    if contents.rehearsal:
        notes["rehearsal"] = "yes"
    done = 0

    def plaintext() -> Iterator[bytes]:
        nonlocal done
        for piece in _pieces(head, snapshot):
            plain.update(piece)
            done += len(piece)
            progress("sealing", min(done, total), total)
            yield piece

    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            stream_key = sealed_file.seal(
                plaintext(), file, custody.public_key, purpose=PURPOSE, notes=notes, limit=SIZE_LIMIT
            )
            file.flush()
            os.fsync(file.fileno())
        with stream_key:
            sha256 = _read_back(part, stream_key, plain.hexdigest(), total, progress)
        size = part.stat().st_size
        os.rename(part, path)
        fsync_directory(path.parent)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    return size, sha256


def _pieces(head: bytes, snapshot: Path) -> Iterator[bytes]:
    yield head
    with snapshot.open("rb") as file:
        while piece := file.read(_READ):
            yield piece


def _read_back(path: Path, stream_key: LockedBuffer, wanted: str, total: int, progress: Progress) -> str:
    """Open what was written with the stream key, from the disk itself; the file's SHA-256 (hex)."""
    plain, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        # Ask the disk, not the cache that still holds what was meant to be written.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        source = _Digesting(file)
        try:
            header, line = sealed_file.read_header(source, PURPOSE)
            for piece in sealed_file.unseal(source, header, line, stream_key):
                plain.update(piece)
                done += len(piece)
                progress("reading it back", min(done, total), total)
        except RuleError as error:
            raise _not_read_back(path) from error
    if plain.hexdigest() != wanted:
        raise _not_read_back(path)
    return source.hexdigest()


class _Digesting:
    """A file that is digested as it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._state = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        return self._seen(self._file.read(size))

    def readline(self, size: int, /) -> bytes:
        return self._seen(self._file.readline(size))

    def hexdigest(self) -> str:
        return self._state.hexdigest()

    def _seen(self, piece: bytes) -> bytes:
        self._state.update(piece)
        return piece


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _name(now: int, epoch: int) -> str:
    moment = in_words(now).replace("-", "").replace(":", "").lower()
    return f"backup-{moment}-e{epoch:04d}.sealed"


def _not_read_back(path: Path) -> ProcessorError:
    return ProcessorError(
        "BACKUP-READBACK",
        f"the backup does not read back as it was written to {path}",
        "the medium is failing, or lies about its size: take another, and repeat the command",
    )


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """What the system says of a failing medium, as ``BACKUP-WRITE``."""
    try:
        yield
    except (OSError, TransferError) as error:
        what = error.message if isinstance(error, TransferError) else error.strerror
        raise ProcessorError(
            "BACKUP-WRITE",
            f"the backup could not be written to {path}: {what}",
            "check the medium (full, read-only, pulled out?) or take another, and repeat the command",
        ) from error
