"""The register: one answer for each order id, whatever crashes and whoever asks."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
import sqlite_utils

from tests.transfer.house import NOW, House, basket, batch_key_id, envelope, order_id
from transfer.register import BundleRow, Committed, NewOrder, Register
from transfer.register_tables import migrations
from transfer.spool import OpenGroup, read_group
from transfer.wire.records import Reason, StatusRecord, StatusState

KEY = batch_key_id(1)


def an_order(number: int, *, basket_of: int | None = None) -> NewOrder:
    return NewOrder(
        order_id=order_id(number), basket_digest=basket(number if basket_of is None else basket_of)
    )


def open_group(house: House, numbers: list[int]) -> OpenGroup:
    group = house.spool.open_group(KEY)
    assert group is not None
    for number in numbers:
        group.append(envelope(number))
    return group


def spooled(house: House) -> list[str]:
    return [entry.order_id for group in house.spool.groups(KEY) for entry in read_group(group)]


def test_an_order_that_comes_again_is_the_same_and_not_written_again(house: House) -> None:
    assert house.take([1, 2]) == [Committed.NEW, Committed.NEW]
    assert house.take([2, 3]) == [Committed.SAME, Committed.NEW]
    assert spooled(house) == [order_id(1), order_id(2), order_id(3)]


def test_another_basket_under_the_same_id_is_a_conflict(house: House) -> None:
    house.take([1])
    group = house.spool.open_group(KEY)
    assert group is not None
    group.append(envelope(1, basket_of=7))
    assert house.register.commit_group(group, [an_order(1, basket_of=7)], NOW) == [Committed.CONFLICT]
    known = house.register.lookup(order_id(1))
    assert known is not None
    assert known.basket_digest == basket(1)


def test_twice_in_one_group_is_written_once(house: House) -> None:
    group = open_group(house, [1, 1])
    group.append(envelope(1, basket_of=2))
    answers = house.register.commit_group(group, [an_order(1), an_order(1), an_order(1, basket_of=2)], NOW)
    assert answers == [Committed.NEW, Committed.SAME, Committed.CONFLICT]
    assert spooled(house) == [order_id(1)]


def test_what_could_not_be_made_durable_is_not_known(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    group = open_group(house, [1])

    def fails(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="No space"):
            house.register.commit_group(group, [an_order(1)], NOW)
    assert house.register.lookup(order_id(1)) is None
    assert house.take([1]) == [Committed.NEW]


def test_an_order_that_is_not_known_has_no_status(house: House) -> None:
    assert house.register.lookup(order_id(1)) is None


def test_reindex_brings_back_what_the_register_lost(house: House, tmp_path: Path) -> None:
    house.take(range(40))
    other = Register(tmp_path / "new.db")
    assert other.reindex(house.spool, NOW) == 40
    assert other.reindex(house.spool, NOW) == 0
    known = other.lookup(order_id(39))
    assert known is not None
    assert (known.basket_digest, known.status) == (basket(39), "received")
    other.close()


def test_a_status_is_shown_from_received_over_in_transit_to_what_a_return_says(house: House) -> None:
    house.take([1])

    def status() -> tuple[str, str, int]:
        known = house.register.lookup(order_id(1))
        assert known is not None
        return known.status, known.reason, known.changed_at

    assert status() == ("received", "none", 0)
    house.register.record_bundle(
        BundleRow(sequence=1, batch_key_id=KEY, manifest="00", orders=1, cut_at=NOW), lambda: {order_id(1)}
    )
    assert status() == ("in-transit", "none", 0)
    record = StatusRecord(
        order=order_id(1), state=StatusState.DECLINED, reason=Reason.CALL_BANK, changed_at=NOW + 5
    )
    assert house.register.update_statuses([record]) == (1, 0)
    assert status() == ("declined", "call-bank", NOW + 5)


def test_statuses_of_strangers_are_counted_and_change_nothing(house: House) -> None:
    records = (
        StatusRecord(order=order_id(number), state=StatusState.PAID, reason=Reason.NONE, changed_at=NOW)
        for number in range(1200)
    )
    house.take(range(10))
    assert house.register.update_statuses(records) == (10, 1190)


def test_missing_orders_are_named_once_and_stay_named(house: House) -> None:
    house.take([1, 2, 3])
    bundle = BundleRow(sequence=1, batch_key_id=KEY, manifest="00", orders=1, cut_at=NOW)
    assert house.register.record_bundle(bundle, lambda: {order_id(2)}) == [order_id(1), order_id(3)]
    assert sorted(house.register.missing()) == sorted([order_id(1), order_id(3)])
    known = house.register.lookup(order_id(1))
    assert known is not None
    assert known.sequence is None


def test_a_failed_transaction_leaves_nothing(house: House) -> None:
    def fails() -> None:
        with house.register.transaction() as connection:
            connection.execute("INSERT INTO fact VALUES ('a', '1')")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert house.register.fact("a") is None
    house.register.set_fact("a", {"b": 1})
    assert house.register.fact("a") == {"b": 1}


def test_a_register_of_the_form_before_keeps_what_it_knew(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    old = sqlite_utils.Database(sqlite3.connect(path))
    migrations.apply(old, stop_before="key_says_the_bundle")
    columns = "(order_id, basket_digest, batch_key_id, group_name, sequence, received_at)"
    for number, key, sequence in ((1, 1, 1), (2, 1, None), (3, 2, None)):
        old.execute(
            f"INSERT INTO orders {columns} VALUES (?, ?, ?, 'g', ?, ?)",  # noqa: S608
            (order_id(number), basket(number), batch_key_id(key), sequence, NOW),
        )
    old.execute("INSERT INTO missing VALUES (?, ?, ?)", (order_id(2), KEY, NOW))
    old.execute(
        "INSERT INTO bundle (sequence, batch_key_id, manifest, orders, cut_at) VALUES (1, ?, '00', 1, ?)",
        (KEY, NOW),
    )
    old.conn.commit()
    old.close()
    register = Register(path)
    found = [register.lookup(order_id(number)) for number in (1, 2, 3)]
    assert [order.sequence for order in found if order] == [1, None, None]
    assert register.orders_of(1) == {order_id(1)}
    assert register.missing() == [order_id(2)]
    assert register.uncut_keys() == [batch_key_id(2)]
    assert register.uncut_of(batch_key_id(2)) == {order_id(3): basket(3)}
    assert register.waiting() == 2
    assert register.whole_groups(batch_key_id(2)) == {}  # nothing vouches for its groups: each order is read
    register.close()


def test_groups_are_whole_only_while_they_hold_every_order_of_their_key(house: House) -> None:
    house.take([1, 2])
    house.take([3])
    assert sorted(count for count, _ in house.register.whole_groups(KEY).values()) == [1, 2]
    group = open_group(house, [4])
    group.commit()  # a worker died here: durable, and not in the register
    house.register.reindex(house.spool, NOW)
    assert house.register.whole_groups(KEY) == {}
    house.push()
    assert sorted(house.carried(1)) == sorted(order_id(number) for number in (1, 2, 3, 4))
    assert house.register.uncut_keys() == []
