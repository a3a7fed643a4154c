"""Push: no order in two bundles, none in none, and the chain of bundles only grows."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time

import pytest

from keys.public.minisign import signature_matches
from tests.transfer.house import NODE, NOW, House, batch_key_id, envelope, order_id
from transfer.errors import TransferError
from transfer.sync.drop import write_unit
from transfer.wire.manifest import (
    BUNDLE_COMMENT,
    ENVELOPES_NAME,
    MANIFEST_NAME,
    NO_PREVIOUS,
    SIGNATURE_NAME,
    bundle_manifest_digest,
)
from transfer.wire.records import Reason, StatusRecord, StatusState

KEY = batch_key_id(1)


def paid(number: int) -> StatusRecord:
    return StatusRecord(order=order_id(number), state=StatusState.PAID, reason=Reason.NONE, changed_at=NOW)


def test_waiting_orders_become_one_signed_bundle_on_the_drop(house: House) -> None:
    house.take([1, 2])
    house.take([3])
    report = house.push()
    assert [(made.sequence, made.orders, made.repeats) for made in report.cut] == [(1, 3, 0)]
    assert house.carried(1) == [order_id(1), order_id(2), order_id(3)]
    manifest, raw = house.manifest(1), (house.unit(1) / MANIFEST_NAME).read_bytes()
    envelopes = (house.unit(1) / ENVELOPES_NAME).read_bytes()
    signature = (house.unit(1) / SIGNATURE_NAME).read_text()
    assert signature_matches(house.node_key.minisign, raw, signature, BUNDLE_COMMENT)
    assert manifest.envelopes_sha256 == hashlib.sha256(envelopes).hexdigest()
    assert (manifest.count, manifest.envelopes_size, manifest.prev) == (3, len(envelopes), NO_PREVIOUS)
    assert (manifest.node, manifest.batch_key, manifest.newest_return) == (NODE, KEY.hex(), None)
    assert house.spool.groups(KEY) == []


def test_the_next_bundle_uses_the_next_key_and_names_the_one_before(house: House) -> None:
    house.take([1])
    house.push()
    house.take([2])
    house.push()
    assert house.manifest(2).prev == bundle_manifest_digest((house.unit(1) / MANIFEST_NAME).read_bytes())
    assert house.manifest(2).batch_key == batch_key_id(2).hex()


def test_a_push_without_orders_uses_up_no_key_and_no_sequence(house: House) -> None:
    group = house.spool.open_group(KEY)
    assert group is not None
    group.abandon()
    assert not house.push().did_something
    assert house.register.last_sequence() == 0
    assert not house.spool.partition(KEY).closed


def test_every_partition_that_holds_orders_is_cut_in_the_order_of_its_keys(house: House) -> None:
    house.take([2], key=2)
    house.take([1], key=1)
    house.push()
    assert [house.manifest(sequence).batch_key for sequence in (1, 2)] == [
        batch_key_id(1).hex(),
        batch_key_id(2).hex(),
    ]


def test_a_second_push_changes_nothing(house: House) -> None:
    house.take([1])
    house.push()
    before = {path: path.read_bytes() for path in house.unit(1).iterdir()}
    report = house.push()
    assert not report.did_something
    assert report.already_there == ["b00000001"]
    assert {path: path.read_bytes() for path in house.unit(1).iterdir()} == before


def test_a_bundle_without_receipt_is_written_to_a_new_medium_too(house: House) -> None:
    house.take([1])
    house.push()
    before = {path.name: path.read_bytes() for path in house.unit(1).iterdir()}
    shutil.rmtree(house.drop_in)
    house.drop_in.mkdir()
    assert house.push().written == ["b00000001"]
    assert {path.name: path.read_bytes() for path in house.unit(1).iterdir()} == before


def test_a_missing_drop_uses_up_no_key(house: House) -> None:
    house.take([1])
    house.drop_in.rmdir()
    with pytest.raises(TransferError) as caught:
        house.push()
    assert caught.value.rule == "MEDIUM-NONE"
    assert not house.spool.partition(KEY).closed


def test_an_order_known_only_to_the_spool_is_cut_and_then_known(house: House) -> None:
    group = house.spool.open_group(KEY)
    assert group is not None
    group.append(envelope(1))
    group.commit()  # the worker dies before its row is written
    house.push()
    assert house.carried(1) == [order_id(1)]
    known = house.register.lookup(order_id(1))
    assert known is not None
    assert (known.status, known.sequence) == ("in-transit", 1)


def test_second_copies_of_an_order_are_left_out(house: House) -> None:
    for key in (1, 2):
        for _ in range(2):
            group = house.spool.open_group(batch_key_id(key))
            assert group is not None
            group.append(envelope(1, key))
            group.append(envelope(10 * key, key))
            group.commit()
    report = house.push()
    assert house.carried(1) == [order_id(1), order_id(10)]
    assert house.carried(2) == [order_id(20)]
    assert [made.repeats for made in report.cut] == [2, 3]


def test_a_copy_with_another_basket_than_the_acknowledged_one_is_left_out(house: House) -> None:
    group = house.spool.open_group(KEY)
    assert group is not None
    group.append(envelope(1, basket_of=9))
    house.take([1])
    group.commit()
    house.push()
    assert (house.unit(1) / ENVELOPES_NAME).read_bytes().count(envelope(1)) == 1
    assert len(house.carried(1)) == 1


def test_a_partition_of_second_copies_only_makes_no_bundle(house: House) -> None:
    house.take([1], key=1)
    house.push()
    group = house.spool.open_group(batch_key_id(2))
    assert group is not None
    group.append(envelope(1, 2))
    group.commit()
    assert house.push().cut == []
    assert house.register.last_sequence() == 1
    assert house.spool.groups(batch_key_id(2)) == []


def test_acknowledged_orders_that_are_gone_are_named(house: House) -> None:
    house.take([1, 2])
    house.take([3])
    house.spool.groups(KEY)[0].unlink()
    report = house.push()
    assert sorted(report.missing) == sorted([order_id(1), order_id(2)])
    assert house.carried(1) == [order_id(3)]
    assert house.push().missing == []
    assert len(house.register.missing()) == 2


def test_a_partition_that_is_gone_whole_is_named_too(house: House) -> None:
    house.take([1, 2])
    shutil.rmtree(house.spool.root / KEY.hex())
    assert sorted(house.push().missing) == sorted([order_id(1), order_id(2)])
    assert house.register.last_sequence() == 0


def test_a_damaged_group_is_put_aside_and_named_and_all_others_go(house: House) -> None:
    house.take([1])
    house.take([2, 3])
    house.take([4], key=2)
    damaged = house.spool.groups(KEY)[1]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    report = house.push()
    assert [error.rule for error in report.damaged] == ["SPOOL-DAMAGED"]
    assert report.needs_person
    assert sorted(report.missing) == sorted([order_id(2), order_id(3)])
    assert [house.carried(1), house.carried(2)] == [[order_id(1)], [order_id(4)]]
    [kept] = house.spool.aside()
    assert str(kept) in report.damaged[0].message
    again = house.push()
    assert (again.damaged, again.missing, again.cut) == ([], [], [])
    assert len(house.register.missing()) == 2


def test_a_partition_of_nothing_but_a_damaged_group_makes_no_bundle_and_names_its_orders(
    house: House,
) -> None:
    house.take([1])
    house.spool.groups(KEY)[0].write_bytes(b"x")
    house.take([2], key=2)
    assert house.push().missing == [order_id(1)]
    assert house.carried(1) == [order_id(2)]


def test_a_good_copy_put_back_before_the_push_loses_nothing(house: House) -> None:
    house.take([1])
    path = house.spool.groups(KEY)[0]
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    assert house.register.reindex(house.spool, NOW) == 0
    path.write_bytes(good)
    house.push()
    assert house.carried(1) == [order_id(1)]


def test_a_damaged_group_whose_orders_are_in_a_bundle_is_put_aside_and_nothing_is_missing(
    house: House,
) -> None:
    house.take([1])
    path = house.spool.groups(KEY)[0]
    good = path.read_bytes()
    house.push()
    path.write_bytes(good[:-1])  # as if the power had failed before its removal was durable
    report = house.push()
    assert (len(report.damaged), report.missing) == (1, [])
    assert house.carried(1) == [order_id(1)]
    assert house.spool.groups(KEY) == []


def test_a_bundle_confirms_the_newest_return(house: House) -> None:
    house.take([1])
    house.push()
    unit = house.give_return([house.receipt(1), paid(1)], accepted=1)
    house.pull()
    report = house.push()
    assert [(made.sequence, made.orders) for made in report.cut] == [(2, 0)]
    carried = house.manifest(2).newest_return
    assert carried is not None
    assert carried.manifest.encode() == (unit / MANIFEST_NAME).read_bytes()
    assert carried.signature == (unit / SIGNATURE_NAME).read_text()
    assert not house.push().did_something


def test_confirming_ends_when_a_return_only_answers_the_confirmation(house: House) -> None:
    house.take([1])
    house.push()
    house.give_return([house.receipt(1), paid(1)], accepted=1)
    house.pull()
    house.push()
    house.give_return([house.receipt(2)], accepted=2)
    assert house.pull().receipts == [2]
    report = house.push()
    assert report.cut == []
    assert report.removed == ["b00000002"]


def test_an_empty_bundle_is_made_when_asked_for(house: House) -> None:
    report = house.push(empty=True)
    assert [(made.sequence, made.orders) for made in report.cut] == [(1, 0)]
    assert house.manifest(1).batch_key is None


def test_a_receipted_bundle_is_removed_from_the_drop_and_not_written_again(house: House) -> None:
    house.take([1])
    house.push()
    house.give_return([house.receipt(1)], accepted=1)
    house.pull()
    house.push()
    assert not house.unit(1).exists()
    assert house.unit(2).exists()


def test_an_old_copy_of_the_state_is_found_out_by_the_drop(house: House) -> None:
    house.take([1])
    house.push()
    house.take([2])
    house.push()
    shutil.rmtree(house.node.bundle(2))
    with house.register.transaction() as connection:
        connection.execute("DELETE FROM bundle WHERE sequence = 2")
    house.take([3])
    with pytest.raises(TransferError) as caught:
        house.push()
    assert caught.value.rule == "NODE-BEHIND"


def test_a_foreign_bundle_on_the_drop_stops_nothing(house: House) -> None:
    source = house.root / "foreign"
    source.mkdir()
    for name in (ENVELOPES_NAME, MANIFEST_NAME, SIGNATURE_NAME):
        (source / name).write_bytes(b"foreign")
    write_unit(house.drop_in, NODE, "b00000099", {path.name: path for path in source.iterdir()})
    house.take([1])
    assert house.push().written == ["b00000001"]


def test_two_pushes_at_once_are_refused(house: House) -> None:
    with house.node.alone(), pytest.raises(TransferError) as caught:
        house.push()
    assert caught.value.rule == "NODE-BUSY"


def test_a_sync_waits_as_long_as_it_is_told_for_another_to_end(house: House) -> None:
    held, waited = threading.Event(), threading.Event()

    def look() -> None:
        with house.node.alone():
            held.set()
            waited.wait(timeout=0.2)

    other = threading.Thread(target=look)
    other.start()
    held.wait()
    began = time.monotonic()
    with house.node.alone(patience=10):
        assert 0.1 < time.monotonic() - began < 5
        with pytest.raises(TransferError) as caught, house.node.alone(patience=0.1):
            pass
    other.join()
    assert caught.value.rule == "NODE-BUSY"


def test_after_the_loss_of_the_register_the_outbox_tells_what_was_sent(house: House) -> None:
    house.take([1])
    house.push()
    with house.register.transaction() as connection:
        for table in ("orders", "bundle", "fact"):
            connection.execute(f"DELETE FROM {table}")  # noqa: S608
    assert house.push().repaired == ["b00000001 recorded"]
    known = house.register.lookup(order_id(1))
    assert known is not None
    assert known.sequence == 1
    house.take([1, 2])
    house.push()
    assert house.carried(2) == [order_id(2)]


def test_a_group_behind_its_bundle_is_never_deleted(house: House) -> None:
    house.take([1])
    house.push()
    (house.spool.root / KEY.hex() / "closed").unlink()  # somebody tampers with the state
    house.take([2], key=1)
    house.spool.close(KEY)
    with pytest.raises(TransferError) as caught:
        house.push()
    assert caught.value.rule == "SPOOL-LATE"
    assert len(house.spool.groups(KEY)) == 1


def test_a_partition_beyond_what_a_bundle_may_carry_is_not_cut(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.take([1, 2, 3])
    with monkeypatch.context() as patch:
        patch.setattr("transfer.sync.contents.COUNT_LIMIT", 2)
        with pytest.raises(TransferError) as caught:
            house.push()
    assert caught.value.rule == "SPOOL-LIMIT"
    house.push()
    assert len(house.carried(1)) == 3


def test_a_group_that_is_not_as_it_was_recorded_is_read_order_by_order(house: House) -> None:
    house.take([1, 2])
    house.take([3])
    damaged = house.spool.groups(KEY)[0]
    raw = bytearray(damaged.read_bytes())
    raw[-1] ^= 1  # in the last box: the frames and headers are good
    damaged.write_bytes(raw)
    report = house.push()
    assert [(made.orders, made.repeats) for made in report.cut] == [(3, 0)]
    assert house.carried(1) == [order_id(1), order_id(2), order_id(3)]
    assert report.missing == []


def test_a_recorded_group_that_is_gone_is_missed(house: House) -> None:
    house.take([1, 2])
    house.take([3])
    house.spool.groups(KEY)[0].unlink()
    report = house.push()
    assert house.carried(1) == [order_id(3)]
    assert report.missing == [order_id(1), order_id(2)]
