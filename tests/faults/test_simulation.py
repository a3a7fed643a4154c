"""Weeks of a shop's life, ten thousand steps of them, drawn from a seed: what must hold, holds after every step.

Environment: FAULTS_STEPS (in all), FAULTS_SEED (the same seed plays the same steps again).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.faults import sweep
from tests.faults.bugs import LIFE_BUGS
from tests.faults.simulation import Shop, counted, history

pytestmark = pytest.mark.faults

_STEPS_OF_A_PLAY = 100
_STEPS_OF_A_CONTROL = 3_000


def test_simulated_weeks_keep_every_promise(say: Callable[[str], None]) -> None:
    simulate(Shop, steps=sweep.at_most("STEPS", 10_000))
    played = ", ".join(f"{what} {count}" for what, count in counted.most_common() if what != "steps")
    say(f"simulation, seed {sweep.seed()}: invariants held in {counted['steps']} steps ({played})")
    assert counted["orders paid"]
    assert counted["stick lost"]


def test_the_same_seed_plays_the_same_steps() -> None:
    plays = []
    for _ in range(2):
        simulate(Shop, steps=2 * _STEPS_OF_A_PLAY)
        plays.append(list(history))
    assert plays[0] == plays[1]


@pytest.mark.parametrize("name", LIFE_BUGS)
def test_planted_bug_is_caught_by_the_simulation(say: Callable[[str], None], name: str) -> None:
    planted = type("Planted", (Shop,), {"bug": name})
    with pytest.raises(AssertionError) as caught:
        simulate(planted, steps=_STEPS_OF_A_CONTROL, shrink=False)
    first = str(caught.value).splitlines()[0]
    say(f"planted bug caught by the simulation after {counted['steps']} steps: {name}: {first[:120]}")


def simulate(machine: type[Shop], *, steps: int, shrink: bool = True) -> None:
    """Play about so many steps from the seed; a play that breaks an invariant is made as short as it can be."""
    counted.clear()
    history.clear()
    play = settings(
        max_examples=max(1, steps // _STEPS_OF_A_PLAY),
        stateful_step_count=_STEPS_OF_A_PLAY,
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        suppress_health_check=list(HealthCheck),
        deadline=None,
        database=None,
        print_blob=True,
    )
    run_state_machine_as_test(seed(sweep.seed())(machine), settings=play)
