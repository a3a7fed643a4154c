"""The keystore: made whole or not at all, opened by one command with one passphrase, altered by nobody."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import pytest

from keys import keyfile
from keys.errors import KeysError
from keys.keystore import Keystore, claims_rehearsal
from keys.keystore_index import BATCH_DESTROY, BATCH_SEAL, ORDER_DESTROY, ORDER_SEAL
from keys.private.sign import sign
from keys.private.unseal import open_box
from keys.public.roll import Role, check_entry, decode_roll, encode_roll, roll_digest
from keys.public.seal import seal
from keys.public.verify import signature_is_good
from tests.keys.conftest import NOW, PASSPHRASE, locked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NODE_KEY = b"\x07" * 32


def refusal_of(path: Path, passphrase: bytes = PASSPHRASE) -> str:
    with locked(passphrase) as given, pytest.raises(KeysError) as refusal:
        Keystore.open(path, [given]).close()
    return refusal.value.rule


def test_keys_come_back_as_they_were_made(keystore_path: Path) -> None:
    with locked(PASSPHRASE) as passphrase:
        with Keystore.open(keystore_path, [passphrase]) as first:
            identity, order = first.identity.public_key, first.order_keys[0]
            vault = bytes(first.vault_key.view)
        with Keystore.open(keystore_path, [passphrase]) as again:
            assert again.rehearsal is True
            assert again.epoch == 1
            assert again.identity.public_key == identity
            assert bytes(again.vault_key.view) == vault
            (order_again,) = again.order_keys
            assert order_again.key.key_id == order.key.key_id
            assert (order_again.number, order_again.made_at) == (1, NOW)
            assert (order_again.seal_until, order_again.destroy_at) == (NOW + ORDER_SEAL, NOW + ORDER_DESTROY)
            assert signature_is_good(identity, b"text", sign(again.identity, b"text"))
            key = again.order_key(order.key.key_id)
            assert key is not None
            assert open_box(seal(b"order", key.public_key), key.public_key, key.private) == b"order"
            assert again.order_key(b"?" * 16) is None


def test_real_keystore_is_no_rehearsal_and_costs_more_to_guess(tmp_path: Path) -> None:
    path = tmp_path / "keystore"
    with (
        locked(PASSPHRASE) as passphrase,
        Keystore.create(path, [passphrase], rehearsal=False, now=NOW) as keystore,
    ):
        assert keystore.rehearsal is False
    assert claims_rehearsal(path) is False
    assert keyfile.read_header(path / "master.key").memory == 256 * 1024 * 1024
    assert path.stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o077 == 0 for file in path.iterdir())


def test_no_private_key_is_in_the_files(keystore: Keystore, keystore_path: Path) -> None:
    raw = b"".join(file.read_bytes() for file in keystore_path.iterdir())
    for secret in (keystore.identity.seed, keystore.vault_key.view, keystore.order_keys[0].key.private.view):
        assert bytes(secret) not in raw
        assert bytes(secret).hex().encode() not in raw


def test_wrong_passphrase_is_told_apart_from_damage(keystore_path: Path) -> None:
    assert refusal_of(keystore_path, b"not the passphrase") == "KEY-PASSPHRASE"
    raw = bytearray((keystore_path / "master.key").read_bytes())
    raw[200] ^= 1
    (keystore_path / "master.key").write_bytes(raw)
    assert refusal_of(keystore_path) == "KEY-FILE-DAMAGED"


@pytest.mark.parametrize("name", ["keys", "ring", "ring.secret"])
def test_damage_or_loss_of_any_file_is_said_plainly(keystore_path: Path, name: str) -> None:
    good = (keystore_path / name).read_bytes()
    places = (0, 5, len(good) // 2, len(good) - 1)
    for bad in (*(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in places), good[:-1], b""):
        (keystore_path / name).write_bytes(bad)
        assert refusal_of(keystore_path) == "KEYSTORE-DAMAGED"
    (keystore_path / name).unlink()
    assert refusal_of(keystore_path) == "KEYSTORE-DAMAGED"
    (keystore_path / name).write_bytes(good)
    (keystore_path / name).chmod(0o600)
    with locked(PASSPHRASE) as passphrase:
        Keystore.open(keystore_path, [passphrase]).close()


def test_rehearsal_flag_cannot_be_edited(keystore_path: Path) -> None:
    master, keys = keystore_path / "master.key", keystore_path / "keys"
    assert claims_rehearsal(keystore_path) is True
    before = master.read_bytes()
    master.write_bytes(with_checksum(before.replace(b"rehearsal-keystore", b"keystore")))
    assert claims_rehearsal(keystore_path) is False
    assert refusal_of(keystore_path) == "KEY-FILE-DAMAGED"
    master.write_bytes(before)
    keys.write_bytes(keys.read_bytes().replace(b'"rehearsal":true', b'"rehearsal":false'))
    assert refusal_of(keystore_path) == "KEYSTORE-DAMAGED"


def with_checksum(file: bytes) -> bytes:
    lines = b"".join(file.splitlines(keepends=True)[:2])
    return lines + hashlib.blake2b(lines, digest_size=32).hexdigest().encode() + b"\n"


def test_files_of_two_keystores_do_not_mix(keystore_path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with locked(PASSPHRASE) as passphrase:
        Keystore.create(other, [passphrase], rehearsal=True, now=NOW).close()
    for name in ("keys", "ring", "ring.secret", "master.key"):
        mixed = tmp_path / f"mixed-{name}"
        shutil.copytree(keystore_path, mixed)
        shutil.copy(other / name, mixed / name)
        assert refusal_of(mixed) == "KEYSTORE-DAMAGED"


def test_keystore_is_open_in_one_command_only(open_keystore: Callable[[], Keystore]) -> None:
    with open_keystore(), pytest.raises(KeysError) as refusal:
        open_keystore()
    assert refusal.value.rule == "KEYSTORE-BUSY"
    open_keystore().close()


def test_missing_keystore_is_refused(tmp_path: Path) -> None:
    assert refusal_of(tmp_path / "none") == "KEYSTORE-MISSING"


def test_existing_output_is_refused_and_left_alone(keystore_path: Path) -> None:
    before = {file.name: file.read_bytes() for file in keystore_path.iterdir()}
    with locked(PASSPHRASE) as passphrase, pytest.raises(KeysError) as refusal:
        Keystore.create(keystore_path, [passphrase], rehearsal=True, now=NOW)
    assert refusal.value.rule == "KEYSTORE-EXISTS"
    assert {file.name: file.read_bytes() for file in keystore_path.iterdir()} == before


def test_failed_creation_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    path = tmp_path / "keystore"
    closed = locked(PASSPHRASE)
    closed.close()
    with pytest.raises(TypeError):  # the last step, the master key's file, fails
        Keystore.create(path, [closed], rehearsal=True, now=NOW)
    assert list(tmp_path.iterdir()) == []
    leftover = tmp_path / ".keystore.creating"
    leftover.mkdir(mode=0o700)
    (leftover / "ring").write_bytes(b"of a creation that was killed")
    with locked(PASSPHRASE) as passphrase:
        Keystore.create(path, [passphrase], rehearsal=True, now=NOW).close()
    assert [file.name for file in tmp_path.iterdir()] == ["keystore"]


def test_closing_wipes_every_key(open_keystore: Callable[[], Keystore]) -> None:
    keystore = open_keystore()
    keystore.ring.enrol_node("shop-a", NODE_KEY, NOW)
    (entry,) = keystore.issue_batch_keys("shop-a", 1, now=NOW)
    batch = keystore.ring.batch_key(entry.key_id)
    assert batch is not None
    views = [
        keystore.identity.secret.view,
        keystore.vault_key.view,
        keystore.order_keys[0].key.private.view,
        batch.private.view,
    ]
    assert all(any(view) for view in views)
    keystore.close()
    assert not any(any(view) for view in views)
    keystore.close()


def test_roll_is_complete_in_itself_and_chained(keystore: Keystore) -> None:
    identity = keystore.identity.public_key
    keystore.ring.enrol_node("shop-a", NODE_KEY, NOW)
    keystore.issue_batch_keys("shop-a", 3, now=NOW)
    first = keystore.make_roll("shop-a", now=NOW)
    raw = encode_roll(first)
    assert decode_roll(raw, node="shop-a", identity=identity) == first
    assert (first.number, first.prev, first.epoch) == (1, "00" * 32, 1)
    assert [key.number for key in first.batch_keys] == [1, 2, 3]
    assert {key.seal_until for key in first.batch_keys} == {NOW + BATCH_SEAL}
    assert {key.destroy_at for key in first.batch_keys} == {NOW + BATCH_DESTROY}
    (order,) = first.order_keys
    assert (order.role, order.node, order.number) == (Role.ORDER, "shop-a", 1)
    check_entry(order, identity)
    keystore.ring.mark_opened(first.batch_keys[0].key_id, NOW)
    keystore.issue_batch_keys("shop-a", 1, now=NOW + 1)
    second = keystore.make_roll("shop-a", now=NOW + 1)
    assert (second.number, second.prev) == (2, roll_digest(raw).hex())
    assert [key.number for key in second.batch_keys] == [2, 3, 4]


def test_expired_order_key_is_not_issued_and_still_opens(keystore: Keystore) -> None:
    keystore.ring.enrol_node("shop-a", NODE_KEY, NOW)
    late = NOW + ORDER_SEAL
    assert len(keystore.make_roll("shop-a", now=late - 1).order_keys) == 1
    assert keystore.make_roll("shop-a", now=late).order_keys == []
    assert keystore.order_key(keystore.order_keys[0].key.key_id) is not None
