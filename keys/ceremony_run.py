"""Holding a ceremony: the steps one after the other, and nothing left of one that is broken off.

Why here: whatever ends a ceremony early ends here, so what it leaves behind is decided in one place.
Must not: leave parts of a keystore when there is no last step.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from typing import TYPE_CHECKING, Any, Final, NoReturn

from keys.ceremony_course import Aside, Course, Held
from keys.ceremony_steps import StepKind, steps_of
from keys.errors import KeysError
from keys.keystore_place import LOCK_NAME, abandon, take_lock
from keys.screen import private_screen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from keys.ceremony_file import CeremonyPlan
    from keys.software import Software

REHEARSAL_MARK: Final = "*** REHEARSAL: throwaway keys, for the simulated acquirer only ***"
_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


def hold(plan: CeremonyPlan, raw: bytes, *, software: Software, clock: Callable[[], int]) -> Held:
    """Hold the whole ceremony at the terminal. ``raw`` are the bytes of its file, ``clock`` gives Unix seconds.

    Raises ``CEREMONY-BROKEN-OFF`` (Ctrl-C, a closed terminal, SIGTERM), ``CEREMONY-TERMINAL``,
    ``SWAP-NOT-ENCRYPTED`` or what a step raises; then no keystore and no output is left.
    """
    aside = Aside(keystore=_beside(plan.keystore.path), output=_beside(plan.output))
    mark = REHEARSAL_MARK if plan.rehearsal else ""
    steps = steps_of(plan)
    course: Course | None = None
    heading, sheets = "", False
    try:
        with _signals_break_off(), contextlib.ExitStack() as stack:
            screen = stack.enter_context(private_screen(mark=mark))
            stack.callback(_remove, aside)
            _remove(aside)  # what a ceremony left that could not even clean up: power cut, SIGKILL
            course = Course(
                plan=plan, raw=raw, software=software, clock=clock, screen=screen, aside=aside, stack=stack
            )
            for number, step in enumerate(steps, 1):
                heading = screen.heading = step.heading(number, len(steps))
                sheets = sheets or step.kind is StepKind.TAKE_SHARE
                course.begin(step)
                course.do(step)
                course.end(heading)
            return course.held()
    except KeyboardInterrupt as error:
        if course is not None and course.is_held:
            return course.held()  # it came when all was in its place
        raise KeysError(
            "CEREMONY-BROKEN-OFF",
            f"the ceremony was broken off in {heading or 'its beginning'}. No keystore and no output were made",
            "sheets with words from this attempt open nothing: burn them, witnessed. Then begin again"
            if sheets
            else "no share was shown yet, so there is nothing to burn: begin again",
        ) from error


def _remove(aside: Aside) -> None:
    if (aside.keystore / LOCK_NAME).exists():
        os.close(take_lock(aside.keystore))  # refuses: it is of another ceremony that is going on
    abandon(aside.keystore)
    if os.path.lexists(aside.output):
        shutil.rmtree(aside.output)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.ceremony")


@contextlib.contextmanager
def _signals_break_off() -> Iterator[None]:
    """A closed terminal or a request to end breaks a ceremony off as Ctrl-C does, so that it cleans up."""

    def stop(_number: int, _frame: Any) -> NoReturn:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)
