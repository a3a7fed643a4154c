"""The pipeline's steps, and what anybody does after one of them broke: simply run them again.

Why here: a fault strikes in one step; the recovery from it must be the same for every sweep.
Must not: repair anything by itself, or order again for a customer who was promised something.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path

from tests.faults.judge import judge, ledger_states
from tests.faults.orders import DAYS, Wish
from tests.faults.world import ACCEPTED, Ended, World, all_wishes, make_world

STEPS: Mapping[str, Callable[[World], object]] = {
    "orders": lambda world: world.take_orders(DAYS[0]),
    "push": World.push,
    "run": World.run,
    "pull": World.pull,
    "orders again": lambda world: world.take_orders(DAYS[1]),
    "push again": World.push,
    "run again": World.run,
    "pull again": World.pull,
}
"""Two days: the second has new orders, and settles what the first left open."""

_ROUNDS = 8
_EXPECTED_CODES = {"spool-sync push": (0, 5), "spool-sync pull": (0, 5), "offline-processor run": (0, 3, 5)}
_TORN_RULES = re.compile(r"^(?:BUNDLE|RETURN)-(?:SIGNATURE|FORMAT|DAMAGED): ", re.MULTILINE)
_NEEDS_PERSON, _REFUSED = 3, 4


class First(StrEnum):
    """Who comes first after a fault: half of a unit may be read before its writer mends it, or after."""

    PULL = "pull"
    RUN = "run"


def recover(world: World, first: First = First.PULL) -> list[str]:
    """Retry as customers do, then run the pipeline until nothing changes any more; what went wrong on the way."""
    faults: list[str] = []
    codes = world.take_orders(unpromised(world))
    faults += [f"order {number} was answered {code}" for number, code in codes.items() if code != ACCEPTED]
    before = None
    for number in range(_ROUNDS):
        if first is First.RUN and not number:
            faults += unexpected(world.run(), torn=True)
        for step in (World.pull, World.push, World.run, World.pull):
            faults += unexpected(step(world), torn=not number)
        now = (world.statuses(), ledger_states(world.ledger))
        if now == before or faults:
            return faults
        before = now
    return [*faults, f"does not come to rest in {_ROUNDS} rounds"]


def live_once(place: Path) -> None:
    """A whole world from its making to its judgement."""
    world = make_world(place)
    for step in STEPS.values():
        step(world)
    faults = recover(world)
    if wrong := [*faults, *judge(world, strict=True).any]:
        raise RuntimeError(f"the pipeline does not even work undisturbed: {wrong}")


def unexpected(ended: Ended, *, torn: bool = False) -> list[str]:
    """What a command said, when its exit code is none that it may have with nothing broken.

    ``torn``: a unit may still lie half-written on the medium; then it is refused, and that is told.
    """
    expected = _EXPECTED_CODES.get(ended.command, (0,))
    if ended.code in expected or (torn and ended.code == _NEEDS_PERSON):
        return []
    if torn and ended.code == _REFUSED and _TORN_RULES.search(ended.said):
        return []
    return [f"{ended.command} ended with {ended.code}: {ended.said[-1500:]}"]


def unpromised(world: World) -> list[list[Wish]]:
    """The groups of the customers who have no answer yet."""
    promised = world.promised()
    groups = ([wish for wish in group if wish.number not in promised] for group in all_wishes())
    return [group for group in groups if group]
