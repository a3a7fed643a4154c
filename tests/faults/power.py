"""The power goes: each step is played once on recorded disks, then every state that the record allows is tried.

Why here: a kill leaves the page cache; only this shows that the disk was told what must last, and before what.
Must not: count a write as durable before a flush, or as lost after one.

At a moment of the record a disk holds everything up to its last flush, and of what was written since, nothing, all,
all with the last write torn, or any part. Each disk is mounted, which replays its journal, and then copied off.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from offline_processor import machine
from tests.faults import world as worlds
from tests.faults.children import in_child, last_words, warm_up
from tests.faults.disks import DISKS, make_image, mounted
from tests.faults.judge import Findings, judge
from tests.faults.pipeline import STEPS, live_once, recover
from tests.faults.recorder import FLUSH, MARK, WRITE, Event, Recorder, call, recording
from tests.faults.world import World, make_world
from tests.offline_processor.simulated import SimulatedAcquirer

_NEW_NAMESPACE, _PRIVATE = 0x20000, 1 << 18
# A block of the ext4 below: disks of today write 4,096 bytes whole, and ext4 itself needs its superblocks whole.
_SECTOR = 1024
VARIANTS = ("nothing", "everything", "torn", "some")


class PowerTask(msgspec.Struct, frozen=True, kw_only=True):
    """Record ``step``, perhaps with a planted bug, and try at most ``most`` states of its record (0 for all)."""

    step: str
    bug: str = ""
    most: int = 0
    seed: int = 0
    until_found: bool = False


class PowerVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was tried and found; ``possible`` counts the states of the record, ``told`` what others learnt in it."""

    task: PowerTask
    writes: int
    flushes: int
    possible: int
    told: int
    states: int
    violations: list[tuple[str, Findings]]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A moment of the record (the number of its events that have happened) and what of the unflushed is there."""

    moment: int
    variant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A step on record: the world before it, the disks' first images, and the events between its begin and end."""

    before: World
    images: dict[str, bytearray]
    events: list[Event]
    books: Path


class PowerArena:
    """Templates of the world before each step, and the play of one task."""

    def __init__(self, place: Path, mkfs: Path) -> None:
        self._place = place
        self._mkfs = mkfs
        self._said = place / "last-words.txt"
        warm_up(live_once, place)
        self._build()

    def play(self, task: PowerTask) -> PowerVerdict:
        """Record, choose states, try them."""
        recorded = self._record(task)
        every = list(states(recorded.events))
        chance = random.Random(task.seed)
        chosen = chance.sample(every, len(every))
        if task.until_found:  # most is lost where somebody outside has just been told something
            chosen.sort(key=lambda state: not state.moment or recorded.events[state.moment - 1].kind != MARK)
        chosen = chosen[: task.most or None]
        violations: list[tuple[str, Findings]] = []
        tried = 0
        for state in chosen:
            tried += 1
            found = self._try(task, recorded, state)
            if found.any:
                violations.append((f"{task.step}, moment {state.moment}, {state.variant}", found))
                if task.until_found:
                    break
        kinds = [event.kind for event in recorded.events]
        return PowerVerdict(
            task=task,
            writes=kinds.count(WRITE),
            flushes=kinds.count(FLUSH),
            possible=len(every),
            told=kinds.count(MARK),
            states=tried,
            violations=violations,
        )

    def _build(self) -> None:
        place = self._place / "building"
        world = World(place=place)
        self._must(in_child(lambda: make_world(place), self._said))
        for step, play in STEPS.items():
            world.copy_to(self._template(step))
            self._must(in_child(lambda play=play: play(world), self._said))  # type: ignore[misc]

    def _must(self, ended: int) -> None:
        if ended:
            raise RuntimeError(f"the world cannot be built: {ended} {last_words(self._said)}")

    def _template(self, step: str) -> Path:
        return self._place / "before" / step

    def _record(self, task: PowerTask) -> Recording:
        here = self._place / "recorded"
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir()
        before = World(place=self._template(task.step))
        world = before.copy_to(here / "world")
        images = {}
        for disk in DISKS:
            shutil.rmtree(world.root / disk)
            images[disk] = here / f"{disk}.img"
            make_image(self._mkfs, images[disk], before.root / disk)
        first = {disk: bytearray(image.read_bytes()) for disk, image in images.items()}
        books = here / "books"
        with recording(images, here / "fuse", here / "record") as recorder:
            served = {disk: recorder.image(disk) for disk in DISKS}
            with mounted(served, world.root):
                os.sync()
                recorder.mark("begin")
                self._must(
                    in_child(
                        lambda: play_on_record(task.step, world, recorder, books), self._said, bug=task.bug
                    )
                )
                recorder.mark("end")
            events = recorder.events()
        marks = [event.where if event.kind == MARK else "" for event in events]
        begin, end = marks.index("begin"), marks.index("end")
        apply(first, events[:begin])
        return Recording(before=before, images=first, events=events[begin + 1 : end], books=books)

    def _try(self, task: PowerTask, recorded: Recording, state: State) -> Findings:
        here = self._place / "state"
        shutil.rmtree(here, ignore_errors=True)
        world = recorded.before.copy_to(here)
        happened = recorded.events[: state.moment]
        _restore_the_rest_of_the_world(world, recorded, happened)
        contents = content_after(
            recorded, state, random.Random(f"{task.seed} {state.moment} {state.variant}")
        )
        images = {disk: self._place / f"{disk}.img" for disk in contents}
        for disk, image in images.items():
            image.write_bytes(contents[disk])
        mounts = self._place / "mounts"
        with mounted(images, mounts):
            for disk in images:
                shutil.rmtree(world.root / disk)
                shutil.copytree(
                    mounts / disk,
                    world.root / disk,
                    symlinks=True,
                    ignore=shutil.ignore_patterns("lost+found"),
                )
        report = self._place / "report.json"
        ended = in_child(lambda: _recover_and_judge(world, report), self._said, bug=task.bug)
        if ended:
            return Findings(broken=[f"the recovery ended with {ended}: {last_words(self._said)}"])
        return msgspec.json.decode(report.read_bytes(), type=Findings)


def play_on_record(step: str, world: World, recorder: Recorder, books: Path) -> None:
    """Play a step; every promise and every booking is marked in the record as soon as the world knows of it."""
    patch = pytest.MonkeyPatch()
    witness = worlds.Witness.__call__
    numbers = iter(range(1_000))

    def witnessed(self: worlds.Witness, message: dict[str, Any]) -> None:
        before = world.promises.stat().st_size if world.promises.exists() else 0
        witness(self, message)
        after = world.promises.stat().st_size if world.promises.exists() else 0
        if after != before:
            recorder.mark(f"promises {after}")

    patch.setattr(worlds.Witness, "__call__", witnessed)
    authorise, reverse = SimulatedAcquirer.authorise, SimulatedAcquirer.reverse

    def booked() -> None:
        number = next(numbers)
        shutil.copytree(world.books.parent, books / str(number))
        recorder.mark(f"books {number}")

    def authorised(self: SimulatedAcquirer, asked: Any) -> Any:
        heard = list(authorise(self, asked))  # all is booked before anybody hears of it
        booked()
        yield from heard

    def reversed_(self: SimulatedAcquirer, window: Any) -> Any:
        answers = reverse(self, window)
        booked()
        return answers

    patch.setattr(SimulatedAcquirer, "authorise", authorised)
    patch.setattr(SimulatedAcquirer, "reverse", reversed_)
    STEPS[step](world)


def states(events: Sequence[Event]) -> Iterator[State]:
    """Every moment with every variant that differs from the one before."""
    for moment in range(len(events) + 1):
        last = events[moment - 1].kind if moment else MARK
        for variant in VARIANTS:
            # A write changes nothing that is flushed, and a flush nothing that is there.
            if (variant == "nothing" and last == WRITE) or (variant != "nothing" and last == FLUSH):
                continue
            yield State(moment=moment, variant=variant)


def content_after(recorded: Recording, state: State, chance: random.Random) -> dict[str, bytearray]:
    """What the disks that the step has written to hold when the power goes at this moment."""
    happened = recorded.events[: state.moment]
    touched = {event.where for event in happened if event.kind == WRITE}
    contents = {disk: bytearray(image) for disk, image in recorded.images.items() if disk in touched}
    for disk in contents:
        ours = [event for event in happened if event.where == disk and event.kind != MARK]
        flushed = max((place for place, event in enumerate(ours) if event.kind == FLUSH), default=-1) + 1
        apply(contents, ours[:flushed])
        apply(contents, survivors(ours[flushed:], state.variant, chance))
    return contents


def survivors(unflushed: Sequence[Event], variant: str, chance: random.Random) -> list[Event]:
    """What of the writes since the last flush has reached the disk."""
    match variant:
        case "nothing":
            return []
        case "torn" if unflushed:
            last = unflushed[-1]
            sectors = chance.randrange(len(last.data) // _SECTOR + 1)
            return [*unflushed[:-1], Event(WRITE, last.where, last.offset, last.data[: sectors * _SECTOR])]
        case "some":
            return [event for event in unflushed if chance.random() < chance.choice((0.2, 0.5, 0.8))]
        case _:
            return list(unflushed)


def apply(contents: Mapping[str, bytearray], events: Iterable[Event]) -> None:
    """Put writes onto images."""
    for event in events:
        if event.kind == WRITE:
            contents[event.where][event.offset : event.offset + len(event.data)] = event.data


def _restore_the_rest_of_the_world(world: World, recorded: Recording, happened: Sequence[Event]) -> None:
    """The acquirer and the customers keep their power: they know what they knew at the moment."""
    marks = [event.where.split() for event in happened if event.kind == MARK]
    promised = [int(size) for what, size in marks if what == "promises"]
    if promised:
        told = recorded.books.parent / "world" / world.promises.name
        world.promises.write_bytes(told.read_bytes()[: promised[-1]])
    booked = [number for what, number in marks if what == "books"]
    if booked:
        shutil.rmtree(world.books.parent)
        shutil.copytree(recorded.books / booked[-1], world.books.parent)


def _recover_and_judge(world: World, report: Path) -> None:
    faults = recover(world)
    found = judge(world, strict=True)
    found.broken[:0] = faults
    report.write_bytes(msgspec.json.encode(found))


def main() -> None:
    """Answer tasks until there are no more; all mounts are this process's own and end with it."""
    home, mkfs = Path(sys.argv[1]), Path(sys.argv[2])
    machine.LEAST_SPACE = 0  # type: ignore[misc]  # the recorded disks are small, and a run would refuse them
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    call("unshare", ctypes.c_int(_NEW_NAMESPACE))
    call("mount", b"none", b"/", None, ctypes.c_ulong(_PRIVATE | 0x4000), None)
    with tempfile.TemporaryDirectory(dir=home) as place:
        arena = PowerArena(Path(place), mkfs)
        for line in sys.stdin.buffer:
            answers.write(msgspec.json.encode(arena.play(msgspec.json.decode(line, type=PowerTask))) + b"\n")


if __name__ == "__main__":
    main()
