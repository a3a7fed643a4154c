"""Kills an export at every call that changes or flushes a file, and judges what lies there and what the log says.

Why here: it must be born on top of the shim, and forks a child for each kill.
Must not: look at anything but the files that a kill left.

    LD_PRELOAD=shim.so python -m tests.faults.export_child PLACE [named|planted]  prints how many states, what is wrong

``named``: as on a stick, whose file system has no files without a name. ``planted``: the file goes out before the log.
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from offline_processor.errors import ProcessorError
from offline_processor.exports import releasing
from offline_processor.exports.making import Prepared, carrier_files
from offline_processor.exports.people import Wish
from offline_processor.exports.profiles import parse_profile
from offline_processor.exports.purposes import Purpose
from offline_processor.ledger import disclosures
from offline_processor.ledger.disclosures import Export, ExportState
from offline_processor.ledger.ledger import Ledger
from tests.faults.children import KILLED, Strike, in_child
from tests.faults.shim import KILLS, WRITES, Mode
from tests.offline_processor.busy_day import busy_day

NOW = 1_790_000_000
ORDERS = 3
PROFILE = parse_profile(
    b'carrier = "x"\ntitle = "X"\nrows = 2\n'
    b'columns = [{ name = "order", field = "order" }, { name = "name", field = "name" }]',
    "x",
)


def opened(world: Path) -> Ledger:
    return Ledger(world / "state" / "ledger.db")


def made(world: Path) -> Path:
    for place in ("state", "files"):
        (world / place).mkdir(parents=True)
    with closing(opened(world)) as ledger:
        busy_day(ledger, ORDERS, start=NOW - 86_400, people=True, declined=0)
    return world


def export(world: Path, release: Callable[..., Export] = releasing.release) -> None:
    """What the command does."""
    files = world / "files"
    with closing(opened(world)) as ledger:
        releasing.settle_unfinished(ledger, Purpose.CARRIER, files, now=NOW)
        for prepared in carrier_files(ledger, PROFILE, Wish(), now=NOW).files:
            release(ledger, prepared, releasing.into_directory(files), who="A. Keeper", now=NOW)


def judged(world: Path, *, named: bool) -> list[str]:
    """What is wrong after the machine is started again, and after the export is repeated."""
    found = unlogged(world)
    try:
        export(world)
    except ProcessorError as error:
        found.append(f"the export cannot be repeated: {error.rule}")
    found += unlogged(world)
    with closing(opened(world)) as ledger:
        ledger.verify_chain()
        known = {one.name: one for one in disclosures.exports(ledger)}
        orders = {order for (order,) in ledger.rows("SELECT order_id FROM orders")}
    out: list[str] = []
    for path in sorted((world / "files").iterdir()):
        state = known[path.name].state if path.name in known else None
        if state is ExportState.RELEASED:
            with path.open(newline="", encoding="utf-8") as file:
                out += [row["order"] for row in csv.DictReader(file)]
        elif not named:
            found.append(f"{path.name} is there, and the log calls it {state}")
    if sorted(out) != sorted(orders):
        found.append(f"{len(out)} rows are out, of {len(set(out))} of {len(orders)} orders")
    there = {path.name for path in (world / "files").iterdir()}
    gone = [name for name, one in known.items() if one.state is ExportState.RELEASED and name not in there]
    return found + [f"{name} is logged as released, and is not there" for name in gone]


def unlogged(world: Path) -> list[str]:
    """Files with a person in them of which the log does not know at this moment, by their names."""
    with closing(opened(world)) as ledger:
        logged = {one.name for one in disclosures.exports(ledger)}
    return [
        f"{path.name} is out, and not in the log"
        for path in (world / "files").iterdir()
        if path.read_bytes() and path.name not in logged
    ]


def file_before_log(release: Callable[..., Export]) -> Callable[..., Export]:
    """The bug that the judge must find."""

    def released(
        ledger: Ledger, prepared: Prepared, let_out: Callable[[str, bytes], None], *, who: str, now: int
    ) -> Export:
        number = disclosures.next_export(ledger)
        let_out(f"carrier-x-{number:06d}.csv", prepared.content)
        return release(ledger, prepared, lambda name, content: None, who=who, now=now)

    return released


def main() -> None:
    place, how = Path(sys.argv[1]), sys.argv[2:]
    patch = pytest.MonkeyPatch()
    if "named" in how:
        patch.setattr(releasing, "_put_unnamed", lambda path, content: False)
    release = file_before_log(releasing.release) if "planted" in how else releasing.release
    fresh, said, trace = made(place / "fresh"), place / "said.txt", place / "trace.txt"
    counted = place / "counted"
    shutil.copytree(fresh, counted)
    if in_child(
        lambda: export(counted), said, strike=Strike(at=-1, mode=Mode.COUNT), root=counted, trace=trace
    ):
        raise SystemExit(said.read_text("utf-8"))
    states, wrong = 0, []
    for at, call in enumerate(trace.read_text("utf-8").splitlines()):
        for mode in KILLS:
            if mode is Mode.TORN and call.partition(" ")[0] not in WRITES:
                continue
            world = place / "world"
            shutil.copytree(fresh, world)
            ended = in_child(
                lambda: export(world, release),  # noqa: B023  called before the next world is
                said,
                strike=Strike(at=at, mode=mode),
                root=world,
            )
            states += ended == KILLED
            wrong += [f"{call}, {mode.name}: {what}" for what in judged(world, named="named" in how)]
            shutil.rmtree(world)
    sys.stdout.write(json.dumps({"states": states, "wrong": wrong}))


if __name__ == "__main__":
    main()
