"""The power goes at any moment of the pipeline, on a real ext4 on a disk that remembers; then it is simply run again.

Environment: FAULTS_POWER (states of each step; 0 for all), FAULTS_POWER_HUNT (states tried for each planted bug),
FAULTS_SEED, FAULTS_JOBS.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from tempfile import TemporaryDirectory

import msgspec
import pytest

from tests.faults.bugs import POWER_BUGS
from tests.faults.pipeline import STEPS
from tests.faults.power import PowerTask, PowerVerdict
from tests.faults.sweep import at_most, jobs, scratch, seed
from tests.tools.known import ROOT, find

pytestmark = [pytest.mark.faults, pytest.mark.needs_tool("mkfs.ext4", "recorded-disk")]

Play = Callable[[PowerTask], PowerVerdict]


@pytest.fixture(scope="module")
def plants() -> Iterator[SimpleQueue[subprocess.Popen[bytes]]]:
    """Idle workers, each with mounts of its own that nobody else sees."""
    idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
    with TemporaryDirectory(prefix="power-", dir=scratch()) as place:
        command = [sys.executable, "-m", "tests.faults.power", place, str(find("mkfs.ext4"))]
        made = [
            subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(jobs())
        ]
        for worker in made:
            idle.put(worker)
        try:
            yield idle
        finally:
            for worker in made:
                if worker.stdin is not None:
                    worker.stdin.close()
                worker.wait(timeout=120)


@pytest.fixture(scope="module")
def play(plants: SimpleQueue[subprocess.Popen[bytes]]) -> Play:
    """Plays one task on whatever worker is idle."""

    def play(task: PowerTask) -> PowerVerdict:
        worker = plants.get()
        try:
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.write(msgspec.json.encode(task) + b"\n")
            worker.stdin.flush()
            answer = worker.stdout.readline()
        finally:
            plants.put(worker)
        assert answer, f"the worker died over {task}"
        return msgspec.json.decode(answer, type=PowerVerdict)

    return play


def test_power_that_goes_at_any_moment_loses_and_doubles_nothing(
    play: Play, say: Callable[[str], None]
) -> None:
    tasks = [PowerTask(step=step, most=at_most("POWER", 40), seed=seed()) for step in STEPS]
    with ThreadPoolExecutor(jobs()) as pool:
        verdicts = list(pool.map(play, tasks))
    violations = [violation for verdict in verdicts for violation in verdict.violations]
    say(
        f"power loss on ext4: {sum(verdict.writes for verdict in verdicts)} writes and"
        f" {sum(verdict.flushes for verdict in verdicts)} flushes on record;"
        f" states tried {sum(verdict.states for verdict in verdicts)}"
        f" of {sum(verdict.possible for verdict in verdicts)}; violations {len(violations)}"
    )
    assert [(where, found.any) for where, found in violations] == []
    for verdict in verdicts:
        assert verdict.writes > 10, "the record is empty"
        assert verdict.flushes > 5, "nothing was flushed"
    told = {verdict.task.step for verdict in verdicts if verdict.told}
    assert {"orders", "run"} <= told, "no customer was promised anything, or the acquirer was not asked"


@pytest.mark.parametrize("name", POWER_BUGS)
def test_planted_bug_is_caught_by_the_loss_of_power(
    play: Play, say: Callable[[str], None], name: str
) -> None:
    tried = 0
    for step in POWER_BUGS[name].steps:
        task = PowerTask(step=step, bug=name, most=at_most("POWER_HUNT", 150), seed=seed(), until_found=True)
        verdict = play(task)
        tried += verdict.states
        if verdict.violations:
            where, found = verdict.violations[0]
            say(
                f"planted bug caught at state {tried} ({where}): {name}: {found.any[0][:120].splitlines()[0]}"
            )
            return
    pytest.fail(f"{tried} states did not show it")
