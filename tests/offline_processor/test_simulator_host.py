"""The simulated acquirer's host: no more is taken than was reserved, repetitions are known, every fault can be had."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline_processor.acquirers.report import ReportOutcome
from offline_processor.acquirers.simulator.books import (
    Books,
    Kind,
    Sums,
    report,
    standings,
    unreversed_approvals,
)
from offline_processor.acquirers.simulator.faults import (
    AMOUNT_TRIGGERS,
    UNANSWERED,
    Fault,
    Faults,
    parse_rule,
)
from offline_processor.acquirers.simulator.host import Host, Message
from offline_processor.charging import DECLINE_CLASS, SecurityCode
from offline_processor.errors import ProcessorError

if TYPE_CHECKING:
    from collections.abc import Iterator

ORDER = "ab" * 16
NOW = 1_790_000_000
AUTHORISATION = Message(
    kind=Kind.AUTHORISATION,
    mti="0100",
    reference=ORDER,
    stan=1,
    rrn="010000000001",
    sent_at=NOW,
    amount=2_500,
    currency="EUR",
    bin="424242",
    last_four="4242",
    has_cvv=True,
)


def follow(kind: Kind, amount: int, *, stan: int = 2, keep: int = 0) -> Message:
    """An advice about the authorisation above; it does not name the order, as not every profile's does."""
    return replace(
        AUTHORISATION,
        kind=kind,
        mti="0220",
        reference="",
        stan=stan,
        amount=amount,
        keep=keep,
        original_stan=AUTHORISATION.stan,
        has_cvv=False,
    )


CAPTURE, REVERSAL = follow(Kind.CAPTURE, 2_500), follow(Kind.REVERSAL, 2_500)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "books.db"


@pytest.fixture
def books(place: Path) -> Iterator[Books]:
    opened = Books(place)
    yield opened
    opened.close()


@pytest.fixture
def host(books: Books) -> Host:
    return Host(books)


def codes(host: Host, *messages: Message) -> list[str]:
    return [reply.code for reply in host.answer_all(messages)]


def test_taken_in_parts_never_more_than_was_reserved(host: Host) -> None:
    parts = [
        follow(Kind.CAPTURE, amount, stan=stan) for stan, amount in ((2, 2_000), (3, 501), (4, 500), (5, 1))
    ]
    assert codes(host, AUTHORISATION, *parts) == ["00", "00", "13", "00", "13"]


def test_given_back_never_more_than_was_taken(host: Host) -> None:
    refunds = [
        follow(Kind.REFUND, amount, stan=stan)
        for stan, amount in ((3, 2_501), (4, 2_400), (5, 101), (6, 100))
    ]
    assert codes(host, AUTHORISATION, CAPTURE, *refunds) == ["00", "00", "13", "00", "13", "00"]


def test_what_is_reversed_is_not_taken_and_what_is_taken_not_reversed(host: Host) -> None:
    assert codes(host, AUTHORISATION, REVERSAL, follow(Kind.CAPTURE, 2_500, stan=3)) == ["00", "00", "12"]
    again = replace(AUTHORISATION, stan=5, rrn="010000000005")
    taken = replace(CAPTURE, stan=6, rrn=again.rrn, original_stan=5)
    back = replace(REVERSAL, stan=7, rrn=again.rrn, original_stan=5)
    assert codes(host, again, taken, back) == ["00", "00", "13"]


def test_partial_reversal_leaves_what_was_taken(host: Host, place: Path) -> None:
    sent = [AUTHORISATION, follow(Kind.CAPTURE, 1_000), follow(Kind.REVERSAL, 2_500, stan=3, keep=1_000)]
    assert codes(host, *sent) == ["00", "00", "00"]
    (one,) = standings(place)
    assert (one.reserved, one.captured) == (1_000, 1_000)
    assert unreversed_approvals(place) == {ORDER: 1}
    assert codes(host, follow(Kind.CAPTURE, 1, stan=4)) == ["13"]


def test_nothing_to_follow_is_said(host: Host) -> None:
    assert codes(host, CAPTURE, REVERSAL, follow(Kind.REFUND, 1)) == ["25"] * 3


def test_repeated_advice_is_known_and_a_new_one_is_not_taken_for_it(host: Host, place: Path) -> None:
    half = follow(Kind.CAPTURE, 1_250)
    assert codes(host, AUTHORISATION, half, replace(half, mti="0221"), replace(half, stan=9)) == ["00"] * 4
    assert standings(place)[0].captured == 2_500


def test_forgetful_host_takes_a_repeated_advice_twice(books: Books, place: Path) -> None:
    half = follow(Kind.CAPTURE, 1_250)
    assert codes(Host(books, forgetful=True), AUTHORISATION, half, half) == ["00"] * 3
    assert standings(place)[0].captured == 2_500


def test_refusal_is_repeated_too(host: Host) -> None:
    assert codes(host, CAPTURE, AUTHORISATION, CAPTURE) == ["25", "00", "25"]


def test_order_is_known_by_what_is_followed(host: Host, books: Books) -> None:
    host.answer_all([AUTHORISATION])
    (reply,) = host.answer_all([REVERSAL])
    assert reply.booked.reference == ORDER


def test_totals_are_compared_and_begin_anew(host: Host) -> None:
    close = Message(
        kind=Kind.TOTALS, mti="0500", reference="", stan=8, rrn="", sent_at=NOW, amount=0, currency="EUR"
    )
    right = Sums(captures=1, captured=2_500, refunds=1, refunded=100)
    sent = [AUTHORISATION, CAPTURE, follow(Kind.REFUND, 100, stan=3)]
    closes = [
        replace(close, totals=right),
        replace(close, totals=right),  # the same once more
        replace(close, stan=9, totals=right),  # another one: the books of the day are empty
        replace(close, stan=10, totals=Sums()),
        replace(close, stan=11, currency="JPY", totals=Sums()),
    ]
    assert codes(host, *sent, *closes) == ["00"] * 5 + ["95", "00", "00"]


def test_lost_message_is_in_the_books_and_changes_nothing(books: Books, place: Path) -> None:
    host = Host(books, Faults(["lost-before@authorisation:1"]))
    replies = host.answer_all([AUTHORISATION, REVERSAL])
    assert [reply.fault for reply in replies] == [Fault.LOST_BEFORE, Fault.NONE]
    assert replies[1].code == "25"
    assert unreversed_approvals(place) == {}
    assert report(place) == []
    with closing(sqlite3.connect(place)) as database:
        assert database.execute("SELECT kind, code, answered FROM booking").fetchall() == [
            ("authorisation", "", 0),
            ("reversal", "25", 1),
        ]


def test_report_says_what_became_of_each(host: Host, place: Path) -> None:
    others = [replace(AUTHORISATION, stan=stan, rrn=f"01000000000{stan}") for stan in (5, 6)]
    host.answer_all([AUTHORISATION, REVERSAL, others[0], replace(others[1], last_four="0002")])
    assert [line.outcome for line in report(place)] == [
        ReportOutcome.REVERSED,
        ReportOutcome.APPROVED,
        ReportOutcome.DECLINED,
    ]


def test_books_refuse_to_be_changed(host: Host, place: Path) -> None:
    host.answer_all([AUTHORISATION])
    with closing(sqlite3.connect(place)) as database:
        for change in ("UPDATE booking SET amount = 1", "DELETE FROM booking"):
            with pytest.raises(sqlite3.IntegrityError, match="stays booked"):
                database.execute(change)


@pytest.mark.parametrize(
    ("ending", "code", "amount", "currency", "security_code"),
    [
        (9_972, "10", 9_986, "EUR", SecurityCode.MATCH),
        (9_973, "00", 19_973, "EUR", SecurityCode.MISMATCH),
        (9_974, "00", 19_975, "EUR", SecurityCode.MATCH),
        (9_975, "00", 19_975, "USD", SecurityCode.MATCH),
        (9_901, "01", 19_901, "EUR", SecurityCode.MATCH),
        (9_904, "04", 19_904, "EUR", SecurityCode.MATCH),
    ],
)
def test_approval_that_is_not_what_it_seems(
    host: Host, ending: int, code: str, amount: int, currency: str, security_code: SecurityCode
) -> None:
    (reply,) = host.answer_all([replace(AUTHORISATION, amount=10_000 + ending)])
    assert (reply.code, reply.amount, reply.currency, reply.security_code) == (
        code,
        amount,
        currency,
        security_code,
    )


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault])
def test_every_fault_can_be_asked_for_by_rule(books: Books, fault: Fault) -> None:
    host = Host(books, Faults([f"{fault}@authorisation/2:1"], has_mac=True))
    replies = host.answer_all([replace(AUTHORISATION, stan=stan) for stan in range(1, 5)])
    assert [reply.fault for reply in replies] == [Fault.NONE, fault, Fault.NONE, Fault.NONE]
    assert replies[1].booked.answered is (fault not in UNANSWERED)


def test_amounts_ask_for_every_fault_of_an_authorisation() -> None:
    asked = {trigger.fault for triggers in AMOUNT_TRIGGERS.values() for trigger in triggers}
    by_rule_only = {Fault.HANG_UP, Fault.ONLY_OTHER_STAN, Fault.OUT_OF_BALANCE}
    assert asked | by_rule_only | {Fault.HOST_ECHO, Fault.WRONG_MAC} == set(Fault)


def test_control_file_is_read_again_when_it_changes(books: Books, tmp_path: Path) -> None:
    control = tmp_path / "faults"
    host = Host(books, Faults(control=control))
    assert codes(host, AUTHORISATION) == ["00"]
    control.write_text("code-51@authorisation\n")
    assert codes(host, AUTHORISATION) == ["51"]
    control.unlink()
    assert codes(host, AUTHORISATION) == ["00"]


@pytest.mark.parametrize(
    "text", ["", "cut@", "cut/0", "code-5", "no-such", "cut@orders", "cut@reversal:", "CUT"]
)
def test_fault_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ProcessorError) as refused:
        parse_rule(text)
    assert refused.value.rule == "SIMULATOR-FAULT"


@given(text=st.text(max_size=30))
def test_any_text_is_a_rule_or_refused(text: str) -> None:
    try:
        rule = parse_rule(text)
    except ProcessorError as error:
        said = error.rule
    else:
        said = "" if rule.every >= 1 and len(rule.code) in (0, 2) else "odd"
    assert said in ("", "SIMULATOR-FAULT")


_KINDS = st.sampled_from([Kind.AUTHORISATION, Kind.CAPTURE, Kind.REVERSAL, Kind.REFUND])


@settings(max_examples=60, deadline=None)
@given(
    asked=st.lists(
        st.tuples(_KINDS, st.integers(1, 6), st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=25
    ),
    forgetful=st.booleans(),
)
def test_books_never_hold_more_taken_than_reserved_nor_given_back_than_taken(
    asked: list[tuple[Kind, int, int, int]], forgetful: bool
) -> None:
    with TemporaryDirectory() as folder:
        place = Path(folder) / "books.db"
        with closing(Books(place)) as books:
            host = Host(books, forgetful=forgetful)
            for kind, stan, amount, keep in asked:
                message = replace(follow(kind, amount, stan=stan, keep=keep), original_stan=1)
                host.answer_all([AUTHORISATION if kind is Kind.AUTHORISATION else message])
        for one in standings(place):
            assert one.refunded <= one.captured <= one.amount
            assert one.captured <= one.reserved or not one.reserved


def test_codes_by_card_and_amount_are_declines_that_charging_knows(books: Books) -> None:
    host = Host(books)
    amounts = (9_903, 9_907, 9_912, 9_914, 9_930, 9_941, 9_957, 9_982, 9_996)
    found = {reply.code for reply in host.answer_all([replace(AUTHORISATION, amount=one) for one in amounts])}
    assert len(found) == len(amounts)
    assert found <= set(DECLINE_CLASS)
