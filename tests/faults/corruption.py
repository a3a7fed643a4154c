"""Every way to damage a unit on a medium, and what the side that reads it makes of each.

Why here: bundle and return are damaged alike, and both judgements must be as strict.
Must not: sign anything; whoever holds a medium has no key.
"""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.orders import DAYS
from tests.faults.world import Ended, World, make_world
from transfer.wire.envelope import frame, iter_frames
from transfer.wire.manifest import ENVELOPES_NAME, SIGNATURE_NAME

_RULE = re.compile(r"^((?!KEYS-)[A-Z]+(?:-[A-Z0-9]+)+): ", re.MULTILINE)  # a warning is no refusal
_REFUSED = 4
_FLIPS = (0x01, 0x20, 0x80, 0xFF)

Content = Mapping[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """The side that reads a unit: ``unit`` and an ``other`` one below the medium, what it may change, its command."""

    unit: str
    other: str
    changes: tuple[str, ...]
    read: Callable[[World], Ended]
    taken: Callable[[World], int]


@dataclass(slots=True)
class Tally:
    """What became of damaged units."""

    tried: int = 0
    accepted: list[str] = field(default_factory=list)
    unsaid: list[str] = field(default_factory=list)
    rules: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Count what another process counted."""
        self.tried += other.tried
        self.accepted += other.accepted
        self.unsaid += other.unsaid
        self.rules.update(other.rules)

    def line(self, title: str) -> str:
        """The figures in one line."""
        rules = ", ".join(f"{rule} {count}" for rule, count in self.rules.most_common())
        return (
            f"{title}: damaged in {self.tried} ways; accepted {len(self.accepted)}, without a rule"
            f" {len(self.unsaid)} ({rules})"
        )


BUNDLE = Reader(
    unit="in/shop-a/b00000002",
    other="in/shop-a/b00000001",
    changes=("offline/state", "offline/keystore", "medium/out"),
    read=World.run,
    taken=lambda world: _one(world.ledger, "SELECT coalesce(max(last_sequence), 0) FROM node"),
)
RETURN = Reader(
    unit="out/shop-a/r0001-00000002",
    other="out/shop-a/r0001-00000001",
    changes=("online/state",),
    read=World.pull,
    taken=lambda world: len(list((world.node_state / "returns").glob("r0001-00000002/*.minisig"))),
)


def bundle_world(place: Path) -> World:
    """A second bundle, of two orders, waits on the medium; its manifest carries the first return."""
    world = make_world(place)
    world.take_orders([DAYS[0][2]])
    world.push()
    shutil.copytree(world.medium, spare(world))
    world.run()
    shutil.copytree(world.medium / "out", spare(world) / "out", dirs_exist_ok=True)
    world.pull()
    world.take_orders(DAYS[1])
    world.push()
    return world


def return_world(place: Path) -> World:
    """A second return waits on the medium."""
    world = bundle_world(place)
    world.run()
    return world


def spare(world: World) -> Path:
    """What the medium held at the end of the first round, the first bundle and return."""
    return world.place / "spare"


def damaged(content: Content, other: Content, *, seed: int) -> Iterator[tuple[str, Content]]:
    """Every byte of every file changed, every file cut short anywhere, and files exchanged with another unit's."""
    chance = random.Random(seed)
    for name, raw in content.items():
        for place in range(len(raw)):
            changed = bytearray(raw)
            changed[place] ^= chance.choice(_FLIPS)
            yield f"{name}, byte {place} is {changed[place]:#x}", {**content, name: bytes(changed)}
        for size in range(len(raw)):
            yield f"{name}, cut to {size} bytes", {**content, name: raw[:size]}
        for more in (b"\0", b"\n", raw[-100:]):
            yield f"{name}, {more[:3]!r} appended", {**content, name: raw + more}
        if name != SIGNATURE_NAME:  # without it the unit is not there yet, and not damaged
            yield f"{name} left out", {key: value for key, value in content.items() if key != name}
    for count in range(1, len(content)):
        mixed = dict(content) | dict(list(other.items())[:count])
        yield f"the first {count} files are another unit's", mixed
        mixed = dict(content) | dict(list(other.items())[count:])
        yield f"all but the first {count} files are another unit's", mixed
    yield "another file lies in it", {**content, "autorun.inf": b"[autorun]\n"}
    if ENVELOPES_NAME in content:
        yield from _envelopes_moved(content)


def _envelopes_moved(content: Content) -> Iterator[tuple[str, Content]]:
    frames = [frame(raw) for raw in iter_frames(_Source(content[ENVELOPES_NAME]))]
    for first in range(len(frames)):
        rest = frames[:first] + frames[first + 1 :]
        yield f"envelope {first} twice", _with(content, [*frames, frames[first]])
        yield f"envelope {first} left out", _with(content, rest)
        for second in range(first + 1, len(frames)):
            swapped = list(frames)
            swapped[first], swapped[second] = swapped[second], swapped[first]
            yield f"envelopes {first} and {second} swapped", _with(content, swapped)
            swapped[first] = swapped[second] = frames[first]
            yield f"envelope {first} in the place of {second}", _with(content, swapped)


def _with(content: Content, frames: list[bytes]) -> Content:
    return {**content, ENVELOPES_NAME: b"".join(frames)}


class _Source:
    """Bytes that are read as a file."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def read(self, size: int, /) -> bytes:
        part = self._raw[self._at : self._at + size]
        self._at += len(part)
        return part


def content_of(unit: Path) -> Content:
    """The files of a unit."""
    return {path.name: path.read_bytes() for path in sorted(unit.iterdir())}


def offer(world: World, reader: Reader, untouched: World, content: Content) -> Ended:
    """Put a content in the unit's place, everything else as it was, and let its reader come."""
    for part in reader.changes:
        shutil.rmtree(world.root / part, ignore_errors=True)
        shutil.copytree(untouched.root / part, world.root / part)
    unit = world.medium / reader.unit
    shutil.rmtree(unit, ignore_errors=True)
    unit.mkdir(parents=True)
    for name, raw in content.items():
        (unit / name).write_bytes(raw)
    return reader.read(world)


def judge_all(
    untouched: World,
    place: Path,
    reader: Reader,
    *,
    seed: int,
    share: tuple[int, int] = (0, 1),
    most: int = 0,
) -> Tally:
    """Try each damage of a share (part, of); a copy of the world is made at ``place``."""
    world = untouched.copy_to(place)
    before = reader.taken(untouched)
    content = content_of(untouched.medium / reader.unit)
    tally = Tally()
    ways = list(damaged(content, content_of(spare(untouched) / reader.other), seed=seed))
    if most:
        ways = random.Random(seed).sample(ways, most)
    for what, changed in ways[share[0] :: share[1]]:
        ended = offer(world, reader, untouched, changed)
        tally.tried += 1
        rules = _RULE.findall(ended.said)
        tally.rules.update(rules[:1])
        if reader.taken(world) != before:
            tally.accepted.append(what)
        elif not rules or ended.code != _REFUSED:
            tally.unsaid.append(f"{what}: {ended.code} {ended.said[-300:]}")
    return tally


def _one(path: Path, query: str) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute(query).fetchone()[0])
