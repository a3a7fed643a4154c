"""Reconciliation three ways: what agrees is silent, every difference is found once, and no day hides an unknown."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_processor import dispatch
from offline_processor.acquirers.report import (
    ReportKind,
    ReportLine,
    ReportOutcome,
    parse_report,
    write_report,
)
from offline_processor.acquirers.simulator.books import report as simulated_report
from offline_processor.closing import close_batches
from offline_processor.comparing import (
    DIFFERS,
    MISSING,
    OUTCOME,
    TWICE,
    UNKNOWN,
    Comparison,
    Entry,
    Ours,
    by_currency,
    compare,
    keys_explained,
)
from offline_processor.daily import reconcile_day
from offline_processor.errors import ProcessorError
from offline_processor.ledger import closes, exceptions
from offline_processor.ledger.closes import CloseState
from tests.offline_processor.acquirers import BadLine, silent
from tests.offline_processor.commands import acquirer_report, configure
from tests.offline_processor.desk import Desk, desk
from tests.offline_processor.disaster import acquirers_report, back_up, bring_in_report, lose, rebuild
from tests.offline_processor.shop import (
    DECLINED_CARD,
    HOUR,
    LOST_ANSWER_CARD,
    Shop,
    a_card,
    an_order,
    id_of,
    next_bundle,
    open_shop,
)
from tests.offline_processor.simulated import SimulatedAcquirer
from tests.offline_processor.test_dispatch import DISPATCH, run_with

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from offline_processor.daily import Reconciled
    from offline_processor.ledger.closes import ClosedBatch

DONE, _, USAGE, NEEDS_PERSON, REFUSED, NOTHING_TO_DO = range(6)
DAY = 86_400
START, UNTIL = 1_000, 2_000

entries = st.builds(
    Entry,
    order_id=st.sampled_from(["aa" * 16, "bb" * 16, "cc" * 16]),
    kind=st.sampled_from(ReportKind),
    rrn=st.sampled_from([f"01000000000{number}" for number in range(4)]),
    stan=st.integers(1, 3),
    at=st.integers(START, UNTIL),
    amount=st.integers(0, 3),
    currency=st.sampled_from(["EUR", "JPY"]),
    scheme=st.sampled_from(["visa", "amex"]),
    state=st.sampled_from([Ours.APPROVED, Ours.DECLINED, Ours.REVERSED]),
)
books = st.lists(entries, max_size=8, unique_by=lambda entry: entry.key)


def line_of(entry: Entry) -> ReportLine:
    return ReportLine(
        order_id=entry.order_id,
        rrn=entry.rrn,
        stan=entry.stan,
        at=entry.at,
        amount=entry.amount,
        currency=entry.currency,
        outcome=ReportOutcome(entry.state.value),
        kind=entry.kind,
        scheme=entry.scheme,
    )


def one_order_each(found: list[Entry]) -> list[Entry]:
    """Every authorisation of an order of its own, so that none stands twice."""
    return [replace(entry, order_id=f"{place:032x}") for place, entry in enumerate(found)]


def rules(done: Comparison) -> list[str]:
    return sorted(item.rule for item in done.findings)


def judge(ours: list[Entry], theirs: list[ReportLine]) -> Comparison:
    return compare(ours, theirs, start=START, until=UNTIL)


# Any two books


@given(books)
def test_books_that_are_the_same_agree_in_everything(found: list[Entry]) -> None:
    ours = one_order_each(found)
    done = judge(ours, [line_of(entry) for entry in ours])
    assert done.findings == []
    assert len(done.agreed) == len(ours)
    assert all(row.ours == row.theirs for row in done.rows)
    assert all(one == other for one, other in by_currency(done.rows).values())


@given(books.filter(bool), st.data())
def test_one_planted_difference_is_one_finding_of_its_class(found: list[Entry], data: st.DataObject) -> None:
    ours = one_order_each(found)
    place = data.draw(st.integers(0, len(ours) - 1))
    entry = ours[place]
    theirs = [line_of(one) for one in ours]
    line = theirs[place]
    approved = entry.state is Ours.APPROVED
    kind = data.draw(st.sampled_from(["missing", "unknown", "amount", "currency", "outcome", "twice"]))
    expected = []
    match kind:
        case "missing":
            del theirs[place]
            expected = [MISSING] if approved else []
        case "unknown":
            ours = [one for one in ours if one is not entry]
            expected = [UNKNOWN]
        case "amount":
            theirs[place] = replace(line, amount=line.amount + 1)
            expected = [DIFFERS]
        case "currency":
            theirs[place] = replace(line, currency="SEK")
            expected = [DIFFERS]
        case "outcome":
            other = ReportOutcome.DECLINED if approved else ReportOutcome.APPROVED
            theirs[place] = replace(line, outcome=other)
            expected = [OUTCOME]
        case "twice":
            theirs.append(line)
            expected = [TWICE] if approved else []
    done = judge(ours, theirs)
    assert rules(done) == expected
    assert len({item.key for item in done.findings}) == len(done.findings)
    if kind in ("missing", "unknown", "amount", "outcome"):  # the next report has it right
        right = judge(one_order_each(found), [line_of(one) for one in one_order_each(found)])
        assert {item.key for item in done.findings} <= set(keys_explained(right))


@given(books, books)
def test_any_two_books_are_compared_and_every_difference_of_sums_has_a_finding(
    ours: list[Entry], others: list[Entry]
) -> None:
    done = judge(ours, [line_of(entry) for entry in others])
    unequal = any(row.ours != row.theirs for row in done.rows)
    same_schemes = {entry.key: entry.scheme for entry in ours}
    if all(same_schemes.get(entry.key, entry.scheme) == entry.scheme for entry in others):
        assert done.findings or not unequal


@given(books.filter(bool))
def test_decline_whose_answer_was_lost_is_reversed_here_and_no_difference(found: list[Entry]) -> None:
    ours = [
        replace(entry, kind=ReportKind.AUTHORISATION, state=Ours.REVERSED) for entry in one_order_each(found)
    ]
    ours = list({entry.key: entry for entry in ours}.values())
    declined = [replace(line_of(entry), outcome=ReportOutcome.DECLINED) for entry in ours]
    assert judge(ours, declined).findings == []
    charged = [replace(line, outcome=ReportOutcome.APPROVED) for line in declined]
    assert set(rules(judge(ours, charged))) == {OUTCOME}


def test_transaction_whose_outcome_is_not_known_is_not_held_against_anybody() -> None:
    entry = Entry(
        order_id="aa" * 16,
        kind=ReportKind.CAPTURE,
        rrn="010000000001",
        stan=1,
        at=START,
        amount=5,
        currency="EUR",
        scheme="visa",
        state=Ours.OPEN,
    )
    for theirs in ([], [line_of(replace(entry, state=Ours.APPROVED))]):
        done = judge([entry], theirs)
        assert (done.findings, done.still_open) == ([], 1)
    much = judge([entry], [line_of(replace(entry, state=Ours.APPROVED, amount=6))])
    assert rules(much) == [DIFFERS]


def test_order_that_is_charged_twice_is_found_though_each_charge_agrees() -> None:
    one = Entry(
        order_id="aa" * 16,
        kind=ReportKind.AUTHORISATION,
        rrn="010000000001",
        stan=1,
        at=START,
        amount=5,
        currency="EUR",
        scheme="visa",
        state=Ours.APPROVED,
    )
    two = replace(one, rrn="010000000002", stan=2)
    assert rules(judge([one, two], [line_of(one), line_of(two)])) == [TWICE]


# A day at the shop


def reconciled(shop: Shop, lines: list[ReportLine] | None = None) -> Reconciled:
    raw = write_report(simulated_report(shop.books) if lines is None else lines)
    with shop.ledger() as ledger:
        report = parse_report(raw, repeated=True)
        return reconcile_day(ledger, report, start=0, until=shop.now, who="A. Keeper", now=shop.now)


def a_day(shop: Shop) -> None:
    """Paid, declined, lost and charged afresh, sent in parts, refunded, cancelled; with two schemes and currencies."""
    keys = shop.keys_for()
    shop.bundle(
        [
            shop.seal(0, keys=keys),
            shop.seal(1, keys=keys, card=a_card(DECLINED_CARD)),
            shop.seal(2, keys=keys, card=a_card(LOST_ANSWER_CARD)),
            shop.seal(3, keys=keys, card=a_card(b"378282246310005", cvv=b"1234")),
            shop.seal(4, keys=keys, order=an_order(4, currency="JPY")),
        ]
    )
    run_with(shop, DISPATCH)
    shop.now += HOUR
    run_with(shop, DISPATCH)
    with shop.ledger() as ledger, ledger.atomic():
        for number, amount in ((0, None), (2, 1_000), (3, None)):
            charge = dispatch.find(ledger, id_of(number))
            name = "sent" if amount is None else "parcel"
            dispatch.ship(
                ledger, charge, DISPATCH, shipment=name, amount=amount, final=True, early=False, now=shop.now
            )
        dispatch.cancel(ledger, dispatch.find(ledger, id_of(4)), now=shop.now)
    shop.now += HOUR
    run_with(shop, DISPATCH)
    with shop.ledger() as ledger, ledger.atomic():
        charge = dispatch.find(ledger, id_of(0))
        dispatch.refund(ledger, charge, reference="R", amount=500, currency="EUR", now=shop.now)
    shop.now += HOUR
    run_with(shop, DISPATCH)


def test_whole_day_agrees_with_the_books_by_scheme_currency_and_kind(shop: Shop) -> None:
    a_day(shop)
    done = reconciled(shop)
    assert done.findings == []
    assert (done.exceptions, done.still_open) == (0, 0)
    assert done.agreed == done.lines
    sums = {
        (row.scheme, row.currency, row.kind.value): (row.ours.count, row.ours.amount) for row in done.rows
    }
    assert sums["visa", "EUR", "capture"] == (2, 3_499)
    assert sums["amex", "EUR", "capture"] == (1, 2_499)
    assert sums["visa", "EUR", "refund"] == (1, 500)
    assert all(row.ours == row.theirs for row in done.rows)


def test_each_difference_is_kept_once_and_goes_when_a_later_report_explains_it(shop: Shop) -> None:
    a_day(shop)
    right = simulated_report(shop.books)
    capture = next(line for line in right if line.kind is ReportKind.CAPTURE)
    wrong = [line for line in right if line is not capture]
    stranger = replace(capture, rrn="99ZZ00000001", stan=77)
    first = reconciled(shop, [*wrong, stranger])
    assert sorted(item.rule for item in first.findings) == ["RECONCILE-MISSING", "RECONCILE-UNKNOWN"]
    assert (first.new, first.exceptions) == (2, 2)
    again = reconciled(shop, [*wrong, stranger])
    assert (again.new, again.exceptions) == (0, 2)
    later = reconciled(shop, right)
    assert (later.findings, later.explained, later.exceptions) == ([], 1, 1)
    with shop.ledger() as ledger:
        (left,) = exceptions.opened(ledger)
        assert left.finding.rule == "RECONCILE-UNKNOWN"
        assert ledger.verify_chain()
    worse = reconciled(shop, wrong)
    assert (worse.new, worse.exceptions) == (1, 2)  # it is missing again: no longer explained


def test_declined_here_and_charged_there_is_found(shop: Shop) -> None:
    a_day(shop)
    lines = [
        replace(line, outcome=ReportOutcome.APPROVED) if line.order_id == id_of(1) else line
        for line in simulated_report(shop.books)
    ]
    (found,) = reconciled(shop, lines).findings
    assert (found.rule, found.what) == (
        "RECONCILE-OUTCOME",
        "authorisation that is declined here, approved there",
    )


def test_double_booking_at_the_acquirer_is_found(shop: Shop) -> None:
    a_day(shop)
    right = simulated_report(shop.books)
    capture = next(line for line in right if line.kind is ReportKind.CAPTURE)
    assert [item.rule for item in reconciled(shop, [*right, capture]).findings] == ["RECONCILE-TWICE"]


def test_report_that_reaches_into_the_time_to_come_is_refused(shop: Shop) -> None:
    a_day(shop)
    with shop.ledger() as ledger, pytest.raises(ProcessorError, match="REPORT-PERIOD"):
        reconcile_day(
            ledger, acquirers_report(shop), start=0, until=shop.now + 1, who="A. Keeper", now=shop.now
        )


def test_report_in_a_currency_that_is_none_is_shown_and_does_not_break_the_list(shop: Shop) -> None:
    a_day(shop)
    lines = [replace(line, currency="ZZQ") for line in simulated_report(shop.books)]
    assert {item.rule for item in reconciled(shop, lines).findings} == {"RECONCILE-DIFFERS"}
    with desk(configure(shop)) as at:
        shown = at.say("cases", "--all", as_json=False)
        assert shown.code == NEEDS_PERSON
        assert "RECONCILE-DIFFERS" in shown.out


# After a restore


def test_what_was_taken_and_given_back_after_the_backup_is_taken_over_from_a_full_report(
    tmp_path: Path,
) -> None:
    shop = open_shop(tmp_path, custodians=(2, 3))
    next_bundle(shop, 9)
    run_with(shop, DISPATCH)
    backup = back_up(shop).path
    with shop.ledger() as ledger, ledger.atomic():
        charge = dispatch.find(ledger, id_of(9))
        dispatch.ship(
            ledger, charge, DISPATCH, shipment="w", amount=None, final=True, early=False, now=shop.now
        )
    shop.now += HOUR
    next_bundle(shop, 0, 1)
    shop.run()
    with shop.ledger() as ledger, ledger.atomic():
        charge = dispatch.find(ledger, id_of(0))
        dispatch.refund(ledger, charge, reference="R", amount=None, currency=None, now=shop.now)
    shop.run()
    lose(shop)
    rebuild(shop, backup)
    shop.now += 2 * HOUR
    bring_in_report(shop, acquirers_report(shop))
    assert shop.state(9)[0] == "dispatched"
    shop.run()
    shop.run_later()
    assert (shop.state(0)[0], shop.state(1)[0]) == ("refunded", "paid")
    done = reconciled(shop)
    assert [item.rule for item in done.findings] == []
    assert set(shop.charges().values()) == {1}
    shop.keystore.close()


# The commands


@pytest.fixture
def today(tmp_path: Path) -> Iterator[Shop]:
    made = open_shop(tmp_path, now=int(time.time()) - DAY)
    yield made
    made.keystore.close()


def close(at: Desk, *words: str) -> tuple[int, dict[str, Any]]:
    ran = at.say("close-day", "--who", "A. Keeper", *words)
    return ran.code, ran.document


def test_day_is_closed_in_balance_then_reconciled_three_ways(today: Shop) -> None:
    next_bundle(today, 0, 1)
    today.run()
    report = today.root / "report.csv"
    with desk(configure(today)) as at:
        early = at.say("reconcile", str(report), "--who", "A. Keeper")
        assert (early.code, early.document["rule"]) == (USAGE, "USAGE-TIME")
        code, closed = close(at)
        assert code == DONE
        (batch,) = closed["batches"]
        assert (batch["captures"], batch["captured"], batch["answer"]) == (2, 4_998, "in balance")
        assert close(at)[0] == NOTHING_TO_DO
        assert acquirer_report(today.books, report).code == DONE
        done = at.say("reconcile", str(report), "--who", "A. Keeper")
        assert done.code == DONE, done.out + done.err
        assert done.document["totals"] == [
            {
                "currency": "EUR",
                "kind": "capture",
                "ours": [2, 4_998],
                "theirs": [2, 4_998],
                "closed": [2, 4_998],
            }
        ]
        shown = at.say(
            "reconcile", str(report), "--who", "A", "--from", "1970-01-01T00:00:00Z", as_json=False
        )
        assert "No exception is open" in shown.out


def test_difference_is_a_case_until_two_people_have_closed_it(today: Shop) -> None:
    next_bundle(today, 0, 1)
    today.run()
    report = today.root / "report.csv"
    lines = simulated_report(today.books)
    report.write_bytes(write_report([*lines[:-1], replace(lines[-1], amount=1)]))
    with desk(configure(today)) as at:
        assert close(at)[0] == DONE
        found = at.say("reconcile", str(report), "--who", "A. Keeper")
        assert found.code == NEEDS_PERSON
        assert {item["rule"] for item in found.document["findings"]} == {
            "RECONCILE-DIFFERS",
            "RECONCILE-TOTALS",
        }
        mismatches = [case for case in at.say("cases").document["cases"] if case["kind"] == "does not agree"]
        assert {case["id"] for case in mismatches} == {"X1", "X2"}
        for number, case in enumerate(("X1", "X2"), 1):
            asked = at.say("case", "close", case, "--who", "A. Keeper", "--why", "their typing error")
            assert asked.document["second_person"] == [f"R{number}"]
            assert at.say("approve", f"R{number}", "--who", "B. Witness").code == DONE
        assert at.say("cases").code == DONE


def test_close_of_day_does_not_hide_what_is_not_known(today: Shop) -> None:
    next_bundle(today, 0, pan=LOST_ANSWER_CARD)
    today.bundle(
        [today.seal(1, keys=(keys := today.keys_for(1)), order=an_order(1, amount=19_969))],
        batch_key_id=keys.batch_key_id,
    )
    today.run()
    with desk(configure(today)) as at:
        code, said = close(at)
        assert (code, said["closed"], said["open_attempts"], said["batches"]) == (NEEDS_PERSON, False, 1, [])
        assert close(at, "--open", "2")[1]["closed"] is False
        code, said = close(at, "--open", "1")
        assert (code, said["closed"], said["open_attempts"]) == (NEEDS_PERSON, True, 1)
        shown = at.say("close-day", "--who", "A. Keeper", as_json=False)
        assert "NOT CLEAN: 1 attempts of unknown outcome" in shown.err
        assert "--open 1" in shown.err


def test_close_that_was_not_answered_is_asked_again_with_the_same_totals(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run(BadLine(path=shop.books, following=silent))
    shop.run_later()

    with shop.ledger() as ledger:
        matters = closes.open_matters(ledger)
        assert matters.total == 0

        def close_with(*faults: str) -> ClosedBatch:
            acquirer = SimulatedAcquirer(shop.books, faults=faults)
            (batch,) = close_batches(ledger, acquirer, who="A. Keeper", matters=matters, now=shop.now)
            acquirer.close()
            return batch

        first = close_with("lost-after@totals")
        second = close_with()
        assert first.state is CloseState.PENDING
        assert second == replace(first, state=CloseState.IN_BALANCE)
        assert closes.pending(ledger) == []


def test_close_that_is_out_of_balance_is_an_exception(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    with shop.ledger() as ledger:
        acquirer = SimulatedAcquirer(shop.books, faults=["out-of-balance@totals"])
        matters = closes.open_matters(ledger)
        (batch,) = close_batches(ledger, acquirer, who="A. Keeper", matters=matters, now=shop.now)
        acquirer.close()
        assert batch.state is CloseState.OUT_OF_BALANCE
        (found,) = exceptions.opened(ledger)
        assert (found.finding.rule, found.finding.ours) == ("RECONCILE-TOTALS", 2_499)
