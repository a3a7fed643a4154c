"""Charging: the state machine's table, what each answer means, and that no path leads to two live attempts."""

from __future__ import annotations

import re
import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline_processor import charging
from offline_processor.acquirers.simulator.faults import BY_LAST_FOUR
from offline_processor.charging import (
    DECLINE_CLASS,
    FINISHED,
    TRANSITIONS,
    Answer,
    AttemptState,
    DeclineClass,
    Event,
    Reference,
    SecurityCode,
    advance,
    decline_class,
    decline_reason,
    event_of,
    is_reversed,
    unwanted,
)
from offline_processor.errors import ProcessorError
from offline_processor.ledger import bundles, orders, staging
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.orders import Move
from offline_processor.stages import ScreenedOrder
from tests.offline_processor.shop import NOW, Shop, a_card, an_order, id_of
from transfer.wire.ids import OrderId
from transfer.wire.order import OrderCompartment
from transfer.wire.records import Reason

ROOM = Path(charging.__file__).parent
SENT = Reference(
    number=1,
    order_id=id_of(0),
    attempt=1,
    stan=7,
    rrn="010000000007",
    sent_at=NOW,
    amount=2499,
    currency="EUR",
)
RIGHT = Answer(stan=7, rrn="010000000007", amount=2499, currency="EUR", code="00", approval="000007")


# The table


@given(st.lists(st.sampled_from(Event)))
def test_no_transition_outside_the_table_is_taken(events: list[Event]) -> None:
    state = AttemptState.INTENT
    for event in events:
        if (state, event) in TRANSITIONS:
            state = advance(state, event)
        else:
            with pytest.raises(ProcessorError, match="CHARGE-TRANSITION"):
                advance(state, event)


def test_every_state_can_be_reached_and_a_finished_one_not_be_left() -> None:
    assert {AttemptState.INTENT, *TRANSITIONS.values()} == set(AttemptState)
    assert {state for state, _ in TRANSITIONS} & FINISHED == set()


def test_nothing_leads_back_to_sending() -> None:
    assert AttemptState.INTENT not in TRANSITIONS.values()
    unknown = {AttemptState.UNKNOWN, AttemptState.REVERSAL_PENDING}
    after = {target for (state, _), target in TRANSITIONS.items() if state in unknown}
    # APPROVED only by the acquirer's own report: what is paid is not sent again either.
    assert after == {
        AttemptState.REVERSAL_PENDING,
        AttemptState.REVERSED,
        AttemptState.MANUAL,
        AttemptState.APPROVED,
    }


def test_only_what_reserves_nothing_allows_another_attempt() -> None:
    over = {AttemptState.DECLINED, AttemptState.REVERSED, AttemptState.VOIDED, AttemptState.EXPIRED}
    assert over == FINISHED


def test_diagram_in_the_rules_is_drawn_from_the_table() -> None:
    text = (ROOM / "RULES.md").read_text("utf-8")
    assert re.findall(r"```mermaid\n(.*?)\n```", text, re.DOTALL) == [charging.diagram()]


def test_table_of_declines_in_the_rules_is_that_of_the_code() -> None:
    text = (ROOM / "RULES.md").read_text("utf-8")
    assert charging.decline_table() in text
    assert set(Reason) >= {decline_reason(decline) for decline in DeclineClass}


# Two live attempts


def staged_ledger(folder: str) -> Ledger:
    ledger = Ledger(Path(folder) / "ledger.db")
    order = an_order(0)
    compartment = OrderCompartment(
        header="00" * 32,
        nonce="00" * 32,
        items=order.items,
        total=order.total,
        customer=order.customer,
        delivery=order.delivery,
    )
    screened = ScreenedOrder(
        position=0,
        order_id=OrderId(id_of(0)),
        basket_digest=bytes(32),
        amount=2499,
        currency="EUR",
        compartment=compartment,
    )
    with ledger.atomic():
        bundles.save_chain(ledger, bundles.NodeChain(node="shop-a"))
        staging.stage(ledger, [screened], node="shop-a", sequence=1, now=NOW)
    return ledger


def begin(ledger: Ledger, attempt: int) -> None:
    sent = replace(SENT, attempt=attempt, stan=attempt, rrn=f"01{attempt:010d}")
    with ledger.atomic():
        orders.record_intents(
            ledger,
            [orders.Intent(reference=sent, card="424242*4242", vault=b"wrapped", vault_until=NOW + 1)],
            now=NOW,
        )


@settings(max_examples=50)
@given(st.lists(st.one_of(st.just("begin"), st.sampled_from(Event)), max_size=12))
def test_no_sequence_of_events_makes_two_live_attempts(steps: list[str | Event]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = staged_ledger(folder)
        live: AttemptState | None = None
        approved = attempts = 0
        for step in steps:
            entries = ledger.row("SELECT count(*) FROM entry")
            if step == "begin" and live is None:
                attempts += 1
                begin(ledger, attempts)
                live = AttemptState.INTENT
            elif step == "begin":
                with pytest.raises(sqlite3.IntegrityError):
                    begin(ledger, attempts + 1)
                assert ledger.row("SELECT count(*) FROM entry") == entries
            elif live is not None and (live, step) in TRANSITIONS:
                sent = replace(SENT, attempt=attempts)
                with ledger.atomic():
                    (live,) = orders.record_events(
                        ledger, [Move(sent=sent, state=live, event=Event(step))], now=NOW
                    )
                approved += live is AttemptState.APPROVED
                approved -= live in (AttemptState.VOIDED, AttemptState.EXPIRED)
            elif live is not None:
                with pytest.raises(ProcessorError, match="CHARGE-TRANSITION"), ledger.atomic():
                    orders.record_events(ledger, [Move(sent=SENT, state=live, event=Event(step))], now=NOW)
                assert ledger.row("SELECT count(*) FROM entry") == entries
            if live in FINISHED:
                live = None
            rows = list(ledger.rows("SELECT state FROM live_attempt"))
            assert rows == ([] if live is None else [(live.value,)])
        assert approved <= 1  # that stands
        assert ledger.verify_chain() > 0
        ledger.close()


def test_pan_is_kept_no_longer_than_an_attempt_can_need_it(shop: Shop) -> None:
    shop.bundle(
        [
            shop.seal(0),
            shop.seal(1, card=a_card(b"4000000000000002")),
            shop.seal(2, card=a_card(b"4000000000000341")),
        ]
    )
    shop.run()
    assert shop.rows("SELECT number, state, vault IS NULL FROM live_attempt ORDER BY number") == [
        (1, "approved", 1),
        (3, "unknown", 0),
    ]


# Answers


def test_response_codes_have_one_class_each() -> None:
    assert sum(len(codes.split()) for codes in charging._CODES.values()) == len(DECLINE_CLASS)
    assert set(DECLINE_CLASS.values()) == set(DeclineClass)
    assert "00" not in DECLINE_CLASS
    assert all(re.fullmatch("[0-9A-Z]{2}", code) for code in DECLINE_CLASS)


@pytest.mark.parametrize(
    ("code", "decline", "reason"),
    [
        ("05", DeclineClass.NEVER_RETRY, Reason.CARD_DECLINED),
        ("43", DeclineClass.NEVER_RETRY, Reason.CARD_DECLINED),
        ("51", DeclineClass.RETRY_LATER, Reason.TRY_LATER),
        ("91", DeclineClass.RETRY_LATER, Reason.TRY_LATER),
        ("54", DeclineClass.NEW_CARD, Reason.NEW_CARD),
        ("N7", DeclineClass.NEW_CARD, Reason.NEW_CARD),
        ("01", DeclineClass.CALL_ISSUER, Reason.CALL_BANK),
        ("1A", DeclineClass.CALL_ISSUER, Reason.CALL_BANK),
        ("03", DeclineClass.OUR_FAULT, Reason.TRY_LATER),
        ("30", DeclineClass.OUR_FAULT, Reason.TRY_LATER),
    ],
)
def test_decline_has_a_class_and_a_coarse_reason(code: str, decline: DeclineClass, reason: Reason) -> None:
    assert decline_class(code) is decline
    assert decline_reason(decline) is reason


@given(st.one_of(st.text(max_size=3), st.sampled_from(["10", "11", "68", "85", "94", " 0", "000"])))
def test_code_that_the_table_does_not_know_is_no_answer(code: str) -> None:
    # It may be an approval of a kind, so it is neither an approval nor a decline: it is reversed.
    known = code in DECLINE_CLASS or code in ("00", "10")
    assert (event_of(SENT, replace(RIGHT, code=code)) is Event.NO_ANSWER) is not known


@pytest.mark.parametrize(
    ("code", "done"), [("00", True), ("21", True), ("25", True), ("05", False), ("", False)]
)
def test_reversal_is_done_when_the_acquirer_says_so_or_has_nothing_to_reverse(code: str, done: bool) -> None:
    assert is_reversed(SENT, replace(RIGHT, code=code)) is done
    assert not is_reversed(SENT, replace(RIGHT, code=code, rrn="010000000008"))
    assert not is_reversed(SENT, None)


def test_answer_counts_only_if_it_matches_what_was_sent() -> None:
    assert event_of(SENT, RIGHT) is Event.APPROVAL
    assert event_of(SENT, replace(RIGHT, code="05")) is Event.DECLINE
    assert event_of(SENT, None) is Event.NO_ANSWER
    for other in (
        replace(RIGHT, stan=8),
        replace(RIGHT, rrn="010000000008"),
        replace(RIGHT, amount=1, code="05"),
        replace(RIGHT, late=True),
        replace(RIGHT, late=True, code="05"),
    ):
        assert event_of(SENT, other) is Event.NO_ANSWER


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"amount": 2498}, "CHARGE-AMOUNT"),
        ({"currency": "SEK"}, "CHARGE-AMOUNT"),
        ({"code": "10", "amount": 1200}, "CHARGE-PARTIAL"),
        ({"code": "10"}, "CHARGE-PARTIAL"),
        ({"security_code": SecurityCode.MISMATCH}, "CHARGE-CVV"),
    ],
)
def test_approval_that_is_not_good_is_unwanted_by_a_stated_rule(changes: dict[str, Any], rule: str) -> None:
    answer = replace(RIGHT, **changes)
    assert event_of(SENT, answer) is Event.APPROVAL_UNWANTED
    assert unwanted(SENT, answer) == rule
    assert event_of(SENT, replace(answer, late=True)) is Event.NO_ANSWER


def test_each_decline_is_told_by_its_class_and_leaves_nothing_live(shop: Shop) -> None:
    cards = {last: f"400000000000{last}".encode() for last in BY_LAST_FOUR}
    shop.bundle([shop.seal(number, card=a_card(pan)) for number, pan in enumerate(cards.values())])
    report = shop.run()
    assert report.outcomes == {"declined": len(cards)}
    for number, last in enumerate(cards):
        code = BY_LAST_FOUR[last]
        reason = decline_reason(decline_class(code)).value
        assert shop.state(number) == ("declined", reason, f"DE39 {code}")
        assert shop.told(number) == ("declined", reason)
    assert shop.rows("SELECT * FROM live_attempt") == []
    assert shop.keystore.ring.hold_records() == []
    assert shop.charges() == {}


@pytest.mark.parametrize(
    ("query", "values"),
    [
        (orders._STANS_IN_USE, (1, 32)),
        ("SELECT number FROM orders WHERE state = 'held'", ()),
        ("SELECT number FROM orders WHERE state = 'quarantined'", ()),
        ("SELECT number FROM orders WHERE state IN ('held', 'quarantined')", ()),
    ],
)
def test_what_waits_is_found_without_reading_every_order(
    shop: Shop, query: str, values: tuple[int, ...]
) -> None:
    shop.drop_in.mkdir()
    with shop.ledger() as ledger:
        plan = [str(row[3]) for row in ledger.rows(f"EXPLAIN QUERY PLAN {query}", values)]
        assert any("orders_open" in step for step in plan)
        assert not any(step.startswith("SCAN") for step in plan)
        (scan,) = ledger.rows("EXPLAIN QUERY PLAN SELECT number FROM orders WHERE rule = 'x'")
        assert scan[3].startswith("SCAN")


def test_trace_numbers_wrap_and_retrieval_references_do_not(shop: Shop) -> None:
    shop.drop_in.mkdir()
    with shop.ledger() as ledger, ledger.atomic():
        ledger.set_counter("stan", orders.STAN_LIMIT - 1)
        ledger.set_counter("rrn", orders.STAN_LIMIT - 1)
    shop.bundle([shop.seal(number) for number in range(3)])
    shop.run()
    assert shop.rows("SELECT stan, rrn FROM live_attempt ORDER BY number") == [
        (999_999, "010000999999"),
        (1, "010001000000"),
        (2, "010001000001"),
    ]
