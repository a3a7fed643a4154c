"""The spool: a group is durable or not there, and nothing appears behind a cutter's back."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from keys.public.roll import Role
from tests.transfer.house import FAR, NOW, House, batch_key_id, envelope, order_id
from transfer.errors import TransferError
from transfer.spool import Spool, choose, read_group

KEY = batch_key_id(1)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", max_orders=10, max_bytes=1 << 20)


def fill(spool: Spool, numbers: range, key: int = 1) -> str:
    group = spool.open_group(batch_key_id(key))
    assert group is not None
    for number in numbers:
        group.append(envelope(number, key))
    return group.commit()


def rule_of(caught: pytest.ExceptionInfo[TransferError]) -> str:
    return caught.value.rule


def test_a_committed_group_reads_back_in_order(spool: Spool) -> None:
    name = fill(spool, range(3))
    assert [path.name for path in spool.groups(KEY)] == [name]
    assert [entry.order_id for entry in read_group(spool.groups(KEY)[0])] == [order_id(n) for n in range(3)]


def test_an_abandoned_or_empty_group_leaves_nothing(spool: Spool) -> None:
    with spool.open_group(KEY) as group:  # type: ignore[union-attr]
        group.append(envelope(1))
    with spool.open_group(KEY) as group:  # type: ignore[union-attr]
        assert group.commit() == ""
    assert spool.groups(KEY) == []


def test_an_envelope_for_another_key_is_refused(spool: Spool) -> None:
    with (
        spool.open_group(KEY) as group,  # type: ignore[union-attr]
        pytest.raises(TransferError) as caught,
    ):
        group.append(envelope(1, key=2))
    assert rule_of(caught) == "SPOOL-KEY"


def test_a_closed_partition_takes_no_new_group(spool: Spool) -> None:
    spool.close(KEY)
    spool.close(KEY)
    assert spool.open_group(KEY) is None
    assert spool.partition(KEY).closed


def test_a_full_partition_takes_no_new_group_also_after_a_restart(spool: Spool) -> None:
    fill(spool, range(6))
    fill(spool, range(6, 12))
    assert spool.open_group(KEY) is None
    assert Spool(spool.root, max_orders=10).open_group(KEY) is None
    (spool.root / KEY.hex() / "lock").write_bytes(b"")  # what a power cut may leave of the tally
    assert Spool(spool.root, max_orders=10).open_group(KEY) is None


def test_a_partition_is_full_by_bytes_too(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", max_bytes=1000)
    fill(spool, range(2))
    assert spool.open_group(KEY) is None


def test_the_cutter_waits_for_an_open_group_and_finds_what_it_committed(spool: Spool) -> None:
    group = spool.open_group(KEY)
    assert group is not None
    group.append(envelope(1))
    spool.close(KEY)
    timer = threading.Timer(0.2, group.commit)
    timer.start()
    began = time.monotonic()
    with spool.exclusive(KEY):
        assert time.monotonic() - began > 0.1
        assert len(spool.groups(KEY)) == 1
        assert spool.open_group(KEY) is None
    timer.join()


def test_a_worker_that_never_ends_is_named_after_a_while(spool: Spool) -> None:
    with spool.open_group(KEY):  # type: ignore[union-attr]
        spool.close(KEY)
        with pytest.raises(TransferError) as caught, spool.exclusive(KEY, patience=0.05):
            pass
    assert rule_of(caught) == "SPOOL-BUSY"


def test_an_open_partition_is_neither_locked_nor_emptied(spool: Spool) -> None:
    fill(spool, range(1))
    with pytest.raises(TransferError) as locking, spool.exclusive(KEY):
        pass
    with pytest.raises(TransferError) as removing:
        spool.remove(KEY)
    assert rule_of(locking) == rule_of(removing) == "SPOOL-OPEN"


def test_an_emptied_partition_stays_closed(spool: Spool) -> None:
    fill(spool, range(1))
    (spool.root / KEY.hex() / ".g-left-by-a-crash.tmp").touch()
    spool.close(KEY)
    with spool.exclusive(KEY):
        spool.remove(KEY)
    assert sorted(path.name for path in (spool.root / KEY.hex()).iterdir()) == ["closed", "lock"]
    assert spool.open_group(KEY) is None


def test_a_failed_fsync_leaves_no_group_and_frees_the_partition(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = spool.open_group(KEY)
    assert group is not None
    group.append(envelope(1))

    def fails(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="Input/output"):
            group.commit()
    assert spool.groups(KEY) == []
    spool.close(KEY)
    with spool.exclusive(KEY, patience=0):
        pass


def test_a_damaged_group_is_named(spool: Spool) -> None:
    fill(spool, range(2))
    path = spool.groups(KEY)[0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TransferError, match=path.name) as caught:
        list(read_group(path))
    assert rule_of(caught) == "SPOOL-DAMAGED"


def test_the_lowest_numbered_key_that_is_still_good_is_chosen(house: House) -> None:
    roll = house.roll(
        9,
        batch_keys=[
            house.entry(Role.BATCH, 4),
            house.entry(Role.BATCH, 2),
            house.entry(Role.BATCH, 1, seal_until=NOW),
        ],
    )
    chosen = choose(roll, now=NOW, taken=())
    assert chosen is not None
    assert chosen.number == 2
    chosen = choose(roll, now=NOW - 1, taken=())
    assert chosen is not None
    assert chosen.number == 1
    assert choose(roll, now=FAR, taken=()) is None
    assert choose(roll, now=NOW, taken={batch_key_id(2), batch_key_id(4)}) is None


def test_the_next_key_is_used_when_one_is_closed_and_none_when_all_are(house: House) -> None:
    roll = house.roll(1)
    for number in range(1, 6):
        with house.spool.open_current(roll, NOW) as group:  # type: ignore[union-attr]
            assert group.batch_key_id == batch_key_id(number)
        house.spool.close(batch_key_id(number))
    assert house.spool.open_current(roll, NOW) is None


def test_a_group_has_a_largest_size(spool: Spool) -> None:
    with spool.open_group(KEY) as group:  # type: ignore[union-attr]
        group._frames = [b""] * 9_999
        with pytest.raises(TransferError) as caught:
            group.append(envelope(1))
    assert rule_of(caught) == "SPOOL-GROUP"
