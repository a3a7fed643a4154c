"""Receiving: each row of FORMAT.md, section 10, over real bundles; what is refused is refused whole and reported."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from keys.errors import RuleError
from keys.private.sign import generate_signing_key, sign_file
from keys.ring_index import DestroyReason
from offline_processor.batch import run
from offline_processor.errors import ProcessorError
from offline_processor.reporting import BATCH_KEYS_KEPT
from tests.offline_processor.acquirers import BadLine, LineCutError, cut
from tests.offline_processor.shop import (
    HOLD_HOURS,
    HOUR,
    LOST_ANSWER_CARD,
    Shop,
    a_card,
    id_of,
    next_bundle,
)
from tests.offline_processor.simulated import SimulatedAcquirer
from transfer.wire.envelope import encode_envelope, frame
from transfer.wire.manifest import (
    BUNDLE_COMMENT,
    ENVELOPES_NAME,
    MANIFEST_NAME,
    NO_PREVIOUS,
    RETURN_COMMENT,
    SIGNATURE_NAME,
    SignedText,
    decode_bundle_manifest,
    decode_return_manifest,
    encode_manifest,
)
from transfer.wire.records import Outcome, Receipt, Refusal, RefusalRule

if TYPE_CHECKING:
    from offline_processor.workplace import RunReport

DAY = 24 * HOUR


def assert_refused(
    shop: Shop, report: RunReport, rule: str, *, expected: int = 1, seen_at: int | None = None
) -> None:
    """The bundle is refused by just this rule, leaves nothing behind, and its node is told."""
    assert [error.rule for error in report.refused] == [rule]
    assert report.received == []
    assert report.outcomes == {}
    assert list((shop.root / "state" / "spool" / shop.node).iterdir()) == []
    refusal = Refusal(rule=RefusalRule(rule), expected=expected, seen_at=seen_at or shop.now)
    assert [record for record in shop.records() if isinstance(record, Refusal)] == [refusal]


def receipts(shop: Shop) -> list[Receipt]:
    return [record for record in shop.records() if isinstance(record, Receipt)]


# What is accepted


def test_bundle_is_accepted_and_answered_with_a_receipt(shop: Shop) -> None:
    next_bundle(shop, 0, 1)
    assert shop.run().received == ["shop-a/b00000001"]
    assert receipts(shop) == [
        Receipt(sequence=1, manifest=shop.previous, orders=2, outcome=Outcome.PROCESSED, settled_at=shop.now)
    ]


def test_several_bundles_are_taken_in_their_sequence(shop: Shop) -> None:
    for place in range(3):
        keys = shop.keys_for(place)
        shop.bundle([shop.seal(place, keys=keys)], batch_key_id=keys.batch_key_id)
    assert shop.run().received == ["shop-a/b00000001", "shop-a/b00000002", "shop-a/b00000003"]
    assert shop.charges() == {id_of(number): 1 for number in range(3)}


def test_bundle_without_orders_is_answered(shop: Shop) -> None:
    shop.bundle([])
    shop.run()
    assert [(receipt.orders, receipt.outcome) for receipt in receipts(shop)] == [(0, Outcome.EMPTY)]
    assert len(shop.keystore.ring.destroyed_records()) == 0


def test_repeated_sequence_is_known_and_answered_with_the_same_receipt(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    first = receipts(shop)
    shutil.rmtree(shop.drop_out / shop.node)
    report = shop.run_later()
    assert (report.received, report.repeated, report.refused) == ([], ["shop-a/b00000001"], [])
    assert receipts(shop) == first
    assert shop.charges() == {id_of(0): 1}


def test_unit_without_its_signature_is_not_there_yet(shop: Shop) -> None:
    unit = next_bundle(shop, 0)
    signature = (unit / SIGNATURE_NAME).read_bytes()
    (unit / SIGNATURE_NAME).unlink()
    report = shop.run()
    assert (report.received, report.refused) == ([], [])
    (unit / SIGNATURE_NAME).write_bytes(signature)
    assert shop.run_later().received == ["shop-a/b00000001"]


# Chain


def test_other_bundle_of_a_known_sequence_is_a_fork(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    shop.sequence, shop.previous = 0, NO_PREVIOUS
    next_bundle(shop, 1)
    assert_refused(shop, shop.run_later(), "BUNDLE-FORK", expected=2)
    assert shop.charges() == {id_of(0): 1}


def test_gap_in_the_sequence_is_refused_until_it_is_filled(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    missing = next_bundle(shop, 1)
    missing.rename(shop.root / "missing")
    keys = shop.keys_for(1)
    shop.bundle([shop.seal(2, keys=keys)], batch_key_id=keys.batch_key_id)
    report = shop.run_later()
    assert_refused(shop, report, "BUNDLE-SEQUENCE", expected=2)
    assert "bundle 2 is next" in report.refused[0].message
    (shop.root / "missing").rename(missing)
    assert shop.run_later().received == ["shop-a/b00000002", "shop-a/b00000003"]
    assert shop.charges() == {id_of(number): 1 for number in range(3)}


def test_other_previous_manifest_is_refused(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    next_bundle(shop, 1, prev="ab" * 32)
    assert_refused(shop, shop.run_later(), "BUNDLE-SEQUENCE", expected=2)


def test_nothing_behind_a_refused_bundle_is_tried_and_other_nodes_go_on(shop: Shop) -> None:
    other = shop.enrol("shop-b")
    damaged = next_bundle(shop, 0)
    (damaged / ENVELOPES_NAME).write_bytes(b"")
    keys = shop.keys_for(1)
    shop.bundle([shop.seal(1, keys=keys)], batch_key_id=keys.batch_key_id)
    next_bundle(other, 2)
    report = shop.run()
    assert [error.rule for error in report.refused] == ["BUNDLE-DAMAGED"]
    assert report.received == ["shop-b/b00000001"]
    assert shop.charges() == {id_of(2): 1}


# Signature and form


def test_bundle_of_a_stranger_is_refused(shop: Shop) -> None:
    unit = next_bundle(shop, 0)
    raw = (unit / MANIFEST_NAME).read_bytes()
    (unit / SIGNATURE_NAME).write_text(sign_file(generate_signing_key(), raw, BUNDLE_COMMENT))
    assert_refused(shop, shop.run(), "BUNDLE-SIGNATURE")


def test_bundle_of_another_enrolled_node_is_refused(shop: Shop) -> None:
    other = shop.enrol("shop-b")
    unit = next_bundle(shop, 0)
    raw = (unit / MANIFEST_NAME).read_bytes()
    (unit / SIGNATURE_NAME).write_text(sign_file(other.node_key, raw, BUNDLE_COMMENT))
    assert_refused(shop, shop.run(), "BUNDLE-SIGNATURE")


def test_signature_for_another_kind_of_file_is_refused(shop: Shop) -> None:
    unit = next_bundle(shop, 0)
    raw = (unit / MANIFEST_NAME).read_bytes()
    (unit / SIGNATURE_NAME).write_text(sign_file(shop.node_key, raw, RETURN_COMMENT))
    assert_refused(shop, shop.run(), "BUNDLE-SIGNATURE")


@pytest.mark.parametrize(
    "changes",
    [{"node": "shop-b"}, {"count": 0}],
    ids=["of another node", "key without orders"],
)
def test_manifest_that_contradicts_itself_or_its_place_is_refused(
    shop: Shop, changes: dict[str, Any]
) -> None:
    next_bundle(shop, 0, **changes)
    assert_refused(shop, shop.run(), "BUNDLE-FORMAT")


def test_bundle_in_the_place_of_another_sequence_is_refused(shop: Shop) -> None:
    unit = next_bundle(shop, 0)
    unit.rename(unit.with_name("b00000002"))
    assert_refused(shop, shop.run(), "BUNDLE-FORMAT")


def test_manifest_that_is_not_canonical_is_refused(shop: Shop) -> None:
    unit = next_bundle(shop, 0)
    raw = (unit / MANIFEST_NAME).read_bytes().replace(b",", b", ", 1)
    (unit / MANIFEST_NAME).write_bytes(raw)
    (unit / SIGNATURE_NAME).write_text(sign_file(shop.node_key, raw, BUNDLE_COMMENT))
    assert_refused(shop, shop.run(), "BUNDLE-FORMAT")


@pytest.mark.parametrize("name", [ENVELOPES_NAME, MANIFEST_NAME])
def test_bundle_that_lacks_a_file_is_refused(shop: Shop, name: str) -> None:
    (next_bundle(shop, 0) / name).unlink()
    assert_refused(shop, shop.run(), "BUNDLE-FORMAT")


def test_bundle_with_anything_else_in_it_is_refused(shop: Shop) -> None:
    (next_bundle(shop, 0) / "autorun.inf").write_bytes(b"")
    assert_refused(shop, shop.run(), "BUNDLE-FORMAT")


def test_link_in_a_bundle_is_refused(shop: Shop) -> None:
    unit = next_bundle(shop, 0)
    (unit / ENVELOPES_NAME).rename(shop.root / "elsewhere")
    (unit / ENVELOPES_NAME).symlink_to(shop.root / "elsewhere")
    assert_refused(shop, shop.run(), "BUNDLE-FORMAT")


# Bytes


@pytest.fixture
def intact(shop: Shop) -> dict[str, bytes]:
    """The files of a good bundle of three orders that lies in the drop."""
    unit = next_bundle(shop, 0, 1, 2)
    return {file.name: file.read_bytes() for file in unit.iterdir()}


def run_with(shop: Shop, files: dict[str, bytes]) -> RunReport:
    unit = shop.drop_in / "shop-a" / "b00000001"
    for name, content in files.items():
        (unit / name).write_bytes(content)
    return shop.run()


DAMAGE = {
    ENVELOPES_NAME: "BUNDLE-DAMAGED",
    MANIFEST_NAME: "BUNDLE-SIGNATURE",
    SIGNATURE_NAME: "BUNDLE-SIGNATURE",
}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(DAMAGE)), place=st.integers(0, 10**6), bits=st.integers(1, 255))
def test_flipped_byte_anywhere_refuses_the_bundle(
    shop: Shop, intact: dict[str, bytes], name: str, place: int, bits: int
) -> None:
    damaged = bytearray(intact[name])
    place %= len(damaged)
    damaged[place] ^= bits
    assert_refused(shop, run_with(shop, {**intact, name: bytes(damaged)}), DAMAGE[name])


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(DAMAGE)), size=st.integers(0, 10**6))
def test_truncated_file_refuses_the_bundle(
    shop: Shop, intact: dict[str, bytes], name: str, size: int
) -> None:
    cut = intact[name][: size % len(intact[name])]
    assert_refused(shop, run_with(shop, {**intact, name: cut}), DAMAGE[name])


def test_bundle_is_accepted_once_it_is_whole_again(shop: Shop, intact: dict[str, bytes]) -> None:
    run_with(shop, {ENVELOPES_NAME: intact[ENVELOPES_NAME][:-1]})
    assert run_with(shop, intact).received == ["shop-a/b00000001"]
    assert shop.charges() == {id_of(number): 1 for number in range(3)}


@pytest.mark.parametrize(
    "body",
    [b"\0\1\0\1" + bytes(65537), b"\0\0", b"\0\0\0\x5c" + bytes(91)],
    ids=["above the limit", "half a length", "cut short"],
)
def test_frames_that_are_none_refuse_the_bundle_even_when_signed(shop: Shop, body: bytes) -> None:
    whole = frame(encode_envelope(shop.seal(0))) + body
    next_bundle(
        shop, 0, envelopes_sha256=hashlib.sha256(whole).hexdigest(), envelopes_size=len(whole)
    ).joinpath(ENVELOPES_NAME).write_bytes(whole)
    report = shop.run()
    assert_refused(shop, report, "BUNDLE-DAMAGED")
    cause = report.refused[0].__cause__
    assert isinstance(cause, RuleError)
    assert cause.rule == "ENVELOPE-FRAME"


@pytest.mark.parametrize("changes", [{"count": 2}, {"envelopes_size": 1}, {"envelopes_sha256": "00" * 32}])
def test_envelopes_that_the_node_did_not_sign_refuse_the_bundle(shop: Shop, changes: dict[str, Any]) -> None:
    next_bundle(shop, 0, **changes)
    assert_refused(shop, shop.run(), "BUNDLE-DAMAGED")


# Batch keys


def test_batch_key_that_was_never_issued_is_refused(shop: Shop) -> None:
    next_bundle(shop, 0, batch_key="ab" * 16)
    assert_refused(shop, shop.run(), "BUNDLE-KEY")


def test_batch_key_that_was_issued_to_another_node_is_refused(shop: Shop) -> None:
    keys = shop.enrol("shop-b").keys_for()
    shop.bundle([shop.seal(0, keys=keys)], batch_key_id=keys.batch_key_id)
    assert_refused(shop, shop.run(), "BUNDLE-KEY")


def test_batch_key_of_another_sequence_is_refused(shop: Shop) -> None:
    keys = shop.keys_for()
    shop.bundle([shop.seal(0, keys=keys)], batch_key_id=keys.batch_key_id)
    shop.run()
    shop.bundle([shop.seal(1, keys=keys)], batch_key_id=keys.batch_key_id)
    assert_refused(shop, shop.run_later(), "BUNDLE-KEY", expected=2)
    assert shop.charges() == {id_of(0): 1}


@pytest.mark.parametrize("runs_between", [0, 1], ids=["found overdue on arrival", "destroyed before"])
def test_bundle_whose_key_is_destroyed_is_accepted_and_its_orders_are_ordered_again(
    shop: Shop, runs_between: int
) -> None:
    unit = next_bundle(shop, 0, 1)
    asked: list[object] = []
    shop.confirm = asked.append
    unit.rename(shop.root / "late")
    shop.now += 28 * DAY
    for _ in range(runs_between):
        shop.run()
    (shop.root / "late").rename(unit)
    report = shop.run()
    assert (report.received, report.refused) == (["shop-a/b00000001"], [])
    assert report.outcomes == {"order-again": 2}
    assert asked == []  # nothing is to be charged, so there is nothing to confirm
    for number in (0, 1):
        assert shop.state(number) == ("order-again", "expired", "KEY-DESTROYED")
        assert shop.told(number) == ("order-again", "expired")
    assert [(receipt.sequence, receipt.outcome) for receipt in receipts(shop)] == [(1, Outcome.EXPIRED)]
    assert shop.charges() == {}
    next_bundle(shop, 2)
    assert shop.run_later().received == ["shop-a/b00000002"]


def test_key_that_dies_before_the_total_is_confirmed_leaves_nothing_to_confirm(shop: Shop) -> None:
    def refuse(total: object) -> None:
        raise ProcessorError("CONTROL-TOTAL", f"not {total}")

    next_bundle(shop, 0)
    shop.confirm = refuse
    with pytest.raises(ProcessorError, match="CONTROL-TOTAL"):
        shop.run()
    shop.run_later(HOLD_HOURS * HOUR)
    assert shop.state(0) == ("order-again", "expired", "KEY-DESTROYED")
    assert shop.charges() == {}
    assert [receipt.sequence for receipt in receipts(shop)] == [1]


def test_keys_that_no_bundle_used_expire_and_are_replaced(shop: Shop) -> None:
    old = {entry.key_id.hex() for entry in shop.keystore.ring.unused("shop-a")}
    report = shop.run_later(28 * DAY)
    assert {(gone.key_id, gone.reason) for gone in report.keys_destroyed} == {
        (key_id, DestroyReason.EXPIRED) for key_id in old
    }
    assert len(shop.keystore.ring.unused("shop-a")) == BATCH_KEYS_KEPT


def test_orders_in_a_bundle_without_a_batch_key_are_not_charged(shop: Shop) -> None:
    next_bundle(shop, 0, batch_key=None)  # such a bundle may hold subject requests only
    shop.run()
    assert shop.state(0) == ("quarantined", "under-review", "ORDER-BATCH-KEY")
    shop.run_later(HOLD_HOURS * HOUR)
    assert shop.told(0) == ("order-again", "expired")
    assert shop.charges() == {}


# Returns inside bundles


def test_confirmed_return_is_not_told_again(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    next_bundle(shop, 1, newest_return=shop.confirmation())
    shop.run_later()
    assert shop.told(0) is None
    assert [receipt.sequence for receipt in receipts(shop)] == [2]


def forged_return(shop: Shop, **changes: Any) -> SignedText:
    """A return that the offline identity did sign, but that this ledger does not know."""
    known = decode_return_manifest((shop.newest_return() / MANIFEST_NAME).read_bytes())
    raw = encode_manifest(replace(known, **changes))
    return SignedText(manifest=raw.decode(), signature=sign_file(shop.keystore.identity, raw, RETURN_COMMENT))


@pytest.mark.parametrize(
    "changes", [{"number": 2}, {"records": 9}, {"epoch": 2}], ids=["newer", "other bytes", "later epoch"]
)
def test_return_that_this_ledger_does_not_know_stops_all_charging(
    shop: Shop, changes: dict[str, Any]
) -> None:
    other = shop.enrol("shop-b")
    shop.bundle([shop.seal(0), shop.seal(1, card=a_card(LOST_ANSWER_CARD))])
    shop.run()
    charged = shop.charges()
    next_bundle(shop, 2, newest_return=forged_return(shop, **changes))
    next_bundle(other, 3)
    shop.now += 60
    with pytest.raises(ProcessorError, match="BUNDLE-LEDGER-BEHIND"):
        shop.run()
    # Neither the new order, nor another node's, nor the held one that could have been tried afresh.
    assert shop.charges() == charged == {id_of(0): 1, id_of(1): 1}
    assert shop.state(1)[0] == "held"
    with pytest.raises(ProcessorError, match="LEDGER-BEHIND"):  # and not before a person has looked
        shop.run()
    shutil.rmtree(shop.drop_in / shop.node)
    with pytest.raises(ProcessorError, match="LEDGER-BEHIND"):
        shop.run()
    assert shop.charges() == charged


def strangers(shop: Shop) -> list[SignedText]:
    right = shop.confirmation()
    known = decode_return_manifest(right.manifest.encode())
    other_node = encode_manifest(replace(known, node="shop-b"))
    bundle = (shop.drop_in / shop.node / "b00000001" / MANIFEST_NAME).read_bytes()
    decode_bundle_manifest(bundle)
    identity = shop.keystore.identity
    return [
        replace(right, manifest=right.manifest.replace('"accepted":1', '"accepted":2')),
        replace(right, signature=""),
        replace(right, signature=sign_file(shop.node_key, right.manifest.encode(), RETURN_COMMENT)),
        replace(right, signature=sign_file(identity, right.manifest.encode(), BUNDLE_COMMENT)),
        SignedText(manifest=other_node.decode(), signature=sign_file(identity, other_node, RETURN_COMMENT)),
        SignedText(manifest=bundle.decode(), signature=sign_file(identity, bundle, RETURN_COMMENT)),
    ]


def test_return_that_is_not_genuine_refuses_the_bundle(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    forgeries = strangers(shop)
    before = shop.sequence, shop.previous
    first_seen = shop.now + 60
    for forged in forgeries:
        shop.sequence, shop.previous = before
        next_bundle(shop, 1, newest_return=forged)
        assert_refused(shop, shop.run_later(), "BUNDLE-RETURN", expected=2, seen_at=first_seen)
    assert shop.charges() == {id_of(0): 1}


# What is told of a refusal


def test_refusal_is_told_once_and_until_the_right_bundle_comes(shop: Shop) -> None:
    unit = next_bundle(shop, 0)
    whole = (unit / ENVELOPES_NAME).read_bytes()
    (unit / ENVELOPES_NAME).write_bytes(b"")
    seen_at = shop.now
    assert_refused(shop, shop.run(), "BUNDLE-DAMAGED")
    first = shop.newest_return()
    assert_refused(shop, shop.run_later(), "BUNDLE-DAMAGED", seen_at=seen_at)
    assert shop.newest_return() == first  # nothing new to say
    (unit / ENVELOPES_NAME).write_bytes(whole)
    shop.run_later()
    assert not any(isinstance(record, Refusal) for record in shop.records())
    assert [receipt.sequence for receipt in receipts(shop)] == [1]


def test_refusals_are_in_the_ledger(shop: Shop) -> None:
    (next_bundle(shop, 0) / ENVELOPES_NAME).write_bytes(b"")
    shop.run()
    assert shop.rows("SELECT subject, facts FROM entry WHERE kind = 'bundle-refused'") == [
        ("shop-a", '{"expected":1,"rule":"BUNDLE-DAMAGED"}')
    ]


# Media


def test_drop_that_is_not_there_is_said_and_stops_nothing_else(shop: Shop) -> None:
    next_bundle(shop, 0, 1)
    with pytest.raises(LineCutError):
        shop.run(BadLine(path=shop.books, authorising=cut))
    shop.drop_in.rename(shop.root / "unplugged")
    shop.now += 60
    with shop.ledger() as ledger:
        report = run(shop.workplace(ledger, SimulatedAcquirer(shop.books)))
    assert [error.rule for error in report.refused] == ["MEDIUM-NONE"]
    assert report.outcomes == {"paid": 2}
    assert shop.told(0) == ("paid", "none")


def test_known_place_in_the_chain_stops_nothing_behind_it(shop: Shop) -> None:
    old = next_bundle(shop, 0)
    shop.run()
    (old / MANIFEST_NAME).write_bytes(b"{}")
    next_bundle(shop, 1)
    report = shop.run_later()
    assert [error.rule for error in report.refused] == ["BUNDLE-SIGNATURE"]
    assert report.received == ["shop-a/b00000002"]
    assert shop.charges() == {id_of(0): 1, id_of(1): 1}
