"""Keys that end, by their time, a revocation, a rotation or with the node: nobody's order is sealed to one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from intake.groups import GroupCommit, Outcome
from intake.live_keys import LiveKeys
from keys.private.sign import generate_signing_key
from keys.public.roll import Role
from keys.public.seal import key_id
from tests.intake.answers import problem, stored
from tests.intake.node import FAR, NODE, Node
from tests.intake.orders import good_order, new_key
from tests.intake.test_sealed_orders import document, seal, sealing_keys
from tests.transfer.house import NODE as HOUSE_NODE
from tests.transfer.house import House
from transfer.register import Register
from transfer.spool import Spool
from transfer.sync.node import Node as NodeState
from transfer.sync.retired import retire
from transfer.wire.envelope import Envelope
from transfer.wire.header import Header, decode_header, encode_header
from transfer.wire.sealing import SealingKeys

NewNode = Callable[[], Node]
HOUR = 3600


def notices(node: Node) -> dict[str, str]:
    return {notice["rule"]: notice["remedy"] for notice in node.get("/readyz").json["notices"]}


def test_during_a_rotation_orders_sealed_to_either_order_key_are_taken(new_node: NewNode) -> None:
    node = new_node().configure().enrol(6).start()
    old = sealing_keys(node)
    node.offline.order_keys.append((node.offline.batch_keys.pop(), FAR))
    node.new_roll(5)
    new = sealing_keys(node)
    assert new.order_key_id != old.order_key_id
    for keys in (old, new):
        key = new_key()
        both = SealingKeys.of(keys.order_key, new.batch_key)
        answer = node.post(document(seal(both, key)), key)
        assert answer.status == 202
    answer = node.post(good_order(), new_key())
    header = decode_header(stored(node)[answer.json["order_id"]][:92])
    assert header.order_key_id == new.order_key_id  # the server seals to the newest


def test_once_the_old_order_key_has_ended_the_page_seals_again(new_node: NewNode) -> None:
    node = new_node().configure().enrol(6).start()
    old = sealing_keys(node)
    node.offline.order_keys.append((node.offline.batch_keys.pop(), FAR))
    node.new_roll(5, order_until=int(time.time()) - 1)
    key = new_key()
    problem(node.post(document(seal(old, key)), key), 409, "INTAKE-RESEAL")
    again = seal(sealing_keys(node), key)
    assert node.post(document(again), key).status == 202


def test_a_revoked_batch_key_is_never_sealed_to_again(new_node: NewNode) -> None:
    node = new_node().configure().enrol(3).start()
    first = sealing_keys(node)
    key, known = new_key(), new_key()
    accepted = node.post(document(seal(first, known)), known)
    node.revoke(Role.BATCH, first.batch_key)
    assert sealing_keys(node).batch_key != first.batch_key
    problem(node.post(document(seal(first, key)), key), 409, "INTAKE-RESEAL")
    assert node.post(document(seal(first, known)), known).body == accepted.body
    answer = node.post(good_order(), new_key())
    header = decode_header(stored(node)[answer.json["order_id"]][:92])
    assert header.batch_key_id != first.batch_key_id
    node.new_roll(3)  # which lists the revoked key again
    assert sealing_keys(node).batch_key != first.batch_key
    problem(node.post(document(seal(first, key)), key), 409, "INTAKE-RESEAL")


def test_a_revoked_order_key_is_never_sealed_to_again(new_node: NewNode) -> None:
    node = new_node().configure().enrol(3).start()
    first = sealing_keys(node)
    node.revoke(Role.ORDER, first.order_key)
    problem(node.get("/keys"), 503, "INTAKE-KEYS-OUT")
    key = new_key()
    problem(node.post(document(seal(first, key)), key), 409, "INTAKE-RESEAL")
    refused = node.post(good_order(), new_key())
    problem(refused, 503, "INTAKE-KEYS-OUT")
    assert int(refused.headers["retry-after"]) > 0
    problem(node.get("/readyz"), 503, "INTAKE-NOT-READY")
    assert "ORDER-KEY-EXPIRED" in notices(node)
    node.new_roll(3)
    problem(node.get("/keys"), 503, "INTAKE-KEYS-OUT")


@pytest.mark.parametrize("damage", [b"{", b"", b'{"format":1,"revocations":[{}]}'])
def test_when_nobody_knows_what_was_revoked_nothing_is_sealed(new_node: NewNode, damage: bytes) -> None:
    node = new_node().configure().enrol(3).start()
    (node.state / "revoked.json").write_bytes(damage)
    problem(node.post(good_order(), new_key()), 503, "INTAKE-KEYS-OUT")
    assert "TRUST-REVOKED" in notices(node)


def test_an_envelope_whose_roles_are_exchanged_is_sealed_again(new_node: NewNode) -> None:
    node = new_node().configure().enrol(3).start()
    keys = sealing_keys(node)
    for wrong in (
        SealingKeys.of(keys.batch_key, keys.order_key),
        SealingKeys.of(keys.batch_key, keys.batch_key),
        SealingKeys.of(keys.order_key, keys.order_key),
    ):
        key = new_key()
        problem(node.post(document(seal(wrong, key)), key), 409, "INTAKE-RESEAL")
    assert stored(node) == {}


def test_when_the_keys_have_run_out_the_answer_says_when_to_come_back(new_node: NewNode) -> None:
    node = new_node().configure(max_orders=1).enrol(1).start()
    assert node.post(good_order(), new_key()).status == 202
    refused = node.post(good_order(), new_key())
    problem(refused, 503, "INTAKE-KEYS-OUT")
    assert int(refused.headers["retry-after"]) > 0
    assert "KEYS-OUT" in notices(node)
    assert "spool-sync push" in notices(node)["KEYS-OUT"]


def test_what_will_end_soon_is_said_while_orders_are_taken(new_node: NewNode) -> None:
    node = new_node().configure().enrol(7).start()
    soon = int(time.time()) + HOUR
    node.new_roll(7, seal_until=soon, order_until=soon)
    answer = node.get("/readyz")
    assert answer.status == 200
    assert set(notices(node)) == {"KEYS-EXPIRING", "ORDER-KEY-EXPIRING"}
    assert all(notices(node).values())


@pytest.mark.parametrize(
    ("away", "doubted"), [(HOUR, True), (60, False), (-HOUR, False), (-60 * 86_400, True)]
)
def test_a_clock_that_contradicts_the_offline_side_is_doubted_and_stops_nothing(
    new_node: NewNode, away: int, doubted: bool
) -> None:
    node = new_node().configure().enrol(7).start()
    node.new_roll(7, issued_at=int(time.time()) + away)
    answer = node.get("/readyz")
    assert answer.status == 200
    assert ("CLOCK-DOUBT" in notices(node)) == doubted
    assert node.post(good_order(), new_key()).status == 202


def test_a_retired_node_takes_no_orders_and_still_answers_for_its_own(new_node: NewNode) -> None:
    node = new_node().configure(workers=2).enrol(3).start()
    known = new_key()
    accepted = node.post(good_order(), known)
    sealed_key = new_key()
    envelope = seal(sealing_keys(node), sealed_key)
    register = Register(node.state / "register.db")
    state = NodeState(node=NODE, state=node.state, max_orders=9, max_bytes=10**9)  # type: ignore[arg-type]
    retire(state, register, now=int(time.time()), lost=True)
    register.close()
    for _ in range(6):  # both workers
        problem(node.post(good_order(), new_key()), 503, "INTAKE-RETIRED")
    problem(node.post(document(envelope), sealed_key), 503, "INTAKE-RETIRED")
    problem(node.get("/keys"), 503, "INTAKE-RETIRED")
    problem(node.get("/readyz"), 503, "INTAKE-NOT-READY")
    assert set(notices(node)) == {"NODE-RETIRED"}
    assert node.post(good_order(), known).body == accepted.body


@pytest.mark.parametrize(("passed", "expected"), [(0, None), (1, Outcome.RESEAL), (2, Outcome.KEYS_OUT)])
def test_a_key_that_ends_between_the_judging_and_the_sealing_is_not_sealed_to(
    tmp_path: Path, passed: int, expected: Outcome | None
) -> None:
    """The old order key ends at 1000, the new one and the batch key at 1001; the header was judged at 999."""
    node = Node(root=tmp_path).configure()
    node.offline.order_keys.append((node.offline.order_key.generate(), 1001))
    node.enrol(1, seal_until=1001, order_until=1000)
    now = 999
    keys = LiveKeys(node=NODE, state=node.state)
    keys.refresh()
    old = key_id(node.offline.order_key.public_key.encode())
    batch = key_id(node.offline.batch_keys[0].public_key.encode())
    assert keys.is_live_order_key(old, now)
    now += passed
    sealed = []

    def seal_it(given: SealingKeys) -> Envelope:
        sealed.append(given)
        return Envelope(header=encode_header(header), order_box=bytes(560), card_box=bytes(176))

    header = Header(
        order_id=bytes(16), order_key_id=old, batch_key_id=batch, time=999, basket_digest=bytes(32)
    )

    async def enter() -> Outcome | None:
        register = Register(node.state / "register.db")
        commit = GroupCommit(spool=Spool(node.state / "spool"), register=register, keys=keys, now=lambda: now)
        answer = commit.enter(
            order_id=bytes(16), basket_digest=bytes(32), seal=seal_it, sealed_to=(old, batch)
        )
        if not isinstance(answer, Outcome):
            assert await answer is Outcome.NEW
        commit.close()
        register.close()
        return answer if isinstance(answer, Outcome) else None

    assert asyncio.run(enter()) is expected
    assert bool(sealed) == (expected is None)


def test_pages_are_served_with_every_identity_that_may_have_signed_the_roll(tmp_path: Path) -> None:
    house = House(root=tmp_path / "house")
    keys = LiveKeys(node=HOUSE_NODE, state=house.node.state)
    old, new = house.identity.public_key, generate_signing_key()

    def trusted() -> tuple[bytes, ...]:
        keys.refresh()
        return keys.identities

    assert trusted() == (old,)
    house.give_return([house.handover(new)])
    house.pull()
    assert trusted() == (old, new.public_key)
    house.give_return(by=new)
    house.pull()
    assert trusted() == (new.public_key, old)  # a roll of the old one may still lie here
    house.close()
    assert LiveKeys(node=HOUSE_NODE, state=tmp_path).identities == ()
