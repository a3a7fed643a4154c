"""The public half: digests, canonical JSON, minisign texts, fingerprints and key rolls."""

from __future__ import annotations

import hashlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.entries import sign_entry
from keys.errors import KeysError
from keys.private.sign import generate_signing_key, sign_file
from keys.public import canonical
from keys.public.digest import digest, equal
from keys.public.fingerprint import fingerprint, matches
from keys.public.minisign import MinisignPublicKey, signature_matches
from keys.public.roll import KeyEntry, KeyRoll, Role, check_entry, decode_roll, encode_roll

IDENTITY = generate_signing_key()


class Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    b: int
    a: str = ""


def test_digest_names_what_it_is_for() -> None:
    name = b"sealed-orders/v1/key-id"
    plain = hashlib.blake2b(bytes([len(name)]) + name + b"content", digest_size=16).digest()
    assert digest("key-id", b"con", b"tent", size=16) == plain
    assert digest("header", b"content", size=16) != plain
    assert equal(plain, bytes(plain))
    assert not equal(plain, plain[:-1])


def test_fingerprint_is_read_out_and_typed_in_any_spelling() -> None:
    key = bytes(range(32))
    spoken = fingerprint(key)
    assert spoken == "-".join(spoken.replace("-", "")[at : at + 4] for at in range(0, 32, 4))
    assert matches(key, spoken.upper().replace("-", " "))
    assert not matches(key, spoken[:-1])
    assert not matches(bytes(32), spoken)
    assert not matches(key, "ж" * 32)


def test_canonical_form_is_one() -> None:
    assert canonical.encode(Pair(b=1, a="x")) == b'{"a":"x","b":1}'
    assert canonical.decode(b'{"a":"x","b":1}', Pair, limit=100, what="pair") == Pair(b=1, a="x")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"b":1,"a":"x"}',
        b'{"a":"x", "b":1}',
        b'{"a":"x","b":1}\n',
        b'{"a":"x","b":1.0}',
        b'{"a":"x","b":"1"}',
        b'{"a":"\\u0078","b":1}',
        b'{"a":"x","b":1,"b":1}',
        b'{"b":1}',
        b'{"a":"x","b":1,"c":1}',
        b'{"a":"x","b":01}',
        b"",
        b"null",
        b'{"a":"' + b"x" * 100 + b'","b":1}',
        b'{"a":"\xff","b":1}',
    ],
)
def test_any_other_spelling_is_refused(raw: bytes) -> None:
    with pytest.raises(KeysError) as refusal:
        canonical.decode(raw, Pair, limit=100, what="pair")
    assert refusal.value.rule == "FORMAT-JSON"


@given(raw=st.binary(max_size=200) | st.text().map(str.encode))
def test_canonical_decoder_takes_what_it_would_write_or_refuses(raw: bytes) -> None:
    try:
        value = canonical.decode(raw, Pair, limit=100, what="pair")
    except KeysError:
        return
    assert canonical.encode(value) == raw
    assert json.loads(raw)


@given(text=st.text(max_size=300))
def test_any_text_is_a_minisign_key_or_refused(text: str) -> None:
    for candidate in (text, "untrusted comment: " + text):
        with pytest.raises(KeysError) as refusal:
            MinisignPublicKey.decode(candidate)
        assert refusal.value.rule == "KEY-PUBLIC"
        assert "identity.pub" in refusal.value.remedy
        assert not signature_matches(IDENTITY.minisign, b"content", candidate, "comment")


def test_altered_minisign_texts_are_refused() -> None:
    key = IDENTITY.minisign
    good = key.encode()
    lines = good.split("\n")
    for at in range(len(lines[1])):
        altered = lines[1][:at] + ("B" if lines[1][at] == "A" else "A") + lines[1][at + 1 :]
        with pytest.raises(KeysError):
            MinisignPublicKey.decode("\n".join([lines[0], altered, ""]))
    signature = sign_file(IDENTITY, b"content", "comment").split("\n")
    for line in (1, 2, 3):
        for at in range(len(signature[line])):
            altered = (
                signature[line][:at]
                + ("B" if signature[line][at] == "A" else "A")
                + signature[line][at + 1 :]
            )
            text = "\n".join([*signature[:line], altered, *signature[line + 1 :]])
            assert not signature_matches(key, b"content", text, "comment")


def entry(role: Role = Role.BATCH, number: int = 1, node: str = "shop-a", epoch: int = 1) -> KeyEntry:
    return sign_entry(
        IDENTITY,
        role=role,
        node=node,
        epoch=epoch,
        number=number,
        public_key=hashlib.blake2b(f"{role} {number}".encode(), digest_size=32).digest(),
        seal_until=100,
        destroy_at=200,
    )


def roll(order: list[KeyEntry], batch: list[KeyEntry], node: str = "shop-a") -> bytes:
    return encode_roll(
        KeyRoll(node=node, epoch=1, number=1, prev="00" * 32, issued_at=5, order_keys=order, batch_keys=batch)
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("role", Role.ORDER),
        ("node", "shop-b"),
        ("epoch", 2),
        ("number", 2),
        ("public_key", "11" * 32),
        ("seal_until", 101),
        ("destroy_at", 201),
        ("signature", "00" * 64),
    ],
)
def test_signature_covers_every_field_of_an_entry(field: str, value: object) -> None:
    check_entry(entry(), IDENTITY.public_key)
    with pytest.raises(KeysError) as refusal:
        check_entry(msgspec.structs.replace(entry(), **{field: value}), IDENTITY.public_key)
    assert refusal.value.rule == "ROLL-ENTRY"


def test_roll_of_another_node_or_signer_or_with_a_stray_key_is_refused() -> None:
    good = roll([entry(Role.ORDER)], [entry(), entry(number=2)])
    assert len(decode_roll(good, node="shop-a", identity=IDENTITY.public_key).batch_keys) == 2
    stranger = generate_signing_key().public_key
    for raw, node, identity, rule in (
        (good, "shop-b", IDENTITY.public_key, "ROLL-NODE"),
        (good, "shop-a", stranger, "ROLL-ENTRY"),
        (roll([entry()], []), "shop-a", IDENTITY.public_key, "ROLL-ENTRY"),
        (roll([], [entry(Role.ORDER)]), "shop-a", IDENTITY.public_key, "ROLL-ENTRY"),
        (roll([], [entry(node="shop-b")]), "shop-a", IDENTITY.public_key, "ROLL-ENTRY"),
        (roll([], [entry(epoch=2)]), "shop-a", IDENTITY.public_key, "ROLL-ENTRY"),
        (roll([], [entry(), entry()]), "shop-a", IDENTITY.public_key, "ROLL-ENTRY"),
        (good[:-1], "shop-a", IDENTITY.public_key, "FORMAT-JSON"),
        (b"", "shop-a", IDENTITY.public_key, "FORMAT-JSON"),
    ):
        with pytest.raises(KeysError) as refusal:
            decode_roll(raw, node=node, identity=identity)
        assert refusal.value.rule == rule
