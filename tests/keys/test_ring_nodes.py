"""A node's identity rotates, a node retires, its batch keys are revoked: what is believed from whom, and until when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from keys.errors import KeysError
from keys.private.secretbox import generate_key
from keys.private.sign import generate_signing_key
from keys.ring import KeyRing
from keys.ring_index import DestroyReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from keys.private.locked import LockedBuffer

NOW = 1_800_000_000
ONE, TWO, THREE = (bytes([number]) * 32 for number in (1, 2, 3))
IDENTITY = generate_signing_key()


@pytest.fixture
def master() -> Iterator[LockedBuffer]:
    with generate_key() as key:
        yield key


@pytest.fixture
def ring(tmp_path: Path, master: LockedBuffer) -> Iterator[KeyRing]:
    made = KeyRing.create(tmp_path, master, epoch=1)
    made.enrol_node("shop-a", ONE, NOW)
    made.issue_batch_keys("shop-a", 4, identity=IDENTITY, now=NOW, seal_until=NOW + 100, destroy_at=NOW + 200)
    yield made
    made.close()


def former(ring: KeyRing) -> list[tuple[str, int | None]]:
    node = ring.node("shop-a")
    assert node is not None
    return [(key.public_key, key.until) for key in node.former_keys]


def rule_of(call: Callable[[], object]) -> str:
    with pytest.raises(KeysError) as refusal:
        call()
    return refusal.value.rule


def test_former_key_of_a_node_ends_before_the_first_bundle_of_the_new_one(
    ring: KeyRing, tmp_path: Path, master: LockedBuffer
) -> None:
    ring.rotate_node("shop-a", TWO, NOW + 5)
    ring.rotate_node("shop-a", TWO, NOW + 6)
    assert former(ring) == [(ONE.hex(), None)]
    ring.settle_node_key("shop-a", 7, ONE)
    assert former(ring) == [(ONE.hex(), None)], "a bundle of the old key settles nothing"
    ring.settle_node_key("shop-a", 8)
    ring.settle_node_key("shop-a", 9)
    assert former(ring) == [(ONE.hex(), 7)], "and only the first of the new one does"
    ring.close()
    again = KeyRing.open(tmp_path, master)
    node = again.node("shop-a")
    assert node is not None
    assert (node.public_key, node.former_keys[0].replaced_at, node.next_number) == (TWO.hex(), NOW + 5, 5)
    again.close()


def test_key_between_two_others_settles_only_the_older(ring: KeyRing) -> None:
    ring.rotate_node("shop-a", TWO, NOW)
    ring.rotate_node("shop-a", THREE, NOW)
    ring.settle_node_key("shop-a", 5, TWO)
    assert former(ring) == [(ONE.hex(), 4), (TWO.hex(), None)]
    ring.settle_node_key("shop-a", 6)
    assert former(ring) == [(ONE.hex(), 4), (TWO.hex(), 5)]


def test_no_key_comes_back_or_stands_for_two_nodes(ring: KeyRing) -> None:
    ring.enrol_node("shop-b", TWO, NOW)
    ring.rotate_node("shop-b", THREE, NOW)
    for call in (
        lambda: ring.rotate_node("shop-a", THREE, NOW),
        lambda: ring.rotate_node("shop-a", TWO, NOW),
        lambda: ring.rotate_node("shop-b", TWO, NOW),
        lambda: ring.enrol_node("shop-c", TWO, NOW),
    ):
        assert rule_of(call) == "KEY-NODE-KEY"
    assert rule_of(lambda: ring.rotate_node("shop-x", b"\x09" * 32, NOW)) == "KEY-NODE-UNKNOWN"


def test_retired_node_gets_nothing_and_its_unused_keys_are_gone(
    ring: KeyRing, tmp_path: Path, master: LockedBuffer
) -> None:
    opened = ring.unused("shop-a")[0]
    ring.mark_opened(opened.key_id, NOW)
    dead = ring.retire_node("shop-a", NOW + 9)
    assert [(record.number, record.reason) for record in dead] == [
        (number, DestroyReason.REVOKED) for number in (2, 3, 4)
    ]
    assert ring.retire_node("shop-a", NOW + 99) == []
    ring.close()
    again = KeyRing.open(tmp_path, master)
    node = again.node("shop-a")
    assert node is not None
    assert node.retired_at == NOW + 9
    assert again.batch_key(opened.key_id) is not None, "a bundle that is being processed is finished"
    for call in (
        lambda: again.make_roll("shop-a", order_keys=[], now=NOW),
        lambda: again.rotate_node("shop-a", TWO, NOW),
        lambda: again.revoke_batch_keys("shop-a", None, NOW),
        lambda: again.retire_node("shop-x", NOW),
    ):
        assert rule_of(call) == "KEY-NODE-UNKNOWN"
    assert rule_of(lambda: again.enrol_node("shop-a", ONE, NOW)) == "KEY-NODE-EXISTS"
    again.close()


def test_batch_keys_are_revoked_by_number_or_all(ring: KeyRing) -> None:
    first = ring.unused("shop-a")[0]
    (dead,) = ring.revoke_batch_keys("shop-a", [1, 1], NOW + 5)
    assert (dead.number, dead.reason, dead.issued_at, dead.opened_at) == (1, DestroyReason.REVOKED, NOW, None)
    assert ring.batch_key(first.key_id) is None
    assert ring.knows_batch_key("shop-a", first.key_id)
    assert ring.revoke_batch_keys("shop-a", [1], NOW + 6) == []
    ring.mark_opened(ring.unused("shop-a")[0].key_id, NOW)
    assert rule_of(lambda: ring.revoke_batch_keys("shop-a", [3, 2], NOW)) == "KEY-IN-USE"
    assert rule_of(lambda: ring.revoke_batch_keys("shop-a", [3, 0], NOW)) == "KEY-UNKNOWN"
    assert rule_of(lambda: ring.revoke_batch_keys("shop-a", [3, 5], NOW)) == "KEY-UNKNOWN"
    assert [key.number for key in ring.unused("shop-a")] == [3, 4], "a refusal revokes none"
    assert [dead.number for dead in ring.revoke_batch_keys("shop-a", None, NOW)] == [3, 4]
    assert ring.revoke_batch_keys("shop-a", None, NOW) == []
