"""Several intake workers write while `watch` cuts, and all of them are killed again and again.

Environment: FAULTS_WORKER_KILLS, FAULTS_SEED.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keys.private.sign import sign_file
from tests.faults.sweep import at_most, seed
from tests.transfer.house import NODE, NOW, House, basket, envelope, fixed_key, order_id
from transfer.config import NodeConfig, SyncConfig
from transfer.errors import TransferError
from transfer.register import Committed, NewOrder, Register
from transfer.spool import Spool, read_group
from transfer.sync.rounds import Rounds
from transfer.sync.trust import load_roll
from transfer.sync.watch import Watch
from transfer.wire.manifest import BUNDLE_COMMENT, ENVELOPES_NAME, SIGNATURE_NAME

pytestmark = pytest.mark.faults

_WORKERS = 3
_KEYS = 120
_NODE_KEY = 7
_KILLS = 150
_LONGEST_LIFE = 0.5  # seconds


def take_orders(house: House, chance: random.Random) -> None:
    """One worker's life: groups of orders, some of them a retry of another worker's; promises are kept in a file."""
    register, spool = Register(house.node.state / "register.db"), house.node.spool()
    with (house.root / f"promises-{os.getpid()}").open("a", buffering=1) as promises:
        while True:
            roll = load_roll(house.node.state, node=NODE)
            place = {entry.key_id: entry.number for entry in roll.batch_keys}
            group = spool.open_current(roll, NOW)
            if group is None:
                time.sleep(0.01)
                continue
            numbers = [chance.randrange(100_000) for _ in range(chance.randrange(1, 12))]
            for number in numbers:
                group.append(envelope(number, place[group.batch_key_id]))
            orders = [NewOrder(order_id=order_id(number), basket_digest=basket(number)) for number in numbers]
            answers = register.commit_group(group, orders, NOW)
            kept = [
                order_id(n)
                for n, answer in zip(numbers, answers, strict=True)
                if answer is not Committed.CONFLICT
            ]
            promises.write("".join(f"{order}\n" for order in kept))


def watch(house: House, _: random.Random) -> None:
    """A watch that looks without a pause: it pulls, cuts and pushes."""
    key = fixed_key(_NODE_KEY)  # keys do not survive a fork, so each life makes it anew
    looks = Watch(
        rounds=Rounds(
            settings=NodeConfig(node=NODE, state=house.node.state),
            sync=SyncConfig(drop_in=house.drop_in, drop_out=house.drop_out, cut_minutes=0),
        ),
        sign=lambda raw: sign_file(key, raw, BUNDLE_COMMENT),
    )
    while True:
        looks.look(now=NOW)


def start(house: House, live: Callable[[House, random.Random], None], life: int) -> int:
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):  # a forked child must never return into pytest
            live(house, random.Random(life))
        os._exit(1)
    return child


class OtherSide:
    """Takes whole bundles off the drop in their order, and answers them from time to time."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.taken: list[list[str]] = []

    def take(self) -> None:
        while (unit := self.house.unit(len(self.taken) + 1)).joinpath(SIGNATURE_NAME).exists():
            self.taken.append([entry.order_id for entry in read_group(unit / ENVELOPES_NAME)])

    def answer(self) -> None:
        """A return with the receipts of all that came, and fresh keys in place of those that are used up."""
        house, last = self.house, len(self.taken)
        receipts = [house.receipt(sequence) for sequence in range(max(1, last - 50), last + 1)]
        house.give_return(receipts, accepted=last, roll=house.next_roll(first=1 + last))

    def bundles_of(self) -> Counter[str]:
        return Counter(order for bundle in self.taken for order in bundle)


def play(place: Path, kills: int) -> tuple[list[str], str]:
    """Kill at random moments; what is wrong in the end, and the figures."""
    house = House(root=place, keys=_KEYS, node_key=fixed_key(_NODE_KEY))
    house.close()
    other, chance = OtherSide(house), random.Random(seed())
    lives = [*[take_orders] * _WORKERS, watch]
    children = [start(house, live, number) for number, live in enumerate(lives)]
    crashed = 0
    for number in range(kills):
        time.sleep(chance.uniform(0.005, _LONGEST_LIFE / 2))
        which = chance.choice([*range(_WORKERS), *[_WORKERS] * _WORKERS])
        os.kill(children[which], signal.SIGKILL)
        crashed += os.waitstatus_to_exitcode(os.waitpid(children[which], 0)[1]) != -signal.SIGKILL
        children[which] = start(house, lives[which], 1000 + number)
        other.take()
        if number % 10 == 9:
            other.answer()
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    house.open()
    house.pull()
    refused = []
    for _ in range(2):
        try:
            house.push()
        except TransferError as error:
            refused.append(f"a push was refused: {error.message}")
        other.take()
    missing = house.register.missing()
    house.close()
    return [*refused, *judged(set(promised(place)), other.bundles_of(), missing, crashed)], (
        f"{kills} kills of {_WORKERS} intake workers and a watch of one node: {len(other.bundles_of())} orders in"
        f" {len(other.taken)} bundles"
    )


def judged(promises: set[str], carried: Counter[str], missing: list[str], crashed: int) -> list[str]:
    wrong = [f"{order} was promised and is in no bundle" for order in sorted(promises - carried.keys())]
    wrong += [f"{order} is in {count} bundles" for order, count in carried.items() if count > 1]
    wrong += [f"{order} is named as missing" for order in missing]
    return [*wrong, f"{crashed} children ended by themselves"] if crashed else wrong


def promised(place: Path) -> Iterator[str]:
    for path in place.glob("promises-*"):
        whole, _, _ = path.read_text().rpartition("\n")  # the last line may be half written
        yield from whole.split()


def test_no_promised_order_is_in_two_bundles_or_in_none_whoever_is_killed(
    tmp_path: Path, say: Callable[[str], None]
) -> None:
    wrong, figures = play(tmp_path, at_most("WORKER_KILLS", _KILLS))
    say(f"{figures}; wrong {len(wrong)}")
    assert wrong == []


def test_a_cut_that_does_not_wait_for_workers_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Callable[[str], None]
) -> None:
    @contextlib.contextmanager
    def at_once(self: Spool, batch_key_id: bytes, **_: object) -> Iterator[None]:
        del self, batch_key_id
        yield

    monkeypatch.setattr(Spool, "exclusive", at_once)
    wrong, _ = play(tmp_path, _KILLS // 2)
    assert wrong
    say(f"planted bug caught: a cut that does not wait for workers: {len(wrong)} wrong, {wrong[0]}")
