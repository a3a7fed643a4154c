"""Sealed boxes open only whole and only with their key; wrapped values likewise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.public import PrivateKey, SealedBox
from nacl.secret import SecretBox

from keys.private.locked import LockedBuffer
from keys.private.reseal import seal_view
from keys.private.secretbox import UnwrapError, generate_key, unwrap_into, wrap
from keys.private.unseal import (
    SealingKey,
    UnsealError,
    generate_sealing_key,
    open_box,
    open_box_into,
    public_key_of,
)
from keys.public.seal import key_id, seal
from tests.keys.conftest import locked


@pytest.fixture(scope="module")
def key() -> SealingKey:
    return generate_sealing_key()


def test_key_pair_is_one_that_pynacl_knows(key: SealingKey) -> None:
    ours = PrivateKey(bytes(key.private.view))
    assert bytes(ours.public_key) == key.public_key == public_key_of(key.private)
    assert key.key_id == key_id(key.public_key)
    assert SealedBox(ours).decrypt(seal(b"to ourselves", key.public_key)) == b"to ourselves"


@given(message=st.binary(max_size=300))
def test_box_opens_into_the_slot_it_was_given(key: SealingKey, message: bytes) -> None:
    box = seal(message, key.public_key)
    with LockedBuffer(len(message) + 2) as buffer:
        open_box_into(box, key.public_key, key.private, buffer.view[1:-1])
        assert buffer.view == b"\0" + message + b"\0"
        open_box_into(memoryview(b"x" + box)[1:], key.public_key, key.private, buffer.view[:-2])
        assert buffer.view[:-2] == message
    assert open_box(box, key.public_key, key.private) == message
    assert open_box(memoryview(box), key.public_key, key.private) == message


@given(position=st.integers(0, 175), bit=st.integers(0, 7))
def test_altered_box_does_not_open_and_leaves_the_slot_alone(
    key: SealingKey, position: int, bit: int
) -> None:
    box = bytearray(seal(b"c" * 128, key.public_key))
    box[position] ^= 1 << bit
    with LockedBuffer(128) as slot:
        slot.view[:] = b"-" * 128
        # The top bit of an X25519 public key is ignored in the exchange, yet the nonce still covers it.
        with pytest.raises(UnsealError) as refusal:
            open_box_into(bytes(box), key.public_key, key.private, slot.view)
        assert refusal.value.rule == "KEY-UNSEAL"
        assert slot.view == b"-" * 128


def test_box_of_another_size_or_key_does_not_open(key: SealingKey) -> None:
    box = seal(b"c" * 128, key.public_key)
    other = generate_sealing_key()
    with LockedBuffer(128) as slot:
        for wrong in (box[:-1], box + b"\0", b"", box[:47]):
            with pytest.raises(UnsealError):
                open_box_into(wrong, key.public_key, key.private, slot.view)
            with pytest.raises(UnsealError):
                open_box(wrong, key.public_key, key.private)
        with pytest.raises(UnsealError):
            open_box_into(box, other.public_key, other.private, slot.view)
        with pytest.raises(UnsealError):
            open_box_into(box, key.public_key[:-1], key.private, slot.view)


def test_card_is_sealed_again_from_where_it_lies(key: SealingKey) -> None:
    with LockedBuffer(128).copy_from(b"c" * 128) as slot:
        box = seal_view(slot.view, key.public_key)
    assert open_box(box, key.public_key, key.private) == b"c" * 128


def test_closed_key_opens_nothing() -> None:
    key = generate_sealing_key()
    box = seal(b"text", key.public_key)
    key.close()
    with pytest.raises(TypeError):
        open_box(box, key.public_key, key.private)


def test_private_key_is_in_no_text(key: SealingKey) -> None:
    assert "private" not in repr(key)


@given(plaintext=st.binary(max_size=300))
def test_wrapped_value_opens_again_and_pynacl_agrees(plaintext: bytes) -> None:
    with generate_key() as key, LockedBuffer(len(plaintext) + 1) as out:
        wrapped = wrap(key, plaintext)
        unwrap_into(key, wrapped, out.view[1:])
        assert out.view[1:] == plaintext
        assert SecretBox(bytes(key.view)).decrypt(wrapped) == plaintext
        with locked(plaintext + b"!") as source:
            assert SecretBox(bytes(key.view)).decrypt(wrap(key, source.view)) == plaintext + b"!"


def test_altered_or_foreign_wrapped_value_does_not_open() -> None:
    with generate_key() as key, generate_key() as other, LockedBuffer(40) as out:
        wrapped = wrap(key, b"p" * 40)
        assert wrap(key, b"p" * 40) != wrapped
        for position in range(len(wrapped)):
            altered = bytearray(wrapped)
            altered[position] ^= 1
            with pytest.raises(UnwrapError):
                unwrap_into(key, bytes(altered), out.view)
        for wrong in (wrapped[:-1], wrapped + b"\0", b""):
            with pytest.raises(UnwrapError):
                unwrap_into(key, wrong, out.view)
        with pytest.raises(UnwrapError) as refusal:
            unwrap_into(other, wrapped, out.view)
        assert refusal.value.rule == "KEY-UNWRAP"
        assert not any(out.view)
