"""Media as they are carried: a real exFAT, a full one, a read-only one, one that is pulled out and put in again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keys.private.sign import sign_file
from tests.transfer.file_systems import exfat, mounted, remount, small_ext4, unmount
from tests.transfer.house import NODE, NOW, House
from transfer.config import NodeConfig, SyncConfig
from transfer.errors import TransferError
from transfer.sync import drop as writing
from transfer.sync.inbound import PullReport
from transfer.sync.medium import Direction, Marker, format_medium
from transfer.sync.push_report import PushReport
from transfer.sync.rounds import Rounds
from transfer.wire.manifest import BUNDLE_COMMENT, ENVELOPES_NAME
from transfer.wire.records import Reason, StatusRecord, StatusState

SHOP = "example"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(root=tmp_path / "house", keys=8)
    yield made
    made.close()


def prepared(place: Path, direction: Direction, home: Path) -> Path:
    marker = Marker(label="STICK 1", shop=SHOP, node=NODE, direction=direction, prepared_at=NOW)
    format_medium(place, marker, own_disk=home)
    return place


def rounds(house: House, drop_in: Path, drop_out: Path) -> Rounds:
    return Rounds(
        settings=NodeConfig(node=NODE, state=house.node.state),
        sync=SyncConfig(drop_in=drop_in, drop_out=drop_out, media_of=SHOP),
    )


def push(house: House, drop_in: Path) -> PushReport:
    with rounds(house, drop_in, house.drop_out).alone() as register:
        work = rounds(house, drop_in, house.drop_out)
        return work.push(register, lambda raw: sign_file(house.node_key, raw, BUNDLE_COMMENT), now=NOW)


def pull(house: House, drop_out: Path) -> PullReport:
    with rounds(house, house.drop_in, drop_out).alone() as register:
        return rounds(house, house.drop_in, drop_out).pull(register)


@pytest.mark.needs_tool("exfat")
def test_orders_cross_and_statuses_return_on_a_real_exfat_stick(house: House, tmp_path: Path) -> None:
    house.take(range(1, 400))
    with exfat(tmp_path) as stick:
        drop_in = prepared(stick / "in", Direction.IN, tmp_path)
        drop_out = prepared(stick / "out", Direction.OUT, tmp_path)
        report = push(house, drop_in)
        assert report.written == ["b00000001"]
        assert report.refused == []
        assert report.safe_to_remove == "STICK 1"
        # Names of another case are the same names there; the unit is still found, once.
        assert (drop_in / NODE.upper() / "B00000001").exists()
        assert push(house, drop_in).already_there == ["b00000001"]

        paid = StatusRecord(order="0" * 32, state=StatusState.PAID, reason=Reason.NONE, changed_at=NOW)
        unit = house.give_return([house.receipt(1), paid], accepted=1)
        (drop_out / NODE / unit.name).mkdir(parents=True)
        for path in unit.iterdir():
            (drop_out / NODE / unit.name / path.name).write_bytes(path.read_bytes())
        taken = pull(house, drop_out)
        assert (taken.taken, taken.receipts, taken.refused) == ("r0001-00000001", [1], [])
        confirming = push(house, drop_in)
        assert confirming.removed == ["b00000001"]
        assert sorted(path.name for path in (drop_in / NODE).iterdir()) == ["b00000002"]


@pytest.mark.needs_tool("exfat")
def test_a_full_exfat_stick_is_said_and_the_next_stick_gets_it_all(house: House, tmp_path: Path) -> None:
    house.take(range(1, 400))
    with exfat(tmp_path, megabytes=16) as stick:
        drop = prepared(stick / "in", Direction.IN, tmp_path)
        free = os.statvfs(stick)
        (stick / "holiday.avi").write_bytes(b"\0" * (free.f_bavail * free.f_frsize - 200_000))
        report = push(house, drop)
        assert [error.rule for error in report.refused] == ["MEDIUM-FULL"]
        assert report.safe_to_remove == ""
        assert report.written == []
    assert house.push().written == ["b00000001"]


@pytest.mark.needs_tool("mounts")
def test_a_medium_that_fills_up_while_it_is_written(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The free space that was seen first may be gone: others write too, and a stick may lie about its size."""
    house.take(range(1, 3000))
    monkeypatch.setattr("transfer.sync.drop.check_room", lambda *_, **__: None)
    with small_ext4(tmp_path, megabytes=2) as disk:
        report = push(house, prepared(disk / "in", Direction.IN, tmp_path))
        assert [error.rule for error in report.refused] == ["MEDIUM-FULL"]
        assert not (disk / "in" / NODE / "b00000001" / "manifest.json.minisig").exists()
    assert house.push().written == ["b00000001"]


@pytest.mark.needs_tool("mounts")
def test_a_read_only_medium_is_said(house: House, tmp_path: Path) -> None:
    house.take([1])
    with mounted(tmp_path / "stick", "-t", "tmpfs", "none") as stick:
        drop = prepared(stick / "in", Direction.IN, tmp_path)
        remount(stick, "ro")
        with pytest.raises(TransferError) as formatting:
            format_medium(
                stick / "x",
                Marker(label="S", shop=SHOP, node=NODE, direction=Direction.IN, prepared_at=NOW),
                own_disk=tmp_path,
            )
        assert formatting.value.rule == "MEDIUM-READ-ONLY"
        try:
            refused = [error.rule for error in push(house, drop).refused]
        except TransferError as error:
            refused = [error.rule]
        assert refused == ["MEDIUM-READ-ONLY"]
        remount(stick, "rw")
        assert push(house, drop).safe_to_remove == "STICK 1"


@pytest.mark.needs_tool("mounts")
def test_a_read_only_return_medium_is_read_like_any_other(house: House, tmp_path: Path) -> None:
    with mounted(tmp_path / "stick", "-t", "tmpfs", "none") as stick:
        drop = prepared(stick / "out", Direction.OUT, tmp_path)
        house.give_return([]).rename(tmp_path / "carried")
        (drop / NODE).mkdir()
        (drop / NODE / "r0001-00000001").mkdir()
        for path in (tmp_path / "carried").iterdir():
            (drop / NODE / "r0001-00000001" / path.name).write_bytes(path.read_bytes())
        remount(stick, "ro")
        assert pull(house, drop).taken == "r0001-00000001"


@pytest.mark.needs_tool("mounts")
def test_a_medium_that_is_pulled_out_is_never_written_to_the_mount_point(
    house: House, tmp_path: Path
) -> None:
    house.take([1])
    with mounted(tmp_path / "stick", "-t", "tmpfs", "none") as stick:
        drop = prepared(stick, Direction.IN, tmp_path)
        assert push(house, drop).written == ["b00000001"]
        house.take([2], key=2)
        unmount(stick)
        with pytest.raises(TransferError) as caught:
            push(house, drop)
        assert caught.value.rule == "MEDIUM-NOT-MOUNTED"
        assert list(stick.iterdir()) == []
        assert house.register.last_sequence() == 1, "no key was used up"
        with mounted(stick, "-t", "tmpfs", "none"):
            prepared(stick, Direction.IN, tmp_path)
            assert push(house, drop).written == ["b00000001", "b00000002"]


@pytest.mark.needs_tool("mounts")
def test_a_stick_that_does_not_keep_what_it_is_given_is_never_called_safe(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Positive control of the read-back: bytes are changed behind the writer's back, on the medium itself."""
    honest: Callable[..., object] = writing._write

    def forgets(unit: int, file: str, source: Path, count: Callable[[int], None], known: object) -> object:
        measured = honest(unit, file, source, count, known)
        if file == ENVELOPES_NAME:
            descriptor = os.open(file, os.O_WRONLY, dir_fd=unit)
            os.pwrite(descriptor, b"\0\0\0\0", 500)
            os.fsync(descriptor)
            os.close(descriptor)
        return measured

    monkeypatch.setattr(writing, "_write", forgets)
    house.take([1])
    with mounted(tmp_path / "stick", "-t", "tmpfs", "none") as stick:
        report = push(house, prepared(stick / "in", Direction.IN, tmp_path))
        assert [error.rule for error in report.refused] == ["MEDIUM-DAMAGED"]
        assert report.safe_to_remove == ""
        assert not (stick / "in" / NODE / "b00000001" / "manifest.json.minisig").exists()
