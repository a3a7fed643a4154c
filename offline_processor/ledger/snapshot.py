"""A snapshot of the ledger for a backup: consistent, without held cards, checked before it leaves.

Why here: what a backup may hold of the ledger is a question about its tables.
Must not: leave a plaintext copy behind, or hold a security code in any form.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from offline_processor.errors import ProcessorError
from offline_processor.ledger.entries import verify_entries
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.mirror import Tip, tip_of

Progress = Callable[[str, int, int], None]

_PAGES = 512
_WIPE = 1 << 20
_ENDINGS = ("", "-journal", "-wal", "-shm")


def take_snapshot(ledger: Ledger, path: Path, progress: Progress) -> Tip:
    """Copy the ledger to the new file ``path``, strip it of held cards, and check it whole; its tip.

    The caller wipes ``path`` (``wipe_snapshot``) whatever happens.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.close(descriptor)
    with closing(sqlite3.connect(path, isolation_level=None)) as copy:
        ledger.copy_to(copy, lambda done, total: progress("copying the ledger", done, total), pages=_PAGES)
        copy.execute("PRAGMA journal_mode = DELETE")
        copy.execute("PRAGMA secure_delete = ON")
        # The boxes open with hold keys alone, which no backup has: worthless, and a card all the same.
        copy.execute("UPDATE held_card SET box = x''")
        copy.execute("VACUUM")
    return check_snapshot(path)


def check_snapshot(path: Path) -> Tip:
    """The tip of a snapshot that is whole: SQLite's own check, then the chain of entries. ``BACKUP-DAMAGED``."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            found = database.execute("PRAGMA integrity_check").fetchone()
            tip = tip_of(database)
            entries = verify_entries(database.execute("SELECT * FROM entry ORDER BY id"))
            held = database.execute("SELECT count(*) FROM held_card WHERE length(box) > 0").fetchone()
    except sqlite3.DatabaseError as error:
        raise _damaged(str(error)) from error
    if found != ("ok",) or entries != tip.entries or held != (0,):
        raise _damaged("the ledger's copy does not pass its checks")
    return tip


def wipe_snapshot(path: Path) -> None:
    """Overwrite and remove a snapshot and what SQLite may have left beside it; also one that a crash left."""
    for ending in _ENDINGS:
        with suppress(FileNotFoundError):
            _wipe(path.with_name(path.name + ending))


def _wipe(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        left = os.fstat(descriptor).st_size
        zeros = bytes(_WIPE)
        while left > 0:
            left -= os.write(descriptor, zeros[:left])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    path.unlink()


def _damaged(what: str) -> ProcessorError:
    return ProcessorError(
        "BACKUP-DAMAGED",
        f"the copy of the ledger in this backup is not whole: {what}",
        "nothing of it was used; take another backup, or verify the ledger it was made from (verify-ledger)",
    )
