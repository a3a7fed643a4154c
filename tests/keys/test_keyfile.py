"""Key files: damage, a wrong passphrase, another kind and a careless mode are told apart."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keys import keyfile
from keys.errors import KeysError
from keys.keyfile import Cost, Kind, read_signing_key, write_signing_key
from keys.private.sign import generate_signing_key
from tests.keys.conftest import PASSPHRASE, locked

ROOT = Path(__file__).parents[2]
CHEAP = Cost(1, 8 * 1024 * 1024)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keyfile") / "identity.key"
    with locked(PASSPHRASE) as passphrase:
        write_signing_key(path, generate_signing_key(), passphrase, CHEAP)
    return path


def refusal_of(path: Path, passphrase: bytes = PASSPHRASE) -> str:
    with locked(passphrase) as given_passphrase, pytest.raises(KeysError) as refusal:
        read_signing_key(path, given_passphrase)
    return refusal.value.rule


def copy_with(tmp_path: Path, raw: bytes) -> Path:
    path = tmp_path / "copy.key"
    path.write_bytes(raw)
    path.chmod(0o600)
    return path


def with_checksum(lines: bytes) -> bytes:
    """What an attacker can do as well: the checksum is against damage, not against people."""
    return lines + hashlib.blake2b(lines, digest_size=32).hexdigest().encode() + b"\n"


def test_key_comes_back_with_its_passphrase(tmp_path: Path) -> None:
    key = generate_signing_key()
    path = tmp_path / "identity.key"
    with locked(PASSPHRASE) as passphrase:
        write_signing_key(path, key, passphrase)
        again = read_signing_key(path, passphrase)
    assert again.public_key == key.public_key
    assert again.secret.view == key.secret.view
    assert path.stat().st_mode & 0o777 == 0o600
    assert bytes(key.seed).hex().encode() not in path.read_bytes()


def test_wrong_passphrase_is_told_apart_from_damage(stored: Path) -> None:
    assert refusal_of(stored, b"another passphrase") == "KEY-PASSPHRASE"
    assert refusal_of(stored, PASSPHRASE + b" ") == "KEY-PASSPHRASE"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_damage_is_found_before_the_passphrase_is_tried(
    stored: Path, tmp_path: Path, data: st.DataObject
) -> None:
    raw = bytearray(stored.read_bytes())
    match data.draw(st.sampled_from(("flip", "cut", "add"))):
        case "flip":
            raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        case "cut":
            del raw[data.draw(st.integers(0, len(raw) - 1)) :]
        case _:
            raw += data.draw(st.binary(min_size=1, max_size=10))
    assert refusal_of(copy_with(tmp_path, bytes(raw))) == "KEY-FILE-DAMAGED"


@given(raw=st.binary(max_size=600))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_refused_in_order(tmp_path: Path, raw: bytes) -> None:
    assert refusal_of(copy_with(tmp_path, raw)) == "KEY-FILE-DAMAGED"
    assert refusal_of(copy_with(tmp_path, with_checksum(raw + b"\nAAAA\n"))) == "KEY-FILE-DAMAGED"


def test_altered_public_key_with_a_fresh_checksum_is_found(stored: Path, tmp_path: Path) -> None:
    first, second, _, _ = stored.read_bytes().split(b"\n")
    public = read_header_field(first, b"public_key")
    forged = first.replace(public, generate_signing_key().public_key.hex().encode())
    path = copy_with(tmp_path, with_checksum(forged + b"\n" + second + b"\n"))
    assert refusal_of(path) == "KEY-FILE-DAMAGED"


def test_costs_that_would_exhaust_the_machine_are_refused(stored: Path, tmp_path: Path) -> None:
    first, second, _, _ = stored.read_bytes().split(b"\n")
    greedy = first.replace(b'"memory":8388608', b'"memory":8796093022208')
    assert greedy != first
    path = copy_with(tmp_path, with_checksum(greedy + b"\n" + second + b"\n"))
    assert refusal_of(path) == "KEY-FILE-DAMAGED"


def test_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    with locked(PASSPHRASE) as passphrase, locked(b"k" * 32) as private:
        keyfile.create(path, Kind.KEYSTORE, b"p" * 32, private.view, passphrase, CHEAP)
    assert refusal_of(path) == "KEY-FILE-KIND"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_key_file_that_others_can_read_is_refused(stored: Path, tmp_path: Path, mode: int) -> None:
    path = copy_with(tmp_path, stored.read_bytes())
    path.chmod(mode)
    assert refusal_of(path) == "KEY-FILE-MODE"


def test_key_file_is_never_overwritten(stored: Path) -> None:
    before = stored.read_bytes()
    with locked(PASSPHRASE) as passphrase, pytest.raises(KeysError) as refusal:
        write_signing_key(stored, generate_signing_key(), passphrase, CHEAP)
    assert refusal.value.rule == "KEY-FILE-EXISTS"
    assert stored.read_bytes() == before


def test_missing_key_file_is_refused(tmp_path: Path) -> None:
    assert refusal_of(tmp_path / "none.key") == "KEY-FILE-MISSING"


def test_plain_b2sum_computes_the_checksum(stored: Path) -> None:
    lines = stored.read_bytes().splitlines(keepends=True)
    done = subprocess.run(["b2sum", "-l", "256"], input=lines[0] + lines[1], capture_output=True, check=True)
    assert done.stdout.split()[0] == lines[2].strip()


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from keys.keyfile import MODERATE, write_signing_key
from keys.private.locked import LockedBuffer
from keys.private.sign import generate_signing_key
key, passphrase = generate_signing_key(), LockedBuffer(12)
resource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28))
try:
    write_signing_key(Path(sys.argv[1]), key, passphrase, MODERATE)
except Exception as error:
    print(error.rule, error.message)
"""


def test_too_little_memory_to_stretch_a_passphrase_is_said_plainly(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY, tmp_path / "identity.key"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert done.stdout == "MEMORY-STRETCH Argon2id needs 256 MiB of memory and did not get it\n"
    assert list(tmp_path.iterdir()) == []


def read_header_field(header: bytes, field: bytes) -> bytes:
    return header.partition(b'"' + field + b'":"')[2].partition(b'"')[0]
