"""Media at the offline side: judged by the same code as online, and what is wrong with one stops nothing else."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from keys.public import canonical
from offline_processor.batch import run
from offline_processor.reception import receive_all
from offline_processor.silence import silent_nodes
from offline_processor.workplace import RunReport
from tests.offline_processor.shop import NOW, Shop, id_of, open_shop
from tests.offline_processor.simulated import SimulatedAcquirer
from tests.transfer.file_systems import elsewhere
from tests.transfer.hostile import Entry, lay_out, plant, snapshot, trees
from transfer.sync.medium import MARKER_NAME, Direction, Marker, format_medium
from transfer.wire.manifest import ENVELOPES_NAME

DAY = 86_400


def mark(drop: Path, direction: Direction, node: str = "shop-a") -> Marker:
    drop.mkdir(exist_ok=True)
    marker = Marker(label="STICK 1", shop="example", node=node, direction=direction, prepared_at=NOW)
    (drop / MARKER_NAME).write_bytes(canonical.encode(marker))
    return marker


def rules(report: RunReport) -> list[str]:
    return [error.rule for error in report.refused]


def test_a_medium_for_returns_is_said_to_be_safe_only_when_all_is_on_it(shop: Shop) -> None:
    mark(shop.drop_out, Direction.OUT)
    shop.bundle([shop.seal(1)])
    report = shop.run()
    assert [made.name for made in report.returns] == ["r0001-00000001"]
    assert report.safe_to_remove == "STICK 1"
    assert rules(report) == []


def test_a_medium_of_the_wrong_direction_is_neither_read_nor_written(shop: Shop) -> None:
    shop.bundle([shop.seal(1)])
    mark(shop.drop_in, Direction.OUT)
    mark(shop.drop_out, Direction.IN)
    report = shop.run()
    assert rules(report) == ["MEDIUM-DIRECTION", "MEDIUM-DIRECTION"]
    assert (report.received, report.returns, report.safe_to_remove) == ([], [], "")
    assert [path.name for path in shop.drop_out.iterdir()] == [MARKER_NAME]
    assert shop.charges() == {}


def test_a_medium_of_a_node_that_is_not_enrolled_is_refused(shop: Shop) -> None:
    shop.bundle([shop.seal(1)])
    mark(shop.drop_in, Direction.IN, node="shop-z")
    assert rules(shop.run()) == ["MEDIUM-FOREIGN"]


def test_each_node_has_its_media_and_the_returns_of_others_wait(shop: Shop) -> None:
    other = shop.enrol("shop-b")
    shop.bundle([shop.seal(1)])
    other.bundle([other.seal(2)])
    mark(shop.drop_in, Direction.IN, node="shop-b")
    mark(shop.drop_out, Direction.OUT, node="shop-b")
    report = shop.run()
    assert report.received == ["shop-b/b00000001"]
    assert [made.node for made in report.returns] == ["shop-b"]
    # shop-a's directory does not belong on shop-b's medium: it is named, and not read.
    assert rules(report) == ["MEDIUM-UNEXPECTED"]
    assert not (shop.drop_out / "shop-a").exists()
    for drop in (shop.drop_in, shop.drop_out):
        (drop / MARKER_NAME).unlink()
    report = shop.run_later()
    assert report.received == ["shop-a/b00000001"]
    assert shop.charges() == {id_of(1): 1, id_of(2): 1}


def test_where_a_medium_is_configured_a_bare_directory_is_not_enough(shop: Shop, tmp_path: Path) -> None:
    shop.bundle([shop.seal(1)])
    acquirer = SimulatedAcquirer(shop.books)
    shop.drop_out.mkdir(exist_ok=True)
    try:
        with shop.ledger() as ledger:
            place = dataclasses.replace(shop.workplace(ledger, acquirer), media_of="example")
            assert rules(run(place)) == ["MEDIUM-NOT-MOUNTED", "MEDIUM-NOT-MOUNTED"]
            stick = elsewhere(tmp_path)
            if stick is None:
                pytest.skip("there is no second file system here")
            try:
                report = run(dataclasses.replace(place, drop_in=stick))
                assert rules(report) == ["MEDIUM-UNMARKED", "MEDIUM-NOT-MOUNTED"]
                marker = mark(stick, Direction.IN)
                (stick / MARKER_NAME).unlink()
                format_medium(stick, marker, own_disk=tmp_path)
                shutil.copytree(shop.drop_in / "shop-a", stick / "shop-a")
                report = run(dataclasses.replace(place, drop_in=stick))
                assert report.received == ["shop-a/b00000001"]
            finally:
                shutil.rmtree(stick)
    finally:
        acquirer.close()


def test_older_returns_leave_the_drop_when_a_newer_one_says_it_all(shop: Shop) -> None:
    shop.bundle([shop.seal(1)])
    shop.run()
    keys = shop.keys_for()
    shop.bundle([shop.seal(2, keys=keys)], batch_key_id=keys.batch_key_id)
    shop.run_later()
    assert [path.name for path in (shop.drop_out / "shop-a").iterdir()] == ["r0001-00000002"]


def test_a_file_of_gigabytes_of_nothing_is_refused_unread(shop: Shop) -> None:
    unit = shop.bundle([shop.seal(1)])
    os.truncate(unit / ENVELOPES_NAME, 3 * 1024**3)
    began = time.process_time()
    assert rules(shop.run()) == ["BUNDLE-FORMAT"]
    assert time.process_time() - began < 5
    assert sum(path.stat().st_size for path in (shop.root / "state").rglob("*.bin")) == 0


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    made = open_shop(tmp_path_factory.mktemp("hostile"))
    yield made
    made.keystore.close()


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(tree=trees)
def test_no_tree_makes_reception_fail_or_write_outside(lasting: Shop, tree: list[Entry]) -> None:
    outside = lasting.root / "outside"
    if not outside.exists():
        lay_out(outside)
    before = snapshot(outside)
    shutil.rmtree(lasting.drop_in, ignore_errors=True)
    lasting.drop_in.mkdir()
    plant(lasting.drop_in, tree, outside)
    acquirer = SimulatedAcquirer(lasting.books)
    try:
        with lasting.ledger() as ledger:
            report = RunReport()
            receive_all(
                lasting.workplace(ledger, acquirer), report
            )  # any other exception than a noted rule fails
    finally:
        acquirer.close()
    assert report.received == []
    assert snapshot(outside) == before


def test_a_node_that_was_not_heard_from_is_named(shop: Shop) -> None:
    other = shop.enrol("shop-b")
    shop.bundle([shop.seal(1)])
    shop.run()
    shop.now += 5 * DAY
    other.bundle([other.seal(2)])
    shop.run()
    with shop.ledger() as ledger:
        for days_later, silent in ((1.9, []), (2.1, ["shop-a"]), (7.1, ["shop-a", "shop-b"])):
            found = silent_nodes(ledger, active=None, days=7, now=shop.now + int(days_later * DAY) + 60)
            assert [notice.message.split()[4] for notice in found] == silent, found
            assert {notice.rule for notice in found} <= {"NODE-SILENT"}
        assert silent_nodes(ledger, active=["shop-b"], days=7, now=shop.now + 3 * DAY) == []
