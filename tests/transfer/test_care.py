"""verify, resend, doctor and watch as a user types them."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from keys.durable import write_durable
from tests.transfer.file_systems import elsewhere
from tests.transfer.house import NODE, batch_key_id, envelope, order_id
from tests.transfer.test_cli import Desk, desk, enrolled, paid
from transfer.errors import TransferError
from transfer.sync.reading import copy_unit
from transfer.wire.manifest import ENVELOPES_NAME, MANIFEST_NAME, RECORDS_NAME

__all__ = ["desk", "enrolled"]


def found(desk: Desk, *arguments: str, code: int) -> set[str]:
    return {finding["rule"] for finding in desk.report("doctor", *arguments, code=code)["findings"]}


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_verify_says_of_each_thing_on_a_drop_whether_it_is_good(desk: Desk) -> None:
    desk.house.take([1, 2])
    desk.report("push")
    before = {path: path.stat().st_mtime_ns for path in desk.house.drop_in.rglob("*")}
    seen = desk.report("verify", str(desk.house.drop_in))
    assert [(one["name"], one["refused"]) for one in seen["checked"]] == [("b00000001", None)]
    assert {path: path.stat().st_mtime_ns for path in desk.house.drop_in.rglob("*")} == before
    spoil(desk.house.unit(1) / ENVELOPES_NAME)
    refused = desk.report("verify", str(desk.house.drop_in), code=4)["checked"][0]["refused"]
    assert refused["rule"] == "BUNDLE-DAMAGED"
    assert "resend 1" in refused["remedy"]


def test_verify_knows_genuine_returns_without_taking_them(desk: Desk) -> None:
    good, bad = desk.house.give_return([paid(1)]), desk.house.give_return([paid(1)])
    spoil(bad / RECORDS_NAME)
    seen = desk.report("verify", str(desk.house.drop_out), code=4)["checked"]
    assert [(one["name"], (one["refused"] or {}).get("rule")) for one in seen] == [
        (good.name, None),
        (bad.name, "RETURN-DAMAGED"),
    ]
    assert desk.report("status")["last_return"] == ""


def test_verify_refuses_a_stranger_s_bundle_and_another_bundle_of_the_same_number(desk: Desk) -> None:
    desk.house.take([1])
    desk.report("push")
    spoil(desk.house.unit(1) / MANIFEST_NAME)
    checked = desk.report("verify", str(desk.house.drop_in), code=4)["checked"]
    assert checked[0]["refused"]["rule"] == "BUNDLE-SIGNATURE"


def test_verify_of_an_empty_drop_is_nothing_to_do(desk: Desk) -> None:
    assert desk.run("verify", str(desk.house.drop_in)).returncode == 5


def test_a_lost_medium_is_replaced_from_the_kept_bytes(desk: Desk) -> None:
    desk.house.take([1, 2])
    desk.report("push")
    before = {path.name: path.read_bytes() for path in desk.house.unit(1).iterdir()}
    shutil.rmtree(desk.house.drop_in / NODE)
    done = desk.report("resend", "1")
    assert (done["name"], done["orders"], done["already_there"]) == ("b00000001", 2, False)
    assert {path.name: path.read_bytes() for path in desk.house.unit(1).iterdir()} == before
    assert desk.report("resend", "1")["already_there"] is True


def test_resend_after_the_receipt_says_why_not(desk: Desk) -> None:
    desk.house.take([1])
    desk.report("push")
    desk.house.give_return([desk.house.receipt(1), paid(1)], accepted=1)
    desk.report("pull")
    refused = desk.report("resend", "1", code=4)
    assert refused["rule"] == "BUNDLE-SETTLED"
    assert "processed" in refused["message"]
    assert desk.report("resend", "2", code=4)["rule"] == "BUNDLE-UNKNOWN"
    assert desk.run("resend", "0").returncode == 2


def test_what_is_damaged_here_is_not_sent(desk: Desk) -> None:
    desk.house.take([1])
    desk.report("push")
    shutil.rmtree(desk.house.drop_in / NODE)
    spoil(desk.house.node.bundle(1) / ENVELOPES_NAME)
    assert desk.report("resend", "1", code=4)["rule"] == "OUTBOX-DAMAGED"
    assert not desk.house.unit(1).exists()


def test_the_doctor_finds_nothing_in_a_healthy_node(desk: Desk) -> None:
    assert desk.report("doctor")["findings"] == []
    desk.house.take([1])
    desk.report("push")
    desk.house.give_return([desk.house.receipt(1), paid(1)], accepted=1)
    desk.report("pull")
    desk.house.take([2])
    desk.report("push")
    assert desk.report("doctor")["findings"] == []
    assert "agree" in desk.run("doctor").stdout


def test_the_doctor_enters_orders_that_only_the_spool_knows(desk: Desk) -> None:
    group = desk.house.spool.open_group(batch_key_id(1))
    assert group is not None
    group.append(envelope(1))
    group.commit()
    assert found(desk, code=3) == {"REGISTER-BEHIND"}
    assert found(desk, "--repair", code=0) == {"REGISTER-BEHIND"}
    assert found(desk, code=0) == set()
    assert desk.house.register.lookup(order_id(1)) is not None


def test_the_doctor_discards_what_an_interrupted_push_left(desk: Desk) -> None:
    desk.house.node.bundle(1).mkdir(parents=True)
    write_durable(desk.house.node.bundle(1) / ENVELOPES_NAME, b"half")
    assert found(desk, code=3) == {"OUTBOX-UNFINISHED"}
    assert found(desk, "--repair", code=0) == {"OUTBOX-UNFINISHED"}
    assert not desk.house.node.bundle(1).exists()


def test_the_doctor_enters_a_signed_bundle_that_the_register_lost(desk: Desk) -> None:
    desk.house.take([1, 2])
    desk.report("push")
    desk.house.register.close()
    for path in desk.house.node.state.glob("register.db*"):
        path.unlink()
    assert "REGISTER-BEHIND" in found(desk, code=3)
    found(desk, "--repair", code=0)
    desk.house.open()
    assert found(desk, code=0) == set()
    known = desk.house.register.lookup(order_id(2))
    assert known is not None
    assert known.sequence == 1


def test_the_doctor_deletes_settled_envelopes_only(desk: Desk) -> None:
    desk.house.take([1])
    desk.report("push")
    kept = (desk.house.node.bundle(1) / ENVELOPES_NAME).read_bytes()
    desk.house.give_return([desk.house.receipt(1), paid(1)], accepted=1)
    desk.report("pull")
    write_durable(desk.house.node.bundle(1) / ENVELOPES_NAME, kept)
    assert found(desk, code=3) == {"OUTBOX-SETTLED"}
    found(desk, "--repair", code=0)
    assert not (desk.house.node.bundle(1) / ENVELOPES_NAME).exists()


@pytest.mark.parametrize("repair", [(), ("--repair",)])
def test_the_doctor_names_what_only_a_person_can_mend(desk: Desk, repair: tuple[str, ...]) -> None:
    house = desk.house
    house.take([1], key=1)
    house.take([2], key=2)
    desk.report("push")
    house.take([3], key=3)
    (house.node.bundle(1) / ENVELOPES_NAME).unlink()
    spoil(house.node.bundle(2) / ENVELOPES_NAME)
    shutil.rmtree(house.spool.root / batch_key_id(3).hex())
    assert found(desk, *repair, code=3) == {"OUTBOX-LOST", "OUTBOX-DAMAGED", "ORDERS-MISSING"}
    said = desk.run("doctor")
    assert order_id(3) in said.stderr
    assert "What to do:" in said.stderr


def test_the_doctor_finds_a_broken_chain_and_a_damaged_group(desk: Desk) -> None:
    house = desk.house
    house.take([1], key=1)
    house.take([2], key=2)
    desk.report("push")
    shutil.rmtree(house.node.bundle(1))
    house.take([3], key=3)
    [group] = house.spool.groups(batch_key_id(3))
    group.write_bytes(group.read_bytes()[:-1])
    assert found(desk, "--repair", code=3) == {"OUTBOX-GAP", "SPOOL-DAMAGED"}


def test_a_push_that_puts_a_damaged_group_aside_says_so_and_ends_with_3(desk: Desk) -> None:
    house = desk.house
    house.take([1], key=1)
    house.take([2], key=2)
    [group] = house.spool.groups(batch_key_id(1))
    group.write_bytes(group.read_bytes()[:-1])
    done = desk.run("push")
    assert done.returncode == 3
    assert "SPOOL-DAMAGED" in done.stderr
    assert order_id(1) in done.stderr
    assert house.carried(1) == [order_id(2)]
    assert found(desk, code=3) == {"SPOOL-DAMAGED", "ORDERS-MISSING"}


def test_the_doctor_asks_for_states_that_no_return_told(desk: Desk) -> None:
    desk.house.take([1, 2])
    desk.report("push")
    desk.house.give_return([desk.house.receipt(1), paid(1)], accepted=1)
    desk.report("pull")
    assert found(desk, code=3) == {"STATUS-MISSING"}


def test_cron_sees_one_line_a_run_and_none_without_work(desk: Desk) -> None:
    idle = desk.run("push", "--brief")
    assert (idle.returncode, idle.stdout, idle.stderr) == (5, "", "")
    desk.house.take([1, 2])
    done = desk.run("push", "--brief")
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    assert "b00000001" in done.stdout
    assert done.stderr == ""
    desk.house.give_return([desk.house.receipt(1), paid(1)], accepted=1)
    taken = desk.run("pull", "--brief")
    assert taken.stdout.count("\n") == 1
    assert "r0001-00000001" in taken.stdout
    assert desk.run("pull", "--brief").stdout == ""


@contextmanager
def watching(desk: Desk, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "transfer", "watch", "--config", str(desk.config), "--json", *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def settings(desk: Desk, **sync: int) -> None:
    lines = "".join(f"{name} = {value}\n" for name, value in sync.items())
    desk.config.write_text(desk.config.read_text().replace("[sync]\n", f"[sync]\n{lines}"))


def until(condition: object, seconds: float = 20) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def test_watch_carries_both_ways_and_ends_at_a_clean_point(desk: Desk) -> None:
    settings(desk, watch_seconds=1, cut_minutes=0)
    house = desk.house
    house.take([1])
    with watching(desk, "--no-events") as watch:
        until((house.unit(1) / "manifest.json.minisig").exists)
        house.give_return([house.receipt(1), paid(1)], accepted=1)
        until(lambda: (status := house.register.lookup(order_id(1))) is not None and status.status == "paid")
        house.take([2])
        until(lambda: any((house.unit(number) / "manifest.json.minisig").exists() for number in (2, 3)))
        watch.send_signal(signal.SIGTERM)
        out, err = watch.communicate(timeout=20)
    assert watch.returncode == 0, err
    documents = [json.loads(line) for line in out.splitlines()]
    assert [bool(document["push"]) for document in documents][:1] == [True]
    assert any(document["pull"] for document in documents)
    assert found(desk, code=0) == set()


def test_an_event_wakes_watch_long_before_its_next_look(desk: Desk) -> None:
    pytest.importorskip("watchdog")
    settings(desk, watch_seconds=600, cut_minutes=60)
    with watching(desk) as watch:
        assert watch.stdout is not None
        (desk.house.drop_out / NODE).mkdir()
        time.sleep(4)  # it looks once, and then sleeps
        unit = desk.house.give_return([paid(1)])
        desk.house.drop_out.joinpath("touched").touch()
        until(lambda: desk.house.node.newest_return() is not None)
        assert unit.exists()
        watch.send_signal(signal.SIGTERM)
        watch.communicate(timeout=20)
        assert watch.returncode == 0


def test_watch_waits_for_a_medium_and_says_so_once(desk: Desk) -> None:
    settings(desk, watch_seconds=1)
    desk.house.take([1])
    desk.house.drop_in.rmdir()
    with watching(desk, "--no-events") as watch:
        time.sleep(5)
        desk.house.drop_in.mkdir()
        until((desk.house.unit(1) / "manifest.json.minisig").exists)  # put in: all that waits goes with it
        watch.send_signal(signal.SIGTERM)
        out, _ = watch.communicate(timeout=20)
    first, *rest = [json.loads(line) for line in out.splitlines()]
    assert [error["rule"] for error in first["absent"]] == ["MEDIUM-NONE"]
    assert len(rest) == 1, "nothing is said while nothing changes"


def test_watch_does_not_cut_each_order_on_its_own(desk: Desk) -> None:
    settings(desk, watch_seconds=1, cut_minutes=60)
    with watching(desk, "--no-events") as watch:
        time.sleep(4)
        for number in range(1, 6):
            desk.house.take([number], now=int(time.time()))
            time.sleep(0.3)
        time.sleep(1.5)
        watch.send_signal(signal.SIGTERM)
        watch.communicate(timeout=20)
    assert desk.house.register.last_sequence() == 0
    assert list(desk.house.drop_in.iterdir()) == []


def test_the_doctor_clears_a_half_copied_return(desk: Desk) -> None:
    copy = desk.house.node.incoming / "r0001-00000001"
    copy.mkdir(parents=True)
    (copy / RECORDS_NAME).write_bytes(b"half")
    assert found(desk, code=3) == {"INCOMING-UNFINISHED"}
    assert found(desk, "--repair", code=0) == {"INCOMING-UNFINISHED"}
    assert not desk.house.node.incoming.exists()


@pytest.mark.parametrize("everywhere", [False, True])
def test_the_doctor_says_when_the_register_itself_is_damaged(desk: Desk, everywhere: bool) -> None:
    desk.house.take(range(1, 400))
    desk.house.register.close()
    path = desk.house.node.state / "register.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    content = bytearray(path.read_bytes())
    size = int.from_bytes(content[16:18], "big")
    # The first page still says that it is a register; the last ones hold orders.
    for page in range(size if everywhere else len(content) - size, len(content), size):
        content[page : page + 16] = b"\xff" * 16
    path.write_bytes(content)
    try:
        if everywhere:
            assert desk.report("doctor", "--repair", code=4)["rule"] == "REGISTER-DAMAGED"
        else:
            assert found(desk, "--repair", code=3) == {"REGISTER-DAMAGED"}
    finally:
        for part in desk.house.node.state.glob("register.db*"):
            part.unlink()
        desk.house.open()


def test_verify_finds_out_a_state_that_is_an_old_copy(desk: Desk) -> None:
    desk.house.take([1], key=1)
    desk.report("push")
    shutil.copytree(desk.house.node.state, desk.house.root / "backup")
    desk.house.take([2], key=2)
    desk.report("push")
    desk.house.close()
    shutil.rmtree(desk.house.node.state)
    shutil.copytree(desk.house.root / "backup", desk.house.node.state)
    desk.house.open()
    checked = desk.report("verify", str(desk.house.drop_in), code=4)["checked"]
    assert [(one["refused"] or {}).get("rule") for one in checked] == [None, "NODE-BEHIND"]
    # The old copy makes another bundle 2: now there are two of that number.
    desk.house.take([3], key=2)
    first = desk.house.root / "first"
    desk.house.drop_in.rename(first)
    desk.house.drop_in.mkdir()
    desk.report("push")
    checked = desk.report("verify", str(first), code=4)["checked"]
    assert [(one["refused"] or {}).get("rule") for one in checked] == [None, "BUNDLE-FORK"]


def format_medium(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    options = {"--label": "STICK 1", "--shop": "example", "--node": NODE, "--direction": "in"}
    options |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    given = [part for option in options.items() for part in option]
    command = [sys.executable, "-m", "transfer", "format-medium", str(place), *given]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_medium_is_prepared_from_the_command_line(tmp_path: Path) -> None:
    stick = elsewhere(Path("/"))
    if stick is None:
        pytest.skip("there is no second file system here")
    try:
        done = format_medium(stick / "in")
        assert done.returncode == 0, done.stderr
        assert 'media_of = "example"' in done.stdout
        assert format_medium(stick / "in").returncode == 0
        refused = format_medium(stick / "in", "--direction", "out")
        assert refused.returncode == 4
        assert "MEDIUM-FOREIGN" in refused.stderr
    finally:
        shutil.rmtree(stick)
    for wrong in (("--shop", "Not A Name"), ("--label", "\n")):
        refused = format_medium(tmp_path, *wrong)
        assert refused.returncode == 2
        assert "USAGE-MEDIUM" in refused.stderr
    assert format_medium(tmp_path, "--direction", "up").returncode == 2


def test_too_little_room_on_our_own_disk_is_not_blamed_on_the_medium(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = tmp_path / NODE / "b00000001"
    unit.mkdir(parents=True)
    for name in (ENVELOPES_NAME, MANIFEST_NAME, "manifest.json.minisig"):
        (unit / name).write_bytes(b"x")

    class Full:
        f_bavail, f_frsize, f_flag = 1, 4096, 0

    monkeypatch.setattr("os.statvfs", lambda _: Full)
    limits = {ENVELOPES_NAME: 10, MANIFEST_NAME: 10, "manifest.json.minisig": 10}
    with pytest.raises(TransferError) as caught:
        copy_unit(unit, tmp_path / "copy", limits)
    assert caught.value.rule == "SPOOL-SPACE"
