"""The offline identity's handover as a node follows it: who is believed when, whatever order returns come in."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from keys.errors import RuleError
from keys.private.sign import SigningKey, generate_signing_key, sign
from keys.public.announcement import handover_message
from keys.public.fingerprint import fingerprint
from keys.public.roll import Role
from tests.transfer.house import NODE, NOW, House, batch_key_id, fixed_key
from tests.transfer.test_crash import sweep
from transfer.sync.handover import Step
from transfer.sync.status import look
from transfer.sync.trust import check_trusted, load_identities, load_roll, pin
from transfer.wire.manifest import KEYROLL_NAME
from transfer.wire.records import Handover, Reason, StatusRecord, StatusState

SECOND, THIRD, STRANGER = fixed_key(20), fixed_key(21), fixed_key(22)


def pinned(house: House) -> bytes:
    return load_identities(house.node.state).pinned


def refused(house: House, rule: str) -> None:
    before = load_identities(house.node.state)
    report = house.pull()
    assert (report.taken, [error.rule for error in report.refused]) == (None, [rule])
    assert report.refused[0].remedy or rule.startswith("ROLL-")
    assert load_identities(house.node.state) == before
    shutil.rmtree(house.drop_out / NODE)


def announce(house: House, new: SigningKey = SECOND, **changes: Any) -> Handover:
    handover = house.handover(new, **changes)
    house.give_return([handover])
    assert house.pull().handover is Step.ANNOUNCED
    return handover


def notices(house: House) -> set[str]:
    return {notice.rule for notice in look(house.node, house.register, now=NOW).notices}


def test_a_node_follows_from_the_old_identity_to_the_new(house: House) -> None:
    old = house.identity
    announce(house)
    assert pinned(house) == old.public_key
    assert "HANDOVER-PENDING" in notices(house)
    house.give_return(by=SECOND)
    report = house.pull()
    assert (report.handover, report.trusted) == (Step.COMPLETED, fingerprint(SECOND.public_key))
    assert pinned(house) == SECOND.public_key
    assert "HANDOVER-PENDING" not in notices(house)
    check_trusted(house.node.state, (house.node.state / KEYROLL_NAME).read_bytes(), node=NODE)
    house.give_return(by=old)
    refused(house, "RETURN-FORMER")


def test_the_next_bundle_carries_the_return_whoever_signed_it(house: House) -> None:
    announce(house)
    house.push()
    house.give_return([status(1)], by=SECOND)
    house.pull()
    house.push()
    first, second = house.manifest(1).newest_return, house.manifest(2).newest_return
    assert first is not None
    assert second is not None
    assert '"number":1,' in first.manifest
    assert '"number":2,' in second.manifest


def status(number: int) -> StatusRecord:
    return StatusRecord(order=f"{number:032x}", state=StatusState.PAID, reason=Reason.NONE, changed_at=NOW)


def test_while_announced_the_old_identity_is_believed_only_with_this_very_handover(house: House) -> None:
    handover = announce(house)
    house.give_return()
    refused(house, "HANDOVER-MISSING")
    house.give_return([house.handover(THIRD)])
    refused(house, "HANDOVER-CONFLICT")
    house.give_return([house.handover(SECOND, start=NOW + 1)])
    refused(house, "HANDOVER-CONFLICT")
    house.give_return([handover])
    assert house.pull().handover is Step.NONE
    house.give_return(by=SECOND)
    assert house.pull().handover is Step.COMPLETED


def test_two_handovers_in_one_return_are_refused(house: House) -> None:
    house.give_return([house.handover(SECOND), house.handover(THIRD)])
    refused(house, "HANDOVER-CONFLICT")


@pytest.mark.parametrize(
    "field", ["epoch", "start", "old_identity", "new_identity", "old_signature", "new_signature"]
)
def test_a_handover_with_one_changed_field_is_refused(house: House, field: str) -> None:
    good = house.handover(SECOND)
    changed: Any = (
        getattr(good, field) + 1 if field in ("epoch", "start") else "7" * len(getattr(good, field))
    )
    house.give_return([replace(good, **{field: changed})])
    refused(house, "HANDOVER-SIGNATURE")


def test_old_and_new_exchanged_is_refused(house: House) -> None:
    good = house.handover(SECOND)
    for exchanged in (
        replace(good, old_identity=good.new_identity, new_identity=good.old_identity),
        replace(good, old_signature=good.new_signature, new_signature=good.old_signature),
        replace(
            good,
            old_identity=good.new_identity,
            new_identity=good.old_identity,
            old_signature=good.new_signature,
            new_signature=good.old_signature,
        ),
    ):
        house.give_return([exchanged])
        refused(house, "HANDOVER-SIGNATURE")


def test_a_handover_that_only_one_of_them_signed_is_refused(house: House) -> None:
    good = house.handover(SECOND)
    message = handover_message(
        epoch=1, start=NOW, old_identity=house.identity.public_key, new_identity=SECOND.public_key
    )
    for forged in (
        replace(good, new_signature=sign(house.identity, message).hex()),
        replace(good, old_signature=sign(SECOND, message).hex()),
    ):
        house.give_return([forged])
        refused(house, "HANDOVER-SIGNATURE")


def test_a_good_handover_from_somebody_else_is_refused(house: House) -> None:
    house.give_return([house.handover(SECOND, old=STRANGER)])
    refused(house, "HANDOVER-FROM")


def test_a_handover_of_a_later_epoch_than_its_return_is_refused(house: House) -> None:
    house.give_return([house.handover(SECOND, epoch=2)])
    refused(house, "HANDOVER-EPOCH")


def test_the_new_identity_may_not_sign_before_its_time(house: House) -> None:
    announce(house, start=NOW + 10)
    house.give_return(by=SECOND, time=NOW + 9)
    refused(house, "HANDOVER-EARLY")
    house.give_return(by=SECOND, time=NOW + 10)
    assert house.pull().handover is Step.COMPLETED


def test_a_handover_is_not_taken_twice_nor_back(house: House) -> None:
    old = house.identity
    first = announce(house)
    house.give_return(by=SECOND)
    house.pull()
    house.give_return([first], by=SECOND)
    refused(house, "HANDOVER-FROM")
    house.give_return([house.handover(old, old=SECOND)], by=SECOND)
    refused(house, "HANDOVER-BACK")
    house.give_return([house.handover(THIRD, old=SECOND)], by=SECOND)
    assert house.pull().handover is Step.ANNOUNCED
    house.give_return([house.handover(old, old=THIRD)], by=THIRD)
    refused(house, "HANDOVER-BACK")


def test_the_first_return_of_the_new_identity_may_announce_the_one_after_it(house: House) -> None:
    announce(house)
    house.give_return([house.handover(THIRD, old=SECOND)], by=SECOND)
    assert house.pull().handover is Step.COMPLETED
    known = load_identities(house.node.state)
    assert (known.pinned, known.successor) == (SECOND.public_key, THIRD.public_key)
    assert known.former == {house.identity.public_key}


def test_a_roll_of_another_identity_than_the_return_s_is_refused(house: House) -> None:
    announce(house)
    house.give_return(signer=SECOND)  # the roll is the old identity's
    refused(house, "ROLL-ENTRY")


def test_an_older_roll_of_the_former_identity_on_the_disk_stays_good_until_a_newer_one_comes(
    house: House,
) -> None:
    house.roll_number = 8
    announce(house)
    in_use = load_roll(house.node.state, node=NODE).number
    house.give_return(by=SECOND, roll=house.roll(2, by=SECOND))
    house.pull()
    assert load_roll(house.node.state, node=NODE).number == in_use
    house.give_return(by=SECOND)
    house.pull()
    assert load_roll(house.node.state, node=NODE).number == in_use + 1


def test_a_revocation_of_either_identity_is_good_and_a_stranger_s_is_not(house: House) -> None:
    announce(house)
    house.give_return([house.revocation(Role.BATCH, batch_key_id(1))], by=SECOND)
    assert house.pull().revoked == 1
    stranger = house.revocation(Role.BATCH, batch_key_id(2), by=STRANGER)
    house.give_return([house.revocation(Role.BATCH, batch_key_id(3), by=SECOND), stranger], by=SECOND)
    report = house.pull()
    assert report.revoked == 1
    assert "REVOCATION-SIGNATURE" in report.findings[0]
    assert {entry.number for entry in load_roll(house.node.state, node=NODE).batch_keys} == {2, 4, 5}


def test_another_identity_in_place_of_a_compromised_one_ends_all_that_it_said(house: House) -> None:
    old = house.identity
    house.give_return(number=99_999_999)  # what a thief could sign, so that nothing newer may come
    house.pull()
    shutil.rmtree(house.drop_out / NODE)
    house.return_number = 0
    announce_to = house.handover(THIRD, old=old)
    house.identity = generate_signing_key()
    house.roll_number = 0
    place = house.enrolment()
    said = fingerprint(house.identity.public_key)
    with pytest.raises(RuleError) as caught:
        pin(house.node.state, place, node=NODE, spoken=said)
    assert caught.value.rule == "TRUST-PINNED"
    pin(house.node.state, place, node=NODE, spoken=said, replace=True)
    assert load_roll(house.node.state, node=NODE).number == 1
    assert house.node.newest_return() is None
    house.give_return([announce_to], by=old, number=100)
    refused(house, "RETURN-FORMER")
    house.give_return(number=1)
    assert house.pull().taken == "r0001-00000001"
    pin(house.node.state, place, node=NODE, spoken=said, replace=True)
    assert house.pull().taken is None


def test_taking_a_handover_survives_death_at_any_step(tmp_path: Path) -> None:
    house = House(root=tmp_path / "template", identity=fixed_key(1), node_key=fixed_key(2))
    announce(house)
    house.give_return(
        [house.handover(THIRD, old=SECOND), house.revocation(Role.BATCH, batch_key_id(1))], by=SECOND
    )
    house.close()

    def check(after: House) -> None:
        load_roll(after.node.state, node=NODE)  # at every moment there is a roll that is good
        after.pull()
        known = load_identities(after.node.state)
        assert (known.pinned, known.successor) == (SECOND.public_key, THIRD.public_key)
        assert known.former == {fixed_key(1).public_key}
        roll = load_roll(after.node.state, node=NODE)
        assert roll.number == 3
        assert 1 not in {entry.number for entry in roll.batch_keys}
        assert after.pull().taken is None

    assert sweep(tmp_path / "template", tmp_path, House.pull, check) > 20


def test_replacing_an_identity_survives_death_at_any_step(tmp_path: Path) -> None:
    template = House(root=tmp_path / "template", identity=fixed_key(1), node_key=fixed_key(2))
    announce(template)
    template.identity = THIRD
    template.roll_number = 0
    place = template.enrolment()
    template.close()

    def replace_it(house: House) -> None:
        said = fingerprint(THIRD.public_key)
        pin(house.node.state, house.root / place.name, node=NODE, spoken=said, replace=True)

    def check(house: House) -> None:
        replace_it(house)
        known = load_identities(house.node.state)
        assert (known.pinned, known.announced) == (THIRD.public_key, None)
        assert known.former == {fixed_key(1).public_key, SECOND.public_key}
        assert load_roll(house.node.state, node=NODE).number == 1

    assert sweep(tmp_path / "template", tmp_path, replace_it, check) > 10


class FollowingNode(RuleBasedStateMachine):
    """Returns in any order, again and again, by anybody; what is believed is what the model believes."""

    PEOPLE = (fixed_key(1), SECOND, THIRD, STRANGER)

    @initialize()
    def begin(self) -> None:
        self.place = tempfile.mkdtemp()
        self.house = House(root=Path(self.place) / "house", identity=fixed_key(1), node_key=fixed_key(2))
        self.trusted = 0
        self.announced: tuple[int, int] | None = None
        self.former: set[int] = set()
        self.taken = 0
        self.made: list[tuple[Path, int, int, tuple[int, int] | None]] = []

    def teardown(self) -> None:
        if hasattr(self, "house"):
            self.house.close()
            shutil.rmtree(self.place)

    @rule(
        signer=st.integers(0, 3),
        handover=st.none()
        | st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(lambda pair: pair[0] != pair[1]),
        number=st.integers(1, 30),
    )
    def offer(self, signer: int, handover: tuple[int, int] | None, number: int) -> None:
        """The medium brings one return; it may be one of any number, by anybody."""
        people = self.PEOPLE
        self.house.rolls.clear()
        records = [self.house.handover(people[handover[1]], old=people[handover[0]])] if handover else []
        if (self.house.drop_out / NODE).exists():
            shutil.rmtree(self.house.drop_out / NODE)
        self.house.roll_number = 100 * number + signer
        unit = self.house.give_return(records, by=people[signer], number=number)
        kept = Path(self.place) / f"kept-{len(self.made)}"
        shutil.copytree(unit, kept)
        self.made.append((kept, signer, number, handover))
        self.judge(signer, number, handover)

    @precondition(lambda self: self.made)
    @rule(which=st.integers(0, 1000))
    def replay(self, which: int) -> None:
        """The medium brings an old return again."""
        kept, signer, number, handover = self.made[which % len(self.made)]
        if (self.house.drop_out / NODE).exists():
            shutil.rmtree(self.house.drop_out / NODE)
        shutil.copytree(kept, self.house.drop_out / NODE / f"r0001-{number:08d}")
        self.judge(signer, number, handover)

    def judge(self, signer: int, number: int, handover: tuple[int, int] | None) -> None:
        report = self.house.pull()
        expected = number > self.taken and self.believes(signer, handover)
        assert (report.taken is not None) == expected, [error.rule for error in report.refused]
        if not expected:
            assert number <= self.taken or report.refused
            return
        self.taken = number
        if self.announced is not None and signer == self.announced[1]:
            self.former.add(self.trusted)
            self.trusted, self.announced = signer, None
        if handover:
            self.announced = handover

    def believes(self, signer: int, handover: tuple[int, int] | None) -> bool:
        if self.announced and signer == self.trusted:
            return handover == self.announced
        if signer != self.trusted and (not self.announced or signer != self.announced[1]):
            return False
        former = self.former | ({self.trusted} if signer != self.trusted else set())
        return handover is None or (handover[0] == signer and handover[1] not in former)

    @invariant()
    def trust_is_the_model_s(self) -> None:
        if not hasattr(self, "house"):
            return
        known = load_identities(self.house.node.state)
        assert known.pinned == self.PEOPLE[self.trusted].public_key
        assert known.successor == (self.PEOPLE[self.announced[1]].public_key if self.announced else None)
        assert known.former == {self.PEOPLE[person].public_key for person in self.former}
        load_roll(self.house.node.state, node=NODE)


TestFollowingNode = FollowingNode.TestCase
TestFollowingNode.settings = settings(
    max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
