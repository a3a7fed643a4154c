"""Weeks of a shop's life, ten thousand steps of them, drawn from a seed: what must hold, holds after every step.

Environment: FAULTS_STEPS (in all), FAULTS_SEED (the same seed plays the same steps again).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.faults import sweep
from tests.faults.simulation import Shop, counted

pytestmark = pytest.mark.faults

_STEPS_OF_A_PLAY = 100


def test_simulated_weeks_keep_every_promise(say: Callable[[str], None]) -> None:
    steps = sweep.at_most("STEPS", 10_000)
    counted.clear()
    play = settings(
        max_examples=max(1, steps // _STEPS_OF_A_PLAY),
        stateful_step_count=_STEPS_OF_A_PLAY,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        deadline=None,
        database=None,
        print_blob=True,
    )
    run_state_machine_as_test(seed(sweep.seed())(Shop), settings=play)
    played = ", ".join(f"{what} {count}" for what, count in counted.most_common())
    say(f"simulation, seed {sweep.seed()}: invariants held in {counted['steps']} steps ({played})")
