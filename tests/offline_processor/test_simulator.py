"""The simulated acquirer: it books all that it sees, so that what the other tests conclude from its books holds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import sqlite_utils

from keys.private.locked import LockedBuffer
from offline_processor.acquirers.protocol import Authorisation, Reversal
from offline_processor.acquirers.simulator.books import unreversed_approvals
from offline_processor.acquirers.simulator.faults import BY_LAST_FOUR
from offline_processor.charging import DeclineClass, Reference, decline_class
from tests.offline_processor.shop import (
    LOST_ANSWER_CARD,
    NO_ANSWER_AMOUNT,
    NOW,
    SILENT_AMOUNT,
    VISA,
    a_card,
)
from tests.offline_processor.simulated import SimulatedAcquirer
from transfer.wire.card import CARD_SIZE, decode_card, encode_card

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SENT = Reference(
    number=1,
    order_id="ab" * 16,
    attempt=1,
    stan=1,
    rrn="010000000001",
    sent_at=NOW,
    amount=2499,
    currency="EUR",
)
AGAIN = replace(SENT, attempt=2, stan=2, rrn="010000000002")


@pytest.fixture
def books(tmp_path: Path) -> Path:
    return tmp_path / "books.db"


@pytest.fixture
def acquirer(books: Path) -> Iterator[SimulatedAcquirer]:
    opened = SimulatedAcquirer(books)
    yield opened
    opened.close()


def authorise(acquirer: SimulatedAcquirer, sent: Reference, pan: bytes = VISA) -> str | None:
    """The code of the answer to one authorisation, None for no answer."""
    plaintext = encode_card(
        a_card(pan),
        header_digest=bytes(32),
        order_box_digest=bytes(32),
        amount=sent.amount,
        currency=sent.currency,
    )
    with LockedBuffer(CARD_SIZE) as slot:
        slot.copy_from(bytes(plaintext))
        asked = Authorisation(reference=sent, card=decode_card(slot.view))
        ((_, answer),) = acquirer.authorise(iter([asked]))
    return None if answer is None else answer.code


def reversal(sent: Reference) -> Reversal:
    """The advice that takes this authorisation back."""
    return Reversal(
        operation="cd" * 16,
        reference=replace(sent, stan=sent.stan + 500),
        original=sent,
        approval="",
        repeat=False,
        card=None,
    )


def test_double_charge_shows_in_the_books(acquirer: SimulatedAcquirer, books: Path) -> None:
    assert authorise(acquirer, SENT) == "00"
    assert unreversed_approvals(books) == {SENT.order_id: 1}
    assert authorise(acquirer, AGAIN) == "00"
    assert unreversed_approvals(books) == {SENT.order_id: 2}


def test_repeated_message_is_a_second_charge(acquirer: SimulatedAcquirer, books: Path) -> None:
    authorise(acquirer, SENT)
    authorise(acquirer, SENT)
    assert unreversed_approvals(books) == {SENT.order_id: 2}


def test_reversal_takes_back_its_own_authorisation_only(acquirer: SimulatedAcquirer, books: Path) -> None:
    authorise(acquirer, SENT)
    authorise(acquirer, AGAIN)
    (answer,) = acquirer.reverse([reversal(SENT)])
    assert answer is not None
    assert (answer.code, answer.stan, answer.rrn) == ("00", SENT.stan + 500, SENT.rrn)
    assert unreversed_approvals(books) == {SENT.order_id: 1}


def test_authorisation_after_its_reversal_stands(acquirer: SimulatedAcquirer, books: Path) -> None:
    acquirer.reverse([reversal(SENT)])
    authorise(acquirer, SENT)
    assert unreversed_approvals(books) == {SENT.order_id: 1}


def test_lost_answer_was_booked_all_the_same(acquirer: SimulatedAcquirer, books: Path) -> None:
    assert authorise(acquirer, SENT, LOST_ANSWER_CARD) is None
    assert unreversed_approvals(books) == {SENT.order_id: 1}
    assert authorise(acquirer, AGAIN, LOST_ANSWER_CARD) == "00"


def test_every_class_of_decline_can_be_had(acquirer: SimulatedAcquirer, books: Path) -> None:
    codes = {authorise(acquirer, SENT, b"400000000000" + last.encode()) for last in BY_LAST_FOUR}
    assert codes == set(BY_LAST_FOUR.values())
    assert {decline_class(code) for code in codes if code} == set(DeclineClass)
    assert unreversed_approvals(books) == {}


@pytest.mark.parametrize(
    ("amount", "code"),
    [
        (19_905, "05"),
        (9_951, "51"),
        (9_954, "54"),
        (9_991, "91"),
        (NO_ANSWER_AMOUNT, None),
        (SILENT_AMOUNT, None),
    ],
)
def test_amounts_have_answers_too(acquirer: SimulatedAcquirer, amount: int, code: str | None) -> None:
    assert authorise(acquirer, replace(SENT, amount=amount)) == code


def test_only_the_silent_amount_has_no_answer_to_its_reversal(acquirer: SimulatedAcquirer) -> None:
    answers = acquirer.reverse(
        [reversal(replace(SENT, amount=one)) for one in (NO_ANSWER_AMOUNT, SILENT_AMOUNT)]
    )
    assert [answer is None for answer in answers] == [False, True]


def test_books_survive_and_keep_issuer_and_last_four_only(acquirer: SimulatedAcquirer, books: Path) -> None:
    authorise(acquirer, SENT)
    acquirer.close()
    database = sqlite_utils.Database(books)
    rows = list(database["booking"].rows)
    database.close()
    assert [(row["bin"], row["last_four"], row["code"]) for row in rows] == [("424242", "4242", "00")]
    assert VISA not in b"".join(file.read_bytes() for file in books.parent.iterdir())
