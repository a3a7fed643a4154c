"""What a hostile reviewer did to a node: media exchanged, units renamed, receipts miscounted, full disks."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keys.private.sign import sign_file
from tests.transfer.file_systems import elsewhere, exfat, mounted, unmount
from tests.transfer.house import NODE, NOW, House, batch_key_id
from tests.transfer.test_care import settings
from tests.transfer.test_cli import Desk, desk, enrolled, paid
from tests.transfer.test_real_media import SHOP, prepared, push
from transfer.config import NodeConfig, SyncConfig
from transfer.errors import TransferError
from transfer.sync.checking import Checked, verify_drop
from transfer.sync.doctor import Doctor
from transfer.sync.inbound import Pull
from transfer.sync.medium import MARKER_NAME, Direction, Medium
from transfer.sync.push_report import PushReport
from transfer.sync.rounds import Rounds
from transfer.sync.silence import heard, of_silence
from transfer.sync.watch import Watch
from transfer.wire.manifest import BUNDLE_COMMENT, ENVELOPES_NAME, MANIFEST_NAME, SIGNATURE_NAME

__all__ = ["desk", "enrolled"]

DAY = 86_400


def push_while(house: House, drop: Path, meddle: Callable[[], object]) -> PushReport:
    """A push during which somebody does something to the medium, once most of the first bundle is written."""
    meddled = False

    def progress(name: str, done: int, total: int) -> None:
        nonlocal meddled
        if name == "b00000001" and 4 * done > 3 * total and not meddled:
            meddled = True
            meddle()

    work = Rounds(
        settings=NodeConfig(node=NODE, state=house.node.state),
        sync=SyncConfig(drop_in=drop, drop_out=house.drop_out, media_of=SHOP),
        progress=progress,
    )
    with work.alone() as register:
        return work.push(register, lambda raw: sign_file(house.node_key, raw, BUNDLE_COMMENT), now=NOW)


def watch(house: House) -> Watch:
    return Watch(
        rounds=Rounds(
            settings=NodeConfig(node=NODE, state=house.node.state),
            sync=SyncConfig(drop_in=house.drop_in, drop_out=house.drop_out),
        ),
        sign=lambda raw: sign_file(house.node_key, raw, BUNDLE_COMMENT),
    )


def two_bundles(house: House) -> None:
    for number in (1, 2):
        house.take([number], key=number)
        house.push()


def verified(house: House) -> list[Checked]:
    return list(
        verify_drop(
            house.node, house.register, Medium(drop=house.drop_in, direction=Direction.IN, marker=None)
        )
    )


@pytest.mark.needs_tool("mounts")
def test_a_medium_that_is_pulled_out_in_mid_push_is_not_called_safe_nor_its_mount_point_filled(
    house: House, tmp_path: Path
) -> None:
    two_bundles(house)
    with mounted(tmp_path / "stick", "-t", "tmpfs", "none") as stick:
        drop = prepared(stick, Direction.IN, tmp_path)
        report = push_while(house, drop, lambda: unmount(stick))
        assert [error.rule for error in report.refused] == ["MEDIUM-CHANGED"]
        assert report.unwritten == ["b00000002"]
        assert report.safe_to_remove == ""
        assert list(stick.iterdir()) == []


@pytest.mark.needs_tool("mounts")
def test_another_stick_in_the_place_of_the_one_begun_with_is_not_called_safe(
    house: House, tmp_path: Path
) -> None:
    house.take([1])
    house.push()
    with mounted(tmp_path / "stick", "-t", "tmpfs", "none") as stick:
        drop = prepared(stick, Direction.IN, tmp_path)
        first = (drop / MARKER_NAME).read_bytes()

        def exchange() -> None:
            # The same port, so the same numbers; only the marker tells the sticks apart.
            (drop / MARKER_NAME).write_bytes(first.replace(b"STICK 1", b"STICK 2"))

        report = push_while(house, drop, exchange)
        assert report.written == ["b00000001"]
        assert [error.rule for error in report.refused] == ["MEDIUM-CHANGED"]
        assert report.safe_to_remove == ""


def test_a_medium_is_not_called_safe_while_it_lacks_a_bundle(house: House, tmp_path: Path) -> None:
    stick = elsewhere(tmp_path)
    if stick is None:
        pytest.skip("there is no second file system here")
    house.take([1])
    drop = prepared(stick / "in", Direction.IN, tmp_path)
    (drop / NODE / "b00000001" / "surprise").mkdir(parents=True)
    report = push(house, drop)
    assert [error.rule for error in report.refused] == ["MEDIUM-UNEXPECTED"]
    assert report.unwritten == ["b00000001"]
    assert report.safe_to_remove == ""
    shutil.rmtree(stick)


def test_a_file_with_a_second_name_is_written_anew_because_no_reader_takes_it(house: House) -> None:
    house.take([1])
    house.push()
    os.link(house.unit(1) / ENVELOPES_NAME, house.root / "second")
    assert house.push().written == ["b00000001"]
    assert (house.unit(1) / ENVELOPES_NAME).stat().st_nlink == 1


def test_what_is_there_already_is_flushed_before_it_is_read_past_the_cache(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.take([1])
    house.push()
    done: list[str] = []
    real = os.posix_fadvise, os.fsync

    def posix_fadvise(*given: int) -> None:
        done.append("drop")
        real[0](*given)

    def fsync(descriptor: int) -> None:
        done.append("flush")
        real[1](descriptor)

    monkeypatch.setattr(os, "posix_fadvise", posix_fadvise)
    monkeypatch.setattr(os, "fsync", fsync)
    assert house.push().already_there == ["b00000001"]
    assert done.count("drop") == 3
    assert all(done[at - 1] == "flush" for at, step in enumerate(done) if step == "drop")


@pytest.mark.needs_tool("exfat")
def test_a_unit_under_a_name_in_another_case_is_not_taken_for_it(house: House, tmp_path: Path) -> None:
    house.take([1])
    with exfat(tmp_path) as stick:
        drop = prepared(stick / "in", Direction.IN, tmp_path)
        (drop / NODE / "B00000001").mkdir(parents=True)
        report = push(house, drop)
        assert {error.rule for error in report.refused} == {"MEDIUM-UNEXPECTED"}
        assert (report.written, report.safe_to_remove) == ([], "")
        assert list((drop / NODE / "B00000001").iterdir()) == []


def test_a_bundle_that_somebody_renamed_on_a_medium_does_not_end_its_node(house: House) -> None:
    two_bundles(house)
    os.rename(house.unit(1), house.unit(99))
    report = house.push()
    assert report.written == ["b00000001"]
    assert [one.name for one in verified(house) if one.error] == ["b00000099"]


def test_verify_refuses_what_the_other_side_would_refuse_or_ignore(house: House) -> None:
    two_bundles(house)
    (house.unit(1) / "note.txt").write_bytes(b"")
    (house.unit(2) / SIGNATURE_NAME).unlink()
    (house.drop_in / NODE / "r0001-00000001").mkdir()
    assert [(one.name, one.error.rule if one.error else "") for one in verified(house)] == [
        ("b00000001", "BUNDLE-FORMAT"),
        ("b00000002", "BUNDLE-FORMAT"),
        ("r0001-00000001", "RETURN-FORMAT"),
    ]


def test_two_checks_of_a_drop_at_once_disturb_neither_and_leave_nothing(house: House) -> None:
    for _ in range(3):
        house.give_return([])
    drop = Medium(drop=house.drop_out, direction=Direction.OUT, marker=None)
    killed = house.node.state / "checking-killed"
    (killed / "copy").mkdir(parents=True)
    first, second = (verify_drop(house.node, house.register, drop) for _ in range(2))
    found = [one for pair in zip(first, second, strict=True) for one in pair]
    with ThreadPoolExecutor(4) as pool:
        for more in pool.map(lambda _: list(verify_drop(house.node, house.register, drop)), range(8)):
            found += more
    assert len(found) == 3 * 10
    assert [one.error for one in found if one.error] == []
    assert list(house.node.state.glob("checking-*")) == []


def test_the_doctor_keeps_envelopes_whose_receipt_miscounts_them(house: House) -> None:
    house.take([1, 2])
    house.push()
    house.give_return([house.receipt(1, orders=1)], accepted=1)
    assert "counts 1 orders" in house.pull().findings[0]
    with house.node.alone():
        Doctor(node=house.node, register=house.register, now=NOW, repair=True).look()
    assert (house.node.bundle(1) / ENVELOPES_NAME).exists()
    assert house.push().already_there == ["b00000001"]


def test_watch_opens_no_file_for_ever_while_a_cut_fails(house: House) -> None:
    house.take([1])
    house.take([2])
    group = house.spool.groups(batch_key_id(1))[1]
    kept = group.read_bytes()
    group.unlink()
    house.push()
    group.write_bytes(kept)  # after its bundle was made without it
    looks = watch(house)
    assert [error.rule for error in looks.look(now=NOW).refused] == ["SPOOL-LATE"]
    before = len(list(Path("/proc/self/fd").iterdir()))
    for second in range(1, 10):
        looks.look(now=NOW + second)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


def test_a_clock_that_was_ahead_and_was_put_right_delays_no_order(house: House) -> None:
    looks = watch(house)
    looks.look(now=NOW + 365 * DAY)
    house.take([1], now=NOW + 365 * DAY)
    looks.look(now=NOW)
    assert house.register.last_sequence() == 1


def test_a_pull_that_was_killed_is_ended_by_watch_although_its_medium_is_empty_now(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.take([1])
    house.push()
    unit = house.give_return([house.receipt(1)], accepted=1)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Pull, "_mark_taken", killed)
        with pytest.raises(KeyboardInterrupt):
            house.pull()
    shutil.rmtree(unit)
    pulled = watch(house).look(now=NOW).pulled
    assert pulled is not None
    assert pulled.taken == unit.name


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_of_our_own_that_fails_is_said_by_its_rule(
    house: House, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    house.take([1])

    def failing(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr("keys.durable.write_all", failing)
        with pytest.raises(TransferError) as caught:
            watch(house).look(now=NOW)
    assert caught.value.rule == "NODE-DISK"
    assert watch(house).look(now=NOW).refused == []
    assert house.unit(1).exists()


def test_a_medium_that_is_pulled_out_right_after_a_push_does_not_end_watch(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.take([1])
    real = Rounds.push

    def then_pulled(*given: object, **named: object) -> PushReport:
        report: PushReport = real(*given, **named)  # type: ignore[arg-type]
        shutil.rmtree(house.drop_in)
        return report

    monkeypatch.setattr(Rounds, "push", then_pulled)
    assert [error.rule for error in watch(house).look(now=NOW).absent] == ["MEDIUM-NONE"]


def test_one_look_of_watch_ends_with_the_code_of_what_it_saw(desk: Desk) -> None:
    settings(desk, cut_minutes=0)
    assert desk.run("watch", "--once", "--no-events").returncode == 5
    desk.house.take([1])
    assert desk.run("watch", "--once", "--no-events").returncode == 0
    (desk.house.unit(1) / "note.txt").write_bytes(b"")
    assert desk.run("watch", "--once", "--no-events").returncode == 4


def test_a_medium_full_of_forged_returns_gives_a_short_report_and_the_good_one(house: House) -> None:
    unit = house.give_return([])
    for number in range(100):
        forged = unit.with_name(f"r0009-{number:08d}")
        forged.mkdir()
        (forged / MANIFEST_NAME).write_bytes(b"{}")
        (forged / SIGNATURE_NAME).write_bytes(b"x")
    report = house.pull()
    assert report.taken == unit.name
    assert len(report.refused) <= 20


@pytest.mark.parametrize("name", [ENVELOPES_NAME, MANIFEST_NAME, SIGNATURE_NAME])
def test_a_device_in_the_place_of_a_file_is_not_even_opened(
    house: House, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    house.take([1])
    house.push()
    file = house.unit(1) / name
    file.unlink()
    os.mkfifo(file)  # anybody can make one, and it is opened like a device
    opened: list[object] = []
    real = os.open

    def open_(path: str, *given: int, dir_fd: int | None = None) -> int:
        if path == name and not given[0] & os.O_CREAT:
            opened.append(path)
        return real(path, *given, dir_fd=dir_fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", open_)
        assert [one.error.rule if one.error else "" for one in verified(house)] == ["BUNDLE-FORMAT"]
    assert opened.count(name) == 0
    assert house.push().written == ["b00000001"]


@pytest.mark.needs_tool("mounts")
def test_every_command_says_that_our_own_disk_is_full_and_goes_on_when_it_is_not(
    desk: Desk, tmp_path: Path
) -> None:
    desk.house.take([1])
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=4m", "none") as disk:
        shutil.copytree(desk.house.root, disk / "root")
        config = disk / "root" / "node.toml"
        config.write_text(config.read_text().replace(str(desk.house.root), str(disk / "root")))
        full = Desk(house=desk.house, config=config)
        free = os.statvfs(disk)
        (disk / "ballast").write_bytes(b"\0" * free.f_bavail * free.f_frsize)
        for command in (("push",), ("pull",), ("status",), ("watch", "--once", "--no-events")):
            done = full.run(*command)
            assert done.returncode in (4, 5) or command == ("status",), (command, done.stderr)
            assert done.returncode != 4 or "NODE-DISK" in done.stderr
            assert "Traceback" not in done.stderr
            assert command != ("push",) or done.returncode == 4
        (disk / "ballast").unlink()
        assert full.run("push").returncode == 0
        assert (disk / "root" / "in" / NODE / "b00000001" / SIGNATURE_NAME).exists()


def test_a_register_that_was_lost_and_made_again_cries_no_wolf_over_settled_bundles(house: House) -> None:
    for number in (1, 2, 3):
        house.take([number], key=number)
        house.push()
        if number < 3:
            house.give_return([house.receipt(number), paid(number)], accepted=number)
            house.pull()
    (house.node.bundle(3) / ENVELOPES_NAME).unlink()
    house.register.close()
    for path in house.node.state.glob("register.db*"):
        path.unlink()
    house.open()
    with house.node.alone():
        found = Doctor(node=house.node, register=house.register, now=NOW, repair=True).look()
    lost = [finding.message for finding in found if finding.rule == "OUTBOX-LOST"]
    assert len(lost) == 1, lost
    assert "b00000003" in lost[0], "of which no return has told"


def test_a_bundle_that_was_cut_while_the_clock_was_ahead_hides_no_silence(house: House) -> None:
    house.give_return([])
    house.pull()
    house.take([1])
    house.push(now=NOW + 365 * DAY)
    notices = of_silence(heard(house.register), now=NOW + 8 * DAY, days=7)
    assert [notice.rule for notice in notices] == ["RETURN-SILENT"]
