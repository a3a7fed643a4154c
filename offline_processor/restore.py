"""Restoring a backup on a new machine: a new keystore, the ledger of the backup, a new epoch, nothing reconciled.

Why here: the steps and what a crash between two of them leaves are one question.
Must not: overwrite anything, use a backup that is not whole, or leave a ledger that may charge before reconciliation.

The ledger is put in its place first, marked as unreconciled, and the keystore after it: between the two no command
can run, for want of keys, and the same `restore` goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from keys import custody_copy, sealed_file
from keys.durable import fsync_directory, make_directory
from keys.errors import RuleError
from keys.private.unseal import SealingKey
from keys.public import canonical
from keys.public.verify import signature_is_good
from offline_processor.backup import CONTENTS_LIMIT, CUSTODY_LIMIT, PURPOSE, Contents, signed_message
from offline_processor.errors import ProcessorError
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.mirror import tip_of
from offline_processor.ledger.snapshot import Progress, check_snapshot, wipe_snapshot
from offline_processor.reconciliation import require

RESTORING: Final = "ledger.db.restoring"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedBackup:
    """A backup that was opened and is whole: what it says of itself, its custody copy, its digest (SHA-256, hex)."""

    contents: Contents
    custody_copy: bytes
    sha256: str


def read_backup_header(backup: Path) -> sealed_file.Header:
    """What anyone may read of a backup. ``SEALED-FILE-FORM``."""
    with _open(backup) as file:
        header, _ = sealed_file.read_header(file, PURPOSE)
    return header


def check_place(keystore: Path, state: Path, mirror: Path | None) -> None:
    """Refuse (``RESTORE-EXISTS``) to restore where a keystore or ledger is, unless a restore was cut short there."""
    ledger = state / "ledger.db"
    there = [path for path in (keystore, ledger, mirror) if path is not None and os.path.lexists(path)]
    if there and (keystore in there or not all(_restored_from(path) for path in there)):
        names = ", ".join(str(path) for path in there)
        raise ProcessorError(
            "RESTORE-EXISTS",
            f"there is something already: {names}",
            "a restore overwrites nothing. If a ledger or mirror is good, go on with it (offline-processor mirror"
            " --take; key-ceremony recover makes the keystore); else move these files away first",
        )


def put_ledger(
    backup: Path,
    custody_key: SealingKey,
    state: Path,
    *,
    approve: Callable[[OpenedBackup], None],
    now: int,
    progress: Progress,
) -> OpenedBackup:
    """Open the backup with the custody key, check it whole, and put its ledger in place, unreconciled.

    ``approve`` may refuse what was opened before anything is put in place.
    Raises ``SEALED-FILE-DAMAGED``, ``SEALED-FILE-KEY``, ``BACKUP-DAMAGED`` or ``RESTORE-OTHER``.
    """
    make_directory(state)
    restoring, ledger = state / RESTORING, state / "ledger.db"
    wipe_snapshot(restoring)
    try:
        opened = _unpack(backup, custody_key, restoring, progress)
        approve(opened)
        if ledger.exists():
            if _restored_from(ledger) != opened.sha256:
                raise ProcessorError(
                    "RESTORE-OTHER",
                    "an earlier restore from another backup was cut short here",
                    f"finish it with that backup, or move {ledger} away",
                )
            return opened
        _mark(restoring, opened, now=now)
        os.rename(restoring, ledger)
        fsync_directory(state)
    finally:
        wipe_snapshot(restoring)
    return opened


def _unpack(backup: Path, custody_key: SealingKey, restoring: Path, progress: Progress) -> OpenedBackup:
    with _open(backup) as file:
        total = os.fstat(file.fileno()).st_size
        header, line = sealed_file.read_header(file, PURPOSE)
        with sealed_file.stream_key_of(header, custody_key) as stream_key:
            content = _Content(sealed_file.unseal(file, header, line, stream_key))
            signed, signature = content.line(CONTENTS_LIMIT), content.line(CONTENTS_LIMIT)
            contents = _contents(signed)
            if contents.custody_size > CUSTODY_LIMIT:
                raise _damaged("its custody copy is too large")
            copy = b"".join(content.take(contents.custody_size))
            _check_signature(copy, signed, signature)
            ledger = hashlib.sha256()
            descriptor = os.open(restoring, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as target:
                done = 0
                for piece in content.take(contents.ledger_size):
                    target.write(piece)
                    ledger.update(piece)
                    done += len(piece)
                    progress("opening the backup", min(done, total), total)
                target.flush()
                os.fsync(target.fileno())
            content.end()
    digests = (hashlib.sha256(copy).hexdigest(), ledger.hexdigest())
    if digests != (contents.custody_sha256, contents.ledger_sha256):
        raise _damaged("its parts are not those that it names")
    tip = check_snapshot(restoring)
    if (tip.entries, tip.chain.hex()) != (contents.entries, contents.chain):
        raise _damaged("its ledger does not end where it says")
    with backup.open("rb") as whole:
        sha256 = hashlib.file_digest(whole, "sha256").hexdigest()
    return OpenedBackup(contents=contents, custody_copy=copy, sha256=sha256)


def _check_signature(copy: bytes, signed: bytes, signature: bytes) -> None:
    """The identity of the custody copy has signed what the backup says it holds."""
    identity = bytes.fromhex(custody_copy.look(copy).keystore.identity)
    try:
        good = signature_is_good(identity, signed_message(signed), bytes.fromhex(signature.decode("ascii")))
    except ValueError:
        good = False
    if not good:
        raise _damaged("it is not signed by the offline identity whose keys it holds")


def _mark(path: Path, opened: OpenedBackup, *, now: int) -> None:
    """Say in the ledger itself that it was restored, from what, and that it is not reconciled."""
    with closing(Ledger(path)) as ledger:
        if now < ledger.newest:
            raise ProcessorError(
                "CLOCK-BACK",
                f"the clock says {now}, but the backup's newest ledger entry is of {ledger.newest}",
                "set the clock, then repeat the command",
            )
        with ledger.atomic():
            require(ledger, now=now)
            ledger.set_counter("mirrored", 0)
            facts = {
                "backup": opened.sha256,
                "entries": opened.contents.entries,
                "epoch": opened.contents.epoch,
            }
            ledger.append("restored", opened.sha256, now, facts)
    path.with_suffix(".lock").unlink(missing_ok=True)


def _restored_from(ledger: Path) -> str | None:
    """The digest of the backup, when the ledger's newest entry is its restoration."""
    try:
        with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as database:
            tip = tip_of(database)
            row = database.execute("SELECT kind, subject FROM entry WHERE id = ?", (tip.entries,)).fetchone()
    except sqlite3.DatabaseError:
        return None
    return str(row[1]) if row is not None and row[0] == "restored" else None


class _Content:
    """The unsealed chunks, taken by size."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._waiting = b""

    def line(self, limit: int) -> bytes:
        while b"\n" not in self._waiting:
            if len(self._waiting) > limit or not self._more():
                raise _damaged("it does not say what it holds")
        line, _, self._waiting = self._waiting.partition(b"\n")
        return line

    def take(self, size: int) -> Iterator[bytes]:
        while size:
            if not self._waiting and not self._more():
                raise _damaged("it is shorter than it says")
            piece, self._waiting = self._waiting[:size], self._waiting[size:]
            size -= len(piece)
            yield piece

    def end(self) -> None:
        """Only the end of the stream proves that nothing was cut off."""
        if self._waiting or any(self._chunks):
            raise _damaged("it is longer than it says")

    def _more(self) -> bool:
        for chunk in self._chunks:
            self._waiting += chunk
            if chunk:
                return True
        return False


def _contents(raw: bytes) -> Contents:
    try:
        return canonical.decode(raw, Contents, limit=CONTENTS_LIMIT, what="description of a backup")
    except RuleError as error:
        raise _damaged("it does not say what it holds") from error


def _open(backup: Path) -> BinaryIO:
    try:
        return backup.open("rb")
    except OSError as error:
        raise _damaged(f"{backup} cannot be read: {error.strerror}") from error


def _damaged(what: str) -> ProcessorError:
    return ProcessorError(
        "BACKUP-DAMAGED", f"this backup cannot be used: {what}", "take another copy, or the backup before it"
    )
