"""Kills a retention run at every call that changes or flushes a file, and judges what is left of four people.

Why here: it must be born on top of the shim, and forks a child for each kill.
Must not: look at anything but the files that a kill left.

    LD_PRELOAD=shim.so python -m tests.faults.erasure_child PLACE [planted]    prints how many states, what is wrong
"""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import closing
from pathlib import Path

import pytest

from offline_processor import retention
from offline_processor.ledger import ledger as ledgers
from offline_processor.ledger import mirror as mirrors
from offline_processor.ledger.ledger import Ledger
from tests.faults.children import KILLED, Strike, in_child
from tests.faults.shim import KILLS, WRITES, Mode
from tests.offline_processor.people import four_people

ENDED = 1000 + 800 * 86_400
PEOPLE = range(1, 5)
PLANTED = tuple(pragma.replace("secure_delete = ON", "secure_delete = OFF") for pragma in mirrors.PRAGMAS)


def opened(world: Path) -> Ledger:
    return Ledger(world / "state" / "ledger.db", mirror=world / "second" / "ledger.db")


def made(world: Path) -> Path:
    for place in ("state", "second"):
        (world / place).mkdir(parents=True)
    with closing(opened(world)) as ledger:
        four_people(ledger)
    return world


def erase(world: Path) -> None:
    with closing(opened(world)) as ledger:
        retention.run(ledger, who="A. Keeper", now=ENDED, dry=False)


def judged(world: Path) -> list[str]:
    """What is wrong after the machine is started again, and after the run is repeated."""
    found = []
    with closing(opened(world)) as ledger:
        entries = ledger.verify_chain()
        left = {number for (number,) in ledger.rows("SELECT number FROM person")}
        said = ledger.row("SELECT count(*) FROM entry WHERE kind = 'erased'")
    if said != (len(PEOPLE) - len(left),):
        found.append(f"{len(left)} people are left, and {said} entries tell of erasures")
    if len(left) % retention.WINDOW:
        found.append(f"half a window was erased: {sorted(left)} are left")
    found += traces(world, left)
    erase(world)
    found += traces(world, set())
    with closing(opened(world)) as ledger:
        if ledger.verify_chain() < entries:
            found.append("entries are gone")
    return found


def traces(world: Path, left: set[int]) -> list[str]:
    """Every file, log and leftover of both disks holds who is left, and nobody else."""
    wrong = []
    for disk in ("state", "second"):
        content = b"".join(path.read_bytes() for path in (world / disk).iterdir())
        there = {number for number in PEOPLE if f"person-{number}@example.org".encode() in content}
        if there != left:
            wrong.append(f"{disk} holds {sorted(there)}, not {sorted(left)}")
    return wrong


def main() -> None:
    place, planted = Path(sys.argv[1]), "planted" in sys.argv[2:]
    retention.WINDOW = 2  # type: ignore[misc]
    if planted:
        patch = pytest.MonkeyPatch()
        for module in (ledgers, mirrors):
            patch.setattr(module, "PRAGMAS", PLANTED)
    fresh, said, trace = made(place / "fresh"), place / "said.txt", place / "trace.txt"
    shutil.copytree(fresh, place / "counted")
    counting = Strike(at=-1, mode=Mode.COUNT)
    counted = place / "counted"
    if in_child(lambda: erase(counted), said, strike=counting, root=counted, trace=trace):
        raise SystemExit(said.read_text("utf-8"))
    states, wrong = 0, []
    for at, call in enumerate(trace.read_text("utf-8").splitlines()):
        for mode in KILLS:
            if mode is Mode.TORN and call.partition(" ")[0] not in WRITES:
                continue
            world = place / "world"
            shutil.copytree(fresh, world)
            ended = in_child(lambda: erase(world), said, strike=Strike(at=at, mode=mode), root=world)  # noqa: B023
            states += ended == KILLED
            wrong += [f"{call}, {mode.name}: {what}" for what in judged(world)]
            shutil.rmtree(world)
    sys.stdout.write(json.dumps({"states": states, "wrong": wrong}))


if __name__ == "__main__":
    main()
