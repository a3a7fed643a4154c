"""What we sign, checked by programs that are not ours: minisign, sha256sum, and two libraries by hand.

Why here: who must trust a bundle should need nothing of ours to check it (FORMAT.md, section 8).
Must not: check a signature by any code of keys or transfer.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from keys.public.roll import Role
from tests.transfer.house import House

Tool = Callable[[str], Path]
DOMAIN = b"sealed-orders/v1/"


def pushed(house: House) -> Path:
    house.take([1, 2, 3])
    house.push()
    return house.unit(1)


def minisign(tool: Tool, public: Path, file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(tool("minisign")), "-V", *options, "-p", str(public), "-m", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)


def flip(path: Path, place: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)


def signed_files(house: House) -> list[tuple[Path, Path, str]]:
    """Every kind of signed file: the public key, the file, and its kind."""
    unit, identity = pushed(house), house.enrolment() / "identity.pub"
    return [
        (house.node.state / "identity.pub", unit / "manifest.json", "bundle"),
        (identity, house.give_return([house.receipt(1)]) / "manifest.json", "return"),
        (identity, house.enrolment() / "keyroll.json", "key-roll"),
    ]


@pytest.mark.needs_tool("minisign")
def test_minisign_verifies_each_signed_file_and_shows_its_kind(house: House, tool: Tool) -> None:
    for public, file, kind in signed_files(house):
        assert minisign(tool, public, file).returncode == 0
        # -Q prints the trusted comment alone; -H refuses the legacy form.
        assert minisign(tool, public, file, "-Q", "-H").stdout.strip() == f"sealed-orders v1 {kind}"


@pytest.mark.needs_tool("minisign")
@pytest.mark.parametrize("place", [0, 40, -1])
def test_minisign_refuses_a_flipped_byte(house: House, tool: Tool, place: int) -> None:
    for public, file, _ in signed_files(house):
        flip(file, place)
        assert minisign(tool, public, file).returncode != 0


@pytest.mark.needs_tool("minisign")
def test_minisign_refuses_another_kind_signer_or_signature(house: House, tool: Tool) -> None:
    public, file, _ = signed_files(house)[0]
    signature = file.with_name("manifest.json.minisig")
    text = signature.read_text()
    signature.write_text(text.replace("v1 bundle", "v1 return"))
    assert minisign(tool, public, file).returncode != 0
    signature.write_text(text)
    assert minisign(tool, house.enrolment() / "identity.pub", file).returncode != 0
    assert minisign(tool, public, file).returncode == 0


@pytest.mark.needs_tool("sha256sum")
def test_sha256sum_agrees_with_the_manifest(house: House, tool: Tool) -> None:
    unit = pushed(house)
    manifest = json.loads((unit / "manifest.json").read_bytes())
    line = f"{manifest['envelopes_sha256']}  envelopes.bin\n"
    command = [str(tool("sha256sum")), "--check", "--strict", "-"]

    def agrees() -> bool:
        result = subprocess.run(command, cwd=unit, input=line.encode(), capture_output=True, check=False)
        return result.returncode == 0

    assert agrees()
    assert (unit / "envelopes.bin").stat().st_size == manifest["envelopes_size"]
    flip(unit / "envelopes.bin", 500)
    assert not agrees()


def public_key(path: Path) -> tuple[bytes, Ed25519PublicKey]:
    """minisign's key number and the Ed25519 key of a .pub file."""
    raw = base64.b64decode(path.read_text().splitlines()[1], validate=True)
    assert (raw[:2], len(raw)) == (b"Ed", 42)
    return raw[2:10], Ed25519PublicKey.from_public_bytes(raw[10:])


def digest(domain: bytes, data: bytes, size: int) -> bytes:
    name = DOMAIN + domain
    return hashlib.blake2b(bytes([len(name)]) + name + data, digest_size=size).digest()


def test_signed_files_verify_with_hashlib_and_cryptography_alone(house: House) -> None:
    for public, file, kind in signed_files(house):
        number, key = public_key(public)
        assert number == digest(b"minisign-key-number", key.public_bytes_raw(), 8)
        lines = file.with_name(file.name + ".minisig").read_text().split("\n")
        raw, whole = base64.b64decode(lines[1], validate=True), base64.b64decode(lines[3], validate=True)
        comment = f"sealed-orders v1 {kind}"
        assert lines[2:] == [f"trusted comment: {comment}", lines[3], ""]
        assert raw[:10] == b"ED" + number
        key.verify(raw[10:], hashlib.blake2b(file.read_bytes()).digest())
        key.verify(whole, raw[10:] + comment.encode())
        with pytest.raises(InvalidSignature):
            key.verify(raw[10:], hashlib.blake2b(file.read_bytes() + b"\n").digest())


@pytest.mark.parametrize("role", list(Role))
def test_key_entry_verifies_with_hashlib_and_cryptography_alone(house: House, role: Role) -> None:
    _, identity = public_key(house.enrolment() / "identity.pub")
    roll = json.loads((house.enrolment() / "keyroll.json").read_bytes())
    entry = roll[f"{role.value}_keys"][0]
    node = entry["node"].encode()
    covered = b"".join(
        (
            bytes([{"order": 1, "batch": 2}[entry["role"]], len(node)]),
            node,
            entry["epoch"].to_bytes(4, "big"),
            entry["number"].to_bytes(4, "big"),
            bytes.fromhex(entry["public_key"]),
            entry["seal_until"].to_bytes(8, "big"),
            entry["destroy_at"].to_bytes(8, "big"),
        )
    )
    identity.verify(
        bytes.fromhex(entry["signature"]), DOMAIN + b"key-entry\0" + digest(b"key-entry", covered, 32)
    )


def test_signed_json_is_what_the_standard_library_writes(house: House) -> None:
    for _, file, _ in signed_files(house):
        raw = file.read_bytes()
        assert json.dumps(json.loads(raw), sort_keys=True, separators=(",", ":")).encode() == raw
