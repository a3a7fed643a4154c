"""One action in a child of its own, which may die of it.

Why here: every sweep forks from a process that has imported everything and opened nothing.
Must not: let a child return into its parent's code.
"""

from __future__ import annotations

import os
import signal
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.faults import bugs, shim
from tests.faults.shim import Mode
from tests.faults.world import make_light

KILLED = -int(signal.SIGKILL)
HUNG = -int(signal.SIGALRM)
_FAILED = 97
_PATIENCE = 120


class Strike(msgspec.Struct, frozen=True, kw_only=True):
    """One fault: at which counted call, and what happens there."""

    at: int
    mode: int
    error: int = 0


def in_child(
    action: Callable[[], object],
    said: Path,
    *,
    bug: str = "",
    strike: Strike | None = None,
    root: Path | None = None,
    trace: Path | None = None,
) -> int:
    """Play ``action`` in a child; how it ended, as ``waitstatus_to_exitcode`` says. Its last words go to ``said``.

    ``strike`` hits it below ``root``; the counted calls are written to ``trace``.
    """
    said.unlink(missing_ok=True)
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = _FAILED
    try:
        signal.alarm(_PATIENCE)
        silence = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(silence, stream)
        patch = pytest.MonkeyPatch()
        make_light(patch)
        if bug:
            bugs.ALL[bug].plant(patch)
        if strike is not None and root is not None:
            to = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) if trace else -1
            shim.arm(root, strike.at, Mode(strike.mode), error=strike.error, trace=to)
        action()
        code = 0
    except BaseException:  # noqa: BLE001  the parent reads it from the file
        said.write_text(traceback.format_exc(), "utf-8")
    finally:
        os._exit(code)


def warm_up(play: Callable[[Path], object], place: Path) -> None:
    """Play everything once in this very process, so that children find every module imported and every cache filled."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(dir=place) as here:
        make_light(patch)
        play(Path(here) / "world")


def last_words(said: Path) -> str:
    """What a child said that failed."""
    return said.read_text("utf-8")[-1500:] if said.exists() else ""
