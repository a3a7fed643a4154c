"""Weeks of a shop's life, ten thousand steps of them, drawn from a seed: what must hold, holds after every step.

Environment: FAULTS_STEPS (in all), FAULTS_SEED (the same seed plays the same steps again), FAULTS_SHARE (only this
share of them), FAULTS_JOBS.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.faults import sweep
from tests.faults.bugs import LIFE_BUGS
from tests.faults.simulation import Shop, counted, history

pytestmark = pytest.mark.faults

_STEPS_OF_A_PLAY = 100
_STEPS_OF_A_SHARE = 2_500
_STEPS_OF_A_CONTROL = 3_000


class Played(NamedTuple):
    """What one share of the simulation did, and how it failed, "" if it did not."""

    counted: Counter[str]
    history: list[str]
    failure: str


def test_simulated_weeks_keep_every_promise(say: Callable[[str], None]) -> None:
    steps, only = sweep.at_most("STEPS", 10_000), os.environ.get("FAULTS_SHARE", "")
    shares = [int(only)] if only else range(max(1, math.ceil(steps / _STEPS_OF_A_SHARE)))
    began, total = time.monotonic(), Counter[str]()
    with ProcessPoolExecutor(sweep.jobs(), mp_context=multiprocessing.get_context("fork")) as pool:
        for played in pool.map(partial(play_share, min(steps, _STEPS_OF_A_SHARE)), shares):
            assert not played.failure, played.failure
            total += played.counted
    took = time.monotonic() - began
    what = ", ".join(f"{what} {count}" for what, count in total.most_common() if what != "steps")
    say(
        f"simulation, seed {sweep.seed()}: invariants held in {total['steps']} steps, {took:.0f} s,"
        f" {1000 * took * min(sweep.jobs(), len(shares)) / total['steps']:.0f} ms of a core each ({what})"
    )
    assert total["steps"] >= (_STEPS_OF_A_SHARE if only else steps) * (steps >= _STEPS_OF_A_SHARE)
    assert total["orders paid"]
    assert total["stick lost"]
    assert total["offline machine restored"]


def test_the_same_seed_plays_the_same_steps() -> None:
    first, second = (play_share(2 * _STEPS_OF_A_PLAY, 0) for _ in range(2))
    assert first.history
    assert first == second


@pytest.mark.parametrize("name", LIFE_BUGS)
def test_planted_bug_is_caught_by_the_simulation(say: Callable[[str], None], name: str) -> None:
    planted = type("Planted", (Shop,), {"bug": name})
    with pytest.raises(AssertionError) as caught:
        simulate(planted, steps=_STEPS_OF_A_CONTROL, shrink=False)
    first = str(caught.value).splitlines()[0]
    say(f"planted bug caught by the simulation after {counted['steps']} steps: {name}: {first[:120]}")


def play_share(steps: int, share: int) -> Played:
    """One share, in whatever process; FAULTS_SHARE plays it again alone, and shortens what breaks."""
    try:
        simulate(Shop, steps=steps, share=share, shrink=bool(os.environ.get("FAULTS_SHARE")))
    except Exception:  # noqa: BLE001  told by the test, with what it takes to see it again
        failure = f"share {share} of seed {sweep.seed()} (FAULTS_SHARE={share}):\n{traceback.format_exc()}"
    else:
        failure = ""
    return Played(counted=Counter(counted), history=list(history), failure=failure)


def simulate(machine: type[Shop], *, steps: int, share: int = 0, shrink: bool = True) -> None:
    """Play at least so many steps from the seed; a play that breaks an invariant is made as short as it can be.

    Hypothesis gives up a play that would need too many choices, so it is asked again until all steps are made.
    """
    counted.clear()
    history.clear()
    for part in itertools.count():
        left = steps - counted["steps"]
        if left <= 0:
            return
        play = settings(
            max_examples=1 + math.ceil(left / _STEPS_OF_A_PLAY),  # the first is always the simplest of all
            stateful_step_count=_STEPS_OF_A_PLAY,
            phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
            suppress_health_check=list(HealthCheck),
            deadline=None,
            database=None,
            print_blob=True,
        )
        run_state_machine_as_test(seed(f"{sweep.seed()}/{share}/{part}")(machine), settings=play)
