"""Events only wake: a watch is correct without them, with too many of them, and when a remount has made them deaf."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest

from tests.transfer.file_systems import mounted, unmount
from tests.transfer.house import NODE, NOW
from tests.transfer.test_care import settings, until, watching
from tests.transfer.test_cli import Desk, desk, enrolled
from transfer.sync.medium import Direction, Marker, format_medium
from transfer.sync.waker import Waker

__all__ = ["desk", "enrolled"]


def prepared(place: Path, direction: Direction, home: Path) -> Path:
    marker = Marker(label="STICK 1", shop="example", node=NODE, direction=direction, prepared_at=NOW)
    format_medium(place, marker, own_disk=home)
    return place


@pytest.mark.needs_tool("mounts")
def test_a_watch_goes_on_after_its_medium_was_changed(desk: Desk, tmp_path: Path) -> None:
    settings(desk, watch_seconds=1, cut_minutes=60)
    text = desk.config.read_text().replace("[sync]\n", '[sync]\nmedia_of = "example"\n')
    desk.config.write_text(text)
    stick = desk.house.drop_in
    first, second = stick / NODE / "b00000001", stick / NODE / "b00000002"
    desk.house.take([1])
    with watching(desk) as watch:
        time.sleep(3)
        assert not first.exists(), "nothing is mounted there"
        with mounted(stick, "-t", "tmpfs", "none"):
            prepared(stick, Direction.IN, tmp_path)
            until((first / "manifest.json.minisig").exists)
            unmount(stick)
        desk.house.take([2], key=2)
        time.sleep(2)
        assert list(stick.iterdir()) == []
        with mounted(stick, "-t", "tmpfs", "none"):  # another one; inotify hears nothing of it
            prepared(stick, Direction.IN, tmp_path)
            until((second / "manifest.json.minisig").exists)
            assert first.exists(), "what was not answered goes onto every medium"
            watch.send_signal(signal.SIGTERM)
            out, err = watch.communicate(timeout=20)
    assert watch.returncode == 0, err
    assert "MEDIUM-NOT-MOUNTED" in out


def test_a_flood_of_events_wakes_once_and_costs_nothing_more(tmp_path: Path) -> None:
    waker = Waker([tmp_path], events=True)
    try:
        for number in range(20_000):
            (tmp_path / f"f{number}").touch()
        assert waker.wait(5)
        deadline = time.monotonic() + 20
        while waker.wait(1.0):  # what came later wakes again, and then it is quiet
            assert time.monotonic() < deadline
    finally:
        waker.stop()


def test_without_events_and_in_places_that_are_not_there_it_just_waits(tmp_path: Path) -> None:
    for events in (True, False):
        waker = Waker([tmp_path / "missing"], events=events)
        try:
            began = time.monotonic()
            assert not waker.wait(0.2)
            assert time.monotonic() - began >= 0.2
            waker.rearm()
            waker.wake()
            assert waker.wait(10)
        finally:
            waker.stop()


def test_a_directory_that_was_replaced_is_heard_again_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have the same number: only renewing the watch helps."""
    monkeypatch.setattr("transfer.sync.waker._RENEW", 0.0)
    drop = tmp_path / "drop"
    drop.mkdir()
    waker = Waker([drop], events=True)
    try:
        drop.rmdir()
        drop.mkdir()
        waker.rearm()
        while waker.wait(0.5):
            pass
        (drop / "news").touch()
        assert waker.wait(5)
    finally:
        waker.stop()


def test_waking_from_a_signal_handler_never_locks_up(tmp_path: Path) -> None:
    waker = Waker([], events=False)
    before = signal.signal(signal.SIGUSR1, lambda *_: waker.wake())
    stop = threading.Event()

    def shoot() -> None:
        while not stop.is_set():
            signal.raise_signal(signal.SIGUSR1)
            time.sleep(0.0005)

    shooter = threading.Thread(target=shoot)
    shooter.start()
    try:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            waker.wait(0.001)
    finally:
        stop.set()
        shooter.join()
        signal.signal(signal.SIGUSR1, before)
