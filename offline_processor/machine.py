"""What pre-flight asks of the machine itself: memory that stays in memory, and room on its disks.

Why here: each of these, found only in the middle of a run, would stop it there.
Must not: change the machine, or take a limit's number for the thing itself where the thing can be tried.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from keys.errors import KeysError
from offline_processor.cards import CardTable
from offline_processor.finding import Finding, Severity

_PR_GET_DUMPABLE: Final = 3
_MIB: Final = 1024 * 1024
LEAST_SPACE: Final = 64 * _MIB
"""Below this a run is refused: ledger, key ring and return are written as it goes."""
LOW_SPACE: Final = 1024 * _MIB
"""Below this it is warned of: a large bundle may not fit."""


def of_memory(window: int) -> Iterator[Finding]:
    """No core dumps, and a run's cards can be locked in memory: both are looked at, the locking is tried."""
    if ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) != 0 or resource.getrlimit(
        resource.RLIMIT_CORE
    ) != (0, 0):
        yield Finding(
            rule="MACHINE-CORE-DUMPS",
            severity=Severity.REFUSED,
            message="this process could leave its memory in a core dump",
            remedy="start the command itself, not from within a debugger or another program's process",
        )
    try:
        with contextlib.ExitStack() as tables:
            for _ in range(2):
                tables.enter_context(CardTable(window))
    except KeysError as error:
        yield Finding(rule=error.rule, severity=Severity.REFUSED, message=error.message, remedy=error.remedy)


def of_disk(what: str, folder: Path) -> Iterator[Finding]:
    """Room on the disk of ``folder``, which exists."""
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    if free < LOW_SPACE:
        yield Finding(
            rule="MACHINE-DISK",
            severity=Severity.REFUSED if free < LEAST_SPACE else Severity.WARNING,
            message=f"the disk of {what} has {free // _MIB} MiB left ({folder})",
            remedy=f"make room: a run needs {LEAST_SPACE // _MIB} MiB at least, and a large bundle its own size too",
        )
