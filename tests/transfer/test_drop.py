"""Drops: units are whole or ignored, and nothing on a medium is followed, trusted or read without a limit."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from keys.durable import write_all
from transfer.errors import TransferError
from transfer.sync.drop import list_units, remove_unit, write_unit
from transfer.sync.reading import copy_unit, read_file
from transfer.wire.manifest import ENVELOPES_NAME, MANIFEST_NAME, SIGNATURE_NAME

NAME = "b00000001"
LIMITS = {ENVELOPES_NAME: 4096, MANIFEST_NAME: 1024, SIGNATURE_NAME: 1024}


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    (tmp_path / "drop").mkdir()
    return tmp_path / "drop"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    source = tmp_path / "source"
    source.mkdir()
    content = {ENVELOPES_NAME: b"e" * 3000, MANIFEST_NAME: b"{}", SIGNATURE_NAME: b"signature"}
    for name, data in content.items():
        (source / name).write_bytes(data)
    return {name: source / name for name in content}


@pytest.fixture
def unit(drop: Path, files: dict[str, Path]) -> Path:
    write_unit(drop, "shop-a", NAME, files)
    return drop / "shop-a" / NAME


def refused(rule: str, source: Path, destination: Path) -> str:
    with pytest.raises(TransferError) as caught:
        copy_unit(source, destination, LIMITS)
    assert caught.value.rule == rule
    return caught.value.message


def test_a_unit_arrives_byte_for_byte(unit: Path, drop: Path, files: dict[str, Path], tmp_path: Path) -> None:
    assert list_units(drop, "shop-a", "b") == [NAME]
    copy_unit(unit, tmp_path / "copy", LIMITS)
    for name, source in files.items():
        assert (tmp_path / "copy" / name).read_bytes() == source.read_bytes()


def test_writing_a_unit_again_changes_nothing(unit: Path, drop: Path, files: dict[str, Path]) -> None:
    before = {path.name: path.stat().st_ino for path in unit.iterdir()}
    assert write_unit(drop, "shop-a", NAME, files) is False
    assert {path.name: path.stat().st_ino for path in unit.iterdir()} == before


@pytest.mark.parametrize("damaged", list(LIMITS))
def test_a_damaged_or_half_written_unit_is_written_again(
    unit: Path, drop: Path, files: dict[str, Path], damaged: str
) -> None:
    content = bytearray((unit / damaged).read_bytes())
    content[-1] ^= 1
    (unit / damaged).write_bytes(content)
    assert write_unit(drop, "shop-a", NAME, files) is True
    (unit / damaged).unlink()
    assert write_unit(drop, "shop-a", NAME, files) is True
    assert {path.name: path.read_bytes() for path in unit.iterdir()} == {
        name: source.read_bytes() for name, source in files.items()
    }


def test_a_unit_without_its_signature_is_ignored(unit: Path, drop: Path) -> None:
    (unit / SIGNATURE_NAME).unlink()
    assert list_units(drop, "shop-a", "b") == []


def test_other_names_other_nodes_and_the_other_direction_are_not_listed(unit: Path, drop: Path) -> None:
    for name in ("b1", "B00000002", "b00000002.tmp", "lost+found", "r0001-00000001"):
        (unit.parent / name).mkdir()
        (unit.parent / name / SIGNATURE_NAME).touch()
    assert list_units(drop, "shop-a", "b") == [NAME]
    assert list_units(drop, "shop-a", "r") == ["r0001-00000001"]
    assert list_units(drop, "shop-b", "b") == []


def test_a_missing_drop_is_refused_and_never_made(tmp_path: Path, files: dict[str, Path]) -> None:
    missing = tmp_path / "medium"
    with pytest.raises(TransferError) as listing:
        list_units(missing, "shop-a", "b")
    with pytest.raises(TransferError) as writing:
        write_unit(missing, "shop-a", NAME, files)
    assert listing.value.rule == writing.value.rule == "MEDIUM-NONE"
    assert not missing.exists()


def test_a_stranger_in_the_unit_refuses_it(
    unit: Path, tmp_path: Path, drop: Path, files: dict[str, Path]
) -> None:
    (unit / "autorun.inf").write_bytes(b"")
    assert "autorun.inf" in refused("BUNDLE-FORMAT", unit, tmp_path / "copy")
    with pytest.raises(TransferError) as caught:
        write_unit(drop, "shop-a", NAME, files)
    assert caught.value.rule == "MEDIUM-UNEXPECTED"


def test_a_missing_file_refuses_the_unit(unit: Path, tmp_path: Path) -> None:
    (unit / ENVELOPES_NAME).unlink()
    refused("BUNDLE-FORMAT", unit, tmp_path / "copy")


def test_a_file_above_its_limit_refuses_the_unit(unit: Path, tmp_path: Path) -> None:
    (unit / MANIFEST_NAME).write_bytes(b"x" * 1025)
    refused("BUNDLE-FORMAT", unit, tmp_path / "copy")
    with pytest.raises(TransferError) as caught:
        read_file(unit, MANIFEST_NAME, 1024)
    assert caught.value.rule == "BUNDLE-FORMAT"


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_only_plain_files_are_read(unit: Path, tmp_path: Path, kind: str) -> None:
    place = unit / ENVELOPES_NAME
    place.unlink()
    if kind == "link":
        place.symlink_to("/etc/passwd")
    elif kind == "fifo":
        os.mkfifo(place)
    else:
        place.mkdir()
    refused("BUNDLE-FORMAT", unit, tmp_path / "copy")


def test_a_link_in_the_place_of_a_unit_is_listed_and_refused(unit: Path, drop: Path, tmp_path: Path) -> None:
    (unit.parent / "b00000002").symlink_to(unit)
    assert list_units(drop, "shop-a", "b") == [NAME, "b00000002"]
    refused("BUNDLE-FORMAT", unit.parent / "b00000002", tmp_path / "copy")


def test_a_link_in_the_place_of_the_node_is_refused(
    unit: Path, drop: Path, tmp_path: Path, files: dict[str, Path]
) -> None:
    (drop / "shop-b").symlink_to(drop / "shop-a")
    refused("BUNDLE-FORMAT", drop / "shop-b" / NAME, tmp_path / "copy")
    for action in (
        lambda: list_units(drop, "shop-b", "b"),
        lambda: write_unit(drop, "shop-b", NAME, files),
    ):
        with pytest.raises(TransferError) as caught:
            action()
        assert caught.value.rule == "MEDIUM-UNEXPECTED"


def test_a_return_is_refused_by_the_rule_of_returns(drop: Path, tmp_path: Path) -> None:
    place = drop / "shop-a" / "r0001-00000001"
    place.mkdir(parents=True)
    refused("RETURN-FORMAT", place, tmp_path / "copy")


def test_too_little_room_is_said_before_anything_is_written(
    drop: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        f_bavail, f_frsize, f_flag = 1, 4096, 0

    monkeypatch.setattr("os.statvfs", lambda place: Full)
    with pytest.raises(TransferError) as caught:
        write_unit(drop, "shop-a", NAME, files)
    assert caught.value.rule == "MEDIUM-FULL"
    assert list((drop / "shop-a" / NAME).iterdir()) == []


def test_what_does_not_read_back_is_not_signed_for(
    drop: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = write_all

    def flips_a_bit(descriptor: int, data: bytes) -> None:
        honest(descriptor, bytes([data[0] ^ 1]) + data[1:])

    monkeypatch.setattr("transfer.sync.drop.write_all", flips_a_bit)
    with pytest.raises(TransferError) as caught:
        write_unit(drop, "shop-a", NAME, files)
    assert caught.value.rule == "MEDIUM-DAMAGED"
    assert list_units(drop, "shop-a", "b") == []


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        (errno.ENOSPC, "MEDIUM-FULL"),
        (errno.EDQUOT, "MEDIUM-FULL"),
        (errno.EFBIG, "MEDIUM-FULL"),
        (errno.EROFS, "MEDIUM-READ-ONLY"),
        (errno.EIO, "MEDIUM-DAMAGED"),
        (errno.ENODEV, "MEDIUM-NONE"),
        (errno.ENOTCONN, "MEDIUM-NONE"),
        (errno.EACCES, "MEDIUM-WRITE"),
    ],
)
def test_each_fault_of_a_medium_has_its_rule_and_way_out(
    drop: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, fault: int, rule: str
) -> None:
    def fails(descriptor: int, data: bytes) -> None:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr("transfer.sync.drop.write_all", fails)
    with pytest.raises(TransferError) as caught:
        write_unit(drop, "shop-a", NAME, files)
    assert caught.value.rule == rule
    assert caught.value.remedy


def test_a_removed_unit_is_gone(unit: Path, drop: Path) -> None:
    remove_unit(drop, "shop-a", NAME, LIMITS)
    assert not unit.exists()
