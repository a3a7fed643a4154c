"""The processor is killed at random points while it charges over the line; then it is simply run again until drained.

Environment: FAULTS_LINE_ORDERS, FAULTS_LINE_STRIDE (messages between two kills at most), FAULTS_LINE_BUGS (how many
of the planted bugs are hunted), FAULTS_SEED.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.faults.acquirer_bugs import LINE_BUGS
from tests.faults.acquirer_judge import Judgement, accounts_of, judge, read_books, rows
from tests.faults.acquirer_machine import Machine, machine
from tests.faults.sweep import at_most, seed
from tests.offline_processor.traces import files_under

pytestmark = pytest.mark.faults

_FAULTS = ("lost-before@authorisation/37", "mixed@authorisation/61", "mixed@reversal/13", "mixed@capture/61")
_QUICK_FAULTS = (
    "lost-before@authorisation/17",
    "mixed@authorisation/23",
    "mixed@reversal/7",
    "lost-before@capture/17",
    "mixed@capture/19",
)
_QUICK_ORDERS, _QUICK_STRIDE = 80, 50


def _is_past(until: float) -> bool:
    return time.monotonic() > until


def _has_seen(played: Machine, goal: int) -> bool:
    return played.seen() >= goal


def killed_and_drained(
    played: Machine, *, stride: int, chance: random.Random, memory: Path | None = None
) -> list[str]:
    """Kill at random points until all orders were sent, then drain; what is wrong."""
    reach = stride
    while (sent := played.sent()) < played.orders:
        before = played.seen()
        if chance.random() < 0.2:
            until = time.monotonic() + chance.uniform(0.1, 2.0)
            code = played.run(strike=partial(_is_past, until))
        else:
            goal = before + chance.randrange(1, reach)
            code = played.run(strike=partial(_has_seen, played, goal))
        if unknown := played.too_many_unknown():
            return unknown
        if code >= 0 and code not in (0, 3, 5):
            return [f"a run ended with {code}: {played.said[-1][-1500:].decode('utf-8', 'replace')}"]
        if code >= 0 and played.seen() == before:
            break
        # What earlier kills left is reversed first: a run must live long enough to come to something new.
        reach = stride if played.sent() > sent else reach * 2
    return played.drain(memory=memory)


def test_killed_anywhere_it_charges_nobody_twice_and_loses_nothing(
    tmp_path: Path, say: Callable[[str], None]
) -> None:
    orders, stride = at_most("LINE_ORDERS", 2_000), at_most("LINE_STRIDE", 160)
    started = time.monotonic()
    with machine(tmp_path, orders=orders, seed=seed(), faults=_FAULTS) as played:
        memory = tmp_path / "memory"
        wrong = killed_and_drained(played, stride=stride, chance=random.Random(seed()), memory=memory)
        assert wrong == []
        found = judge(played.ledger, played.books)
        figures = figures_of(played, found)
    say(f"line, kill -9: {figures}; {time.monotonic() - started:.0f} s")
    assert found.any[:20] == []
    assert played.kills >= orders // stride
    assert str(played.shop.root).encode() in memory.read_bytes()  # it is the memory of a run of this machine
    assert_no_card_is_left(played, tmp_path)


def figures_of(played: Machine, found: Judgement) -> str:
    """The figures in one line."""
    lines = list(read_books(played.books))
    kinds = Counter(line.kind for line in lines)
    faults = sum(1 for line in lines if line.fault)
    standing = sum(1 for account in accounts_of(lines).values() if account.reserved)
    states = dict(rows(played.ledger, "SELECT state, count(*) FROM orders GROUP BY state"))
    return (
        f"{played.orders} orders, {played.kills} kills in {played.runs} runs, {faults} faults on the line;"
        f" without an outcome {played.most_unknown} at most;"
        f" messages {dict(kinds)}; approvals that stand {standing}, ledger {states};"
        f" charged twice {len(found.twice)}, sent again {len(found.resent) + len(found.unreversed_first)},"
        f" charged and unrecorded {len(found.unrecorded)}, amounts {len(found.amounts)}, open {len(found.unsettled)}"
    )


def assert_no_card_is_left(played: Machine, folder: Path) -> None:
    """Nothing written, printed or in memory holds a PAN or a security code; what is looked for can be found."""
    pan, cvv = next(iter(played.cards.cvv_of.items()))
    assert played.cards.pans_in(b"x" + pan + b"x") == [pan]
    assert played.cards.cvvs_in(pan + b" " + cvv) == [cvv]
    for path, content in files_under(folder).items():
        assert played.cards.pans_in(content) == [], path
        assert played.cards.cvvs_in(content) == [], path
    for said in played.said:
        assert played.cards.pans_in(said) == []


def test_same_sweep_finds_nothing_without_a_bug(tmp_path: Path) -> None:
    assert _hunt(tmp_path, "-", seed() + 1) == []


def _bugs() -> list[str]:
    names = list(LINE_BUGS)
    return sorted(random.Random(seed()).sample(names, min(len(names), at_most("LINE_BUGS", len(names)))))


@pytest.mark.parametrize("name", _bugs())
def test_planted_bug_is_caught(tmp_path: Path, say: Callable[[str], None], name: str) -> None:
    for tried in range(1, 6):
        if found := _hunt(tmp_path / str(tried), name, seed() + tried):
            say(f"planted bug caught at try {tried}: {name}: {found[0][:150].splitlines()[0]}")
            return
    pytest.fail(f"not caught: {name}")


def _hunt(folder: Path, bug: str, number: int) -> list[str]:
    """What a small sweep finds."""
    with machine(folder, orders=_QUICK_ORDERS, seed=number, bug=bug, faults=_QUICK_FAULTS) as played:
        wrong = killed_and_drained(played, stride=_QUICK_STRIDE, chance=random.Random(number))
        found = judge(played.ledger, played.books, drained=not wrong)
    return [*found.any, *wrong]
