"""The lock of a ledger's file: one process at a time works with a ledger or a mirror.

Why here: ledger, mirror and the mirror's taking hold theirs in the same way.
Must not: wait for another process, or touch the file that is held.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from offline_processor.errors import ProcessorError


def take_lock(path: Path, what: str) -> int:
    """The descriptor that holds the file at ``path`` until it is closed; ``LEDGER-IN-USE`` in the words of ``what``."""
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ProcessorError("LEDGER-IN-USE", what, "wait for it to end, then repeat the command") from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
