"""Keys that change: handover, revocation, former node keys, retired nodes, lost keys; told until confirmed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, TypeVar

import pytest

from keys.private.sign import SigningKey, generate_signing_key
from keys.public.announcement import handover_is_good, revocation_is_good
from keys.public.minisign import signature_matches
from keys.public.roll import decode_roll
from offline_processor.acquirers.report import in_words as time_in_words
from offline_processor.errors import ProcessorError
from offline_processor.retirement import in_words, retire
from tests.offline_processor.disaster import bring_in_report, recover_keystore
from tests.offline_processor.shop import (
    DECLINED_CARD,
    HOUR,
    LOST_ANSWER_CARD,
    Shop,
    a_card,
    id_of,
    next_bundle,
    open_shop,
)
from transfer.wire.manifest import KEYROLL_NAME, MANIFEST_NAME, RETURN_COMMENT, SIGNATURE_NAME
from transfer.wire.records import Handover, Receipt, Revocation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY = 24 * HOUR
Kind = TypeVar("Kind")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = open_shop(tmp_path, custodians=(2, 3))
    yield made
    made.keystore.close()


def signer_of_newest(shop: Shop) -> str:
    unit = shop.newest_return()
    manifest, signature = (unit / MANIFEST_NAME).read_bytes(), (unit / SIGNATURE_NAME).read_text()
    return next(
        key.public_key.hex()
        for key in shop.keystore.identities
        if signature_matches(key, manifest, signature, RETURN_COMMENT)
    )


def of_kind(shop: Shop, kind: type[Kind]) -> list[Kind]:
    return [record for record in shop.records() if isinstance(record, kind)]


# The handover of the offline identity


def test_handover_is_in_every_return_under_the_old_identity_until_a_bundle_confirms_one(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    old = shop.keystore.identity.public_key.hex()
    shop.keystore.rotate_identity(shop.now)
    new = shop.keystore.identity.public_key.hex()
    for number in (1, 2):
        next_bundle(shop, number)
        shop.run_later()
        (handover,) = of_kind(shop, Handover)
        assert (handover.old_identity, handover.new_identity, signer_of_newest(shop)) == (old, new, old)
        assert handover_is_good(handover)
        raw = (shop.newest_return() / KEYROLL_NAME).read_bytes()
        decode_roll(raw, node="shop-a", identity=bytes.fromhex(old))
    next_bundle(shop, 3, newest_return=shop.confirmation())
    shop.run_later()
    assert (of_kind(shop, Handover), signer_of_newest(shop)) == ([], new)
    decode_roll(
        (shop.newest_return() / KEYROLL_NAME).read_bytes(), node="shop-a", identity=bytes.fromhex(new)
    )
    assert shop.keystore.handover is None


def test_return_from_before_the_handover_does_not_confirm_it(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    before = shop.confirmation()
    shop.keystore.rotate_identity(shop.now)
    next_bundle(shop, 1)
    shop.run_later()
    shop.bundle([], newest_return=before)
    shop.run_later()
    next_bundle(shop, 2)
    shop.run_later()
    assert len(of_kind(shop, Handover)) == 1


def test_handover_waits_for_each_node_by_itself(shop: Shop) -> None:
    other = shop.enrol("shop-b")
    next_bundle(shop, 0)
    shop.run()
    shop.keystore.rotate_identity(shop.now)
    shop.run_later()
    shop.bundle([], newest_return=shop.confirmation())
    shop.run_later()
    next_bundle(shop, 1)
    next_bundle(other, 2)
    shop.run_later()
    assert of_kind(shop, Handover) == []
    assert len(of_kind(other, Handover)) == 1
    assert signer_of_newest(shop) != signer_of_newest(other)


# Revocations


def test_revocation_is_told_until_it_is_confirmed(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    revoked = shop.keystore.order_keys[0].key.key_id.hex()
    shop.keystore.revoke_order_key(1, shop.now)
    gone = shop.keystore.ring.revoke_batch_keys("shop-a", None, shop.now)
    for confirm in (False, False, True):
        if confirm:
            shop.bundle([], newest_return=shop.confirmation())
        shop.run_later()
        found = of_kind(shop, Revocation)
        wanted = set() if confirm else {revoked, *(dead.key_id for dead in gone)}
        if not confirm:
            assert {record.key for record in found} == wanted
            identity = shop.keystore.identity.public_key
            assert all(revocation_is_good(record, identity) for record in found)
        next_bundle(shop, 10 + shop.sequence)
    shop.run_later()
    assert of_kind(shop, Revocation) == []
    entries = shop.rows("SELECT count(*) FROM entry WHERE kind = 'announced'")
    assert entries == [(1 + len(gone),)]


def test_batch_key_of_one_node_is_revoked_for_that_node_alone(shop: Shop) -> None:
    other = shop.enrol("shop-b")
    shop.run()
    shop.keystore.ring.revoke_batch_keys("shop-b", [1], shop.now)
    next_bundle(shop, 0)
    shop.run_later()
    assert of_kind(shop, Revocation) == []
    assert len(of_kind(other, Revocation)) == 1


# A node's new key


def rotate(shop: Shop) -> SigningKey:
    new = generate_signing_key()
    shop.keystore.ring.rotate_node("shop-a", new.public_key, shop.now)
    return new


def test_either_key_signs_until_a_bundle_of_the_newer_one_is_accepted(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    old, new = shop.node_key, rotate(shop)
    next_bundle(shop, 1)
    assert shop.run_later().refused == []
    shop.node_key = new
    next_bundle(shop, 2)
    assert shop.run_later().refused == []
    shop.node_key = old
    next_bundle(shop, 3)
    assert [error.rule for error in shop.run_later().refused] == ["BUNDLE-SIGNATURE"]
    (former,) = shop.keystore.ring.node("shop-a").former_keys  # type: ignore[union-attr]
    assert former.until == 2
    assert sorted(shop.charges()) == sorted(map(id_of, range(3)))


def test_old_bundle_sent_again_is_known_under_its_old_key(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    shop.node_key = rotate(shop)
    next_bundle(shop, 1)
    report = shop.run_later()
    assert (report.repeated, report.refused) == (["shop-a/b00000001"], [])


# A retired node


def test_retired_node_is_not_heard_and_what_is_open_of_it_is_named(shop: Shop) -> None:
    next_bundle(shop, 0, pan=LOST_ANSWER_CARD)
    shop.run()
    unused = len(shop.keystore.ring.unused("shop-a"))
    late = next_bundle(shop, 1)
    with shop.ledger() as ledger:
        done = retire(ledger, shop.keystore, "shop-a", now=shop.now)
        again = retire(ledger, shop.keystore, "shop-a", now=shop.now)
    assert (done.last_sequence, done.waiting, done.keys_destroyed) == (1, (id_of(0),), unused)
    assert again.keys_destroyed == 0
    assert (done.retired_before, again.retired_before) == (None, shop.now)
    assert f"shop-a was retired already, on {time_in_words(shop.now)}." in in_words(again)[0]
    assert id_of(0) in "\n".join(in_words(done))
    returns = len(list((shop.drop_out / "shop-a").iterdir()))
    report = shop.run_later()
    assert [error.rule for error in report.refused] == ["BUNDLE-RETIRED"]
    assert late.name in report.refused[0].message
    assert shop.state(0)[0] == "paid"  # what was accepted before is finished as ever
    assert id_of(1) not in shop.states()
    assert len(list((shop.drop_out / "shop-a").iterdir())) == returns
    assert shop.rows("SELECT count(*) FROM entry WHERE kind = 'node-retired'") == [(1,)]


# Order keys at their end


def test_order_key_is_destroyed_at_its_time_with_an_entry(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    old = shop.keystore.order_keys[0]
    shop.keystore.rotate_order_key(shop.now)
    with shop.ledger() as ledger, ledger.atomic():
        ledger.append("noted", "so that the clock is believed", old.destroy_at - DAY, {})
    shop.now = old.destroy_at
    report = shop.run()
    assert [gone.number for gone in report.order_keys_destroyed] == [1]
    assert shop.keystore.order_key(old.key.key_id) is None
    assert shop.rows("SELECT subject FROM entry WHERE kind = 'order-key-destroyed'") == [
        (old.key.key_id.hex(),)
    ]
    assert shop.run_later().order_keys_destroyed == []


# Batch and hold keys are lost, the ledger is not


def test_recovery_under_an_intact_ledger_goes_on_and_expires_what_was_never_sent(shop: Shop) -> None:
    next_bundle(shop, 0, pan=LOST_ANSWER_CARD)
    shop.run()
    next_bundle(shop, 1)
    copy = shop.keystore.custody_copy(shop.now)
    shop.keystore.issue_batch_keys("shop-a", 1, now=shop.now)  # the copy does not know this key
    keys = shop.keys_for(len(shop.keystore.ring.unused("shop-a")) - 1)
    shop.bundle([shop.seal(2, keys=keys, card=a_card(DECLINED_CARD))], batch_key_id=keys.batch_key_id)
    shop.keystore.close()
    shutil.rmtree(shop.root / "keystore")
    recover_keystore(shop, copy)
    shop.now += 60
    # Without a first word of the acquirer this would reverse what it charged, and nothing would be left to send.
    assert bring_in_report(shop).paid == [id_of(0)]
    report = shop.run_later()
    # LEDGER-BEHIND would be wrong: the ring's memory began anew, the ledger's did not.
    assert report.refused == []
    assert shop.state(0) == ("authorised", "none", "")
    assert shop.state(1) == shop.state(2) == ("order-again", "expired", "KEY-DESTROYED")
    assert shop.charges() == {id_of(0): 1}
    assert [record.outcome.value for record in of_kind(shop, Receipt)] == ["processed", "expired", "expired"]
    assert shop.newest_return().name == "r0002-00000002"
    epochs = shop.rows("SELECT facts FROM entry WHERE kind = 'epoch-begun'")
    assert epochs == [('{"before":1,"epoch":2}',)]
    next_bundle(shop, 5)
    shop.run_later()
    assert shop.state(5)[0] == "paid"


def test_lost_ring_under_an_old_copy_of_the_ledger_is_still_found_out(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    old = shop.root / "old.db"
    shutil.copy(shop.root / "state" / "ledger.db", old)
    next_bundle(shop, 1)
    shop.run_later()
    copy = shop.keystore.custody_copy(shop.now)
    shop.keystore.close()
    shutil.rmtree(shop.root / "keystore")
    shutil.copy(old, shop.root / "state" / "ledger.db")
    recover_keystore(shop, copy)
    (shop.drop_in / "shop-a" / "b00000002").rename(shop.root / "b2")
    shop.bundle([], batch_key_id=bytes(16), newest_return=shop.confirmation())
    with pytest.raises(ProcessorError, match="LEDGER-UNRECONCILED"):
        shop.run_later()
    assert id_of(1) not in shop.states()


def test_copy_of_a_bundle_at_work_that_is_lost_is_fetched_again(shop: Shop) -> None:
    bundle = next_bundle(shop, 0, 1)

    def refuse(total: object) -> None:
        raise KeyError("nobody confirms")

    agree, shop.confirm = shop.confirm, refuse
    with pytest.raises(KeyError):
        shop.run()
    shutil.rmtree(shop.root / "state" / "spool")
    shutil.move(bundle, shop.root / "away")
    shop.confirm = agree
    report = shop.run_later()
    assert [error.rule for error in report.refused] == ["BUNDLE-COPY"]
    assert shop.charges() == {}
    shutil.move(shop.root / "away", bundle)
    raw = bytearray((bundle / "envelopes.bin").read_bytes())
    raw[50] ^= 1
    (bundle / "envelopes.bin").write_bytes(raw)
    assert [error.rule for error in shop.run_later().refused] == ["BUNDLE-DAMAGED"]
    raw[50] ^= 1
    (bundle / "envelopes.bin").write_bytes(raw)
    (
        shop.root / "state" / "spool" / "shop-a" / "b00000001"
    ).mkdir()  # or all of it but the envelopes is still there
    (shop.root / "state" / "spool" / "shop-a" / "b00000001" / "manifest.json").touch()
    assert shop.run_later().refused == []
    assert shop.charges() == {id_of(0): 1, id_of(1): 1}


def test_return_that_is_lost_before_it_left_is_made_anew(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    shutil.rmtree(shop.root / "state" / "returns")
    shutil.rmtree(shop.drop_out)
    shop.run_later()
    assert shop.newest_return().name == "r0001-00000002"
    assert shop.told(0) == ("paid", "none")
