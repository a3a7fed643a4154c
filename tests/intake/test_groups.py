"""Group commit in its own loop: locks that end, keys whose time runs out, one answer for each order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from intake.groups import GROUP_MAXIMUM, GroupCommit, Outcome
from intake.live_keys import LiveKeys
from tests.intake.node import FAR, NODE, Node
from tests.intake.orders import new_key
from transfer.errors import TransferError
from transfer.register import Register
from transfer.spool import Spool, read_group
from transfer.wire import ids
from transfer.wire.envelope import Envelope
from transfer.wire.header import Header, decode_header, encode_header
from transfer.wire.sealing import SealingKeys


class Desk:
    """A group commit on a real spool and register, with a clock of its own."""

    def __init__(self, root: Path, *, seal_until: int = FAR) -> None:
        node = Node(root / "node").configure().enrol(3, seal_until=seal_until)
        self.now = 1000
        self.spool = Spool(node.state / "spool")
        self.register = Register(node.state / "register.db")
        self.keys = LiveKeys(node=NODE, state=node.state)
        self.commit = GroupCommit(
            spool=self.spool, register=self.register, keys=self.keys, now=lambda: self.now
        )

    def enter(self, key: str, digest: bytes = bytes(32)) -> asyncio.Future[Outcome] | Outcome:
        identity = ids.order_id(key)

        def seal(keys: SealingKeys) -> Envelope:
            header = Header(
                order_id=identity,
                order_key_id=keys.order_key_id,
                batch_key_id=keys.batch_key_id,
                time=self.now,
                basket_digest=digest,
            )
            return Envelope(header=encode_header(header), order_box=bytes(560), card_box=bytes(176))

        return self.commit.enter(order_id=identity, basket_digest=digest, seal=seal)

    def headers(self) -> list[Header]:
        return [
            decode_header(entry.envelope[:92])
            for partition in self.spool.partitions()
            for path in self.spool.groups(partition.batch_key_id)
            for entry in read_group(path)
        ]

    def close(self) -> None:
        self.commit.close()
        self.register.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


async def _all(answers: list[asyncio.Future[Outcome] | Outcome]) -> list[Outcome]:
    return [answer if isinstance(answer, Outcome) else await answer for answer in answers]


def test_a_group_holds_duplicates_once_and_answers_each(desk: Desk) -> None:
    async def play() -> list[Outcome]:
        one, two = new_key(), new_key()
        answers = [desk.enter(key) for key in (one, two, one, one)]
        answers.append(desk.enter(two, bytes([1]) * 32))
        return await _all(answers)

    assert asyncio.run(play()) == [
        Outcome.NEW,
        Outcome.NEW,
        Outcome.SAME,
        Outcome.SAME,
        Outcome.OTHER_BASKET,
    ]
    assert len(desk.headers()) == 2


def test_an_order_that_cannot_be_sealed_leaves_no_lock_behind(desk: Desk) -> None:
    def fail(_: SealingKeys) -> Envelope:
        raise TransferError("ORDER-SIZE", "too large")

    async def play() -> None:
        with pytest.raises(TransferError):
            desk.commit.enter(order_id=bytes(16), basket_digest=bytes(32), seal=fail)
        await asyncio.sleep(0.2)
        key_id = next(desk.keys.batch_keys(desk.now)).key_id
        desk.spool.close(key_id)
        with desk.spool.exclusive(key_id, patience=1.0):
            pass

    asyncio.run(play())


def test_more_orders_than_a_group_takes_go_into_several(desk: Desk) -> None:
    async def play() -> list[Outcome]:
        return await _all([desk.enter(new_key()) for _ in range(2 * GROUP_MAXIMUM + 5)])

    assert set(asyncio.run(play())) == {Outcome.NEW}
    assert len(desk.headers()) == 2 * GROUP_MAXIMUM + 5
    (partition,) = desk.spool.partitions()
    assert partition.groups == 3


def test_a_group_that_waits_takes_no_order_after_its_keys_time(tmp_path: Path) -> None:
    desk = Desk(tmp_path, seal_until=2000)

    async def play() -> list[Outcome]:
        answers = [desk.enter(new_key())]
        desk.now = 2000
        answers.append(desk.enter(new_key()))
        return await _all(answers)

    assert asyncio.run(play()) == [Outcome.NEW, Outcome.KEYS_OUT]
    assert [header.time for header in desk.headers()] == [1000]
    desk.close()


def test_a_client_that_no_longer_waits_disturbs_nobody(desk: Desk) -> None:
    async def play() -> Outcome:
        gone, other = desk.enter(new_key()), desk.enter(new_key())
        assert not isinstance(gone, Outcome)
        gone.cancel()
        (outcome,) = await _all([other])
        return outcome

    assert asyncio.run(play()) is Outcome.NEW
    assert len(desk.headers()) == 2
