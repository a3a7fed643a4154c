"""Returns: nothing but records of the schema, cumulative until confirmed, in the ledger before they leave."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from keys.public.minisign import MinisignPublicKey, signature_matches
from keys.public.roll import KeyRoll, decode_roll
from offline_processor.batch import run
from offline_processor.reporting import BATCH_KEYS_KEPT
from tests.offline_processor.shop import DECLINED_CARD, LOST_ANSWER_CARD, Shop, id_of, next_bundle
from tests.offline_processor.simulated import SimulatedAcquirer
from transfer.wire.manifest import (
    KEYROLL_NAME,
    MANIFEST_NAME,
    NO_PREVIOUS,
    RECORDS_NAME,
    RETURN_COMMENT,
    SIGNATURE_NAME,
    ReturnManifest,
    decode_return_manifest,
    return_manifest_digest,
)
from transfer.wire.records import Reason, Receipt, StatusRecord, StatusState, encode_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MEMBERS = {
    "receipt": {"kind", "manifest", "orders", "outcome", "sequence", "settled_at"},
    "status": {"kind", "changed_at", "order", "reason", "state"},
    "refusal": {"kind", "expected", "rule", "seen_at"},
}


def manifest_of(shop: Shop) -> ReturnManifest:
    return decode_return_manifest((shop.newest_return() / MANIFEST_NAME).read_bytes())


def roll_of(shop: Shop) -> KeyRoll:
    raw = (shop.newest_return() / KEYROLL_NAME).read_bytes()
    return decode_roll(raw, node=shop.node, identity=shop.keystore.identity.public_key)


def identity_of(shop: Shop) -> MinisignPublicKey:
    return MinisignPublicKey(public_key=shop.keystore.identity.public_key)


# What is in it


def test_return_holds_records_of_the_schema_and_nothing_else(shop: Shop) -> None:
    next_bundle(shop, 0, 1)
    shop.run()
    next_bundle(shop, 2, 3, pan=LOST_ANSWER_CARD)
    (next_bundle(shop, 4) / "strange").touch()
    shop.run_later()
    unit = shop.newest_return()
    assert sorted(file.name for file in unit.iterdir()) == sorted(
        [KEYROLL_NAME, RECORDS_NAME, MANIFEST_NAME, SIGNATURE_NAME]
    )
    raw = (unit / RECORDS_NAME).read_bytes()
    lines = [json.loads(line) for line in raw.splitlines()]
    assert {line["kind"] for line in lines} == set(MEMBERS)
    for line in lines:
        assert set(line) == MEMBERS[line["kind"]]
    assert raw == b"".join(encode_record(record) for record in shop.records())
    known = {order for (order,) in shop.rows("SELECT order_id FROM orders")}
    assert {line["order"] for line in lines if line["kind"] == "status"} == known
    manifests = {digest for (digest,) in shop.rows("SELECT manifest FROM bundle")}
    assert {line["manifest"] for line in lines if line["kind"] == "receipt"} == manifests


def test_return_tells_no_amount_card_or_name(shop: Shop) -> None:
    next_bundle(shop, 0, pan=DECLINED_CARD)
    shop.run()
    content = b"".join(file.read_bytes() for file in shop.newest_return().iterdir())
    for private in ("Åsa", "example.org", "Storgatan", "400000*", "*0002", "DE39 05", "LP-0000"):
        assert private.encode() not in content


def test_order_that_waits_for_its_charge_is_not_told(shop: Shop) -> None:
    def refuse(total: object) -> None:
        raise KeyError(total)

    next_bundle(shop, 0)
    shop.confirm = refuse
    with pytest.raises(KeyError):
        shop.run()
    assert list(shop.drop_out.iterdir()) == []
    shop.confirm = lambda total: None
    shop.run_later()
    assert shop.told(0) == ("paid", "none")


# Signature, digests, chain


def test_manifest_is_signed_by_the_offline_identity(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    raw = (shop.newest_return() / MANIFEST_NAME).read_bytes()
    signature = (shop.newest_return() / SIGNATURE_NAME).read_text()
    assert signature_matches(identity_of(shop), raw, signature, RETURN_COMMENT)
    assert not signature_matches(identity_of(shop), raw + b" ", signature, RETURN_COMMENT)


def test_plain_minisign_verifies_a_return(shop: Shop, tool: Callable[[str], Path]) -> None:
    next_bundle(shop, 0)
    shop.run()
    public_key = shop.root / "identity.pub"
    public_key.write_text(identity_of(shop).encode())
    subprocess.run(
        [tool("minisign"), "-V", "-p", public_key, "-m", shop.newest_return() / MANIFEST_NAME],
        check=True,
        capture_output=True,
    )


def test_manifest_names_the_files_beside_it(shop: Shop) -> None:
    next_bundle(shop, 0, 1)
    shop.run()
    manifest = manifest_of(shop)
    records = (shop.newest_return() / RECORDS_NAME).read_bytes()
    roll = (shop.newest_return() / KEYROLL_NAME).read_bytes()
    assert manifest.records_sha256 == hashlib.sha256(records).hexdigest()
    assert (manifest.records, manifest.records_size) == (3, len(records))
    assert manifest.keyroll_sha256 == hashlib.sha256(roll).hexdigest()
    assert (manifest.node, manifest.epoch, manifest.number, manifest.accepted) == ("shop-a", 1, 1, 1)


def test_each_return_names_the_one_before(shop: Shop) -> None:
    previous = NO_PREVIOUS
    for number in range(1, 4):
        next_bundle(shop, number)
        shop.run_later()
        raw = (shop.newest_return() / MANIFEST_NAME).read_bytes()
        manifest = manifest_of(shop)
        assert (manifest.number, manifest.prev, manifest.accepted) == (number, previous, number)
        previous = return_manifest_digest(raw)


def test_number_and_digest_are_in_the_ledger_before_the_drop_has_the_return(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.drop_out.write_text("no directory")
    with shop.ledger() as ledger:
        report = run(shop.workplace(ledger, SimulatedAcquirer(shop.books)))
    assert [error.rule for error in report.refused] == ["MEDIUM-NONE"]
    recorded = shop.rows("SELECT number, manifest FROM return_made")
    assert [number for number, _ in recorded] == [1]
    shop.drop_out.unlink()
    shop.run_later()
    raw = (shop.newest_return() / MANIFEST_NAME).read_bytes()
    assert [(1, return_manifest_digest(raw))] == recorded
    assert shop.rows("SELECT number, manifest FROM return_made") == recorded


# Keys in it


def test_return_refills_the_keys_and_offers_no_used_one(shop: Shop) -> None:
    used = shop.keys_for()
    next_bundle(shop, 0)
    shop.run()
    roll = roll_of(shop)
    assert len(roll.batch_keys) == BATCH_KEYS_KEPT
    assert used.batch_key_id not in {entry.key_id for entry in roll.batch_keys}
    assert [entry.key_id for entry in roll.order_keys] == [used.order_key_id]
    keys = [entry.number for entry in roll.batch_keys]
    assert keys == sorted(keys)
    next_bundle(shop, 1)
    shop.run_later()
    assert roll_of(shop).number == roll.number + 1


# Cumulative until confirmed


def test_everything_not_confirmed_is_in_every_return(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    first = shop.records()
    next_bundle(shop, 1)
    shop.run_later()
    assert [record for record in first if record not in shop.records()] == []
    assert len(shop.records()) == 2 * len(first)


def test_only_what_is_confirmed_is_left_out(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    first = shop.confirmation()
    next_bundle(shop, 1)
    shop.run_later()
    next_bundle(shop, 2, newest_return=first)  # the node has not seen the second return
    shop.run_later()
    assert (shop.told(0), shop.told(1), shop.told(2)) == (None, ("paid", "none"), ("paid", "none"))
    assert [record.sequence for record in shop.records() if isinstance(record, Receipt)] == [2, 3]


def test_order_that_changes_after_it_was_confirmed_is_told_again(shop: Shop) -> None:
    next_bundle(shop, 0, pan=LOST_ANSWER_CARD)
    shop.run()
    assert shop.told(0) == ("held", "none")
    shop.bundle([], newest_return=shop.confirmation())
    shop.run_later()
    assert shop.told(0) == ("paid", "none")


def test_older_confirmation_takes_nothing_back(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    first = shop.confirmation()
    next_bundle(shop, 1, newest_return=first)
    shop.run_later()
    second = shop.confirmation()
    next_bundle(shop, 2, newest_return=second)
    shop.run_later()
    next_bundle(shop, 3, newest_return=first)
    shop.run_later()
    assert (shop.told(0), shop.told(1)) == (None, None)


def test_nothing_new_makes_no_new_return(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    newest = shop.newest_return()
    assert shop.run_later().returns == []
    assert shop.newest_return() == newest


def test_lost_return_is_written_again_unchanged(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    before = {file.name: file.read_bytes() for file in shop.newest_return().iterdir()}
    shutil.rmtree(shop.drop_out)
    shop.run_later()
    assert {file.name: file.read_bytes() for file in shop.newest_return().iterdir()} == before


# Two nodes


def status(number: int, state: StatusState, at: int) -> StatusRecord:
    return StatusRecord(order=id_of(number), state=state, reason=Reason.NONE, changed_at=at)


def test_order_known_at_two_nodes_is_told_to_both(shop: Shop) -> None:
    other = shop.enrol("shop-b")
    next_bundle(shop, 0)
    shop.run()
    next_bundle(other, 0, 1)
    shop.now += 60
    shop.run()
    assert status(0, StatusState.PAID, shop.now - 60) in other.records()
    assert status(1, StatusState.PAID, shop.now) in other.records()
    assert shop.told(1) is None  # and what only one of them knows to that one alone


def test_later_change_of_an_order_known_at_two_nodes_is_told_to_both(shop: Shop) -> None:
    other = shop.enrol("shop-b")
    next_bundle(shop, 0, pan=LOST_ANSWER_CARD)
    next_bundle(other, 0, pan=LOST_ANSWER_CARD)
    shop.run()
    assert shop.told(0) == other.told(0) == ("held", "none")
    other.bundle([], newest_return=other.confirmation())
    shop.bundle([], newest_return=shop.confirmation())
    shop.run_later()
    assert shop.told(0) == other.told(0) == ("paid", "none")
    assert shop.charges() == {id_of(0): 1}


def test_nodes_get_returns_of_their_own(shop: Shop) -> None:
    other = shop.enrol("shop-b")
    next_bundle(other, 7)
    shop.run()
    assert shop.records() == []  # it is sent new keys only
    assert manifest_of(other).node == "shop-b"
    assert roll_of(other).node == "shop-b"
