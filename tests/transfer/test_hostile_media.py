"""Hostile media: whatever lies on one is refused by a rule, in bounded time and memory, and nothing else suffers."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from keys.errors import RuleError
from tests.transfer.file_systems import elsewhere
from tests.transfer.hostile import KINDS, Entry, lay_out, plant, snapshot, trees
from tests.transfer.house import NODE, House
from transfer.errors import TransferError
from transfer.sync.checking import verify_drop
from transfer.sync.drop import ENTRIES_LIMIT, list_units
from transfer.sync.medium import Direction, Medium
from transfer.sync.reading import copy_unit, read_file
from transfer.sync.strangers import strangers
from transfer.wire.manifest import (
    ENVELOPES_NAME,
    KEYROLL_NAME,
    MANIFEST_NAME,
    RECORDS_NAME,
    SIGNATURE_NAME,
)

CROWD = 200_000
PEAK = 64 * 1024 * 1024  # bytes of Python objects that a look at the fullest medium may need
BUNDLE_LIMITS = {ENVELOPES_NAME: 1 << 20, MANIFEST_NAME: 16_384, SIGNATURE_NAME: 1024}


def read_as_receiver_does(drop: Path, copies: Path) -> list[RuleError]:
    """The offline side's steps on a drop, each refusal kept; any other exception is the test's failure."""
    refused: list[RuleError] = []

    def attempt(step: Callable[[], object]) -> None:
        try:
            step()
        except RuleError as error:
            refused.append(error)

    attempt(lambda: refused.extend(strangers(drop, NODE, allowed=("medium.json",), prefix="b")))
    names: list[str] = []
    attempt(lambda: names.extend(list_units(drop, NODE, "b")))
    for name in names:
        for file, limit in ((MANIFEST_NAME, 16_384), (SIGNATURE_NAME, 1024)):
            attempt(lambda name=name, file=file, limit=limit: read_file(drop / NODE / name, file, limit))  # type: ignore[misc]
        copy = copies / name
        shutil.rmtree(copy, ignore_errors=True)
        attempt(lambda name=name, copy=copy: copy_unit(drop / NODE / name, copy, BUNDLE_LIMITS))  # type: ignore[misc]
    return refused


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Path]]:
    """A house whose drops are planted anew for each example, and a directory outside of them."""
    root = tmp_path_factory.mktemp("hostile")
    house = House(root=root / "house", keys=60)
    lay_out(root / "outside")
    yield house, root / "outside"
    house.close()


def fresh(drop: Path) -> Path:
    shutil.rmtree(drop)
    drop.mkdir()
    return drop


@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(tree=trees)
def test_no_tree_makes_a_reader_fail_or_write_outside(ground: tuple[House, Path], tree: list[Entry]) -> None:
    house, outside = ground
    before = snapshot(outside)
    for drop in (house.drop_in, house.drop_out):
        plant(fresh(drop), tree, outside)
    read_as_receiver_does(house.drop_in, house.root / "copies")
    with contextlib.suppress(RuleError):
        house.pull()
    for drop, direction in ((house.drop_in, Direction.IN), (house.drop_out, Direction.OUT)):
        with contextlib.suppress(RuleError):
            list(verify_drop(house.node, house.register, Medium(drop=drop, direction=direction, marker=None)))
    assert snapshot(outside) == before


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(tree=trees)
def test_no_tree_makes_a_writer_fail_or_write_outside(ground: tuple[House, Path], tree: list[Entry]) -> None:
    house, outside = ground
    before = snapshot(outside)
    if not house.register.last_sequence():
        house.take([1])
    plant(fresh(house.drop_in), tree, outside)
    try:
        report = house.push()
    except RuleError:
        pass
    else:
        whole = "b00000001" in (*report.written, *report.already_there)
        assert whole or report.refused, "neither written nor refused"
        if whole:
            place = house.unit(1)
            assert {path.name for path in place.iterdir()} == set(BUNDLE_LIMITS)
            assert all(not path.is_symlink() for path in (place, *place.iterdir()))
    assert snapshot(outside) == before


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in {"directory", "deep"}])
def test_every_kind_of_thing_in_the_place_of_a_unit_stops_no_other(house: House, kind: str) -> None:
    lay_out(house.root / "outside")
    house.take([1])
    house.push()
    fresh(house.drop_in)
    house.take([2], key=2)
    plant(house.drop_in, [Entry(path=(NODE, "b00000001"), kind=kind, content=b"x")], house.root / "outside")
    report = house.push()
    assert report.written == ["b00000002"]
    assert [error.rule for error in report.refused] == ["MEDIUM-UNEXPECTED"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in {"file", "empty"}])
@pytest.mark.parametrize("file", [KEYROLL_NAME, RECORDS_NAME, MANIFEST_NAME, SIGNATURE_NAME])
def test_every_kind_of_thing_in_the_place_of_a_file_refuses_the_return_and_no_other(
    house: House, kind: str, file: str
) -> None:
    lay_out(house.root / "outside")
    good, spoilt = house.give_return([]), house.give_return([])
    (spoilt / file).unlink()
    plant(
        house.drop_out,
        [Entry(path=(NODE, spoilt.name, file), kind=kind)],
        house.root / "outside",
    )
    report = house.pull()
    assert report.taken == good.name
    assert [error.rule for error in report.refused] == ["RETURN-FORMAT"]


def test_a_hard_link_in_the_place_of_a_file_is_not_written_through(house: House) -> None:
    outside = house.root / "outside"
    lay_out(outside)
    house.take([1])
    house.push()
    (house.unit(1) / ENVELOPES_NAME).unlink()
    os.link(outside / "secret", house.unit(1) / ENVELOPES_NAME)
    assert house.push().written == ["b00000001"]
    assert (outside / "secret").read_bytes() == b"must stay as it is"


def test_a_file_that_grows_while_it_is_read_is_refused_at_its_limit(tmp_path: Path) -> None:
    unit = tmp_path / "drop" / NODE / "b00000001"
    unit.mkdir(parents=True)
    for name in BUNDLE_LIMITS:
        (unit / name).write_bytes(b"x" * 1000)
    stop = threading.Event()

    def grow() -> None:
        with (unit / ENVELOPES_NAME).open("ab", buffering=0) as file:
            while not stop.is_set() and file.tell() < 1 << 28:
                file.write(b"x" * (1 << 20))

    grower = threading.Thread(target=grow)
    grower.start()
    try:
        with pytest.raises(TransferError) as caught:
            copy_until_refused(unit, tmp_path)
    finally:
        stop.set()
        grower.join()
    assert caught.value.rule == "BUNDLE-FORMAT"
    sizes = [path.stat().st_size for path in tmp_path.glob("copy-*/*")]
    assert max(sizes, default=0) <= BUNDLE_LIMITS[ENVELOPES_NAME] + 1


def copy_until_refused(unit: Path, to: Path) -> None:
    for attempt in range(2000):
        copy_unit(unit, to / f"copy-{attempt}", BUNDLE_LIMITS)


def test_sparse_terabytes_are_refused_unread(tmp_path: Path) -> None:
    unit = tmp_path / "drop" / NODE / "b00000001"
    unit.mkdir(parents=True)
    for name in BUNDLE_LIMITS:
        with (unit / name).open("wb") as file:
            file.truncate(1 << 42)
    began = time.monotonic()
    with pytest.raises(TransferError) as caught:
        copy_unit(unit, tmp_path / "copy", BUNDLE_LIMITS)
    assert caught.value.rule in {"BUNDLE-FORMAT", "SPOOL-SPACE"}
    assert time.monotonic() - began < 1


@pytest.fixture
def fast_disk(tmp_path: Path) -> Iterator[Path]:
    place = elsewhere(tmp_path)
    if place is None:
        place = tmp_path / "crowd"
        place.mkdir()
    yield place
    shutil.rmtree(place)


@pytest.mark.parametrize("where", ["the node's directory", "the top", "one unit"])
def test_hundreds_of_thousands_of_files_are_refused_in_bounded_time_and_memory(
    fast_disk: Path, tmp_path: Path, where: str
) -> None:
    unit = fast_disk / NODE / "b00000001"
    unit.mkdir(parents=True)
    for name in BUNDLE_LIMITS:
        (unit / name).write_bytes(b"x")
    crowd = {"the node's directory": unit.parent, "the top": fast_disk, "one unit": unit}[where]
    for number in range(CROWD):
        os.close(os.open(f"{crowd}/f{number:07d}", os.O_CREAT | os.O_WRONLY))
    tracemalloc.start()
    began = time.process_time()
    refused = read_as_receiver_does(fast_disk, tmp_path)
    took, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < 10, f"{took:.1f} s"
    assert peak < PEAK
    rules = {error.rule for error in refused}
    if where == "one unit":
        assert "BUNDLE-FORMAT" in rules
    else:
        assert "MEDIUM-UNEXPECTED" in rules
    if where == "the top":
        assert list_units(fast_disk, NODE, "b") == ["b00000001"], "the rest of the medium still works"
    assert ENTRIES_LIMIT < CROWD
