"""The fork server: imports everything once, then plays one fault in one world after the other, each in its own child.

Why here: a state costs a fork and a copied directory instead of the start of an interpreter.
Must not: open a file of a world itself, since its children inherit what is open, or outlive the sweep.

Reads one task a line (JSON) from standard input and answers with one verdict a line.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from tests.faults.children import HUNG, KILLED, Strike, in_child, last_words, warm_up
from tests.faults.judge import Findings, judge
from tests.faults.pipeline import STEPS, First, live_once, recover
from tests.faults.shim import Mode
from tests.faults.world import World, make_world

PROBE = "probe"


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A fault in a step, perhaps another one in the recovery from it, with a planted bug or without.

    ``step`` may be "probe": play nothing, answer with the trace of every step. ``media``: what becomes of the medium
    after the step: "" nothing; "lost"; "repeated": what it held before the step lies on it too; "old": it holds nothing
    but what it held before the first pull.
    """

    number: int = 0
    step: str = PROBE
    strike: Strike | None = None
    second: Strike | None = None
    strict: bool = True
    bug: str = ""
    media: str = ""
    first: First = First.PULL


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """``reached``: the faults did strike. ``second_reached``: the one in the recovery too."""

    task: Task
    reached: bool = False
    second_reached: bool = False
    findings: Findings = msgspec.field(default_factory=Findings)
    traces: dict[str, list[str]] = {}


class Arena:
    """Templates of the world before each step, and the play of one task."""

    def __init__(self, place: Path) -> None:
        self._place = place
        warm_up(live_once, place)
        self._traces = self._build()

    def play(self, task: Task) -> Verdict:
        """One fault, the recovery, the judgement."""
        if task.step == PROBE:
            return Verdict(task=task, reached=True, traces=self._traces)
        shutil.rmtree(self._place / "state", ignore_errors=True)
        world = World(place=self._template(task.step)).copy_to(self._place / "state")
        findings = Findings()
        ended = self._in_child(task, lambda: STEPS[task.step](world), world, task.strike)
        reached = task.strike is None or _struck(task.strike, ended)
        if ended == HUNG:
            findings.broken.append(f"the step hung; {self._last_words()}")
        self._meddle(world, task)
        second_reached = False
        if task.second is not None:
            ended = self._in_child(task, lambda: recover(world, task.first), world, task.second)
            second_reached = _struck(task.second, ended)
        ended = self._in_child(task, lambda: self._recover_and_judge(world, task), world, None)
        if ended == 0:
            judged = msgspec.json.decode(self._report.read_bytes(), type=Findings)
            for kind in judged.__struct_fields__:
                getattr(findings, kind).extend(getattr(judged, kind))
        else:
            findings.broken.append(f"the recovery ended with {ended}: {self._last_words()}")
        return Verdict(task=task, reached=reached, second_reached=second_reached, findings=findings)

    @property
    def _report(self) -> Path:
        return self._place / "report.json"

    @property
    def _said(self) -> Path:
        return self._place / "last-words.txt"

    def _template(self, step: str) -> Path:
        return self._place / "before" / step

    def _build(self) -> dict[str, list[str]]:
        place = self._place / "building"
        world = World(place=place)
        self._must(Task(), lambda: make_world(place), world)
        traces = {}
        trace = self._place / "trace.txt"
        for step, play in STEPS.items():
            world.copy_to(self._template(step))
            self._must(Task(), lambda play=play: play(world), world, trace)  # type: ignore[misc]
            traces[step] = trace.read_text("utf-8").splitlines()
        return traces

    def _must(
        self, task: Task, action: Callable[[], object], world: World, trace: Path | None = None
    ) -> None:
        if ended := self._in_child(task, action, world, Strike(at=-1, mode=Mode.COUNT), trace):
            raise RuntimeError(f"the world cannot be built: {ended} {self._last_words()}")

    def _recover_and_judge(self, world: World, task: Task) -> None:
        faults = recover(world, task.first)
        found = judge(world, strict=task.strict)
        found.broken[:0] = faults
        self._report.write_bytes(msgspec.json.encode(found))

    def _in_child(
        self,
        task: Task,
        action: Callable[[], object],
        world: World,
        strike: Strike | None,
        trace: Path | None = None,
    ) -> int:
        return in_child(action, self._said, bug=task.bug, strike=strike, root=world.root, trace=trace)

    def _meddle(self, world: World, task: Task) -> None:
        if task.media in ("lost", "old"):
            for drop in ("in", "out"):
                shutil.rmtree(world.medium / drop)
                (world.medium / drop).mkdir()
        if task.media in ("repeated", "old"):
            before = World(place=self._template("pull" if task.media == "old" else task.step))
            shutil.copytree(before.medium, world.medium, dirs_exist_ok=True)

    def _last_words(self) -> str:
        return last_words(self._said)


def _struck(strike: Strike, ended: int) -> bool:
    """A kill shows in how the child ended. Whether a failing call was reached is known from the trace only."""
    return ended == KILLED or strike.mode in (Mode.FAIL_ONCE, Mode.FAIL_ON)


def main() -> None:
    """Answer tasks until there are no more."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    home = Path(sys.argv[1])
    with tempfile.TemporaryDirectory(dir=home) as place:
        arena = Arena(Path(place))
        for line in sys.stdin.buffer:
            verdict = arena.play(msgspec.json.decode(line, type=Task))
            answers.write(msgspec.json.encode(verdict) + b"\n")


if __name__ == "__main__":
    main()
