"""The key ring: issuing, opening, holding and destroying keys, each durable before it returns."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from keys.errors import KeysError
from keys.private import strongbox
from keys.private.locked import LockedBuffer
from keys.private.secretbox import UnwrapError, generate_key
from keys.private.sign import generate_signing_key
from keys.private.unseal import open_box
from keys.public.roll import KeyEntry, Role, check_entry
from keys.public.seal import key_id, seal
from keys.ring import HOLD_LIMIT, KeyRing
from keys.ring_index import DestroyReason, KeyRole, RingIndex

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = 1_800_000_000
NODE_KEY = b"\x07" * 32
IDENTITY = generate_signing_key()


@pytest.fixture
def master() -> Iterator[LockedBuffer]:
    with generate_key() as key:
        yield key


@pytest.fixture
def ring(tmp_path: Path, master: LockedBuffer) -> Iterator[KeyRing]:
    made = KeyRing.create(tmp_path, master, epoch=1)
    made.enrol_node("shop-a", NODE_KEY, NOW)
    yield made
    made.close()


def issue(ring: KeyRing, count: int, node: str = "shop-a") -> list[KeyEntry]:
    return ring.issue_batch_keys(
        node, count, identity=IDENTITY, now=NOW, seal_until=NOW + 100, destroy_at=NOW + 200
    )


def rule_of(refusal: pytest.ExceptionInfo[KeysError]) -> str:
    return refusal.value.rule


def test_issued_keys_are_numbered_signed_and_there_after_reopening(
    ring: KeyRing, tmp_path: Path, master: LockedBuffer
) -> None:
    entries = issue(ring, 2) + issue(ring, 1)
    assert [entry.number for entry in entries] == [1, 2, 3]
    ring.close()
    again = KeyRing.open(tmp_path, master)
    for entry in entries:
        assert (entry.role, entry.node, entry.epoch) == (Role.BATCH, "shop-a", 1)
        check_entry(entry, IDENTITY.public_key)
        key = again.batch_key(entry.key_id)
        assert key is not None
        assert open_box(seal(b"card", key.public_key), key.public_key, key.private) == b"card"
    assert again.unused("shop-a") == entries
    assert [node.next_number for node in again.nodes()] == [4]
    again.close()


def test_nodes_have_names_and_keys_of_their_own(ring: KeyRing) -> None:
    ring.enrol_node("shop-a", NODE_KEY, NOW + 5)
    assert [node.enrolled_at for node in ring.nodes()] == [NOW]
    for node, public_key, rule in (
        ("shop-a", b"\x08" * 32, "KEY-NODE-EXISTS"),
        ("shop-b", NODE_KEY, "KEY-NODE-KEY"),
        ("Shop", b"\x08" * 32, "KEY-NODE-NAME"),
        ("../x", b"\x08" * 32, "KEY-NODE-NAME"),
        ("shop-b\n", b"\x08" * 32, "KEY-NODE-NAME"),
        ("", b"\x08" * 32, "KEY-NODE-NAME"),
    ):
        with pytest.raises(KeysError) as refusal:
            ring.enrol_node(node, public_key, NOW)
        assert rule_of(refusal) == rule


def test_nothing_is_issued_to_a_node_that_is_not_enrolled(ring: KeyRing) -> None:
    with pytest.raises(KeysError) as refusal:
        issue(ring, 1, node="shop-b")
    assert rule_of(refusal) == "KEY-NODE-UNKNOWN"
    with pytest.raises(KeysError) as refusal:
        ring.make_roll("shop-b", order_keys=[], now=NOW)
    assert rule_of(refusal) == "KEY-NODE-UNKNOWN"


def test_first_opening_counts_and_takes_the_key_out_of_the_roll(
    ring: KeyRing, tmp_path: Path, master: LockedBuffer
) -> None:
    first, second = issue(ring, 2)
    ring.mark_opened(first.key_id, NOW + 10)
    ring.mark_opened(first.key_id, NOW + 50)
    ring.close()
    again = KeyRing.open(tmp_path, master)
    record = again.batch_record(first.key_id)
    assert record is not None
    assert record.opened_at == NOW + 10
    assert again.unused("shop-a") == [second]
    with pytest.raises(KeysError) as refusal:
        again.mark_opened(b"?" * 16, NOW)
    assert rule_of(refusal) == "KEY-UNKNOWN"
    again.close()


def test_hold_keys_are_made_for_many_orders_at_once(
    ring: KeyRing, tmp_path: Path, master: LockedBuffer
) -> None:
    orders = [bytes([number]) * 16 for number in range(5)]
    keys = ring.new_hold_keys(orders, now=NOW, destroy_at=NOW + HOLD_LIMIT)
    boxes = [seal(order, key.public_key) for order, key in zip(orders, keys, strict=True)]
    ring.close()
    again = KeyRing.open(tmp_path, master)
    for order, made, box, record in zip(orders, keys, boxes, again.hold_records(), strict=True):
        assert bytes.fromhex(record.order_id) == order
        key = again.hold_key(made.key_id)
        assert key is not None
        assert open_box(box, key.public_key, key.private) == order
        assert again.batch_key(made.key_id) is None
    assert again.new_hold_keys([], now=NOW, destroy_at=NOW) == []
    again.close()


def test_destroyed_keys_are_gone_from_memory_and_disk_and_remembered(
    ring: KeyRing, tmp_path: Path, master: LockedBuffer
) -> None:
    first, second = issue(ring, 2)
    (hold,) = ring.new_hold_keys([b"o" * 16], now=NOW, destroy_at=NOW + 5)
    key = ring.batch_key(first.key_id)
    assert key is not None
    view = key.private.view
    done = ring.destroy([first.key_id, hold.key_id], reason=DestroyReason.BATCH_DONE, now=NOW + 9)
    assert not any(view)
    assert [(dead.role, dead.node, dead.number, dead.order_id) for dead in done] == [
        (KeyRole.BATCH, "shop-a", 1, None),
        (KeyRole.HOLD, None, None, (b"o" * 16).hex()),
    ]
    assert ring.destroy([first.key_id], reason=DestroyReason.LIMIT, now=NOW + 99) == []
    ring.close()
    again = KeyRing.open(tmp_path, master)
    assert again.batch_key(first.key_id) is None
    assert again.hold_key(hold.key_id) is None
    assert again.batch_key(second.key_id) is not None
    assert again.find_destroyed(first.key_id) == done[0]
    assert again.find_destroyed(second.key_id) is None
    assert again.destroyed_records() == done
    again.close()


def test_unknown_key_stops_the_whole_destruction(ring: KeyRing) -> None:
    (entry,) = issue(ring, 1)
    with pytest.raises(KeysError) as refusal:
        ring.destroy([entry.key_id, b"?" * 16], reason=DestroyReason.LIMIT, now=NOW)
    assert rule_of(refusal) == "KEY-UNKNOWN"
    assert ring.batch_key(entry.key_id) is not None


def test_old_ring_does_not_open_with_anything_left_after_a_destruction(
    ring: KeyRing, tmp_path: Path, master: LockedBuffer
) -> None:
    first, _ = issue(ring, 2)
    old_ring = (tmp_path / "ring").read_bytes()
    old_secret_file = (tmp_path / "ring.secret").read_bytes()
    key = ring.batch_key(first.key_id)
    assert key is not None
    private = bytes(key.private.view)
    ring.destroy([first.key_id], reason=DestroyReason.BATCH_DONE, now=NOW)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ring", "ring.secret"]
    for file in tmp_path.iterdir():
        raw = file.read_bytes()
        assert private not in raw
        assert old_secret_file.partition(b"\n")[2] not in raw
    secret = ring._file._wrapping
    assert secret is not None
    with pytest.raises(UnwrapError), strongbox.opened(secret, old_ring, RingIndex, "old ring"):
        pass
    with pytest.raises(UnwrapError), strongbox.opened(master, old_ring, RingIndex, "old ring"):
        pass
    ring.close()
    (tmp_path / "ring").write_bytes(old_ring)  # the old ring put back beside the new secret
    with pytest.raises(KeysError) as refusal:
        KeyRing.open(tmp_path, master)
    assert rule_of(refusal) == "KEYSTORE-DAMAGED"


def test_old_secret_is_overwritten_where_it_stood(ring: KeyRing, tmp_path: Path) -> None:
    (entry,) = issue(ring, 1)
    before = (tmp_path / "ring.secret").read_bytes()
    with (tmp_path / "ring.secret").open("rb") as kept:  # an open file outlives its name
        ring.destroy([entry.key_id], reason=DestroyReason.BATCH_DONE, now=NOW)
        after = kept.read()
    assert len(after) == len(before)
    assert sum(one == other for one, other in zip(before, after, strict=True)) < len(before) // 4


def test_index_cannot_be_altered(ring: KeyRing, tmp_path: Path, master: LockedBuffer) -> None:
    issue(ring, 1)
    ring.close()
    raw = (tmp_path / "ring").read_bytes()
    assert raw.count(b'"seal_until":1800000100') == 1
    (tmp_path / "ring").write_bytes(raw.replace(b'"seal_until":1800000100', b'"seal_until":1900000100'))
    with pytest.raises(KeysError) as refusal:
        KeyRing.open(tmp_path, master)
    assert rule_of(refusal) == "KEYSTORE-DAMAGED"


def test_overdue_keys_are_named(ring: KeyRing) -> None:
    unused, opened = issue(ring, 2)
    ring.mark_opened(opened.key_id, NOW)
    (hold,) = ring.new_hold_keys([b"o" * 16], now=NOW, destroy_at=NOW + 60)
    assert ring.overdue(NOW + 49, hold_limit=50) == []
    assert ring.overdue(NOW + 50, hold_limit=50) == [opened.key_id]
    assert ring.overdue(NOW + 60, hold_limit=50) == [opened.key_id, hold.key_id]
    assert ring.overdue(NOW + 200) == [unused.key_id, opened.key_id, hold.key_id]


def test_failed_change_stops_the_ring_until_it_is_opened_again(
    ring: KeyRing, tmp_path: Path, master: LockedBuffer
) -> None:
    (entry,) = issue(ring, 1)
    (tmp_path / "ring.new").mkdir()  # in the way of the next save
    with pytest.raises(FileExistsError):
        issue(ring, 1)
    assert ring.unused("shop-a") == [entry]
    (tmp_path / "ring.new").rmdir()
    with pytest.raises(KeysError) as refusal:
        issue(ring, 1)
    assert rule_of(refusal) == "KEYSTORE-STATE"
    ring.close()
    again = KeyRing.open(tmp_path, master)
    assert [later.number for later in issue(again, 1)] == [2]
    again.close()


def test_destruction_costs_few_milliseconds_with_a_full_ring(ring: KeyRing) -> None:
    entries = issue(ring, 100)
    best = 1.0
    for entry in entries[:5]:
        start = time.perf_counter()
        ring.destroy([entry.key_id], reason=DestroyReason.BATCH_DONE, now=NOW)
        best = min(best, time.perf_counter() - start)
    assert best < 0.05  # the seven fsyncs included; without them about one millisecond


def test_key_ids_are_those_of_the_public_keys(ring: KeyRing) -> None:
    (entry,) = issue(ring, 1)
    key = ring.batch_key(entry.key_id)
    assert key is not None
    assert key.key_id == entry.key_id == key_id(bytes.fromhex(entry.public_key))


def test_a_ring_that_would_outgrow_its_file_is_left_as_it_was(
    ring: KeyRing, tmp_path: Path, master: LockedBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = issue(ring, 1)
    with monkeypatch.context() as limit:
        limit.setattr(strongbox, "SIZE_LIMIT", 4096)
        with pytest.raises(KeysError) as refusal:
            issue(ring, 30)
    assert rule_of(refusal) == "KEYSTORE-FULL"
    ring.close()
    again = KeyRing.open(tmp_path, master)
    assert again.unused("shop-a") == kept
    again.close()
