"""Canonical JSON and what is signed: one spelling only, a closed schema, and no signature that fits twice."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.errors import RuleError
from keys.private.sign import sign_file
from keys.public.announcement import handover_message, revocation_message
from keys.public.minisign import MinisignPublicKey, signature_matches
from keys.public.roll import KeyRoll, Role, decode_roll, encode_roll
from tests.transfer import strategies as some
from tests.transfer.house import NODE, NOW, House, fixed_key
from tests.transfer.strategies import mutated, only_refuses, refuses
from transfer.wire.manifest import (
    BUNDLE_COMMENT,
    RETURN_COMMENT,
    BundleManifest,
    ReturnManifest,
    bundle_manifest_digest,
    bundle_name,
    decode_bundle_manifest,
    decode_return_manifest,
    encode_manifest,
    return_manifest_digest,
    return_name,
)
from transfer.wire.records import (
    Reason,
    Record,
    RefusalRule,
    StatusRecord,
    StatusState,
    decode_record,
    encode_record,
)

manifests = st.one_of(some.bundle_manifests, some.return_manifests)
STATUS = StatusRecord(order="0" * 32, state=StatusState.PAID, reason=Reason.NONE, changed_at=NOW)


def plainly(raw: bytes) -> bytes:
    """What Python's own JSON writes for the same value."""
    return json.dumps(json.loads(raw), sort_keys=True, separators=(",", ":")).encode("ascii")


@given(some.bundle_manifests)
def test_a_bundle_manifest_reads_back_in_one_spelling(manifest: BundleManifest) -> None:
    raw = encode_manifest(manifest)
    assert decode_bundle_manifest(raw) == manifest
    assert plainly(raw) == raw
    refuses("FORMAT-JSON", decode_return_manifest, raw)


@given(some.return_manifests)
def test_a_return_manifest_reads_back_in_one_spelling(manifest: ReturnManifest) -> None:
    raw = encode_manifest(manifest)
    assert decode_return_manifest(raw) == manifest
    assert plainly(raw) == raw
    refuses("FORMAT-JSON", decode_bundle_manifest, raw)


@given(mutated(manifests.map(encode_manifest)) | st.binary(max_size=300))
def test_a_changed_manifest_is_another_manifest_or_refused(raw: bytes) -> None:
    for parse in (decode_bundle_manifest, decode_return_manifest):
        manifest = only_refuses(parse, raw)
        assert manifest is None or encode_manifest(manifest) == raw


@given(some.records)
def test_a_record_reads_back_in_one_spelling(record: Record) -> None:
    line = encode_record(record)
    assert line.endswith(b"\n")
    assert len(line) <= 1025
    assert decode_record(line[:-1]) == record
    assert plainly(line) == line[:-1]


@given(mutated(some.records.map(lambda record: encode_record(record)[:-1])) | st.binary(max_size=300))
def test_a_changed_record_is_another_record_or_refused(raw: bytes) -> None:
    record = only_refuses(decode_record, raw)
    assert record is None or encode_record(record) == raw + b"\n"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'"status"',
        b"{}",
        encode_record(STATUS),
        b" " + encode_record(STATUS)[:-1],
        encode_record(STATUS)[:-1].replace(b",", b", "),
        encode_record(STATUS)[:-1].replace(str(NOW).encode(), b"1.79e9"),
        encode_record(STATUS)[:-1].replace(str(NOW).encode(), b"0" + str(NOW).encode()),
        encode_record(STATUS)[:-1].replace(str(NOW).encode(), b"-1"),
        encode_record(STATUS)[:-1].replace(str(NOW).encode(), b"9007199254740992"),
        encode_record(STATUS)[:-1].replace(str(NOW).encode(), b"true"),
        encode_record(STATUS)[:-1].replace(b'"paid"', b'"\\u0070aid"'),
        encode_record(STATUS)[:-1].replace(b'"paid"', b'"PAID"'),
        encode_record(STATUS)[:-1].replace(b'"paid"', b'"paid\\n"'),
        encode_record(STATUS)[:-1].replace(b'"' + b"0" * 32, b'"' + b"0" * 31),
        encode_record(STATUS)[:-1].replace(b'"' + b"0" * 32, b'"' + b"0" * 31 + b"A"),
        encode_record(STATUS)[:-1].replace(b"0" * 32, b"0" * 32 + b"\\n"),
        encode_record(STATUS)[:-1].replace(b"}", b',"state":"paid"}'),
        encode_record(STATUS)[:-1].replace(b"}", b',"text":"hello"}'),
        encode_record(STATUS)[:-1].replace(b'"kind":"status"', b'"kind":"note"'),
        encode_record(STATUS)[:-1].replace(b'"kind":"status",', b""),
        encode_record(STATUS)[:-1] + encode_record(STATUS)[:-1],
        b"\xef\xbb\xbf" + encode_record(STATUS)[:-1],
        b"[" * 1000,
        b'{"a":' * 150,
        b"\xff" * 10,
    ],
)
def test_any_other_spelling_or_member_refuses_a_record(raw: bytes) -> None:
    refuses("FORMAT-JSON", decode_record, raw)


def test_documents_above_their_limits_are_refused() -> None:
    refuses("FORMAT-JSON", decode_record, b" " * 1025)
    refuses("FORMAT-JSON", decode_bundle_manifest, b" " * (16 * 1024 + 1))
    refuses("FORMAT-JSON", decode_return_manifest, b" " * (16 * 1024 + 1))


def test_refusals_are_reported_by_the_rules_of_the_page() -> None:
    assert {rule.value for rule in RefusalRule} == {
        "BUNDLE-FORMAT",
        "BUNDLE-FORK",
        "BUNDLE-SEQUENCE",
        "BUNDLE-SIGNATURE",
        "BUNDLE-DAMAGED",
        "BUNDLE-KEY",
        "BUNDLE-LEDGER-BEHIND",
        "BUNDLE-RETURN",
    }


@given(some.bundle_manifests, some.return_manifests)
def test_digests_of_the_two_directions_never_meet(bundle: BundleManifest, back: ReturnManifest) -> None:
    raw = encode_manifest(bundle)
    assert bundle_manifest_digest(raw) != return_manifest_digest(raw)
    assert bundle_manifest_digest(raw) != bundle_manifest_digest(encode_manifest(back))


def test_unit_names_sort_as_their_numbers() -> None:
    assert bundle_name(17) == "b00000017"
    assert return_name(1, 3) == "r0001-00000003"
    assert sorted([return_name(2, 1), return_name(1, 10), return_name(1, 9)]) == [
        return_name(1, 9),
        return_name(1, 10),
        return_name(2, 1),
    ]


def test_a_roll_of_the_node_reads_back(house: House) -> None:
    roll = house.roll(3)
    raw = encode_roll(roll)
    assert decode_roll(raw, node=NODE, identity=house.identity.public_key) == roll
    assert plainly(raw) == raw


@given(mutated(some.rolls.map(encode_roll)) | some.rolls.map(encode_roll) | st.binary(max_size=200))
def test_a_roll_with_foreign_or_changed_entries_is_refused(raw: bytes) -> None:
    roll: KeyRoll | None = only_refuses(
        lambda raw: decode_roll(raw, node="shop-a", identity=fixed_key(1).public_key), raw
    )
    assert roll is None or not (roll.order_keys or roll.batch_keys)


@pytest.mark.parametrize("what", ["role", "node", "epoch", "twice"])
def test_a_signed_entry_in_the_wrong_place_refuses_the_roll(house: House, what: str) -> None:
    order, batch = house.entry(Role.ORDER, 1), house.entry(Role.BATCH, 1)
    entries = {
        "role": [order],
        "node": [house.entry(Role.BATCH, 1, node="shop-b")],
        "epoch": [house.entry(Role.BATCH, 1, epoch=2)],
        "twice": [batch, house.entry(Role.BATCH, 2, public_key=bytes.fromhex(batch.public_key))],
    }[what]
    raw = encode_roll(house.roll(3, batch_keys=entries))
    refuses("ROLL-ENTRY", lambda raw: decode_roll(raw, node=NODE, identity=house.identity.public_key), raw)


def test_a_roll_for_another_node_is_refused(house: House) -> None:
    raw = encode_roll(house.roll(3, node="shop-b", order_keys=[], batch_keys=[]))
    refuses("ROLL-NODE", lambda raw: decode_roll(raw, node=NODE, identity=house.identity.public_key), raw)


MESSAGE = b'{"a":1}'
SIGNED = sign_file(fixed_key(2), MESSAGE, BUNDLE_COMMENT)


def test_a_signature_fits_its_file_key_and_comment_only() -> None:
    key = fixed_key(2).minisign
    assert signature_matches(key, MESSAGE, SIGNED, BUNDLE_COMMENT)
    assert not signature_matches(key, MESSAGE + b" ", SIGNED, BUNDLE_COMMENT)
    assert not signature_matches(key, MESSAGE, SIGNED, RETURN_COMMENT)
    assert not signature_matches(fixed_key(1).minisign, MESSAGE, SIGNED, BUNDLE_COMMENT)
    relabelled = SIGNED.replace(BUNDLE_COMMENT, RETURN_COMMENT)
    assert not signature_matches(key, MESSAGE, relabelled, RETURN_COMMENT)


@given(mutated(st.just(SIGNED.encode())))
def test_a_changed_signature_file_never_fits(raw: bytes) -> None:
    text = raw.decode("utf-8", "replace")
    untrusted, _, rest = text.partition("\n")
    if rest == SIGNED.partition("\n")[2] and untrusted.startswith("untrusted comment: "):
        return  # the untrusted comment is what its name says
    assert not signature_matches(fixed_key(2).minisign, MESSAGE, text, BUNDLE_COMMENT)


@given(mutated(st.just(fixed_key(2).minisign.encode().encode())) | st.binary(max_size=200))
def test_a_changed_public_key_file_is_refused(raw: bytes) -> None:
    key: MinisignPublicKey | None = only_refuses(
        lambda raw: MinisignPublicKey.decode(raw.decode("utf-8", "replace")), raw
    )
    assert key is None or key == fixed_key(2).minisign


@given(some.numbers, some.counts, some.sized(32), some.sized(32))
def test_what_is_signed_for_revocation_and_handover_covers_every_field(
    epoch: int, when: int, one: bytes, other: bytes
) -> None:
    first = revocation_message(role=Role.BATCH, epoch=epoch, key=one[:16], revoked_at=when)
    assert first != revocation_message(role=Role.ORDER, epoch=epoch, key=one[:16], revoked_at=when)
    assert first != revocation_message(role=Role.BATCH, epoch=epoch ^ 1, key=one[:16], revoked_at=when)
    assert first != revocation_message(role=Role.BATCH, epoch=epoch, key=one[:16], revoked_at=when ^ 1)
    second = handover_message(epoch=epoch, start=when, old_identity=one, new_identity=other)
    assert (one == other) == (
        second == handover_message(epoch=epoch, start=when, old_identity=other, new_identity=one)
    )
    assert first != second


def test_a_refusal_of_a_parser_is_a_rule_error() -> None:
    with pytest.raises(RuleError):
        decode_record(b"{")
