"""Media cross, get lost, come twice and out of order: what is not answered is carried until it is, and only that."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from keys.private.sign import sign_file
from tests.transfer.house import NODE, NOW, House, order_id
from transfer.sync.outbound import Push
from transfer.sync.push_report import PushReport
from transfer.sync.trust import load_roll
from transfer.wire.manifest import BUNDLE_COMMENT, bundle_name
from transfer.wire.records import Outcome, Reason, StatusRecord, StatusState

DAY = 86_400


def paid(number: int) -> StatusRecord:
    return StatusRecord(order=order_id(number), state=StatusState.PAID, reason=Reason.NONE, changed_at=NOW)


def carry_away(drop: Path, to: Path) -> Path:
    """The medium is taken out; an empty one is put in."""
    drop.rename(to)
    drop.mkdir()
    return to


def put_in(medium: Path, drop: Path) -> None:
    shutil.rmtree(drop)
    shutil.copytree(medium, drop)


def names(medium: Path) -> list[str]:
    return sorted(path.name for path in (medium / NODE).iterdir())


def test_two_media_in_flight_hold_all_that_is_unanswered(house: House, tmp_path: Path) -> None:
    house.take([1])
    house.push()
    first = carry_away(house.drop_in, tmp_path / "stick-1")
    house.take([2])
    house.push()
    second = carry_away(house.drop_in, tmp_path / "stick-2")
    assert (names(first), names(second)) == (["b00000001"], ["b00000001", "b00000002"])
    # Only the first arrived; its answer makes nothing of the second unnecessary.
    house.give_return([house.receipt(1), paid(1)], accepted=1)
    house.pull()
    put_in(first, house.drop_in)
    report = house.push()
    assert report.removed == ["b00000001"]
    assert "b00000002" in report.written
    assert order_id(2) in house.carried(2)


def test_a_lost_bundle_medium_is_replaced_by_the_next_push(house: House, tmp_path: Path) -> None:
    house.take([1, 2])
    house.push()
    lost = carry_away(house.drop_in, tmp_path / "lost")
    before = {path.name: path.read_bytes() for path in (lost / NODE / "b00000001").iterdir()}
    shutil.rmtree(lost)
    house.take([3])
    assert house.push().written == ["b00000001", "b00000002"]
    assert {path.name: path.read_bytes() for path in house.unit(1).iterdir()} == before


def test_a_lost_return_costs_nothing_because_the_next_one_says_it_all(house: House) -> None:
    house.take([1])
    house.push()
    shutil.rmtree(house.give_return([house.receipt(1), paid(1)], accepted=1))
    house.give_return([house.receipt(1), paid(1)], accepted=1)
    report = house.pull()
    assert (report.taken, report.receipts, report.statuses) == ("r0001-00000002", [1], 1)


def test_both_media_lost_leave_every_order_to_be_carried_again(house: House, tmp_path: Path) -> None:
    house.take([1, 2])
    house.push()
    shutil.rmtree(carry_away(house.drop_in, tmp_path / "lost"))
    shutil.rmtree(house.give_return([]))
    assert house.push().written == ["b00000001"]
    assert house.carried(1) == [order_id(1), order_id(2)]
    assert house.register.waiting() == 0


def test_returns_that_come_out_of_order_never_take_anything_back(house: House, tmp_path: Path) -> None:
    house.take([1])
    house.push()
    held = StatusRecord(order=order_id(1), state=StatusState.HELD, reason=Reason.UNDER_REVIEW, changed_at=NOW)
    old = house.give_return([held])
    shutil.move(old, tmp_path / "late")
    house.give_return([house.receipt(1), paid(1)], accepted=1)
    assert house.pull().taken == "r0001-00000002"
    shutil.move(tmp_path / "late", old)
    assert house.pull().taken is None
    known = house.register.lookup(order_id(1))
    assert known is not None
    assert known.status == "paid"


def test_a_resend_after_the_key_was_destroyed_ends_in_order_again_and_a_receipt(house: House) -> None:
    house.take([1])
    house.push()
    again = StatusRecord(
        order=order_id(1), state=StatusState.ORDER_AGAIN, reason=Reason.EXPIRED, changed_at=NOW
    )
    house.give_return([house.receipt(1, outcome=Outcome.EXPIRED), again], accepted=1)
    assert house.pull().receipts == [1]
    assert not (house.node.bundle(1) / "envelopes.bin").exists()
    assert house.push().removed == ["b00000001"]


def test_a_medium_that_comes_back_from_the_offline_side_unread_is_completed(
    house: House, tmp_path: Path
) -> None:
    house.take([1])
    house.push()
    stick = carry_away(house.drop_in, tmp_path / "stick")
    (stick / NODE / "b00000001" / "envelopes.bin").write_bytes(b"torn")
    put_in(stick, house.drop_in)
    assert house.push().written == ["b00000001"]


def test_a_rotten_outbox_never_replaces_a_good_copy_and_is_never_signed_for(
    house: House, tmp_path: Path
) -> None:
    house.take([1], key=1)
    house.take([2], key=2)
    house.push()
    envelopes = house.node.bundle(1) / "envelopes.bin"
    good = envelopes.read_bytes()
    envelopes.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert house.push().already_there == ["b00000001", "b00000002"]
    assert (house.unit(1) / "envelopes.bin").read_bytes() == good
    carry_away(house.drop_in, tmp_path / "lost")
    report = house.push()
    assert [error.rule for error in report.refused] == ["OUTBOX-DAMAGED"]
    assert report.written == ["b00000002"]
    assert not (house.unit(1) / "manifest.json.minisig").exists()


@pytest.mark.parametrize("days", [3, 4])
def test_an_idle_node_shows_that_it_lives(house: House, days: int) -> None:
    house.take([1])
    house.push()
    house.give_return([house.receipt(1), paid(1)], accepted=1)
    house.pull()
    house.push()  # confirms the return
    house.give_return([house.receipt(2)], accepted=2)
    house.pull()
    report = push_with_sign_of_life(house, NOW + days * DAY)
    assert [made.orders for made in report.cut] == ([] if days < 3.5 else [0])
    # While nobody answers, one is enough.
    assert push_with_sign_of_life(house, NOW + 40 * DAY).cut == [] or days < 3.5
    assert bundle_name(3) in names(house.drop_in)


def push_with_sign_of_life(house: House, now: int) -> PushReport:
    with house.node.alone():
        return Push(
            node=house.node,
            register=house.register,
            spool=house.spool,
            roll=load_roll(house.node.state, node=NODE),
            sign=lambda manifest: sign_file(house.node_key, manifest, BUNDLE_COMMENT),
            now=now,
            sign_of_life=7 * DAY // 2,
        ).run(house.drop_in)
