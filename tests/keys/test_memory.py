"""After a keystore is closed, the memory of the process holds no private key, passphrase or card."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from keys.public.seal import seal
from tests.keys.conftest import NOW, PASSPHRASE

if TYPE_CHECKING:
    from collections.abc import Callable

    from keys.keystore import Keystore

ROOT = Path(__file__).parents[2]


@pytest.fixture
def secrets_by_name(open_keystore: Callable[[], Keystore]) -> dict[str, bytes]:
    """The bytes to look for; only this process knows them as bytes."""
    with open_keystore() as keystore:
        keystore.ring.enrol_node("shop-a", b"\x07" * 32, NOW)
        entries = keystore.issue_batch_keys("shop-a", 4, now=NOW)
        found = {
            "identity": bytes(keystore.identity.seed),
            "vault key": bytes(keystore.vault_key.view),
            "order key": bytes(keystore.order_keys[0].key.private.view),
            "master key": bytes(keystore._files.master.view),
        }
        for name, entry in zip(("used", "expired", "third", "fourth"), entries, strict=True):
            key = keystore.ring.batch_key(entry.key_id)
            assert key is not None
            found[f"{name} batch key"] = bytes(key.private.view)
        ring_secret = keystore.ring._file._wrapping
        assert ring_secret is not None
        found["old ring secret"] = bytes(ring_secret.view)
    return found


@pytest.fixture
def card(open_keystore: Callable[[], Keystore], secrets_by_name: dict[str, bytes], tmp_path: Path) -> bytes:
    """A card compartment, sealed in tmp_path/box to the first batch key."""
    assert secrets_by_name
    content = os.urandom(128)
    with open_keystore() as keystore:
        public_key = bytes.fromhex(keystore.ring.unused("shop-a")[0].public_key)
    (tmp_path / "box").write_bytes(seal(content, public_key))
    return content


def dumped(mode: str, keystore_path: Path, tmp_path: Path) -> bytes:
    out = tmp_path / "memory"
    reading, writing = os.pipe()
    os.write(writing, PASSPHRASE + b"\n")
    os.close(writing)
    arguments = [mode, str(keystore_path), str(reading), str(tmp_path / "box"), str(out)]
    try:
        subprocess.run(
            [sys.executable, "-m", "tests.keys.memory_child", *arguments],
            cwd=ROOT,
            pass_fds=(reading,),
            check=True,
            capture_output=True,
        )
    finally:
        os.close(reading)
    return out.read_bytes()


def found_in(memory: bytes, patterns: dict[str, bytes]) -> set[str]:
    """The patterns that are there whole, or by either half (a copy may be overwritten in part), or as hex."""
    return {
        name
        for name, pattern in patterns.items()
        if any(part in memory for part in (pattern[:16], pattern[16:32], pattern[:32].hex().encode("ascii")))
    }


def test_nothing_secret_is_left_after_closing(
    keystore_path: Path, tmp_path: Path, secrets_by_name: dict[str, bytes], card: bytes
) -> None:
    memory = dumped("close", keystore_path, tmp_path)
    assert len(memory) > 4_000_000
    assert keystore_path.name.encode() in memory  # the dump is of the right process
    assert found_in(memory, {**secrets_by_name, "passphrase": PASSPHRASE, "card": card}) == set()


def test_deliberate_leak_is_found(
    keystore_path: Path, tmp_path: Path, secrets_by_name: dict[str, bytes], card: bytes
) -> None:
    memory = dumped("leak", keystore_path, tmp_path)
    assert found_in(memory, {**secrets_by_name, "card": card}) == {"identity", "vault key"}


def test_open_keystore_is_seen_by_the_same_search_and_destroyed_keys_are_not(
    keystore_path: Path, tmp_path: Path, secrets_by_name: dict[str, bytes], card: bytes
) -> None:
    memory = dumped("open", keystore_path, tmp_path)
    live = set(secrets_by_name) - {"used batch key", "expired batch key", "old ring secret"}
    assert found_in(memory, {**secrets_by_name, "passphrase": PASSPHRASE, "card": card}) == live
