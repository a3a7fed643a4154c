"""Signatures agree with RFC 8032 and minisign, and a wrong one is never released."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from nacl.signing import SigningKey as NaclSigningKey

from keys.errors import KeysError
from keys.private.sign import generate_signing_key, sign, sign_file, signing_key
from keys.public.minisign import MinisignPublicKey, signature_matches
from keys.public.verify import signature_is_good
from tests.keys.conftest import locked

# RFC 8032, section 7.1, test 2
SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_signature_is_the_one_in_the_standard() -> None:
    with locked(SEED) as seed:
        key = signing_key(seed.view)
    assert key.public_key == PUBLIC
    assert sign(key, b"\x72") == SIGNATURE
    assert bytes(key.seed) == SEED
    assert "secret" not in repr(key)


def test_other_library_accepts_and_refuses_the_same() -> None:
    key = generate_signing_key()
    signature = sign(key, b"message")
    assert NaclSigningKey(bytes(key.seed)).sign(b"message").signature == signature
    assert signature_is_good(key.public_key, b"message", signature)
    assert not signature_is_good(key.public_key, b"massage", signature)
    assert not signature_is_good(generate_signing_key().public_key, b"message", signature)


def test_signature_of_a_damaged_key_is_not_released() -> None:
    key = generate_signing_key()
    key.secret.view[7] ^= 1  # as a fault in memory would
    with pytest.raises(KeysError) as refusal:
        sign(key, b"message")
    assert refusal.value.rule == "KEY-SIGNATURE"


def test_signed_file_verifies_with_just_its_comment() -> None:
    key = generate_signing_key()
    text = sign_file(key, b"content", "kind of document")
    public = MinisignPublicKey.decode(key.minisign.encode())
    assert signature_matches(public, b"content", text, "kind of document")
    assert not signature_matches(public, b"content", text, "another kind")
    assert not signature_matches(public, b"contend", text, "kind of document")
    with pytest.raises(ValueError, match="one line"):
        sign_file(key, b"content", "two\nlines")


def test_plain_minisign_verifies_a_signed_file(tmp_path: Path, tool: Callable[[str], Path]) -> None:
    key = generate_signing_key()
    (tmp_path / "key.pub").write_text(key.minisign.encode(), encoding="ascii")
    (tmp_path / "document").write_bytes(b"content")
    (tmp_path / "document.minisig").write_text(sign_file(key, b"content", "a comment"), encoding="utf-8")
    command = [str(tool("minisign")), "-V", "-p", "key.pub", "-m", "document"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "a comment" in done.stdout
    (tmp_path / "document").write_bytes(b"contend")
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode != 0
