"""Cases: everything that waits is listed, with its reason, its commands and its end; and the rules of decisions."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_processor import decisions, dispatch
from offline_processor.case_form import GOES_ON, Case, CaseKind
from offline_processor.cases import open_cases
from offline_processor.config import AcquirerConfig, ChargingConfig
from offline_processor.decisions import Decision, Said, Verb
from offline_processor.errors import ProcessorError
from offline_processor.ledger import requests
from offline_processor.ledger.reports import Charged, remember
from offline_processor.ledger.requests import same_person
from offline_processor.meanings import meaning
from tests.offline_processor.acquirers import BadLine, silent
from tests.offline_processor.shop import (
    HOLD_HOURS,
    HOUR,
    LOST_ANSWER_CARD,
    SILENT_AMOUNT,
    Shop,
    an_order,
    id_of,
    next_bundle,
)
from tests.offline_processor.simulated import SimulatedAcquirer
from tests.offline_processor.test_capture_when import receive
from tests.offline_processor.test_dispatch import run_with

if TYPE_CHECKING:
    from collections.abc import Iterator

    from offline_processor.ledger.ledger import Ledger

DAY = 86_400
LATER_CARD = b"4000000000009995"
SAID = Said(who="A. Keeper", why="said so")
ONE_PERSON = ChargingConfig(second_person_above={"EUR": 10**9})


def listed(shop: Shop, charging: ChargingConfig | None = None) -> list[Case]:
    with shop.ledger() as ledger:
        return open_cases(
            ledger,
            charging=charging or ChargingConfig(),
            acquirer=AcquirerConfig(),
            hold_seconds=HOLD_HOURS * HOUR,
            now=shop.now,
        )


@contextmanager
def deciding(shop: Shop) -> Iterator[Ledger]:
    with shop.ledger() as ledger, ledger.atomic():
        yield ledger


def test_nothing_waits_in_an_empty_ledger_or_after_a_good_run(shop: Shop) -> None:
    assert listed(shop) == []
    next_bundle(shop, 0)
    shop.run()
    assert listed(shop) == []


def test_order_of_unknown_outcome_goes_on_by_itself_and_says_how(shop: Shop) -> None:
    next_bundle(shop, 0, pan=LOST_ANSWER_CARD)
    shop.run()
    (case,) = listed(shop)
    assert (case.kind, case.rule, case.may) == (
        CaseKind.UNKNOWN,
        "CHARGE-NO-ANSWER",
        ("offline-processor run",),
    )
    assert not case.needs_person
    assert "the acquirer gave no answer" in case.why
    shop.run_later()
    assert listed(shop) == []


def test_decline_that_says_later_is_tried_again_and_is_a_case_until_then(shop: Shop) -> None:
    later = ChargingConfig(retry_declines=1)
    next_bundle(shop, 0, pan=LATER_CARD)
    run_with(shop, later)
    (case,) = listed(shop, later)
    assert (case.kind, case.rule, case.deadline) == (CaseKind.HELD, "CHARGE-RETRY-LATER", shop.now + 5 * DAY)
    shop.now += 21 * HOUR
    run_with(shop, later)
    assert shop.state(0) == ("declined", "try-later", "DE39 51")
    assert listed(shop, later) == []
    assert shop.rows("SELECT count(*) FROM retry") == [(0,)]


def test_order_that_waits_for_its_next_try_may_be_ended_and_its_card_goes(shop: Shop) -> None:
    next_bundle(shop, 0, pan=LATER_CARD)
    run_with(shop, ChargingConfig(retry_declines=1))
    decision = Decision(verb=Verb.ORDER_AGAIN, subject=id_of(0))
    with deciding(shop) as ledger:
        decisions.decide(ledger, decision, SAID, ChargingConfig(), now=shop.now)
    assert shop.state(0) == ("order-again", "try-later", "CASE-ENDED")
    assert shop.rows("SELECT count(*) FROM retry") == [(0,)]
    shop.now += 2 * DAY
    run_with(shop, ChargingConfig(retry_declines=1))
    assert shop.charges() == {}


def test_order_in_a_file_to_the_acquirer_is_a_case_that_waits_for_its_answer(shop: Shop) -> None:
    next_bundle(shop, 0, pan=LOST_ANSWER_CARD)
    shop.run()
    with deciding(shop) as ledger:
        ledger.execute("UPDATE live_attempt SET state = 'submitted'")
        ledger.execute("UPDATE orders SET rule = 'CHARGE-SUBMITTED'")
    (case,) = listed(shop)
    assert (case.kind, case.rule) == (CaseKind.UNKNOWN, "CHARGE-SUBMITTED")
    assert "batch-file import" in case.may[0]


def test_operation_that_nobody_answers_for_days_is_a_case(shop: Shop) -> None:
    next_bundle(shop, 0)
    line = BadLine(path=shop.books, following=silent)
    shop.run(line)
    for _ in range(9):
        shop.now += 9 * HOUR
        assert listed(shop) == []
        shop.run(BadLine(path=shop.books, following=silent))
    (case,) = listed(shop)
    assert (case.kind, case.rule) == (CaseKind.UNANSWERED, "OPERATION-UNANSWERED")
    assert case.phone is not None
    assert case.phone.tries == 10
    shop.run_later()
    assert listed(shop) == []


def test_order_that_our_own_fault_declined_is_a_case(shop: Shop) -> None:
    next_bundle(shop, 0, pan=b"4000000000000028")
    shop.run()
    (case,) = listed(shop)
    assert (case.kind, case.rule) == (CaseKind.OUR_FAULT, "DE39 03")
    assert "the merchant is not valid" in case.why


def test_envelope_that_was_put_aside_is_a_case_until_a_person_has_looked(shop: Shop) -> None:
    keys = shop.keys_for()
    shop.bundle([shop.seal(0, keys=keys), shop.seal(0, keys=keys, order=an_order(1, amount=100))])
    shop.run()
    (case,) = listed(shop)
    assert (case.kind, case.id, case.rule) == (CaseKind.STRAY, "S-shop-a-1-1", "ORDER-ID-CONFLICT")
    with deciding(shop) as ledger:
        decision = Decision(verb=Verb.CLOSE, subject=case.id)
        decisions.decide(ledger, decision, SAID, ChargingConfig(), now=shop.now)
    assert listed(shop) == []


def test_unwanted_approval_is_not_taken_by_a_word(shop: Shop) -> None:
    next_bundle(shop, 0)

    class Partial(SimulatedAcquirer):
        """Approves in part, and answers no reversal."""

        def __init__(self, path: object) -> None:
            super().__init__(shop.books, faults=["partial@authorisation", "lost-after@reversal"])

    shop.run(Partial(None))
    for _ in range(11):
        shop.now += 8 * HOUR
        shop.run(Partial(None))
    (case,) = listed(shop)
    assert (case.kind, case.rule) == (CaseKind.MANUAL, "CHARGE-PARTIAL")
    assert len(case.may) == 1
    stands = Decision(verb=Verb.SETTLE_ATTEMPT, subject=id_of(0), found="approved")
    with deciding(shop) as ledger, pytest.raises(ProcessorError, match="ATTEMPT-UNWANTED"):
        decisions.decide(ledger, stands, SAID, ONE_PERSON, now=shop.now)
    with deciding(shop) as ledger:
        reversed_there = Decision(verb=Verb.SETTLE_ATTEMPT, subject=id_of(0), found="reversed")
        decisions.decide(ledger, reversed_there, SAID, ONE_PERSON, now=shop.now)
    assert shop.state(0) == ("declined", "new-card", "CHARGE-PARTIAL")


@pytest.mark.parametrize("said", [False, True], ids=["configured", "said of the order"])
def test_attempt_that_stands_waits_for_dispatch_where_that_is_wanted(shop: Shop, said: bool) -> None:
    shop.bundle([shop.seal(0, order=an_order(0, amount=SILENT_AMOUNT))])
    at_dispatch = replace_limits(capture="sale" if said else "dispatch")
    if said:
        receive(shop)
        with deciding(shop) as ledger:
            dispatch.capture_when(ledger, dispatch.find(ledger, id_of(0)), "dispatch", now=shop.now)
    run_with(shop, at_dispatch)
    for _ in range(11):
        shop.now += 8 * HOUR
        run_with(shop, at_dispatch)
    with deciding(shop) as ledger:
        stands = Decision(verb=Verb.SETTLE_ATTEMPT, subject=id_of(0), found="approved")
        decisions.decide(ledger, stands, SAID, at_dispatch, now=shop.now)
    assert shop.state(0)[0] == "authorised"
    assert shop.rows("SELECT count(*) FROM operation") == [(0,)]


def replace_limits(capture: str) -> ChargingConfig:
    return ChargingConfig(capture=capture, second_person_above={"EUR": 10**9})  # type: ignore[arg-type]


def test_charged_order_is_ordered_again_only_after_it_was_given_back(shop: Shop) -> None:
    shop.bundle([shop.seal(0, order=an_order(0, currency="XXQ"))])
    shop.run()
    charge = Charged(order_id=id_of(0), rrn="010000000001", stan=1, at=shop.now, amount=700, currency="EUR")
    with deciding(shop) as ledger:
        remember(ledger, charge)
    (case,) = listed(shop)
    assert case.may[0].count("--given-back") == 1
    decision = Decision(verb=Verb.ORDER_AGAIN, subject=id_of(0))
    with deciding(shop) as ledger, pytest.raises(ProcessorError, match="CASE-CHARGED"):
        decisions.decide(ledger, decision, SAID, ONE_PERSON, now=shop.now)
    given_back = Decision(verb=Verb.ORDER_AGAIN, subject=id_of(0), given_back=True)
    with deciding(shop) as ledger:  # it is about EUR 7.00, and no limit was configured
        assert decisions.decide(ledger, given_back, SAID, ChargingConfig(), now=shop.now).asked == 1
    assert shop.state(0)[0] == "quarantined"
    with deciding(shop) as ledger:
        found = decisions.find_request(ledger, 1)
        decisions.approve(ledger, found, "B. Witness", ChargingConfig(), now=shop.now)
    assert shop.state(0)[0] == "order-again"
    assert shop.rows("SELECT count(*) FROM reported") == [(0,)]


# Two people


@given(st.text(alphabet="Ab. -'cX9", max_size=12), st.text(alphabet="Ab. -'cX9", max_size=12))
def test_names_that_differ_in_capitals_and_points_only_are_one_person(one: str, other: str) -> None:
    letters = [letter for letter in one.lower() if letter.isalnum()]
    assert same_person(one, other) is (letters == [letter for letter in other.lower() if letter.isalnum()])


def test_decision_that_waited_too_long_is_made_again(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    decision = Decision(verb=Verb.REFUND, subject=id_of(0), reference="R-1")
    with deciding(shop) as ledger:
        assert decisions.decide(ledger, decision, SAID, ChargingConfig(), now=shop.now).asked == 1
    shop.now += 7 * DAY + 1
    with deciding(shop) as ledger:
        found = decisions.find_request(ledger, 1)
    with deciding(shop) as ledger, pytest.raises(ProcessorError, match="REQUEST-OLD"):
        decisions.approve(ledger, found, "B. Witness", ChargingConfig(), now=shop.now)
    with deciding(shop) as ledger:
        decisions.refuse(ledger, decisions.find_request(ledger, 1), "A. Keeper", "too late", now=shop.now)
    assert listed(shop) == []
    assert shop.rows("SELECT count(*) FROM operation WHERE kind = 'refund'") == [(0,)]


def test_database_itself_lets_nobody_approve_their_own_decision(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    decision = Decision(verb=Verb.REFUND, subject=id_of(0), reference="R-1")
    with deciding(shop) as ledger:
        decisions.decide(ledger, decision, SAID, ChargingConfig(), now=shop.now)
    with shop.ledger() as ledger:
        (found,) = requests.asked(ledger)
        for second in ("a.keeper", "!"):
            with pytest.raises(sqlite3.IntegrityError, match="second person"), ledger.atomic():
                requests.end(ledger, found, approved=True, second=second, now=shop.now)
        with pytest.raises(sqlite3.IntegrityError, match="does not change"), ledger.atomic():
            ledger.execute("UPDATE request SET amount = 1")


def test_many_small_refunds_of_an_order_weigh_as_one_large(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    limits = ChargingConfig(second_person_above={"EUR": 1_000})
    asked = []
    for number in range(3):
        with deciding(shop) as ledger:
            part = Decision(
                verb=Verb.REFUND, subject=id_of(0), reference=f"R-{number}", amount=400, currency="EUR"
            )
            asked.append(decisions.decide(ledger, part, SAID, limits, now=shop.now).asked)
    assert asked == [0, 0, 1]


def test_whole_refund_that_waits_is_of_what_was_left_when_it_was_decided(shop: Shop) -> None:
    next_bundle(shop, 0)
    run_with(shop, ChargingConfig(capture="dispatch"))
    for parcel in ("p-1", "p-2"):
        with deciding(shop) as ledger:
            charge = dispatch.find(ledger, id_of(0))
            dispatch.ship(
                ledger,
                charge,
                ONE_PERSON,
                shipment=parcel,
                amount=1_000,
                final=False,
                early=False,
                now=shop.now,
            )
        shop.now += HOUR
        run_with(shop, ChargingConfig(capture="dispatch"))
        if parcel == "p-1":
            with deciding(shop) as ledger:
                whole = Decision(verb=Verb.REFUND, subject=id_of(0), reference="R")
                decisions.decide(ledger, whole, SAID, ChargingConfig(), now=shop.now)
    with deciding(shop) as ledger:
        found = decisions.find_request(ledger, 1)
        (made,) = decisions.approve(ledger, found, "B", ChargingConfig(), now=shop.now).operations
    assert made.amount == 1_000


def test_goods_go_once_a_person_has_closed_the_refused_capture(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run(SimulatedAcquirer(shop.books, faults=["code-13@capture"]))
    (case,) = listed(shop)
    with deciding(shop) as ledger:
        closed = Decision(verb=Verb.CLOSE, subject=case.id)
        decisions.decide(ledger, closed, SAID, ONE_PERSON, now=shop.now)
        charge = dispatch.find(ledger, id_of(0))
        dispatch.ship(
            ledger, charge, ONE_PERSON, shipment="sent", amount=None, final=False, early=False, now=shop.now
        )
    assert shop.state(0)[0] == "dispatched"


def test_what_was_refunded_meanwhile_is_not_refunded_by_a_late_approval(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    with deciding(shop) as ledger:
        whole = Decision(verb=Verb.REFUND, subject=id_of(0), reference="R-1", amount=2_000, currency="EUR")
        decisions.decide(ledger, whole, SAID, ChargingConfig(), now=shop.now)
        small = Decision(verb=Verb.REFUND, subject=id_of(0), reference="R-2", amount=1_000, currency="EUR")
        decisions.decide(ledger, small, SAID, ONE_PERSON, now=shop.now)
    with deciding(shop) as ledger, pytest.raises(ProcessorError, match="REFUND-AMOUNT"):
        decisions.approve(
            ledger, decisions.find_request(ledger, 1), "B. Witness", ChargingConfig(), now=shop.now
        )


def test_every_kind_of_case_has_words_and_every_rule_its_meaning() -> None:
    assert meaning("CHARGE-NO-ANSWER") == "the acquirer gave no answer, or one that does not match"
    assert meaning("NO-SUCH-RULE") == "NO-SUCH-RULE"
    assert set(CaseKind) > GOES_ON
