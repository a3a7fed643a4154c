"""Order keys and the identity rotate, are revoked and are destroyed, each change durable and whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keys import keyfile, master_key
from keys.ceremony import IDENTITY_NAME, ROLL_NAME, SIGNATURE_NAME, enrol_node
from keys.errors import KeysError
from keys.keyfile import Cost
from keys.keystore import Keystore
from keys.keystore_file import KEYS_NAME, load
from keys.keystore_index import DAY, ORDER_DESTROY, ORDER_SEAL, Cryptoperiods, KeystoreIndex
from keys.private import strongbox
from keys.private.locked import LockedBuffer
from keys.private.secretbox import UnwrapError
from keys.private.unseal import open_box
from keys.public.announcement import handover_is_good, revocation_is_good
from keys.public.fingerprint import fingerprint
from keys.public.minisign import signature_matches
from keys.public.roll import ROLL_COMMENT, Role, check_entry, decode_roll, encode_roll
from keys.public.seal import seal
from tests.keys.conftest import NOW, PASSPHRASE, locked
from tests.keys.test_crash import DONE, KILLED, Kill

NODE_KEY = b"\x07" * 32
LATER = NOW + 30 * DAY


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyfile, "INTERACTIVE", Cost(1, 8 * 1024 * 1024))


@pytest.fixture
def path(tmp_path: Path, cheap: None) -> Path:
    place = tmp_path / "cheap"
    with (
        locked(PASSPHRASE) as passphrase,
        Keystore.create(place, [passphrase], rehearsal=True, now=NOW) as keystore,
    ):
        keystore.ring.enrol_node("shop-a", NODE_KEY, NOW)
        keystore.issue_batch_keys("shop-a", 2, now=NOW)
    return place


def opened(path: Path) -> Keystore:
    with locked(PASSPHRASE) as passphrase:
        return Keystore.open(path, [passphrase])


@pytest.fixture
def keystore(path: Path) -> Iterator[Keystore]:
    with opened(path) as keystore:
        yield keystore


def rule_of(call: Callable[[], object]) -> str:
    with pytest.raises(KeysError) as refusal:
        call()
    return refusal.value.rule


# Order keys


def test_old_and_new_order_key_are_both_live_during_a_rotation(keystore: Keystore, path: Path) -> None:
    old = keystore.order_keys[0]
    box = seal(b"address", old.key.public_key)
    new = keystore.rotate_order_key(LATER, overlap=14 * DAY)
    assert (new.number, new.seal_until, new.destroy_at) == (2, LATER + ORDER_SEAL, LATER + ORDER_DESTROY)
    keystore.close()
    with opened(path) as again:
        assert [key.number for key in again.make_roll("shop-a", now=LATER).order_keys] == [1, 2]
        first = again.order_keys[0]
        assert (first.seal_until, first.destroy_at) == (LATER + 14 * DAY, old.destroy_at)
        assert [key.number for key in again.order_entries("shop-a", LATER + 14 * DAY)] == [2]
        key = again.order_key(old.key.key_id)
        assert key is not None
        assert open_box(box, key.public_key, key.private) == b"address"
        again.rotate_order_key(LATER + DAY, overlap=90 * DAY)
        assert again.order_keys[0].seal_until == LATER + 14 * DAY, "a rotation never lengthens a life"


def test_order_key_is_destroyed_at_its_time_in_memory_and_on_disk(keystore: Keystore, path: Path) -> None:
    old = keystore.order_keys[0]
    view, end = old.key.private.view, old.destroy_at
    keystore.rotate_order_key(LATER)
    assert keystore.destroy_due_order_keys(end - 1) == []
    (dead,) = keystore.destroy_due_order_keys(end)
    assert (dead.number, dead.key_id, dead.destroyed_at) == (1, old.key.key_id.hex(), end)
    assert not any(view)
    assert keystore.destroy_due_order_keys(end + 1) == []
    keystore.close()
    with opened(path) as again:
        assert again.order_key(old.key.key_id) is None
        assert [key.number for key in again.order_keys] == [2]
        assert again.destroyed_order_keys == (dead,)
        again.destroy_due_order_keys(LATER + ORDER_DESTROY)
        assert again.order_keys == ()
        assert again.rotate_order_key(LATER + ORDER_DESTROY).number == 3, "no number comes twice"


def test_revoked_order_key_is_in_no_roll_and_still_opens(keystore: Keystore, path: Path) -> None:
    box = seal(b"address", keystore.order_keys[0].key.public_key)
    key_id = keystore.order_keys[0].key.key_id
    made = keystore.revoke_order_key(1, LATER)
    assert made is not None
    assert made.number == 2, "the last key is replaced in the same step"
    assert keystore.revoke_order_key(1, LATER + 5) is None
    keystore.close()
    with opened(path) as again:
        assert [key.number for key in again.make_roll("shop-a", now=LATER).order_keys] == [2]
        (revocation,) = again.revocations
        assert (revocation.key, revocation.role, revocation.node) == (key_id.hex(), Role.ORDER, None)
        assert (revocation.revoked_at, revocation.epoch) == (LATER, 1)
        assert revocation_is_good(revocation, again.identity.public_key)
        key = again.order_key(key_id)
        assert key is not None
        assert open_box(box, key.public_key, key.private) == b"address"
        again.rotate_order_key(LATER)
        assert again.revoke_order_key(2, LATER) is None, "another one is live, so none is made"
        again.destroy_due_order_keys(NOW + ORDER_DESTROY)
        assert len(again.revocations) == 2, "a revocation outlives its key"
        assert rule_of(lambda: again.revoke_order_key(1, LATER)) == "KEY-UNKNOWN"
        assert rule_of(lambda: again.revoke_order_key(9, LATER)) == "KEY-UNKNOWN"


def test_cryptoperiods_of_the_ceremony_hold_for_every_later_key(tmp_path: Path) -> None:
    periods = Cryptoperiods(order_seal=10, order_destroy=20, batch_seal=3, batch_destroy=4)
    with locked(PASSPHRASE) as passphrase:
        Keystore.create(tmp_path / "short", [passphrase], rehearsal=True, now=NOW, periods=periods).close()
    with opened(tmp_path / "short") as keystore:
        keystore.ring.enrol_node("shop-a", NODE_KEY, NOW)
        new = keystore.rotate_order_key(NOW + 5)
        assert (new.seal_until, new.destroy_at) == (NOW + 15, NOW + 25)
        (entry,) = keystore.issue_batch_keys("shop-a", 1, now=NOW)
        assert (entry.seal_until, entry.destroy_at) == (NOW + 3, NOW + 4)


def test_expired_and_revoked_batch_keys_are_in_no_roll(keystore: Keystore) -> None:
    keystore.issue_batch_keys("shop-a", 1, now=NOW, seal=100)
    assert [key.number for key in keystore.make_roll("shop-a", now=NOW + 99).batch_keys] == [1, 2, 3]
    keystore.ring.revoke_batch_keys("shop-a", [1], NOW + 99)
    assert [key.number for key in keystore.make_roll("shop-a", now=NOW + 100).batch_keys] == [2]


# The identity


def test_identity_is_handed_over_node_by_node(keystore: Keystore, path: Path) -> None:
    keystore.ring.enrol_node("shop-b", b"\x08" * 32, NOW)
    old = keystore.identity.public_key
    handover = keystore.rotate_identity(LATER)
    assert handover is not None
    assert handover_is_good(handover)
    new = keystore.identity.public_key
    assert (handover.old_identity, handover.new_identity) == (old.hex(), new.hex())
    assert (handover.start, handover.epoch) == (LATER, 1)
    keystore.close()
    with opened(path) as again:
        assert (again.handover,) == (handover,)
        assert [key.public_key for key in again.identities] == [new, old]
        assert again.handover_waits_for == ("shop-a", "shop-b")
        again.ring.enrol_node("shop-c", b"\x09" * 32, LATER)
        again.confirm_handover("shop-a")
        for node, signer in (("shop-a", new), ("shop-b", old), ("shop-c", new)):
            assert again.signer_of(node).public_key == signer
            again.issue_batch_keys(node, 1, now=LATER)
            roll = again.make_roll(node, now=LATER)
            assert decode_roll(encode_roll(roll), node=node, identity=signer) == roll
        assert again.signer_for(True).public_key == new
        assert again.signer_for(False).public_key == old
        secret = again.signer_for(False).secret.view
        again.confirm_handover("shop-b")
        assert not any(secret), "nobody needs the old key any more"
        assert again.handover is None
        roll = again.make_roll("shop-b", now=LATER)
        for entry in (*roll.order_keys, *roll.batch_keys):
            check_entry(entry, new)
    with opened(path) as settled:
        assert settled.handover is None
        assert settled.signer_for(False).public_key == new


def test_entries_are_signed_anew_for_the_signer_that_is_asked_for(keystore: Keystore) -> None:
    old = keystore.identity.public_key
    first = keystore.make_roll("shop-a", now=NOW)
    keystore.rotate_identity(NOW)
    second = keystore.make_roll("shop-a", now=NOW, signer=keystore.identity)
    assert decode_roll(encode_roll(first), node="shop-a", identity=old) == first
    assert decode_roll(encode_roll(second), node="shop-a", identity=keystore.identity.public_key) == second
    assert [key.public_key for key in second.batch_keys] == [key.public_key for key in first.batch_keys]


def test_enrolling_again_during_a_handover_gives_what_the_node_believes(
    keystore: Keystore, tmp_path: Path
) -> None:
    old = keystore.identity.minisign
    keystore.rotate_identity(LATER)
    for node, key, signer in (
        ("shop-a", NODE_KEY, old),
        ("shop-b", b"\x08" * 32, keystore.identity.minisign),
    ):
        out = tmp_path / node
        enrol_node(
            keystore,
            node=node,
            public_key=key,
            spoken=fingerprint(key),
            out=out,
            batch_keys=3,
            now=LATER,
        )
        raw, text = ((out / name).read_bytes() for name in (ROLL_NAME, SIGNATURE_NAME))
        assert (out / IDENTITY_NAME).read_text(encoding="ascii") == signer.encode()
        assert signature_matches(signer, raw, text.decode(), ROLL_COMMENT)
        assert len(decode_roll(raw, node=node, identity=signer.public_key).batch_keys) > 0


def test_compromised_identity_signs_no_handover_and_is_wiped(keystore: Keystore, path: Path) -> None:
    old, secret = keystore.identity.public_key, keystore.identity.secret.view
    assert keystore.rotate_identity(LATER, compromised=True) is None
    assert not any(secret)
    keystore.close()
    with opened(path) as again:
        assert again.identity.public_key != old
        (former,) = again.former_identities
        assert (former.public_key, former.until, former.compromised) == (old.hex(), LATER, True)
        assert again.signer_of("shop-a").public_key == again.identity.public_key


def test_second_rotation_waits_for_the_first_unless_it_cannot(keystore: Keystore) -> None:
    first = keystore.identity.public_key
    keystore.rotate_identity(LATER)
    former = keystore.signer_for(False)
    assert rule_of(lambda: keystore.rotate_identity(LATER)) == "KEY-HANDOVER"
    keystore.rotate_identity(LATER, compromised=True)
    assert not any(former.secret.view)
    assert keystore.handover is None
    assert keystore.former_identities[0].public_key == first.hex()
    assert len(keystore.identities) == 3


def test_retired_node_keeps_no_handover_waiting(keystore: Keystore) -> None:
    keystore.ring.enrol_node("shop-b", b"\x08" * 32, NOW)
    keystore.rotate_identity(LATER)
    keystore.ring.retire_node("shop-b", LATER)
    assert keystore.handover_waits_for == ("shop-a",)
    keystore.confirm_handover("shop-a")
    assert keystore.handover is None


def test_identity_without_nodes_needs_no_handover(tmp_path: Path) -> None:
    with locked(PASSPHRASE) as passphrase:
        keystore = Keystore.create(tmp_path / "none", [passphrase], rehearsal=True, now=NOW)
    with keystore:
        secret = keystore.identity.secret.view
        assert keystore.rotate_identity(NOW) is None
        assert not any(secret)


# On disk

CHANGES: dict[str, Callable[[Keystore], object]] = {
    "rotate": lambda keystore: keystore.rotate_order_key(LATER),
    "revoke": lambda keystore: keystore.revoke_order_key(1, LATER),
    "destroy": lambda keystore: keystore.destroy_due_order_keys(NOW + ORDER_DESTROY),
    "identity": lambda keystore: keystore.rotate_identity(LATER),
    "compromised": lambda keystore: keystore.rotate_identity(LATER, compromised=True),
    "confirm": lambda keystore: keystore.confirm_handover("shop-a"),
}


def master_of(path: Path) -> LockedBuffer:
    with locked(PASSPHRASE) as passphrase:
        return master_key.read(path, [passphrase])[1]


def content(path: Path) -> tuple[object, ...]:
    """What the keystore's own file holds, its private keys included; keys made by a change are only counted."""
    with master_of(path) as master:
        kept = load(path, master)
        secrets = tuple(bytes(each) for each in kept.secrets())
        kept.close()
    return kept.index, secrets


@pytest.mark.parametrize("torn", [False, True], ids=["killed", "torn"])
@pytest.mark.parametrize("name", sorted(CHANGES))
def test_killed_change_happened_whole_or_not_at_all(
    path: Path, tmp_path: Path, name: str, torn: bool
) -> None:
    if name == "confirm":
        with opened(path) as keystore:
            keystore.rotate_identity(LATER)
    untouched = content(path)
    old_file = (path / KEYS_NAME).read_bytes()
    before = after = 0
    for at in range(60):
        directory = tmp_path / "run"
        shutil.copytree(path, directory)
        child = os.fork()
        if child == 0:
            try:
                keystore = opened(directory)
                Kill(at, torn=torn)
                CHANGES[name](keystore)
                os._exit(DONE)
            finally:
                os._exit(1)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert ended in (DONE, KILLED)
        now = content(directory)
        assert sorted(file.name for file in directory.iterdir()) == [
            "keys",
            "lock",
            "master.key",
            "ring",
            "ring.secret",
        ]
        if now == untouched:
            assert ended == KILLED
            assert after == 0, "once a change is durable it stays"
            before += 1
        else:
            after += 1
            assert all(file.read_bytes() != old_file for file in directory.iterdir())
        with opened(directory) as keystore:  # and the next command can go on
            CHANGES[name](keystore) if now == untouched else keystore.rotate_order_key(LATER)
        shutil.rmtree(directory)
        if ended == DONE:
            break
    else:
        raise AssertionError("the change never ended")
    assert before > 1
    assert after > 1


def found_in(path: Path, wanted: bytes) -> bool:
    """True when ``wanted`` is in a file of the keystore: as it is, as hex, or in what the master key unwraps."""
    with master_of(path) as master:
        for file in path.iterdir():
            raw = file.read_bytes()
            if wanted in raw or wanted.hex().encode() in raw:
                return True
            try:
                with strongbox.opened(master, raw, KeystoreIndex, "any file") as (_, secrets):
                    if wanted in bytes(secrets):
                        return True
            except (KeysError, UnwrapError):
                continue
    return False


def test_destroyed_order_key_is_in_no_file_of_the_keystore(keystore: Keystore, path: Path) -> None:
    old = bytes(keystore.order_keys[0].key.private.view)
    kept = bytes(keystore.rotate_order_key(LATER).key.private.view)
    wrapped = (path / KEYS_NAME).read_bytes().partition(b"\n")[2]
    with (path / KEYS_NAME).open("rb") as handle:  # an open file outlives its name
        assert found_in(path, old), "the search finds a key that is there"
        keystore.destroy_due_order_keys(NOW + ORDER_DESTROY)
        assert not found_in(path, old)
        assert found_in(path, kept), "and finds the one that stays"
        assert all(wrapped not in file.read_bytes() for file in path.iterdir())
        handle.seek(0)
        overwritten = handle.read()
    assert wrapped not in overwritten
    assert wrapped[:32] not in overwritten


def test_former_identity_is_in_no_file_once_all_have_confirmed(keystore: Keystore, path: Path) -> None:
    seed = bytes(keystore.identity.seed)
    keystore.rotate_identity(LATER)
    assert found_in(path, seed)
    keystore.confirm_handover("shop-a")
    assert not found_in(path, seed)


def test_failed_change_stops_the_keystore_until_it_is_opened_again(keystore: Keystore, path: Path) -> None:
    (path / "keys.new").mkdir()  # in the way of the next change
    with pytest.raises(FileExistsError):
        keystore.rotate_order_key(LATER)
    assert [key.number for key in keystore.order_keys] == [1]
    (path / "keys.new").rmdir()
    assert rule_of(lambda: keystore.rotate_order_key(LATER)) == "KEYSTORE-STATE"
    keystore.close()
    with opened(path) as again:
        assert again.rotate_order_key(LATER).number == 2
