"""Media: prepared once, known by their marker, refused when they are another's, not mounted, or no medium at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.errors import RuleError
from keys.private.sign import sign_file
from keys.public import canonical
from tests.transfer.file_systems import elsewhere
from tests.transfer.house import NODE, NOW, House
from transfer.config import NodeConfig, SyncConfig
from transfer.errors import TransferError
from transfer.sync.medium import (
    MARKER_NAME,
    Direction,
    Marker,
    Medium,
    admit,
    format_medium,
    inspect,
    read_marker,
)
from transfer.sync.rounds import Rounds
from transfer.wire.manifest import BUNDLE_COMMENT

SHOP = "example"


def marker(**changes: object) -> Marker:
    facts: dict[str, object] = {
        "label": "STICK 1",
        "shop": SHOP,
        "node": NODE,
        "direction": Direction.IN,
        "prepared_at": NOW,
    }
    return Marker(**(facts | changes))  # type: ignore[arg-type]


@pytest.fixture
def stick(tmp_path: Path) -> Iterator[Path]:
    """An empty directory on another file system than ``tmp_path``, as a mounted stick is."""
    place = elsewhere(tmp_path)
    if place is None:
        pytest.skip("there is no second file system here")
    yield place
    shutil.rmtree(place)


def admitted(drop: Path, home: Path, direction: Direction = Direction.IN, shop: str | None = SHOP) -> Medium:
    return admit(drop, direction, shop=shop, nodes=(NODE,), home=home)


def refused(rule: str, drop: Path, home: Path, **changes: object) -> TransferError:
    with pytest.raises(TransferError) as caught:
        admitted(drop, home, **changes)  # type: ignore[arg-type]
    assert caught.value.rule == rule
    assert caught.value.remedy
    return caught.value


def test_a_prepared_medium_is_recognised(stick: Path, tmp_path: Path) -> None:
    format_medium(stick / "in", marker(), own_disk=tmp_path)
    medium = admitted(stick / "in", tmp_path)
    assert medium.marker == marker()
    assert medium.takes(NODE)
    assert not medium.takes("shop-b")
    assert medium.settle() == "STICK 1"


def test_preparing_it_again_is_harmless_and_for_something_else_is_refused(
    stick: Path, tmp_path: Path
) -> None:
    format_medium(stick, marker(), own_disk=tmp_path)
    before = (stick / MARKER_NAME).stat().st_ino
    format_medium(stick, marker(prepared_at=NOW + 1), own_disk=tmp_path)
    assert (stick / MARKER_NAME).stat().st_ino == before
    for other in (
        {"shop": "another"},
        {"node": "shop-b"},
        {"direction": Direction.OUT},
        {"label": "STICK 2"},
    ):
        with pytest.raises(TransferError) as caught:
            format_medium(stick, marker(**other), own_disk=tmp_path)
        assert caught.value.rule == "MEDIUM-FOREIGN"


def test_what_holds_foreign_files_is_not_prepared(stick: Path, tmp_path: Path) -> None:
    (stick / "holiday.jpg").write_bytes(b"sea")
    with pytest.raises(TransferError) as caught:
        format_medium(stick, marker(), own_disk=tmp_path)
    assert caught.value.rule == "MEDIUM-UNEXPECTED"
    assert "holiday.jpg" in caught.value.message
    assert sorted(path.name for path in stick.iterdir()) == ["holiday.jpg"]
    (stick / "holiday.jpg").unlink()
    (stick / "System Volume Information").mkdir()
    (stick / ".Trash-1000").mkdir()
    format_medium(stick, marker(), own_disk=tmp_path)


def test_a_mount_point_without_its_medium_is_not_prepared(tmp_path: Path) -> None:
    with pytest.raises(TransferError) as caught:
        format_medium(tmp_path / "stick", marker(), own_disk=tmp_path)
    assert caught.value.rule == "MEDIUM-NOT-MOUNTED"
    assert not (tmp_path / "stick").exists()


def test_a_place_that_is_not_there_is_not_made_up(stick: Path, tmp_path: Path) -> None:
    with pytest.raises(TransferError) as caught:
        format_medium(stick / "a" / "b", marker(), own_disk=tmp_path)
    assert caught.value.rule == "MEDIUM-NONE"


def test_no_medium_at_all(tmp_path: Path) -> None:
    refused("MEDIUM-NONE", tmp_path / "stick", tmp_path)
    assert not (tmp_path / "stick").exists()


def test_a_mount_point_where_nothing_is_mounted(tmp_path: Path) -> None:
    (tmp_path / "stick").mkdir()
    refused("MEDIUM-NOT-MOUNTED", tmp_path / "stick", tmp_path)
    # Not even a marker that somebody left on our own disk makes a medium of it.
    (tmp_path / "stick" / MARKER_NAME).write_bytes(canonical.encode(marker()))
    refused("MEDIUM-NOT-MOUNTED", tmp_path / "stick", tmp_path)


def test_any_other_stick_is_refused(stick: Path, tmp_path: Path) -> None:
    assert "format-medium" in refused("MEDIUM-UNMARKED", stick, tmp_path).remedy


@pytest.mark.parametrize(
    ("other", "rule"),
    [
        ({"shop": "another"}, "MEDIUM-FOREIGN"),
        ({"node": "shop-b"}, "MEDIUM-FOREIGN"),
        ({"direction": Direction.OUT}, "MEDIUM-DIRECTION"),
    ],
)
def test_another_s_medium_is_refused_before_anything_is_written(
    stick: Path, tmp_path: Path, other: dict[str, object], rule: str
) -> None:
    format_medium(stick, marker(**other), own_disk=tmp_path)
    house = House(root=tmp_path / "house")
    house.take([1])
    rounds = Rounds(
        settings=NodeConfig(node=NODE, state=house.node.state),
        sync=SyncConfig(drop_in=stick, drop_out=house.drop_out, media_of=SHOP),
    )
    with rounds.alone() as register, pytest.raises(TransferError) as caught:
        rounds.push(register, lambda _: "", now=NOW)
    assert caught.value.rule == rule
    assert sorted(path.name for path in stick.iterdir()) == [MARKER_NAME]
    assert house.register.last_sequence() == 0, "no key was used up"
    house.close()


def test_a_plain_directory_needs_no_marker_but_one_that_is_there_counts(tmp_path: Path) -> None:
    drop = tmp_path / "shared"
    drop.mkdir()
    assert admitted(drop, tmp_path, shop=None).marker is None
    assert admitted(drop, tmp_path, shop=None).settle() == ""
    (drop / MARKER_NAME).write_bytes(canonical.encode(marker(node="shop-b")))
    refused("MEDIUM-FOREIGN", drop, tmp_path, shop=None)
    (drop / MARKER_NAME).write_bytes(canonical.encode(marker(direction=Direction.OUT)))
    refused("MEDIUM-DIRECTION", drop, tmp_path, shop=None)
    assert admitted(drop, tmp_path, Direction.OUT, shop=None).marker


@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 100, b"[" * 4000, b"x" * 4097])
def test_a_damaged_marker_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MARKER_NAME).write_bytes(content)
    rule = "MEDIUM-DAMAGED" if len(content) <= 4096 else "MEDIUM-UNEXPECTED"
    refused(rule, tmp_path, tmp_path, shop=None)


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "hard link"])
def test_a_marker_that_is_no_plain_file_is_refused(tmp_path: Path, kind: str) -> None:
    drop, target = tmp_path / "drop", tmp_path / "target"
    drop.mkdir()
    target.write_bytes(canonical.encode(marker()))
    if kind == "link":
        (drop / MARKER_NAME).symlink_to(target)
    elif kind == "fifo":
        os.mkfifo(drop / MARKER_NAME)
    elif kind == "directory":
        (drop / MARKER_NAME).mkdir()
    else:
        os.link(target, drop / MARKER_NAME)
    refused("MEDIUM-UNEXPECTED", drop, tmp_path, shop=None)


@given(
    raw=st.one_of(
        st.binary(max_size=300), st.builds(lambda text: b'{"kind":"medium",' + text, st.binary(max_size=80))
    )
)
def test_any_bytes_in_a_marker_are_a_marker_or_refused(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    place = tmp_path_factory.getbasetemp() / "any-marker"
    place.mkdir(exist_ok=True)
    (place / MARKER_NAME).write_bytes(raw)
    top = os.open(place, os.O_RDONLY)
    try:
        found = read_marker(top, place)
        assert found is None or canonical.encode(found) == raw
    except RuleError as error:
        assert error.rule == "MEDIUM-DAMAGED"  # noqa: PT017  any other exception fails the test by itself
    finally:
        os.close(top)


def test_strangers_on_a_medium_are_named_and_stop_nothing(stick: Path, tmp_path: Path) -> None:
    format_medium(stick, marker(), own_disk=tmp_path)
    house = House(root=tmp_path / "house")
    house.take([1])
    (stick / "autorun.inf").write_bytes(b"")
    (stick / "SHOP-A").mkdir()
    (stick / "lost+found").mkdir()
    (stick / NODE).mkdir()
    (stick / NODE / "b00000009").write_bytes(b"a file where a bundle should be")
    (stick / NODE / "r0001-00000001").mkdir()
    (stick / NODE / "evil\x1b[2J\n").mkdir()
    rounds = Rounds(
        settings=NodeConfig(node=NODE, state=house.node.state),
        sync=SyncConfig(drop_in=stick, drop_out=house.drop_out, media_of=SHOP),
    )
    with rounds.alone() as register:
        report = rounds.push(register, sign_for(house), now=NOW)
    assert report.written == ["b00000001"]
    assert report.safe_to_remove == "STICK 1"
    assert [error.rule for error in report.refused] == ["MEDIUM-UNEXPECTED"] * 2
    top, inside = (error.message for error in report.refused)
    assert "SHOP-A, autorun.inf" in top
    assert "lost+found" not in top
    assert "b00000009" in inside
    assert "r0001-00000001" in inside
    assert "\x1b" not in inside
    assert "\n" not in inside
    house.close()


def sign_for(house: House) -> Callable[[bytes], str]:
    return lambda manifest: sign_file(house.node_key, manifest, BUNDLE_COMMENT)


def test_a_drop_that_is_only_looked_at_may_be_of_either_direction(stick: Path, tmp_path: Path) -> None:
    format_medium(stick, marker(direction=Direction.OUT), own_disk=tmp_path)
    assert inspect(stick, shop=SHOP, node=NODE).direction is Direction.OUT
    for shop, node in (("another", NODE), (SHOP, "shop-b")):
        with pytest.raises(TransferError) as caught:
            inspect(stick, shop=shop, node=node)
        assert caught.value.rule == "MEDIUM-FOREIGN"
