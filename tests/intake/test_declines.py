"""Card testing: a network whose orders come back declined may order only slowly, and no address is kept for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from intake.declines import Callers, Suspects, is_suspicious
from tests.intake.node import Node
from tests.intake.orders import good_order, new_key
from transfer.register import Register
from transfer.sync.node import LAST_RETURN
from transfer.wire.records import Reason, StatusRecord, StatusState

NewNode = Callable[[], Node]
NOW, DAY = 1_800_000_000.0, 86_400


@pytest.mark.parametrize(
    ("statuses", "suspicious"),
    [
        ([], False),
        (["declined"] * 4, False),  # one person with one bad card tries it a few times
        (["declined"] * 5, True),
        (["declined"] * 4 + ["paid"], True),
        (["declined"] * 3 + ["paid"] * 2, False),
        (["declined"] * 6 + ["paid"] * 2, True),
        (["declined"] * 6 + ["paid", "dispatched", "refunded"], False),
        (["declined"] * 5 + ["", "held", "order-again"] * 5, True),
    ],
)
def test_who_is_declined_nearly_always_is_suspicious(statuses: list[str], suspicious: bool) -> None:
    assert is_suspicious(statuses) is suspicious


def test_orders_are_remembered_for_a_week_by_their_tags(tmp_path: Path) -> None:
    first, second = Callers(tmp_path, 1), Callers(tmp_path, 2)
    orders = [os.urandom(16) for _ in range(150)]
    for number, order in enumerate(orders):
        (first, second)[number % 2].note(order, 7 + number % 3, NOW)
    first.flush(NOW)
    second.flush(NOW)
    found = Callers(tmp_path, 3).tags(NOW + 6 * DAY)
    assert {tag: sorted(ids) for tag, ids in found.items()} == {
        7 + rest: sorted(order.hex() for order in orders[rest::3]) for rest in range(3)
    }
    assert Callers(tmp_path, 3).tags(NOW + 7 * DAY) == {}
    assert list((tmp_path / "callers").iterdir()) == []


def test_a_record_that_was_torn_costs_no_other(tmp_path: Path) -> None:
    callers = Callers(tmp_path, 1)
    callers.note(bytes(16), 1, NOW)
    callers.flush(NOW)
    (path,) = (tmp_path / "callers").iterdir()
    with path.open("ab") as file:
        file.write(b"torn")
    assert callers.tags(NOW) == {1: [bytes(16).hex()]}


def test_a_return_is_what_makes_it_count_again(tmp_path: Path) -> None:
    callers, asked, news = Callers(tmp_path, 1), [], ["r1"]
    for number in range(6):
        callers.note(bytes([number]) * 16, 9, NOW)
    callers.note(b"x" * 16, 8, NOW)
    callers.flush(NOW)

    def statuses(ids: list[str]) -> dict[str, str]:
        asked.append(ids)
        return dict.fromkeys(ids, "declined")

    suspects = Suspects(callers, news=lambda: news[0], statuses=statuses)
    assert 9 not in suspects
    for _ in range(3):
        suspects.look(NOW)
    assert (9 in suspects, 8 in suspects) == (True, False)
    assert len(asked) == 1
    news[0] = "r2"
    suspects.look(NOW)
    assert len(asked) == 2


def test_a_network_whose_orders_are_declined_orders_slowly_and_no_other(new_node: NewNode) -> None:
    node = new_node().configure().enrol().start()

    def order(address: str) -> int:
        return node.post(good_order(), new_key(), **{"X-Forwarded-For": address}).status

    bad = [
        node.post(good_order(), new_key(), **{"X-Forwarded-For": "198.51.100.1"}).json["order_id"]
        for _ in range(6)
    ]
    good = [
        node.post(good_order(), new_key(), **{"X-Forwarded-For": "203.0.113.1"}).json["order_id"]
        for _ in range(6)
    ]
    node.stop()  # what the worker noted is written at its end; the next one looks at its first order
    records = [
        StatusRecord(order=one, state=state, reason=reason, changed_at=1)
        for ids, state, reason in (
            (bad, StatusState.DECLINED, Reason.CARD_DECLINED),
            (good, StatusState.PAID, Reason.NONE),
        )
        for one in ids
    ]
    register = Register(node.state / "register.db")
    assert register.update_statuses(records) == (12, 0)
    register.set_fact(LAST_RETURN, {"name": "r00000001-00000001", "time": 1})
    register.close()
    node.start()
    statuses = [order("198.51.100.1") for _ in range(8)]
    assert statuses[0] == 202
    assert statuses[-1] == 429
    assert statuses.count(202) <= 5
    assert [order("203.0.113.1") for _ in range(8)] == [202] * 8
    kept = b"".join(path.read_bytes() for path in (node.state / "callers").iterdir())
    assert b"198.51.100.1" not in kept
    assert bytes([198, 51, 100, 1]) not in kept
    assert bytes.fromhex(bad[0]) in kept
