"""Acquirers that behave badly: the simulated one behind a line that loses, alters or cuts its answers.

Why here: what happened at the acquirer stays in real books, so that a double charge shows whatever the answer was.
Must not: book anything itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from offline_processor.acquirers.protocol import (
    Answered,
    Authorisation,
    BatchAnswer,
    BatchTotals,
    Capture,
    Refund,
    Reversal,
    Verb,
)
from offline_processor.charging import Answer
from tests.offline_processor.simulated import SimulatedAcquirer

Answers = Sequence[Answer | None]
Line = Callable[[Answers], Answers]


class LineCutError(Exception):
    """The process dies, as far as the ledger can see, while the acquirer has the window."""


def straight(answers: Answers) -> Answers:
    return answers


def silent(answers: Answers) -> Answers:
    return [None] * len(answers)


def cut(answers: Answers) -> Answers:
    raise LineCutError


@dataclass(kw_only=True)
class BadLine:
    """The simulated acquirer with books at ``path``; each kind of answer goes through a line."""

    path: Path
    authorising: Line = straight
    reversing: Line = straight
    following: Line = straight

    def __post_init__(self) -> None:
        self._acquirer = SimulatedAcquirer(self.path)

    def authorise(self, asked: Iterator[Authorisation]) -> Answered:
        answers = [answer for _, answer in self._acquirer.authorise(asked)]
        yield from enumerate(self.authorising(answers))

    def reverse(self, window: Sequence[Reversal]) -> Answers:
        return self.reversing(self._acquirer.reverse(window))

    def capture(self, window: Sequence[Capture]) -> Answers:
        return self.following(self._acquirer.capture(window))

    def refund(self, window: Sequence[Refund]) -> Answers:
        return self.following(self._acquirer.refund(window))

    def close_batch(self, totals: BatchTotals) -> BatchAnswer | None:
        return self._acquirer.close_batch(totals)

    def echo(self) -> bool:
        return self._acquirer.echo()

    def needs_card(self, verb: Verb) -> bool:
        return self._acquirer.needs_card(verb)

    @property
    def is_simulator(self) -> bool:
        return True

    @property
    def window(self) -> None:
        return None

    @property
    def in_flight(self) -> None:
        return None

    def close(self) -> None:
        self._acquirer.close()


def changed(answers: Answers, **changes: int | str) -> Answers:
    """Every answer with other fields than the acquirer gave."""
    return [answer and replace(answer, **changes) for answer in answers]  # type: ignore[arg-type]


def unsteady(seed: int) -> Line:
    """A line that loses, alters, swaps or cuts now and then."""
    chance = random.Random(seed)

    def line(answers: Answers) -> Answers:
        fault = chance.choice(["none", "none", "lose", "alter", "swap", "cut"])
        if fault == "cut":
            raise LineCutError
        given = list(answers)
        if fault == "swap":
            chance.shuffle(given)
        for place, answer in enumerate(given):
            if fault == "lose" and chance.random() < 0.5:
                given[place] = None
            elif fault == "alter" and answer is not None and chance.random() < 0.5:
                given[place] = replace(answer, stan=answer.stan + 1)
        return given

    return line
