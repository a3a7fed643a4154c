"""Silence is an alarm: this node says when it should have heard from the offline side, or should have pushed."""

from __future__ import annotations

import pytest

from tests.transfer.house import NOW, House
from transfer.sync.plan import Waiting, cut_is_due, sign_of_life_is_due
from transfer.sync.silence import Heard, heard, of_silence, silence_of
from transfer.sync.status import look

DAY = 86_400
HOUR = 3600


def rules(house: House, days_later: float) -> set[str]:
    now = NOW + int(days_later * DAY)
    return {notice.rule for notice in look(house.node, house.register, now=now).notices}


def test_a_bundle_without_any_answer_is_an_alarm_after_the_configured_days(house: House) -> None:
    house.take([1])
    house.push()
    assert "RETURN-SILENT" not in rules(house, 6.9)
    assert "RETURN-SILENT" in rules(house, 7.1)


def test_a_return_ends_the_silence_even_before_the_receipt(house: House) -> None:
    house.take([1])
    house.push()
    house.give_return([], time=NOW + 6 * DAY)
    house.pull()
    assert "RETURN-SILENT" not in rules(house, 8)
    assert "RETURN-SILENT" in rules(house, 13.1)
    house.give_return([house.receipt(1)], accepted=1)
    house.pull()
    assert "RETURN-SILENT" not in rules(house, 40)


def test_orders_that_nobody_pushes_are_an_alarm(house: House) -> None:
    house.take([1])
    assert "PUSH-SILENT" not in rules(house, 6)
    assert "PUSH-SILENT" in rules(house, 8)
    house.push()
    assert "PUSH-SILENT" not in rules(house, 8)


def test_a_node_without_orders_is_silent_for_no_reason(house: House) -> None:
    assert rules(house, 20) & {"RETURN-SILENT", "PUSH-SILENT"} == set()


def test_the_register_is_asked_once_a_minute(house: House) -> None:
    asked = []

    def read() -> Heard:
        asked.append(1)
        return heard(house.register)

    notices = silence_of(read, days=7)
    for second in (0, 1, 59, 61, 62):
        notices(NOW + second)
    assert len(asked) == 2
    notices(NOW - DAY)  # a clock that was set back
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("found", "silent"),
    [
        (Heard(returned_at=0, unanswered_since=0, waiting_since=0), []),
        (Heard(returned_at=NOW - 30 * DAY, unanswered_since=0, waiting_since=0), []),
        (Heard(returned_at=0, unanswered_since=NOW - 8 * DAY, waiting_since=0), ["RETURN-SILENT"]),
        (Heard(returned_at=NOW - DAY, unanswered_since=NOW - 8 * DAY, waiting_since=0), []),
        (Heard(returned_at=0, unanswered_since=0, waiting_since=NOW - 8 * DAY), ["PUSH-SILENT"]),
    ],
)
def test_who_is_silent(found: Heard, silent: list[str]) -> None:
    assert [notice.rule for notice in of_silence(found, now=NOW, days=7)] == silent


def test_a_sign_of_life_crosses_when_there_are_no_orders(house: House) -> None:
    """Without it, an idle shop could not be told from a dead cron, on either side."""
    every = 7 * DAY // 2
    assert not sign_of_life_is_due(last_cut=0, in_flight=0, now=NOW, every=every)
    assert not sign_of_life_is_due(last_cut=NOW - every, in_flight=1, now=NOW, every=every)
    assert not sign_of_life_is_due(last_cut=NOW - every + 1, in_flight=0, now=NOW, every=every)
    assert sign_of_life_is_due(last_cut=NOW - every, in_flight=0, now=NOW, every=every)


def waiting(orders: int = 1, age: int = 0, ends: int = 30 * DAY) -> Waiting:
    return Waiting(orders=orders, oldest=NOW - age, seal_until=NOW + ends)


@pytest.mark.parametrize(
    ("keys", "in_flight", "due"),
    [
        ([], 0, False),
        ([waiting(age=59 * 60)], 0, False),
        ([waiting(age=HOUR)], 0, True),
        ([waiting(age=HOUR)], 1, False),  # the more is unanswered, the longer keys must last
        ([waiting(age=2 * HOUR)], 1, True),
        ([waiting(age=23 * HOUR)], 9, False),
        ([waiting(age=DAY)], 9, True),
        ([waiting(orders=100)], 9, True),  # full
        ([waiting(), waiting()], 9, True),  # the first one was full
        ([waiting(ends=DAY - 1)], 9, True),  # its key dies soon
        ([waiting(ends=-1)], 0, True),
    ],
)
def test_when_watch_cuts(keys: list[Waiting], in_flight: int, due: bool) -> None:
    assert cut_is_due(keys, in_flight=in_flight, now=NOW, patience=HOUR, max_orders=100) is due


def test_at_one_cut_an_hour_thirty_keys_last_for_weeks_without_an_answer() -> None:
    now, cuts, oldest = NOW, 0, NOW
    while cuts < 30:
        now += 60
        key = Waiting(orders=1, oldest=oldest, seal_until=now + 30 * DAY)
        if cut_is_due([key], in_flight=cuts, now=now, patience=HOUR, max_orders=100):
            cuts, oldest = cuts + 1, now
    assert now - NOW > 25 * DAY
