"""Pull: nothing of a return is used before all of it was verified, and taking it twice is taking it once."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from msgspec.structs import replace

from keys.errors import RuleError
from keys.private.sign import generate_signing_key
from keys.public.roll import Role
from tests.transfer.house import NODE, NOW, House, batch_key_id, order_id
from transfer.errors import TransferError
from transfer.sync.fetching import LOOKED_AT
from transfer.sync.trust import RollChange, load_roll
from transfer.wire.manifest import (
    ENVELOPES_NAME,
    KEYROLL_NAME,
    MANIFEST_NAME,
    RECORDS_NAME,
    SIGNATURE_NAME,
    return_name,
)
from transfer.wire.records import (
    Outcome,
    Reason,
    Refusal,
    RefusalRule,
    StatusRecord,
    StatusState,
    SubjectAnswer,
    SubjectState,
    encode_record,
)


def status(number: int, state: StatusState = StatusState.PAID, changed_at: int = NOW) -> StatusRecord:
    return StatusRecord(order=order_id(number), state=state, reason=Reason.NONE, changed_at=changed_at)


def shown(house: House, number: int) -> str:
    known = house.register.lookup(order_id(number))
    assert known is not None
    return known.status


@pytest.fixture
def sent(house: House) -> House:
    """A house with bundle 1, of orders 1 and 2, on its way."""
    house.take([1, 2])
    house.push()
    return house


def refused(house: House, rule: str) -> None:
    report = house.pull()
    assert [error.rule for error in report.refused] == [rule]
    assert report.taken is None
    assert house.node.newest_return() is None
    assert shown(house, 1) == "in-transit"
    assert load_roll(house.node.state, node=NODE).number == 1
    assert (house.node.bundle(1) / ENVELOPES_NAME).exists()


def test_a_return_brings_statuses_receipt_and_keys(sent: House) -> None:
    sent.give_return([sent.receipt(1), status(1), status(2, StatusState.DECLINED)], accepted=1)
    report = sent.pull()
    assert (report.taken, report.statuses, report.receipts) == ("r0001-00000001", 2, [1])
    assert report.roll is RollChange.NEWER
    assert (shown(sent, 1), shown(sent, 2)) == ("paid", "declined")
    assert load_roll(sent.node.state, node=NODE).number == 2
    assert not (sent.node.bundle(1) / ENVELOPES_NAME).exists()
    assert (sent.node.bundle(1) / MANIFEST_NAME).exists()
    row = sent.register.bundle(1)
    assert row is not None
    assert row.outcome == "processed"


def test_the_same_return_is_taken_once(sent: House) -> None:
    sent.give_return([sent.receipt(1), status(1)], accepted=1)
    sent.pull()
    report = sent.pull()
    assert (report.taken, report.refused) == (None, [])


def test_only_the_newest_return_is_taken_because_it_says_all(sent: House) -> None:
    sent.give_return([status(1, StatusState.HELD)], accepted=1)
    sent.give_return([status(1)], accepted=1)
    assert sent.pull().taken == "r0001-00000002"
    assert shown(sent, 1) == "paid"
    assert [path.name for path in sent.node.returns.iterdir()] == ["r0001-00000002"]


def test_a_higher_epoch_beats_a_higher_number(sent: House) -> None:
    sent.give_return([], accepted=0)
    sent.give_return([status(1)], epoch=2, number=1, roll=sent.roll(1, epoch=2))
    assert sent.pull().taken == "r0002-00000001"


def test_when_the_newest_is_bad_the_next_good_one_is_taken_and_the_bad_one_named(sent: House) -> None:
    sent.give_return([status(1)], accepted=1)
    sent.give_return([status(1, StatusState.HELD)], accepted=1, signer=generate_signing_key())
    report = sent.pull()
    assert report.taken == "r0001-00000001"
    assert [error.rule for error in report.refused] == ["RETURN-SIGNATURE"]
    assert shown(sent, 1) == "paid"


def test_a_stranger_s_signature_is_refused(sent: House) -> None:
    sent.give_return([status(1)], signer=generate_signing_key())
    refused(sent, "RETURN-SIGNATURE")


def test_a_signature_for_another_kind_of_file_is_refused(sent: House) -> None:
    sent.give_return([status(1)], comment="sealed-orders v1 key-roll")
    refused(sent, "RETURN-SIGNATURE")


def test_a_return_for_another_node_is_refused(sent: House) -> None:
    sent.give_return([status(1)], node="shop-b")
    refused(sent, "RETURN-NODE")


def test_a_return_under_another_name_is_refused(sent: House) -> None:
    sent.give_return([status(1)], name="r0001-00000007")
    refused(sent, "RETURN-FORMAT")


def test_a_renamed_old_return_is_refused(sent: House) -> None:
    sent.give_return([status(1, StatusState.HELD)], accepted=1)
    sent.give_return([status(1)], accepted=1)
    sent.pull()
    place = sent.drop_out / NODE
    shutil.copytree(place / "r0001-00000001", place / "r0001-00000009")
    report = sent.pull()
    assert [error.rule for error in report.refused] == ["RETURN-OLD"]
    assert shown(sent, 1) == "paid"


def test_a_return_that_knows_more_bundles_than_this_state_is_refused(sent: House) -> None:
    sent.give_return([status(1)], accepted=2)
    refused(sent, "NODE-BEHIND")


@pytest.mark.parametrize("name", [KEYROLL_NAME, RECORDS_NAME])
def test_any_changed_byte_is_refused(sent: House, name: str) -> None:
    unit = sent.give_return([status(1)])
    content = bytearray((unit / name).read_bytes())
    content[len(content) // 2] ^= 1
    (unit / name).write_bytes(content)
    refused(sent, "RETURN-DAMAGED")


def test_a_longer_file_than_signed_is_not_even_copied(sent: House) -> None:
    unit = sent.give_return([status(1)])
    with (unit / RECORDS_NAME).open("ab") as file:
        file.write(b"x")
    refused(sent, "RETURN-FORMAT")


def test_a_shorter_file_than_signed_is_refused(sent: House) -> None:
    unit = sent.give_return([status(1)])
    (unit / RECORDS_NAME).write_bytes((unit / RECORDS_NAME).read_bytes()[:-1])
    refused(sent, "RETURN-DAMAGED")


@pytest.mark.parametrize(
    "line",
    [
        b"{}\n",
        b'{"kind":"note","text":"hello"}\n',
        encode_record(status(2))[:-2] + b',"name":"A. Customer"}\n',
        encode_record(status(2)).replace(b'"paid"', b'"refunded-in-full"'),
        encode_record(status(2)).replace(b":", b": "),
        b"x" * 2000 + b"\n",
        encode_record(status(2))[:-1],
    ],
)
def test_a_record_outside_the_schema_refuses_the_return_even_if_signed(sent: House, line: bytes) -> None:
    sent.give_return([status(1), line])
    refused(sent, "RETURN-FORMAT")


def test_a_wrong_number_of_records_is_refused(sent: House) -> None:
    sent.give_return([status(1)], records=2)
    refused(sent, "RETURN-FORMAT")


def test_a_key_roll_with_a_foreign_entry_refuses_the_return(sent: House) -> None:
    stranger = House(root=sent.root / "stranger")
    sent.give_return([status(1)], roll=sent.roll(2, batch_keys=[stranger.entry(Role.BATCH, 1)]))
    stranger.close()
    refused(sent, "ROLL-ENTRY")


def test_a_key_roll_of_the_same_number_with_other_keys_stops_the_pull(sent: House) -> None:
    sent.give_return([status(1)], roll=sent.roll(1, first=9))
    with pytest.raises(RuleError) as caught:
        sent.pull()
    assert caught.value.rule == "ROLL-FORK"
    assert shown(sent, 1) == "in-transit"


def test_a_link_in_a_return_is_refused(sent: House) -> None:
    unit = sent.give_return([status(1)])
    (unit / RECORDS_NAME).unlink()
    (unit / RECORDS_NAME).symlink_to("/etc/passwd")
    refused(sent, "RETURN-FORMAT")


def test_a_receipt_for_another_bundle_of_that_number_deletes_nothing(sent: House) -> None:
    for receipt in (
        sent.receipt(1, manifest="00" * 32),
        sent.receipt(1, orders=3),
        sent.receipt(1, sequence=7),
    ):
        sent.give_return([receipt], accepted=1)
        report = sent.pull()
        assert len(report.findings) == 1
        assert report.receipts == []
        assert (sent.node.bundle(1) / ENVELOPES_NAME).exists()


def test_a_refusal_is_told_to_a_person(sent: House) -> None:
    sent.give_return([Refusal(rule=RefusalRule.SEQUENCE, expected=1, seen_at=NOW)])
    assert "BUNDLE-SEQUENCE" in sent.pull().findings[0]


def test_a_signed_revocation_closes_the_key_and_an_unsigned_one_does_not(sent: House) -> None:
    key = batch_key_id(3)
    good = sent.revocation(Role.BATCH, key)
    sent.give_return([good, replace(good, key=batch_key_id(4).hex())])
    report = sent.pull()
    assert report.revoked == 1
    assert [finding.partition(":")[0] for finding in report.findings] == ["REVOCATION-SIGNATURE"]
    assert sent.spool.open_group(key) is None
    assert sent.spool.open_group(batch_key_id(4)) is not None


def test_the_answer_to_a_subject_request_is_counted(sent: House) -> None:
    sent.give_return([SubjectAnswer(request=order_id(1), state=SubjectState.DONE, changed_at=NOW)])
    report = sent.pull()
    assert (report.subject_answers, report.findings) == (1, [])


def test_statuses_of_many_orders_are_taken_in_chunks(house: House) -> None:
    house.take(range(1300))
    house.push()
    house.give_return([status(number) for number in range(1300)], accepted=1)
    assert house.pull().statuses == 1300
    assert {shown(house, number) for number in (0, 499, 500, 1299)} == {"paid"}


def test_an_interrupted_pull_goes_on_from_its_own_copy(sent: House, monkeypatch: pytest.MonkeyPatch) -> None:
    sent.give_return([sent.receipt(1), status(1)], accepted=1)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("transfer.sync.inbound.Pull._mark_taken", dies)
        with pytest.raises(KeyboardInterrupt):
            sent.pull()
    shutil.rmtree(sent.drop_out / NODE)
    assert sent.pull().taken == "r0001-00000001"
    assert shown(sent, 1) == "paid"
    assert list(sent.node.incoming.parent.glob("incoming/*")) == []


def test_an_older_roll_in_a_newer_return_leaves_the_roll_and_takes_the_statuses(sent: House) -> None:
    sent.roll_number = 5
    sent.enrolment()
    sent.give_return([], roll=sent.roll(5))
    sent.pull()
    sent.give_return([status(1)], roll=sent.roll(4))
    report = sent.pull()
    assert report.roll is RollChange.OLDER
    assert shown(sent, 1) == "paid"
    assert load_roll(sent.node.state, node=NODE).number == 5


def test_a_missing_drop_is_said(house: House) -> None:
    house.drop_out.rmdir()
    with pytest.raises(TransferError) as caught:
        house.pull()
    assert caught.value.rule == "MEDIUM-NONE"


def test_an_expired_bundle_is_settled_as_such(sent: House, tmp_path: Path) -> None:
    sent.give_return(
        [sent.receipt(1, outcome=Outcome.EXPIRED), status(1, StatusState.ORDER_AGAIN)], accepted=1
    )
    sent.pull()
    row = sent.register.bundle(1)
    assert row is not None
    assert row.outcome == "expired"
    assert shown(sent, 1) == "order-again"


def test_a_spent_partition_is_kept_until_no_worker_can_choose_its_key(sent: House) -> None:
    directory = sent.spool.root / batch_key_id(1).hex()
    sent.give_return([sent.receipt(1), status(1), status(2)], accepted=1, roll=sent.roll(2, first=2))
    sent.pull()
    assert directory.exists()
    assert sent.spool.open_group(batch_key_id(1)) is None
    sent.give_return([], accepted=1, roll=sent.roll(3, first=2))
    sent.pull()
    assert not directory.exists()


def test_a_partition_with_orders_is_never_pruned(house: House) -> None:
    house.take([1], key=1)
    house.spool.close(batch_key_id(1))
    assert house.spool.prune(set()) == 0
    house.spool.close(batch_key_id(2))
    assert house.spool.prune({batch_key_id(2)}) == 0
    assert house.spool.prune(set()) == 1
    assert len(house.spool.groups(batch_key_id(1))) == 1


@pytest.mark.parametrize("left", [0, 10, 40, 130, -1])
def test_a_torn_signature_is_refused_and_called_incomplete(house: House, left: int) -> None:
    unit = house.give_return([])
    whole = (unit / SIGNATURE_NAME).read_bytes()
    (unit / SIGNATURE_NAME).write_bytes(whole[:left])
    [refused] = house.pull().refused
    assert refused.rule == "RETURN-SIGNATURE"
    assert "not complete" in refused.message
    assert "writes it again" in refused.remedy
    (unit / SIGNATURE_NAME).write_bytes(whole[:left] + bytes(len(whole) - len(whole[:left])))
    assert "not complete" in house.pull().refused[0].message
    (unit / SIGNATURE_NAME).write_bytes(whole)
    assert house.pull().taken == unit.name


def test_a_whole_signature_of_a_stranger_is_not_called_incomplete(house: House) -> None:
    house.give_return([], signer=generate_signing_key())
    [refused] = house.pull().refused
    assert "not signed by the offline identity" in refused.message


def forge(house: House, names: Iterable[int]) -> None:
    """Returns that nobody signed, each with the number of a key that this node trusts."""
    unit = house.give_return([])
    signature = (unit / SIGNATURE_NAME).read_bytes()
    for number in names:
        forged = unit.with_name(return_name(1, number))
        forged.mkdir()
        (forged / MANIFEST_NAME).write_bytes(b"{}")
        (forged / SIGNATURE_NAME).write_bytes(signature)
    shutil.rmtree(unit)


def test_a_crowd_of_forged_returns_costs_a_bounded_time_and_hides_no_genuine_one(house: House) -> None:
    forge(house, range(1_000, 1_000 + 4 * LOOKED_AT))
    unit = house.give_return([])
    report = house.pull()
    assert report.taken == unit.name
    assert report.refused[0].rule == "RETURN-CROWD"
    assert f"{2 * LOOKED_AT + 1} of them were not even looked at" in report.refused[0].message


def test_of_a_crowd_the_newest_genuine_return_is_taken(house: House) -> None:
    forge(house, range(1_000, 1_000 + 4 * LOOKED_AT))
    house.give_return([])
    house.return_number = 9_999
    unit = house.give_return([])
    assert house.pull().taken == unit.name
