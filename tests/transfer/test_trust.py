"""Trust: one identity, pinned by what people compared, and rolls that only go forward."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from keys.errors import RuleError
from keys.private.sign import generate_signing_key, sign_file
from keys.public.fingerprint import fingerprint
from keys.public.roll import ROLL_COMMENT, Role, encode_roll
from tests.transfer.house import NODE, House
from transfer.sync.trust import RollChange, accept_roll, load, load_identity, pin


def pin_again(house: House, *, spoken: str | None = None, node: str = NODE) -> None:
    said = fingerprint(house.identity.public_key) if spoken is None else spoken
    pin(house.node.state, house.root / "enrolment", node=node, spoken=said)


def refused(rule: str, house: House, **how: str) -> None:
    with pytest.raises(RuleError) as caught:
        pin_again(house, **how)
    assert caught.value.rule == rule


def test_the_pinned_identity_and_its_roll_are_loaded(house: House) -> None:
    trust = load(house.node.state, node=NODE)
    assert trust.identity.public_key == house.identity.public_key
    assert trust.fingerprint == fingerprint(house.identity.public_key)
    assert len(trust.roll.batch_keys) == 5


def test_pinning_again_changes_nothing(house: House) -> None:
    pin_again(house, spoken=fingerprint(house.identity.public_key).upper().replace("-", " "))


def test_another_fingerprint_is_refused(house: House) -> None:
    refused("TRUST-FINGERPRINT", house, spoken=fingerprint(house.node_key.public_key))
    refused("TRUST-FINGERPRINT", house, spoken="")


def test_a_pinned_identity_is_never_exchanged(house: House) -> None:
    pinned = house.identity
    house.identity = generate_signing_key()
    house.enrolment()
    refused("TRUST-PINNED", house)
    assert load_identity(house.node.state).public_key == pinned.public_key


def test_a_roll_that_the_identity_did_not_sign_is_refused(house: House) -> None:
    place = house.root / "enrolment" / "keyroll.json"
    place.with_name("keyroll.json.minisig").write_text(
        sign_file(house.node_key, place.read_bytes(), ROLL_COMMENT)
    )
    refused("TRUST-ROLL", house)


def test_a_roll_signature_with_another_comment_is_refused(house: House) -> None:
    place = house.root / "enrolment" / "keyroll.json"
    place.with_name("keyroll.json.minisig").write_text(
        sign_file(house.identity, place.read_bytes(), "sealed-orders v1 return")
    )
    refused("TRUST-ROLL", house)


def test_a_roll_for_another_node_is_refused(house: House) -> None:
    refused("ROLL-NODE", house, node="shop-b")


def test_missing_files_are_refused(house: House) -> None:
    (house.root / "enrolment" / "keyroll.json").unlink()
    refused("TRUST-FILES", house)


def test_before_trust_there_is_none(house: House) -> None:
    (house.node.state / "trusted.pub").unlink()
    with pytest.raises(RuleError) as caught:
        load(house.node.state, node=NODE)
    assert caught.value.rule == "TRUST-NONE"


def test_only_a_newer_roll_replaces_the_one_in_use(house: House) -> None:
    def offer(number: int, epoch: int = 1) -> RollChange:
        return accept_roll(house.node.state, encode_roll(house.roll(number, epoch=epoch)), node=NODE)

    def in_use() -> tuple[int, int]:
        roll = load(house.node.state, node=NODE).roll
        return roll.epoch, roll.number

    assert offer(3) is RollChange.NEWER
    assert offer(3) is RollChange.SAME
    assert offer(2) is RollChange.OLDER
    assert in_use() == (1, 3)
    assert offer(1, epoch=2) is RollChange.NEWER
    assert offer(9, epoch=1) is RollChange.OLDER
    assert in_use() == (2, 1)


def test_one_number_with_two_contents_is_a_fork(house: House) -> None:
    with pytest.raises(RuleError) as caught:
        accept_roll(house.node.state, encode_roll(house.roll(1, issued_at=5)), node=NODE)
    assert caught.value.rule == "ROLL-FORK"


def test_an_entry_with_a_changed_field_is_refused(house: House) -> None:
    entry = house.entry(Role.BATCH, 1)
    for changed in (
        replace(entry, seal_until=entry.seal_until + 1),
        replace(entry, destroy_at=entry.destroy_at + 1),
        replace(entry, number=2),
        replace(entry, public_key="00" * 32),
        replace(entry, role=Role.ORDER),
        replace(entry, node="shop-b"),
    ):
        raw = encode_roll(house.roll(8, batch_keys=[changed]))
        with pytest.raises(RuleError) as caught:
            accept_roll(house.node.state, raw, node=NODE)
        assert caught.value.rule == "ROLL-ENTRY"
