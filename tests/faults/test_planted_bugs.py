"""Every planted bug is caught by a sweep, and by nothing while nothing breaks: so the sweeps can fail.

Environment: FAULTS_SEED.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from tests.faults.bugs import BUGS, Bug
from tests.faults.sweep import Fleet, at_most, jobs, seed
from tests.faults.test_kill_sweep import kills
from tests.faults.worker import Task, Verdict

pytestmark = [pytest.mark.faults, pytest.mark.needs_tool("gcc", "libc-headers")]

_MOST = 400


@pytest.fixture(scope="module")
def traces(servers: Fleet) -> dict[str, list[str]]:
    return servers.traces()


@pytest.mark.parametrize("name", BUGS)
def test_planted_bug_is_caught_by_the_kill_sweep(
    servers: Fleet, traces: dict[str, list[str]], say: Callable[[str], None], name: str
) -> None:
    bug = BUGS[name]
    quiet = next(servers.play([Task(step=bug.steps[0], bug=name)]))
    assert quiet.findings.any == [], "it shows while nothing breaks, so no fault is needed to find it"
    hunted = (verdict.findings.any for verdict in hunt(servers, traces, name, bug))
    tried, found = next(((tried, found) for tried, found in enumerate(hunted, 1) if found), (0, [""]))
    assert tried, "no state showed it"
    say(f"planted bug caught at state {tried}: {name}: {found[0][:150].splitlines()[0]}")


def hunt(servers: Fleet, traces: dict[str, list[str]], name: str, bug: Bug) -> Iterator[Verdict]:
    """States of the sweep in a seeded order, with the bug planted, until one is enough."""
    tasks = [
        Task(step=step, strike=strike, bug=name, media=bug.media)
        for step in bug.steps
        for strike in kills(traces[step])
    ]
    random.Random(seed()).shuffle(tasks)
    if bug.media:
        tasks.insert(0, Task(step=bug.steps[0], bug=name, media=bug.media))
    for start in range(0, min(len(tasks), at_most("HUNT", _MOST)), jobs()):
        yield from list(servers.play(tasks[start : start + jobs()]))  # none is left half-played
