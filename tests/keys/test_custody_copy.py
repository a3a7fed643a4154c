"""Recovery from a custody copy: what outlives the machine comes back, batch and hold keys never do."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keys import custody_copy, keyfile
from keys.custody import split
from keys.errors import KeysError
from keys.keyfile import Cost
from keys.keystore import Keystore
from keys.private.unseal import open_box
from keys.public.roll import decode_roll, encode_roll
from keys.public.seal import seal
from keys.recovery import refresh_copy
from keys.ring_index import DestroyReason, KeyRole
from tests.keys.conftest import NOW, PASSPHRASE, locked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CUSTODY, CUSTODY_KEY, _ = split(2, 3)
OTHER_CUSTODY, OTHER_KEY, _ = split(2, 3)
NODE_KEY = b"\x07" * 32


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyfile, "INTERACTIVE", Cost(1, 8 * 1024 * 1024))


@pytest.fixture
def kept(tmp_path: Path, cheap: None) -> Iterator[Keystore]:
    """A keystore with custodians, one node, three batch keys, one of them opened, and a hold key."""
    with locked(PASSPHRASE) as passphrase:
        keystore = Keystore.create(tmp_path / "kept", [passphrase], rehearsal=True, now=NOW, custody=CUSTODY)
    with keystore:
        keystore.ring.enrol_node("shop-a", NODE_KEY, NOW)
        keystore.issue_batch_keys("shop-a", 3, now=NOW)
        keystore.ring.mark_opened(keystore.ring.unused("shop-a")[0].key_id, NOW + 1)
        keystore.ring.new_hold_keys([b"o" * 16], now=NOW + 1, destroy_at=NOW + 99)
        yield keystore


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("copy") / "keystore"
    with (
        locked(PASSPHRASE) as passphrase,
        Keystore.create(path, [passphrase], rehearsal=True, now=NOW, custody=CUSTODY) as keystore,
    ):
        return keystore.custody_copy(NOW)


def recover(path: Path, copy: bytes, *, epoch_above: int = 0) -> Keystore:
    with locked(b"the passphrase of a new machine") as passphrase:
        return Keystore.recover(
            path, [passphrase], copy, CUSTODY_KEY, now=NOW + 1000, epoch_above=epoch_above
        )


def refusal_of(copy: bytes) -> str:
    backend = custody_copy.look(copy).keystore.ring_backend
    with pytest.raises(KeysError) as refusal:
        custody_copy.opened(copy, CUSTODY_KEY, now=NOW, epoch_above=0, ring_backend=backend)
    return refusal.value.rule


def test_long_lived_keys_and_nodes_come_back_in_a_new_epoch(kept: Keystore, tmp_path: Path) -> None:
    kept.rotate_order_key(NOW + 5)
    boxes = [(key.key.key_id, seal(b"address", key.key.public_key)) for key in kept.order_keys]
    kept.make_roll("shop-a", now=NOW + 6)
    node = kept.ring.node("shop-a")
    with recover(tmp_path / "new", kept.custody_copy(NOW + 7)) as again:
        assert again.identity.public_key == kept.identity.public_key
        assert again.vault_key.view == kept.vault_key.view
        assert (again.epoch, again.made_at, again.rehearsal) == (2, NOW, True)
        assert again.custody == CUSTODY
        assert again.ring.node("shop-a") == node
        assert [key.number for key in again.order_keys] == [1, 2]
        for key_id, box in boxes:
            key = again.order_key(key_id)
            assert key is not None
            assert open_box(box, key.public_key, key.private) == b"address"
        again.issue_batch_keys("shop-a", 2, now=NOW + 1000)
        roll = again.make_roll("shop-a", now=NOW + 1000)
        assert (roll.epoch, roll.number, roll.prev) == (2, 2, node.roll_prev if node else None)
        assert [key.number for key in roll.batch_keys] == [4, 5]
        assert decode_roll(encode_roll(roll), node="shop-a", identity=kept.identity.public_key) == roll


def test_batch_and_hold_keys_are_gone_and_named_as_lost(kept: Keystore, tmp_path: Path) -> None:
    dead_before = kept.ring.destroy(
        [kept.ring.unused("shop-a")[1].key_id], reason=DestroyReason.BATCH_DONE, now=NOW + 2
    )
    batch = [key.entry.key_id for key in kept.ring.batch_records()]
    hold = [bytes.fromhex(key.key_id) for key in kept.ring.hold_records()]
    with recover(tmp_path / "new", kept.custody_copy(NOW + 7)) as again:
        for key_id in batch:
            assert again.ring.batch_key(key_id) is None
            assert again.ring.knows_batch_key("shop-a", key_id)
            assert not again.ring.knows_batch_key("shop-b", key_id)
        lost = [dead for dead in again.ring.destroyed_records() if dead.reason is DestroyReason.LOST]
        assert {bytes.fromhex(dead.key_id) for dead in lost} == {*batch, *hold}
        assert {dead.destroyed_at for dead in lost} == {NOW + 1000}
        assert {dead.opened_at for dead in lost if dead.role is KeyRole.BATCH} == {None, NOW + 1}
        assert again.ring.destroyed_records()[0] == dead_before[0]
        assert again.ring.lost_before_epoch == 2
        assert not again.ring.knows_batch_key("shop-a", b"?" * 16)
        announced = {bytes.fromhex(each.key) for each in again.revocations}
        assert announced == set(batch)
    assert kept.ring.lost_before_epoch == 0


def test_epoch_moves_on_from_whatever_was_seen(copy: bytes, tmp_path: Path) -> None:
    for seen, epoch in ((0, 2), (1, 2), (7, 8)):
        with recover(tmp_path / f"seen-{seen}", copy, epoch_above=seen) as again:
            assert (again.epoch, again.ring.epoch, again.ring.lost_before_epoch) == (epoch, epoch, epoch)
            with recover(tmp_path / f"twice-{seen}", again.custody_copy(NOW)) as twice:
                assert twice.epoch == epoch + 1


def test_recovered_keystore_opens_again_with_its_new_passphrases(copy: bytes, tmp_path: Path) -> None:
    with locked(PASSPHRASE) as first, locked(b"a second person's words") as second:
        Keystore.recover(tmp_path / "new", [first, second], copy, CUSTODY_KEY, now=NOW).close()
        with Keystore.open(tmp_path / "new", [first, second]) as again:
            assert again.epoch == 2
        with pytest.raises(KeysError) as refusal:
            Keystore.recover(tmp_path / "new", [first], copy, CUSTODY_KEY, now=NOW)
    assert refusal.value.rule == "KEYSTORE-EXISTS"


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_found_without_a_share(copy: bytes, data: st.DataObject) -> None:
    raw = bytearray(copy)
    match data.draw(st.sampled_from(("flip", "cut", "add"))):
        case "flip":
            raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        case "cut":
            del raw[data.draw(st.integers(0, len(raw) - 1)) :]
        case _:
            raw += data.draw(st.binary(min_size=1, max_size=10))
    with pytest.raises(KeysError) as refusal:
        custody_copy.look(bytes(raw))
    assert refusal.value.rule == "CUSTODY-DAMAGED"
    assert custody_copy.look(copy).copied_at == NOW


@given(raw=st.binary(max_size=600))
def test_any_bytes_are_refused_in_order(raw: bytes) -> None:
    for candidate in (raw, raw + b"\nAAAA\n" + b"00" * 64 + b"\n"):
        with pytest.raises(KeysError) as refusal:
            custody_copy.look(candidate)
        assert refusal.value.rule == "CUSTODY-DAMAGED"


def test_copy_of_another_custody_is_told_apart_from_damage(tmp_path: Path, copy: bytes) -> None:
    with (
        locked(PASSPHRASE) as passphrase,
        Keystore.create(
            tmp_path / "other", [passphrase], rehearsal=True, now=NOW, custody=OTHER_CUSTODY
        ) as other,
    ):
        assert refusal_of(other.custody_copy(NOW)) == "CUSTODY-OTHER"
    with pytest.raises(KeysError) as refusal:
        custody_copy.opened(
            copy,
            OTHER_KEY,
            now=NOW,
            epoch_above=0,
            ring_backend=custody_copy.look(copy).keystore.ring_backend,
        )
    assert refusal.value.rule == "CUSTODY-OTHER"


def test_box_of_another_copy_does_not_pass_with_a_fresh_signature(kept: Keystore) -> None:
    """Who holds the identity, and no more, cannot join one copy's facts to another copy's keys."""
    from keys.private.sign import sign  # noqa: PLC0415

    one = kept.custody_copy(NOW).split(b"\n")
    kept.rotate_order_key(NOW)
    other = kept.custody_copy(NOW).split(b"\n")
    signed = one[0] + b"\n" + other[1] + b"\n"
    signature = sign(kept.identity, custody_copy._message(signed)).hex().encode()
    assert refusal_of(signed + signature + b"\n") == "CUSTODY-DAMAGED"


def test_no_private_key_can_be_read_in_a_copy(kept: Keystore) -> None:
    copy = kept.custody_copy(NOW)
    for secret in (kept.identity.seed, kept.vault_key.view, kept.order_keys[0].key.private.view):
        assert bytes(secret) not in copy
        assert bytes(secret).hex().encode() not in copy
    public = kept.order_keys[0].key.public_key.hex().encode()
    assert public in copy, "the search finds what is there"
    opened, _ = custody_copy.opened(copy, CUSTODY_KEY, now=NOW, epoch_above=0, ring_backend=kept.ring_backend)
    with contextlib.closing(opened):
        assert [bytes(each) for each in opened.secrets()] == [
            bytes(each) for each in kept._files.kept.secrets()
        ]


def test_batch_keys_are_in_no_copy_in_any_form(kept: Keystore) -> None:
    opened, ring = custody_copy.opened(
        kept.custody_copy(NOW), CUSTODY_KEY, now=NOW, epoch_above=0, ring_backend=kept.ring_backend
    )
    with contextlib.closing(opened):
        held = b"".join(bytes(each) for each in opened.secrets())
    for key in kept.ring._content.keys.values():
        assert bytes(key.private.view) not in held
    assert (ring.batch_keys, ring.hold_keys) == ([], [])


def test_handover_that_lasts_goes_on_after_a_recovery(kept: Keystore, tmp_path: Path) -> None:
    old = kept.identity.public_key
    handover = kept.rotate_identity(NOW + 5)
    with recover(tmp_path / "new", kept.custody_copy(NOW + 6)) as again:
        assert again.handover == handover
        assert again.signer_of("shop-a").public_key == old
        again.confirm_handover("shop-a")
        assert again.signer_of("shop-a").public_key == kept.identity.public_key


def test_keystore_without_custodians_has_no_copy(keystore: Keystore) -> None:
    with pytest.raises(KeysError) as refusal:
        keystore.custody_copy(NOW)
    assert refusal.value.rule == "CUSTODY-NONE"


def test_copy_beside_the_keystore_forgets_a_destroyed_order_key(kept: Keystore) -> None:
    kept.rotate_order_key(NOW)
    place = refresh_copy(kept, NOW)
    assert place is not None
    before = place.read_bytes()
    assert [key.number for key in custody_copy.look(before).keystore.order_keys] == [1, 2]
    end = kept.order_keys[0].destroy_at
    kept.rotate_order_key(end)
    kept.destroy_due_order_keys(end)
    with place.open("rb") as handle:  # an open file outlives its name
        assert refresh_copy(kept, end) == place
        overwritten = handle.read()
    assert before.split(b"\n")[1][:64] not in overwritten
    assert [key.number for key in custody_copy.look(place.read_bytes()).keystore.order_keys] == [3]
    assert sorted(file.name for file in place.parent.iterdir()) == ["kept", "kept.custody"]
