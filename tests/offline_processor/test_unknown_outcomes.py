"""Unknown outcomes: never sent again, reversed until answered, charged afresh only then, and never twice."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import sqlite_utils

from keys.ring_index import DestroyReason
from offline_processor import holding
from offline_processor.charging import SecurityCode
from tests.offline_processor.acquirers import BadLine, LineCutError, changed, cut, silent, unsteady
from tests.offline_processor.forgery import forge
from tests.offline_processor.shop import (
    HOLD_HOURS,
    HOUR,
    LOST_ANSWER_CARD,
    NO_ANSWER_AMOUNT,
    SILENT_AMOUNT,
    Shop,
    a_card,
    an_order,
    id_of,
)

if TYPE_CHECKING:
    from offline_processor.workplace import RunReport
    from tests.offline_processor.acquirers import Line

HELD = ("held", "none", "CHARGE-NO-ANSWER")
PAID = ("paid", "none", "")


def books(shop: Shop, number: int) -> list[tuple[str, str]]:
    """(kind, retrieval reference) of every authorisation and reversal of an order, as the acquirer saw them."""
    database = sqlite_utils.Database(shop.books)
    try:
        query = "SELECT kind, rrn FROM booking WHERE reference = ? AND kind != 'capture' ORDER BY id"
        return list(database.execute(query, [id_of(number)]).fetchall())
    finally:
        database.close()


def attempts(shop: Shop) -> list[tuple[object, ...]]:
    return shop.rows("SELECT number, attempt, state FROM live_attempt ORDER BY number")


def run_over(shop: Shop, authorising: Line, reversing: Line = lambda answers: answers) -> RunReport:
    return shop.run(BadLine(path=shop.books, authorising=authorising, reversing=reversing))


# One lost answer


def test_lost_answer_is_held_under_a_hold_key_and_the_batch_key_dies(shop: Shop) -> None:
    key_id = shop.keys_for().batch_key_id
    shop.bundle([shop.seal(0, card=a_card(LOST_ANSWER_CARD)), shop.seal(1)])
    shop.run()
    assert shop.state(0) == HELD
    assert shop.told(0) == ("held", "none")
    assert shop.hold_key_of(0) is not None
    destroyed = shop.keystore.ring.find_destroyed(key_id)
    assert destroyed is not None
    assert destroyed.reason is DestroyReason.BATCH_DONE
    assert attempts(shop) == [(1, 1, "unknown"), (2, 1, "approved")]
    assert shop.state(1) == PAID


def test_next_run_reverses_first_and_charges_afresh(shop: Shop) -> None:
    shop.bundle([shop.seal(0, card=a_card(LOST_ANSWER_CARD))])
    shop.run()
    (hold_key,) = shop.keystore.ring.hold_records()
    report = shop.run_later()
    assert report.reversed == 1
    assert books(shop, 0) == [
        ("authorisation", "010000000001"),
        ("reversal", "010000000001"),
        ("authorisation", "010000000002"),
    ]
    assert shop.state(0) == PAID
    assert shop.told(0) == ("paid", "none")
    assert shop.charges() == {id_of(0): 1}
    destroyed = shop.keystore.ring.find_destroyed(bytes.fromhex(hold_key.key_id))
    assert destroyed is not None
    assert destroyed.reason is DestroyReason.ANSWERED
    assert shop.keystore.ring.hold_records() == []
    assert shop.rows("SELECT * FROM held_card") == []


def test_reversals_go_before_every_new_charge(shop: Shop) -> None:
    shop.bundle([shop.seal(0, card=a_card(LOST_ANSWER_CARD))])
    shop.run()
    keys = shop.keys_for()
    shop.bundle([shop.seal(1, keys=keys)], batch_key_id=keys.batch_key_id)
    shop.run_later()
    database = sqlite_utils.Database(shop.books)
    kinds = [
        row[0]
        for row in database.execute("SELECT kind FROM booking WHERE kind != 'capture' ORDER BY id").fetchall()
    ]
    database.close()
    assert kinds == ["authorisation", "reversal", "authorisation", "authorisation"]


def test_order_that_is_never_answered_is_given_up_after_three_attempts(shop: Shop) -> None:
    shop.bundle([shop.seal(0, order=an_order(0, amount=NO_ANSWER_AMOUNT))])
    shop.run()
    for attempt in (2, 3):
        shop.run_later()
        assert shop.state(0) == HELD
        assert attempts(shop) == [(1, attempt, "unknown")]
        assert shop.hold_key_of(0) is not None
    shop.run_later()
    assert shop.state(0) == ("order-again", "try-later", "CHARGE-GIVEN-UP")
    assert shop.told(0) == ("order-again", "try-later")
    assert [kind for kind, _ in books(shop, 0)] == ["authorisation", "reversal"] * 3
    assert shop.charges() == {}
    assert attempts(shop) == []
    assert shop.keystore.ring.hold_records() == []


def test_more_orders_than_a_window_are_held_and_charged_afresh(shop: Shop) -> None:
    shop.window = 3
    cards = [a_card(LOST_ANSWER_CARD if number % 3 else b"4242424242424242") for number in range(12)]
    shop.bundle([shop.seal(number, card=card) for number, card in enumerate(cards)])
    shop.run()
    assert len(shop.keystore.ring.hold_records()) == 8
    report = shop.run_later()
    assert (report.reversed, report.outcomes) == (8, {"paid": 8})
    assert shop.charges() == {id_of(number): 1 for number in range(12)}
    assert shop.keystore.ring.hold_records() == []


def test_second_attempt_that_is_declined_ends_the_hold(shop: Shop) -> None:
    shop.bundle([shop.seal(0, card=a_card(b"4000000000000002"))])
    run_over(shop, silent)
    assert shop.state(0) == HELD
    report = shop.run_later()
    assert shop.state(0) == ("declined", "card-declined", "DE39 05")
    assert shop.told(0) == ("declined", "card-declined")
    assert [record.reason for record in report.keys_destroyed] == [DestroyReason.ANSWERED]
    assert attempts(shop) == []


# Reversals without an answer


def test_reversal_is_repeated_until_it_is_answered(shop: Shop) -> None:
    shop.bundle([shop.seal(0, order=an_order(0, amount=SILENT_AMOUNT))])
    shop.run()
    for _ in range(3):
        assert shop.run_later().reversed == 0
    assert [kind for kind, _ in books(shop, 0)] == ["authorisation", "reversal", "reversal", "reversal"]
    assert len({rrn for _, rrn in books(shop, 0)}) == 1
    assert shop.state(0) == HELD
    assert attempts(shop) == [(1, 1, "reversal-pending")]


def test_at_the_limit_the_code_dies_and_not_the_order(shop: Shop) -> None:
    shop.bundle([shop.seal(0, order=an_order(0, amount=SILENT_AMOUNT))])
    shop.run()
    shop.run_later(HOLD_HOURS * HOUR - 1)
    assert shop.hold_key_of(0) is not None
    report = shop.run_later(1)
    assert [record.reason for record in report.keys_destroyed] == [DestroyReason.LIMIT]
    assert shop.keystore.ring.hold_records() == []
    assert shop.rows("SELECT * FROM held_card") == []
    shop.run_later(30 * 24 * HOUR)
    assert shop.state(0) == HELD  # what was perhaps charged is never "order again"
    assert shop.told(0) == ("held", "none")


def test_reversal_answered_after_the_limit_lets_the_customer_order_again(shop: Shop) -> None:
    shop.bundle([shop.seal(0, card=a_card(LOST_ANSWER_CARD))])
    shop.run()
    shop.now += HOLD_HOURS * HOUR
    run_over(shop, lambda answers: answers, silent)
    assert shop.state(0) == HELD
    shop.run_later()
    assert shop.state(0) == ("order-again", "expired", "HOLD-LIMIT")
    assert shop.charges() == {}
    assert attempts(shop) == []


@pytest.mark.parametrize(
    "line",
    [silent, partial(changed, code="05"), partial(changed, stan=77), partial(changed, amount=1)],
    ids=["silent", "refused", "other trace number", "other amount"],
)
def test_only_a_matching_approval_of_the_reversal_counts(shop: Shop, line: Line) -> None:
    shop.bundle([shop.seal(0, card=a_card(LOST_ANSWER_CARD))])
    shop.run()
    shop.now += 60
    assert run_over(shop, lambda answers: answers, line).reversed == 0
    assert attempts(shop) == [(1, 1, "reversal-pending")]
    assert len([kind for kind, _ in books(shop, 0) if kind == "authorisation"]) == 1
    assert shop.run_later().reversed == 1
    assert shop.state(0) == PAID
    assert shop.charges() == {id_of(0): 1}


# Answers that do not match


@pytest.mark.parametrize(
    "changes",
    [
        {"stan": 99},
        {"rrn": "019999999999"},
        {"amount": 1, "code": "05"},
        {"code": "11"},
        {"late": True},
    ],
    ids=str,
)
def test_answer_about_something_else_is_no_answer(shop: Shop, changes: dict[str, Any]) -> None:
    shop.bundle([shop.seal(0)])
    run_over(shop, partial(changed, **changes))
    assert shop.state(0) == HELD
    shop.run_later()
    assert shop.state(0) == PAID
    assert [kind for kind, _ in books(shop, 0)] == ["authorisation", "reversal", "authorisation"]
    assert shop.charges() == {id_of(0): 1}


@pytest.mark.parametrize(
    ("changes", "rule", "end"),
    [
        ({"amount": 2498}, "CHARGE-AMOUNT", ("quarantined", "under-review")),
        ({"currency": "SEK"}, "CHARGE-AMOUNT", ("quarantined", "under-review")),
        ({"code": "10", "amount": 1200}, "CHARGE-PARTIAL", ("declined", "new-card")),
        ({"security_code": SecurityCode.MISMATCH}, "CHARGE-CVV", ("declined", "new-card")),
    ],
    ids=str,
)
def test_approval_that_is_not_good_is_reversed_and_never_tried_again(
    shop: Shop, changes: dict[str, Any], rule: str, end: tuple[str, str]
) -> None:
    shop.bundle([shop.seal(0)])
    run_over(shop, partial(changed, **changes))
    assert shop.state(0) == ("held", "none", rule)
    assert shop.told(0) == ("held", "none")
    # It was answered, so its CVV is gone with the window: there is no hold key.
    assert shop.hold_key_of(0) is None
    shop.run_later()
    assert shop.state(0) == (*end, rule)
    shop.run_later()
    assert [kind for kind, _ in books(shop, 0)] == ["authorisation", "reversal"]
    assert shop.charges() == {}
    assert shop.rows("SELECT number FROM live_attempt") == []


def test_answers_that_are_swapped_between_orders_are_no_answers(shop: Shop) -> None:
    shop.bundle([shop.seal(0), shop.seal(1, card=a_card(b"4000000000000002"))])
    run_over(shop, lambda answers: answers[::-1])
    assert shop.state(0) == shop.state(1) == HELD
    shop.run_later()
    assert shop.state(0) == PAID
    assert shop.state(1) == ("declined", "card-declined", "DE39 05")
    assert shop.charges() == {id_of(0): 1}


# A silent acquirer


def test_silent_acquirer_stops_the_charging_after_a_whole_window(shop: Shop) -> None:
    shop.window = 4
    key_id = shop.keys_for().batch_key_id
    shop.bundle([shop.seal(number) for number in range(10)])
    report = run_over(shop, silent)
    assert report.acquirer_silent
    assert [state for state, _, _ in shop.states().values()] == ["held"] * 4 + ["screened"] * 6
    assert shop.keystore.ring.batch_key(key_id) is not None
    assert not [record for record in shop.records() if type(record).__name__ == "Receipt"]
    assert shop.told(0) == ("held", "none")
    assert shop.told(5) is None
    report = shop.run_later()
    assert report.reversed == 4
    assert report.outcomes == {"paid": 10}
    assert shop.charges() == {id_of(number): 1 for number in range(10)}
    assert shop.keystore.ring.batch_key(key_id) is None


def test_orders_never_tried_go_before_those_without_an_answer(shop: Shop) -> None:
    shop.window = 4
    shop.bundle([shop.seal(number) for number in range(10)])
    run_over(shop, silent)
    shop.now += 60
    run_over(shop, silent)
    assert [shop.state(number)[0] for number in range(10)] == ["screened"] * 4 + ["held"] * 4 + [
        "screened"
    ] * 2
    for _ in range(6):
        shop.run_later()
    assert {shop.state(number) for number in range(10)} == {PAID}
    assert shop.charges() == {id_of(number): 1 for number in range(10)}


def test_order_of_an_unsettled_bundle_is_given_up_after_three_attempts_too(shop: Shop) -> None:
    shop.window = 1
    shop.bundle([shop.seal(0)])
    for _ in range(3):
        run_over(shop, silent)
        shop.now += 60
    shop.run_later()
    assert shop.state(0) == ("order-again", "try-later", "CHARGE-GIVEN-UP")
    assert shop.charges() == {}


def test_hold_keys_are_limited_and_orders_without_an_answer_come_first(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "HOLD_KEYS", 3)
    bad = [forge(shop, number, card={"amount": 1}) for number in range(4)]
    shop.bundle([*bad, shop.seal(5, card=a_card(LOST_ANSWER_CARD))])
    shop.run()
    assert len(shop.keystore.ring.hold_records()) == 3
    assert shop.hold_key_of(5) is not None
    assert [shop.state(number)[0] for number in range(4)] == ["quarantined"] * 4
    shop.run_later(HOLD_HOURS * HOUR)
    assert {shop.state(number) for number in range(4)} == {("order-again", "expired", "HOLD-LIMIT")}


def test_silent_acquirer_until_the_key_dies_loses_no_order(shop: Shop) -> None:
    shop.window = 4
    shop.bundle([shop.seal(number) for number in range(6)])
    run_over(shop, silent)
    shop.now += HOLD_HOURS * HOUR
    run_over(shop, silent, silent)
    assert [shop.state(number)[0] for number in range(6)] == ["held"] * 4 + ["order-again"] * 2
    shop.run_later()
    assert {shop.state(number) for number in range(4)} == {("order-again", "expired", "HOLD-LIMIT")}
    assert {shop.state(number) for number in (4, 5)} == {("order-again", "expired", "KEY-DESTROYED")}
    assert shop.charges() == {}


def test_few_unanswered_orders_do_not_stop_the_charging(shop: Shop) -> None:
    shop.window = 4
    shop.bundle([shop.seal(number) for number in range(3)])
    report = run_over(shop, silent)
    assert not report.acquirer_silent
    assert len(shop.keystore.ring.hold_records()) == 3


# Cut off in the middle


def test_window_cut_off_at_the_acquirer_is_unknown_and_reversed_first(shop: Shop) -> None:
    shop.window = 4
    shop.bundle([shop.seal(number) for number in range(6)])
    with pytest.raises(LineCutError):
        run_over(shop, cut)
    assert [state for _, _, state in attempts(shop)] == ["intent"] * 4
    report = shop.run_later()
    assert (report.interrupted, report.reversed) == (4, 4)
    assert report.outcomes == {"paid": 6}
    assert [kind for kind, _ in books(shop, 0)] == ["authorisation", "reversal", "authorisation"]
    assert shop.charges() == {id_of(number): 1 for number in range(6)}


def test_interrupted_order_whose_key_died_meanwhile_is_ordered_again(shop: Shop) -> None:
    shop.bundle([shop.seal(0)])
    with pytest.raises(LineCutError):
        run_over(shop, cut)
    shop.run_later(HOLD_HOURS * HOUR)
    assert shop.state(0) == ("order-again", "expired", "HOLD-LIMIT")
    assert shop.charges() == {}


@pytest.mark.parametrize("seed", range(8))
def test_no_order_is_lost_or_charged_twice_over_an_unsteady_line(shop: Shop, seed: int) -> None:
    shop.window = 3
    shop.bundle([shop.seal(number) for number in range(8)])
    for turn in range(4):
        shop.now += 60
        try:
            run_over(shop, unsteady(10 * seed + turn), unsteady(-10 * seed - turn - 1))
        except LineCutError:
            continue
        finally:
            assert all(count == 1 for count in shop.charges().values())
    for _ in range(4):
        shop.run_later()
    paid = {order for order, (state, _, _) in shop.states().items() if state == "paid"}
    assert shop.charges() == dict.fromkeys(paid, 1)
    assert {state for state, _, _ in shop.states().values()} <= {"paid", "order-again"}
    assert shop.keystore.ring.hold_records() == []
    with shop.ledger() as ledger:
        assert ledger.verify_chain() > 0
