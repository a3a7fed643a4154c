"""The pipeline is killed, or its disks fail, at every call that changes or flushes a file; then it is simply run again.

Environment: FAULTS_KILLS (states of the sweep; 0 for all), FAULTS_DOUBLE_KILLS, FAULTS_ERRORS, FAULTS_MEDIA,
FAULTS_SEED, FAULTS_JOBS.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterable, Sequence

import pytest

from tests.faults.children import Strike
from tests.faults.pipeline import STEPS, First
from tests.faults.shim import CAN_FAIL, KILLS, WRITES, Mode
from tests.faults.sweep import Figures, Fleet, at_most, seed
from tests.faults.worker import Task

pytestmark = [pytest.mark.faults, pytest.mark.needs_tool("gcc", "libc-headers")]

Traces = dict[str, list[str]]


@pytest.fixture(scope="module")
def traces(servers: Fleet) -> Traces:
    return servers.traces()


def test_sweep_sees_every_kind_of_call_in_every_step(traces: Traces) -> None:
    assert list(traces) == list(STEPS)
    calls = {call.partition(" ")[0] for calls in traces.values() for call in calls}
    assert {"create", "write", "pwrite", "fsync", "fdatasync", "rename", "link", "unlink", "mkdir"} <= calls
    for step, made in traces.items():
        assert len(made) > 20, step
    assert any("register.db-wal" in call for call in traces["orders"])
    assert any("ledger.db-wal" in call for call in traces["run"])
    assert any(" /medium/in/" in call for call in traces["push"])
    assert any(" /medium/out/" in call for call in traces["run"])


def test_undisturbed_pipeline_passes_the_judgement(servers: Fleet) -> None:
    for verdict in servers.play(Task(step=step) for step in STEPS):
        assert verdict.findings.any == [], verdict.task


def test_pipeline_that_is_killed_anywhere_loses_and_doubles_nothing(
    servers: Fleet, traces: Traces, say: Callable[[str], None]
) -> None:
    # After one call is before the next: the two differ in who comes first afterwards.
    every = [
        Task(step=step, strike=strike, first=First.PULL if strike.mode == Mode.BEFORE else First.RUN)
        for step in traces
        for strike in kills(traces[step])
    ]
    tasks = sample(every, at_most("KILLS", 0))
    figures = sweep(servers, tasks, f"kill sweep ({len(every)} states before, after and torn)")
    say(figures.line())
    assert figures.examples == []
    assert figures.states > 0.97 * len(tasks)


def test_recovery_that_is_killed_as_well_loses_and_doubles_nothing(
    servers: Fleet, traces: Traces, say: Callable[[str], None]
) -> None:
    chance = random.Random(seed())
    every = [(step, strike) for step in traces for strike in kills(traces[step])]
    tasks = [
        Task(
            step=step,
            strike=strike,
            first=chance.choice(list(First)),
            second=Strike(at=chance.randrange(450), mode=chance.choice(KILLS)),
            strict=False,
        )
        for step, strike in chance.sample(every, at_most("DOUBLE_KILLS", 150))
    ]
    figures = sweep(servers, tasks, "double kills (the second one in the recovery)")
    say(figures.line())
    assert figures.examples == []
    assert figures.states > 0.97 * len(tasks)


def test_pipeline_whose_disks_fail_loses_and_doubles_nothing(
    servers: Fleet, traces: Traces, say: Callable[[str], None]
) -> None:
    every = [
        Task(step=step, strike=strike, first=First.RUN if strike.at % 2 else First.PULL)
        for step in traces
        for strike in errors(traces[step])
    ]
    tasks = sample(every, at_most("ERRORS", 250))
    figures = sweep(servers, tasks, f"ENOSPC, EIO and EROFS, once and lasting ({len(every)} states)")
    say(figures.line())
    assert figures.examples == []


def test_pipeline_whose_medium_is_lost_or_put_back_loses_and_doubles_nothing(
    servers: Fleet, traces: Traces, say: Callable[[str], None]
) -> None:
    whole = [Task(step=step, media=media) for step in traces for media in ("lost", "repeated")]
    every = [
        Task(step=step, strike=strike, media=media)
        for step in traces
        for strike in kills(traces[step])
        for media in ("lost", "repeated")
    ]
    figures = sweep(
        servers, [*whole, *sample(every, at_most("MEDIA", 80))], "medium lost or put back, with kills"
    )
    say(figures.line())
    assert figures.examples == []


def kills(calls: Sequence[str]) -> Iterable[Strike]:
    """A kill before and after every call, and in the middle of every write."""
    for at, call in enumerate(calls):
        for mode in KILLS:
            if mode is not Mode.TORN or call.partition(" ")[0] in WRITES:
                yield Strike(at=at, mode=mode)


def errors(calls: Sequence[str]) -> Iterable[Strike]:
    """Every error that a call can meet, once and from there on."""
    for at, call in enumerate(calls):
        for error in (errno.ENOSPC, errno.EIO, errno.EROFS):
            if call.partition(" ")[0] in CAN_FAIL[error]:
                for mode in (Mode.FAIL_ONCE, Mode.FAIL_ON):
                    yield Strike(at=at, mode=mode, error=error)


def sample(every: Sequence[Task], most: int) -> list[Task]:
    """All, or a seeded sample; in an order that mixes slow and fast ones."""
    chance = random.Random(seed())
    return chance.sample(every, min(len(every), most) if most else len(every))


def sweep(servers: Fleet, tasks: Iterable[Task], title: str) -> Figures:
    """Play all tasks and count."""
    figures = Figures(title=title)
    for verdict in servers.play(tasks):
        figures.add(verdict)
    return figures
