"""A world that lives for weeks: two nodes, sticks that are lost, kept, put back and exchanged, and a clock that jumps.

Why here: single faults are swept elsewhere; this is about what many harmless things do together.
Must not: fault the code in the middle of a command, or know an order of its own apart from its number and fate.

Every rule is one step. What must hold is asked after every step, of the acquirer's books and of what customers see.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.faults.bugs import ALL
from tests.faults.judge import ledger_states, repeated_numbers, unreversed_approvals
from tests.faults.orders import Fate, Wish
from tests.faults.pipeline import unexpected
from tests.faults.rebuilding import Rebuilding
from tests.faults.sweep import scratch
from tests.faults.world import Ended, World, add_node, make_light, make_world

NODES = ("online", "online-b")
MINUTE, HOUR, DAY = 60, 3600, 86_400
_BEGIN = 1_790_000_000
_LONGEST = 20 * DAY  # no key runs out of its time of sealing in a play
_FINAL = frozenset({"paid", "declined", "order-again"})
_ONLINE = {"screened": "in-transit", "quarantined": "held"}
_KEPT_STICKS = 4
_ROUNDS = 12
_NEEDS_PERSON, _REFUSED = 3, 4
_FATES = st.sampled_from([Fate.GOOD, Fate.GOOD, Fate.GOOD, Fate.DECLINED, Fate.LOST_ANSWER, Fate.SILENT])
_NODE = st.sampled_from(NODES)

counted: Counter[str] = Counter()
"""What all plays of this process did, by kind."""

history: list[str] = []
"""The same in the order in which it happened."""


class Shop(RuleBasedStateMachine):
    """Two intake nodes, one offline machine, one stick in the slot and others in a drawer."""

    bug = ""
    """The planted bug with which it plays."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.now = float(_BEGIN)
        self.patch.setattr(time, "time", lambda: self.now)
        make_light(self.patch)
        if self.bug:
            ALL[self.bug].plant(self.patch)
        self.place = Path(tempfile.mkdtemp(prefix="simulation-", dir=scratch()))
        self.worlds: dict[str, World] = {}
        self.wishes: list[Wish] = []
        self.told: dict[tuple[str, int], str] = {}
        self.people = Rebuilding.begin()
        self.restored = False
        self.drawer: list[Path] = []

    @initialize()
    def open(self) -> None:
        made = make_world(self.place / "world", custody=self.people.custody)
        self.worlds[NODES[0]] = made
        self.worlds[NODES[1]] = add_node(World(place=made.place, online=NODES[1]), "shop-b")

    # What people do

    @rule(node=_NODE, fates=st.lists(_FATES, min_size=1, max_size=3))
    def order(self, node: str, fates: list[Fate]) -> None:
        group = [Wish(number=len(self.wishes) + place, fate=fate) for place, fate in enumerate(fates)]
        self.wishes += group
        self.worlds[node].take_orders([group])
        self.count("order")

    @precondition(lambda self: bool(self.wishes))
    @rule(node=_NODE, data=st.data())
    def order_again(self, node: str, data: st.DataObject) -> None:
        """A customer presses the button twice, perhaps at the other node."""
        self.worlds[node].take_orders([[data.draw(st.sampled_from(self.wishes[-6:]))]])
        self.count("the same order again")

    @rule(node=_NODE)
    def push(self, node: str) -> None:
        self.expect(self.worlds[node].push())

    @rule(node=_NODE)
    def pull(self, node: str) -> None:
        self.expect(self.worlds[node].pull())
        self.look(node)

    @rule()
    def run(self) -> None:
        self.expect(self.worlds[NODES[0]].run())

    @rule(node=_NODE)
    def round_trip(self, node: str) -> None:
        """A day on which nothing goes wrong."""
        world = self.worlds[node]
        for ended in (world.push(), world.run(), world.pull()):
            self.expect(ended)
        self.look(node)

    # What happens to the medium and the clock

    @rule()
    def lose_stick(self) -> None:
        self.clear_slot()
        self.count("stick lost")

    @rule()
    def keep_copy(self) -> None:
        """The stick is copied, by whoever wants to put it back later."""
        copy = self.place / f"stick-{len(self.drawer)}-{time.monotonic_ns()}"
        shutil.copytree(self.medium, copy)
        self.drawer = [*self.drawer, copy][-_KEPT_STICKS:]
        self.count("stick copied")

    @precondition(lambda self: bool(self.drawer))
    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        """An older stick comes instead of the one in the slot, which goes into the drawer."""
        stick = data.draw(st.sampled_from(range(len(self.drawer))))
        spare = self.place / f"slot-{time.monotonic_ns()}"
        shutil.copytree(self.medium, spare)
        self.clear_slot()
        shutil.copytree(self.drawer[stick], self.medium, dirs_exist_ok=True)
        self.drawer[stick] = spare
        self.count("stick exchanged for an older one")

    @precondition(lambda self: bool(self.drawer))
    @rule(data=st.data())
    def lay_beside(self, data: st.DataObject) -> None:
        """Everything that an older stick holds comes onto the one in the slot."""
        stick = data.draw(st.sampled_from(range(len(self.drawer))))
        shutil.copytree(self.drawer[stick], self.medium, dirs_exist_ok=True)
        self.count("old units laid beside new ones")

    @rule(data=st.data())
    def lose_unit(self, data: st.DataObject) -> None:
        """One bundle or return is lost, so that later ones come before it."""
        units = sorted(unit for side in ("in", "out") for unit in (self.medium / side).glob("*/*"))
        if units:
            shutil.rmtree(units[data.draw(st.sampled_from(range(len(units))))])
            self.count("unit lost")

    @rule(seconds=st.sampled_from([1, MINUTE, HOUR, 7 * HOUR, DAY, 4 * DAY]))
    def wait(self, seconds: int) -> None:
        if self.now + seconds - _BEGIN < _LONGEST:
            self.now += seconds
            self.count("clock forward")

    @rule(node=_NODE, seconds=st.sampled_from([MINUTE, 3 * HOUR]))
    def clock_back(self, node: str, seconds: int) -> None:
        """The clock is wrong for one run and one push."""
        right, self.now = self.now, self.now - seconds
        try:
            self.expect(self.worlds[node].push())
            self.expect(self.worlds[node].run())
        finally:
            self.now = right
        self.count("clock back")

    @rule()
    def back_up(self) -> None:
        self.expect(self.people.back_up(self.worlds[NODES[0]]))

    @precondition(lambda self: bool(self.people.backups))
    @rule(data=st.data())
    def lose_offline_machine(self, data: st.DataObject) -> None:
        """It burns down, and comes back as it was when one of the backups was made."""
        backup = data.draw(st.sampled_from(range(len(self.people.backups))))
        self.restored = True
        world, nodes = self.worlds[NODES[0]], self.worlds.values()
        for ended in self.people.restore(world, self.people.backups[backup], nodes):
            self.expect(ended)
        self.count("offline machine restored")

    # What must hold

    @invariant()
    def nobody_is_charged_twice(self) -> None:
        if not self.worlds:
            return
        counted["steps"] += 1
        world = self.worlds[NODES[0]]
        approvals = unreversed_approvals(world.books)
        assert [order for order, count in approvals.items() if count > 1] == []
        assert repeated_numbers(world.books) == []
        ids = {wish.number: wish.order_id for wish in self.wishes}
        for (_, number), status in self.told.items():
            charged = approvals.get(ids[number], 0)
            assert charged == (status == "paid") or status not in _FINAL, (
                f"order {number}: {status}, {charged}"
            )

    def look(self, node: str) -> None:
        """What customers see; a final answer never changes, but that a restored machine may ask for a new order."""
        for number, status in self.worlds[node].statuses().items():
            before = self.told.get((node, number), "")
            if before in _FINAL and status in _FINAL | {"held"}:
                again = self.restored and (before, status) == ("declined", "order-again")
                assert status == before or again, f"order {number} was {before} and is {status}"
            if before not in _FINAL:
                self.told[node, number] = status

    def teardown(self) -> None:
        try:
            if self.worlds:
                self.settle()
        finally:
            self.patch.undo()
            shutil.rmtree(self.place, ignore_errors=True)

    def settle(self) -> None:
        """Once nothing goes wrong any more, everything comes to its end."""
        self.now += MINUTE
        before = None
        for number in range(_ROUNDS):
            for node, world in self.worlds.items():
                for ended in (world.pull(), world.push(), world.run(), world.pull()):
                    # A return on the stick may still tell of a bundle that was refused. After a restore a person is
                    # asked to look at what is forgotten, and what it was lies on the stick until its node removes it.
                    allowed = {_NEEDS_PERSON} if self.restored or not number else set()
                    allowed |= {_REFUSED} if self.restored and not number else set()
                    wrong = [] if ended.code in allowed else unexpected(ended)
                    assert not wrong, wrong[0]
                self.look(node)
            now = ([world.statuses() for world in self.worlds.values()], self.ledger())
            if now == before:
                break
            before = now
        else:
            raise AssertionError("does not come to rest")
        counted["plays"] += 1
        self.nobody_is_charged_twice()
        self.judge()

    def judge(self) -> None:
        ids = {wish.number: wish.order_id for wish in self.wishes}
        ledger, approvals = self.ledger(), unreversed_approvals(self.worlds[NODES[0]].books)
        for node, world in self.worlds.items():
            # After a restore a node names the orders of which the offline side knows nothing any more.
            untold = set(world.status()["untold"]) if self.restored else set()
            for number, status in world.statuses().items():
                state = ledger.get(ids[number])
                if self.restored and (
                    ids[number] in untold or (state is None and (node, number) in self.told)
                ):
                    counted["orders that a restored ledger does not know"] += state is None
                    continue
                assert state is not None, f"order {number} was promised, and the ledger does not know it"
                assert _ONLINE.get(state, state) == status, f"order {number} shows {status}, not {state}"
                assert status in _FINAL | {"held"}, f"order {number} has no outcome: {status}"
        paid = {order for order, state in ledger.items() if state == "paid"}
        approved = {order for order, count in approvals.items() if count}
        assert paid <= approved
        assert all(order not in ledger for order in approved - paid)
        assert self.restored or paid == approved
        ended = self.worlds[NODES[0]].verify_ledger()
        assert ended.code == 0, ended.said
        counted["orders"] += len(ledger)
        counted["orders paid"] += len(paid)

    def ledger(self) -> dict[str, str]:
        return ledger_states(self.worlds[NODES[0]].ledger)

    @property
    def medium(self) -> Path:
        return self.worlds[NODES[0]].medium

    def clear_slot(self) -> None:
        for side in ("in", "out"):
            shutil.rmtree(self.medium / side)
            (self.medium / side).mkdir()

    def expect(self, ended: Ended) -> None:
        """A refusal is an answer; an unexpected error never is."""
        assert ended.code in (0, 3, 4, 5), f"{ended.command} ended with {ended.code}: {ended.said[-2000:]}"
        self.count(ended.command if ended.code != 4 else f"{ended.command} refused something")

    def count(self, what: str) -> None:
        counted[what] += 1
        history.append(what)
