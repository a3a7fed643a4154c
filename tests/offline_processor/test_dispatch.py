"""What follows a charge: captures, shipments, cancellations, refunds, expiry; never too much, never twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import sqlite_utils
from hypothesis import given, settings
from hypothesis import strategies as st

from offline_processor import dispatch, duties, operations
from offline_processor.acquirers.protocol import (
    Acquirer,
    Answered,
    Authorisation,
    Capture,
    Refund,
    Reversal,
    Verb,
)
from offline_processor.attempts import Till
from offline_processor.batch import run
from offline_processor.cards import CardTable
from offline_processor.cases import open_cases
from offline_processor.charging import NOT_YET
from offline_processor.config import AcquirerConfig, ChargingConfig
from offline_processor.control_total import minor_units, money
from offline_processor.errors import ProcessorError
from offline_processor.ledger import operations as owed_operations
from offline_processor.ledger.operations import TRANSITIONS, OperationKind, OperationState, Wanted
from offline_processor.schemes import CLEARING_DAYS, SCHEME_DAYS, Scheme, authorisation_days, scheme_of
from tests.offline_processor.acquirers import Answers, BadLine, changed
from tests.offline_processor.shop import Shop, a_card, an_order, id_of, next_bundle
from tests.offline_processor.simulated import SimulatedAcquirer

if TYPE_CHECKING:
    from offline_processor.charging import Answer
    from offline_processor.ledger.ledger import Ledger
    from offline_processor.operations import Sent
    from offline_processor.workplace import RunReport

DAY = 86_400
AMOUNT = 2_499
DISPATCH = ChargingConfig(capture="dispatch")


def run_with(shop: Shop, charging: ChargingConfig, acquirer: Acquirer | None = None) -> RunReport:
    shop.drop_in.mkdir(exist_ok=True)
    shop.drop_out.mkdir(exist_ok=True)
    link = acquirer or SimulatedAcquirer(shop.books)
    try:
        with shop.ledger() as ledger:
            return run(replace(shop.workplace(ledger, link), charging=charging))
    finally:
        link.close()


@contextmanager
def till(shop: Shop, acquirer: Acquirer | None = None) -> Iterator[Till]:
    link = acquirer or SimulatedAcquirer(shop.books)
    try:
        with shop.ledger() as ledger:
            yield Till(
                ledger=ledger,
                acquirer=link,
                vault_key=shop.keystore.vault_key,
                epoch=shop.keystore.epoch,
                charging=DISPATCH,
            )
    finally:
        link.close()


def send(made: Till, now: int) -> Sent:
    with CardTable(10) as cards:
        return operations.send_owed(made, cards, window=10, now=now)


def ship(
    shop: Shop, number: int, *, shipment: str = "sent", amount: int | None = None, final: bool = False
) -> Sent:
    with till(shop) as made:
        with made.ledger.atomic():
            charge = dispatch.find(made.ledger, id_of(number))
            dispatch.ship(
                made.ledger,
                charge,
                DISPATCH,
                shipment=shipment,
                amount=amount,
                final=final,
                early=False,
                now=shop.now,
            )
        return send(made, shop.now)


def booked(shop: Shop) -> list[tuple[str, int, str]]:
    """(kind, amount, code) of every message about captures, refunds and voids, as the acquirer saw them."""
    database = sqlite_utils.Database(shop.books)
    try:
        query = "SELECT kind, amount, code FROM booking WHERE kind IN ('capture', 'refund', 'reversal') ORDER BY id"
        return list(database.execute(query).fetchall())
    finally:
        database.close()


# Taken at once


def test_sale_is_captured_whole_as_soon_as_it_is_approved(shop: Shop) -> None:
    shop.bundle([shop.seal(0), shop.seal(1, card=a_card(b"4000000000000002"))])
    report = shop.run()
    assert [item.kind for item in report.operations.done] == [OperationKind.CAPTURE]
    assert booked(shop) == [("capture", AMOUNT, "00")]
    assert shop.state(0) == ("paid", "none", "")
    assert shop.rows("SELECT vault FROM live_attempt") == [(None,)]


def test_capture_without_an_answer_is_owed_until_it_is_answered(shop: Shop) -> None:
    class Mute(BadLine):
        def capture(self, window: object) -> list[None]:
            return [None] * len(window)  # type: ignore[arg-type]

    shop.bundle([shop.seal(0)])
    report = shop.run(Mute(path=shop.books))
    assert len(report.operations.open) == 1
    assert shop.state(0)[0] == "paid"
    stans = shop.rows("SELECT stan, tries FROM operation")
    assert stans[0][1] == 1
    report = shop.run_later()
    assert [item.state for item in report.operations.done] == [OperationState.PENDING]
    assert booked(shop) == [("capture", AMOUNT, "00")]
    assert shop.rows("SELECT stan, tries, state FROM operation") == [(stans[0][0], 2, "done")]


@pytest.mark.parametrize("code", sorted(NOT_YET))
def test_capture_that_is_put_off_is_sent_again_and_done_once(shop: Shop, code: str) -> None:
    shop.bundle([shop.seal(0)])
    report = shop.run(SimulatedAcquirer(shop.books, faults=[f"code-{code}@capture:1"]))
    assert len(report.operations.open) == 1
    shop.run_later()
    shop.run_later()
    assert booked(shop) == [("capture", AMOUNT, code), ("capture", AMOUNT, "00")]
    assert shop.rows("SELECT state FROM operation") == [("done",)]


def test_refused_capture_is_a_persons_case_and_its_goods_do_not_go(shop: Shop) -> None:
    shop.bundle([shop.seal(0)])
    report = shop.run(SimulatedAcquirer(shop.books, faults=["code-13@capture"]))
    assert len(report.operations.refused) == 1
    assert shop.state(0) == ("paid", "none", "CAPTURE-REFUSED")
    with pytest.raises(ProcessorError, match="refused to take"):
        ship(shop, 0)


def test_paid_order_of_which_nothing_was_taken_does_not_go(shop: Shop) -> None:
    shop.bundle([shop.seal(0)])
    shop.run()
    with shop.ledger() as ledger, ledger.atomic():
        ledger.execute("DROP TRIGGER operation_is_never_deleted")
        ledger.execute("DELETE FROM operation")
    with pytest.raises(ProcessorError, match="DISPATCH-UNPAID"):
        ship(shop, 0)
    assert shop.state(0)[0] == "paid"


# Taken when the goods go


def test_order_that_is_captured_at_dispatch_is_authorised_then_dispatched(shop: Shop) -> None:
    shop.bundle([shop.seal(0)])
    run_with(shop, DISPATCH)
    assert shop.state(0) == ("authorised", "none", "")
    assert shop.told(0) == ("authorised", "none")
    assert booked(shop) == []
    ship(shop, 0)
    assert shop.state(0) == ("dispatched", "none", "")
    assert booked(shop) == [("capture", AMOUNT, "00")]
    assert shop.rows("SELECT vault FROM live_attempt") == [(None,)]
    ship(shop, 0)
    assert booked(shop) == [("capture", AMOUNT, "00")]
    run_with(shop, DISPATCH)
    assert shop.told(0) == ("dispatched", "none")


def test_paid_order_is_only_marked_when_it_goes(shop: Shop) -> None:
    shop.bundle([shop.seal(0)])
    shop.run()
    ship(shop, 0)
    assert shop.state(0) == ("dispatched", "none", "")
    assert booked(shop) == [("capture", AMOUNT, "00")]


def test_parts_are_captured_each_once_and_the_rest_is_released(shop: Shop) -> None:
    shop.bundle([shop.seal(0)])
    run_with(shop, DISPATCH)
    with pytest.raises(ProcessorError, match="DISPATCH-NAME"):
        ship(shop, 0, shipment="whole", amount=1_000)
    for _ in range(2):
        ship(shop, 0, shipment="parcel-1", amount=1_000)
    assert shop.state(0)[0] == "authorised"
    ship(shop, 0, shipment="parcel-2", amount=500, final=True)
    assert shop.state(0)[0] == "dispatched"
    assert booked(shop) == [
        ("capture", 1_000, "00"),
        ("capture", 500, "00"),
        ("reversal", AMOUNT, "00"),
    ]
    with pytest.raises(ProcessorError, match="DISPATCH-STATE"):
        ship(shop, 0, shipment="parcel-3", amount=1_000)
    ship(shop, 0)
    assert len(booked(shop)) == 3
    assert shop.rows("SELECT vault FROM live_attempt") == [(None,)]


def test_cancelled_order_is_released_and_nothing_was_taken(shop: Shop) -> None:
    shop.bundle([shop.seal(0)])
    run_with(shop, DISPATCH)
    with till(shop) as made:
        for _ in range(2):
            with made.ledger.atomic():
                dispatch.cancel(made.ledger, dispatch.find(made.ledger, id_of(0)), now=shop.now)
        send(made, shop.now)
    assert shop.state(0) == ("refunded", "none", "CHARGE-CANCELLED")
    assert booked(shop) == [("reversal", AMOUNT, "00")]
    assert shop.charges() == {}
    assert shop.rows("SELECT number FROM live_attempt") == []
    with pytest.raises(ProcessorError, match="DISPATCH-STATE"):
        ship(shop, 0)


@pytest.mark.parametrize(
    ("pan", "agreed", "days"),
    [
        (b"4242424242424242", {}, 9),
        (b"4242424242424242", {Scheme.VISA: 5, Scheme.AMEX: 30}, 5),
        (b"5555555555554444", {Scheme.VISA: 5}, 6),
        (b"378282246310005", {Scheme.AMEX: 8}, 8),
    ],
)
def test_authorisation_that_its_scheme_lets_wait_no_longer_is_released(
    shop: Shop, pan: bytes, agreed: dict[Scheme, int], days: int
) -> None:
    charging = ChargingConfig(capture="dispatch", authorisation_days=agreed)
    shop.bundle([shop.seal(0, card=a_card(pan, cvv=b"1234" if len(pan) < 16 else b"123"))])
    run_with(shop, charging)
    shop.now += days * DAY - 120
    run_with(shop, charging)
    assert shop.state(0)[0] == "authorised"
    shop.now += 180
    run_with(shop, charging)
    assert shop.state(0) == ("order-again", "expired", "CHARGE-AUTH-EXPIRED")
    assert shop.charges() == {}


def test_pre_order_is_authorised_anew_without_its_code_when_the_goods_are_there(shop: Shop) -> None:
    today = datetime.fromtimestamp(shop.now, UTC).date()
    order = an_order(0)
    release = ChargingConfig(preorders={order.items[0].sku: today + timedelta(days=20)})
    shop.bundle([shop.seal(0, order=order)])
    run_with(shop, release)
    assert shop.state(0)[0] == "authorised"
    with pytest.raises(ProcessorError, match="DISPATCH-EARLY"):
        ship(shop, 0)
    shop.now += 9 * DAY
    run_with(shop, release)
    assert shop.state(0) == ("held", "none", "CHARGE-AUTH-EXPIRED")
    assert shop.charges() == {}
    shop.now += 12 * DAY
    run_with(shop, release)
    assert shop.state(0)[0] == "authorised"
    assert shop.rows("SELECT number FROM retry") == []
    ship(shop, 0)
    assert shop.state(0)[0] == "dispatched"
    assert shop.charges()[id_of(0)] == 1


def test_pre_order_that_nobody_sends_is_authorised_anew_for_a_time_only_and_its_card_goes(shop: Shop) -> None:
    today = datetime.fromtimestamp(shop.now, UTC).date()
    order = an_order(0)
    charging = ChargingConfig(preorders={order.items[0].sku: today + timedelta(days=8)}, vault_days=10)
    shop.bundle([shop.seal(0, order=order)])
    tries = []
    for days in (9, 4, 4, 4, 4):  # the goods are there on the eighth
        run_with(shop, charging)
        tries += shop.rows("SELECT attempt FROM live_attempt WHERE vault IS NOT NULL")
        shop.now += days * DAY
    assert tries == [(1,), (2,), (3,), (4,)]
    assert shop.state(0) == ("order-again", "expired", "CHARGE-AUTH-EXPIRED")
    assert shop.rows("SELECT number FROM retry") == []
    assert shop.charges() == {}


def test_authorisation_that_is_too_old_is_not_taken_even_before_it_is_released(shop: Shop) -> None:
    shop.bundle([shop.seal(0)])
    run_with(shop, DISPATCH)
    shop.now += 9 * DAY + 60
    with pytest.raises(ProcessorError, match="DISPATCH-EXPIRED"):
        ship(shop, 0)
    assert booked(shop) == []


def test_rest_of_a_part_that_was_sent_expires_and_the_part_stays_paid(shop: Shop) -> None:
    shop.bundle([shop.seal(0)])
    run_with(shop, DISPATCH)
    ship(shop, 0, shipment="parcel-1", amount=1_000)
    shop.now += 9 * DAY + 60
    run_with(shop, DISPATCH)
    assert shop.state(0) == ("dispatched", "none", "CHARGE-AUTH-EXPIRED")
    with pytest.raises(ProcessorError, match="DISPATCH-STATE"):
        ship(shop, 0, shipment="parcel-2", amount=1_000)
    assert booked(shop) == [("capture", 1_000, "00"), ("reversal", AMOUNT, "00")]
    assert shop.rows("SELECT vault FROM live_attempt") == [(None,)]


def test_release_that_the_acquirer_refuses_is_not_asked_for_by_itself_again(shop: Shop) -> None:
    shop.bundle([shop.seal(0)])
    run_with(shop, DISPATCH)
    shop.now += 9 * DAY + 60
    for _ in range(2):
        run_with(shop, DISPATCH, SimulatedAcquirer(shop.books, faults=["code-13@reversal"]))
    assert shop.state(0) == ("authorised", "none", "VOID-REFUSED")
    assert len(booked(shop)) == 1
    with shop.ledger() as ledger, ledger.atomic():
        (refused,) = owed_operations.failed(ledger)
        for name in (" again 1", " again 2"):
            charge = dispatch.find(ledger, id_of(0))
            (made,) = dispatch.again(ledger, charge, refused, now=shop.now)
            assert made.reference == f"CHARGE-AUTH-EXPIRED 1{name}"
            owed_operations.answered(ledger, made, accepted=False, code="13", now=shop.now)
            refused = owed_operations.failed(ledger)[-1]
            refused = next(item for item in owed_operations.failed(ledger) if item.id == made.id)
    run_with(shop, DISPATCH)
    with till(shop) as made_till, made_till.ledger.atomic():
        dispatch.again(made_till.ledger, dispatch.find(made_till.ledger, id_of(0)), refused, now=shop.now)
    run_with(shop, DISPATCH)
    assert shop.state(0) == ("order-again", "expired", "CHARGE-AUTH-EXPIRED")


@pytest.mark.parametrize(
    ("names", "after"),
    [
        (["order sent again by post"], "order sent again by post again 1"),
        (["R", "R again 1"], "R again 2"),
        (["R again 7"], "R again 8"),
        (["R again 1234567"], "R again 1234567 again 1"),
        ([" again 1"], " again 1 again 1"),
    ],
)
def test_refused_refund_of_any_name_goes_again_under_a_name_that_is_free(
    shop: Shop, names: list[str], after: str
) -> None:
    shop.bundle([shop.seal(0)])
    shop.run()
    with shop.ledger() as ledger, ledger.atomic():
        for name in names:
            charge = dispatch.find(ledger, id_of(0))
            made = dispatch.refund(ledger, charge, reference=name, amount=100, currency="EUR", now=shop.now)[
                -1
            ]
            owed_operations.answered(ledger, made, accepted=False, code="13", now=shop.now)
        first = next(item for item in owed_operations.failed(ledger) if item.reference == names[0])
        (again,) = dispatch.again(ledger, dispatch.find(ledger, id_of(0)), first, now=shop.now)
        assert (again.reference, again.amount) == (after, 100)


def test_answer_that_says_not_yet_or_another_amount_is_none(shop: Shop) -> None:
    shop.bundle([shop.seal(0)])
    line = SimulatedAcquirer(shop.books, faults=["code-91@capture:1"])
    assert len(shop.run(line).operations.open) == 1

    def other_amount(answers: Answers) -> Answers:
        return changed(answers, amount=AMOUNT - 1)

    assert len(shop.run(BadLine(path=shop.books, following=other_amount)).operations.open) == 1
    assert shop.rows("SELECT state, tries FROM operation") == [("pending", 2)]


def test_card_stays_in_the_vault_only_while_something_can_need_it(shop: Shop) -> None:
    class NeedsNoCard(SimulatedAcquirer):
        def needs_card(self, verb: Verb) -> bool:
            return False

    shop.bundle([shop.seal(0)])
    run_with(shop, DISPATCH, NeedsNoCard(shop.books))
    assert shop.state(0)[0] == "authorised"
    assert shop.rows("SELECT vault FROM live_attempt") == [(None,)]


def test_card_that_a_refund_must_carry_stays_until_all_is_given_back_or_its_deadline(shop: Shop) -> None:
    carried: list[bool] = []

    class RefundsByCard(SimulatedAcquirer):
        def needs_card(self, verb: Verb) -> bool:
            return verb is Verb.REFUND

        def refund(self, window: Sequence[Refund]) -> Sequence[Answer | None]:
            carried.extend(one.card is not None for one in window)
            return super().refund(window)

    def boxes() -> list[int]:
        return [row[0] for row in shop.rows("SELECT vault IS NOT NULL FROM live_attempt ORDER BY number")]

    keys = shop.keys_for()
    shop.bundle([shop.seal(0, keys=keys), shop.seal(1, keys=keys)])
    shop.run(RefundsByCard(shop.books))
    assert boxes() == [1, 1]
    for amount, kept in ((1_000, 1), (None, 0)):
        with shop.ledger() as ledger, ledger.atomic():
            charge = dispatch.find(ledger, id_of(0))
            name = f"R-{amount}"
            dispatch.refund(ledger, charge, reference=name, amount=amount, currency=None, now=shop.now)
        shop.now += 60
        shop.run(RefundsByCard(shop.books))
        assert boxes() == [kept, 1]
    assert carried == [True, True]
    shop.now += 31 * DAY
    shop.run(RefundsByCard(shop.books))
    assert boxes() == [0, 0]


def test_card_whose_capture_is_never_answered_is_erased_at_its_deadline(shop: Shop) -> None:
    shop.bundle([shop.seal(0)])
    run_with(shop, DISPATCH)
    with shop.ledger() as ledger, ledger.atomic():
        charge = dispatch.find(ledger, id_of(0))
        dispatch.ship(
            ledger, charge, DISPATCH, shipment="sent", amount=None, final=False, early=False, now=shop.now
        )
    silent_line = ["lost-after@capture"]
    for days, kept in ((29, 1), (2, 0)):
        shop.now += days * DAY
        run_with(shop, DISPATCH, SimulatedAcquirer(shop.books, faults=silent_line))
        assert shop.rows("SELECT count(vault) FROM live_attempt") == [(kept,)]


def test_pre_order_is_only_reserved_though_all_else_is_taken_at_once(shop: Shop) -> None:
    seen: list[tuple[bool, bool]] = []

    class Watched(SimulatedAcquirer):
        def authorise(self, asked: Iterator[Authorisation]) -> Answered:
            window = list(asked)
            seen.extend((one.only_reserves, False) for one in window)
            yield from super().authorise(iter(window))

        def capture(self, window: Sequence[Capture]) -> Sequence[Answer | None]:
            seen.extend((False, one.at_once) for one in window)
            return super().capture(window)

    keys, order = shop.keys_for(), an_order(1)
    today = datetime.fromtimestamp(shop.now, UTC).date()
    release = ChargingConfig(preorders={order.items[0].sku: today + timedelta(days=3)})
    shop.bundle([shop.seal(0, keys=keys), shop.seal(1, keys=keys, order=order)])
    run_with(shop, release, Watched(shop.books))
    assert seen == [(False, False), (True, False), (False, True)]
    assert (shop.state(0)[0], shop.state(1)[0]) == ("paid", "authorised")


def test_release_of_the_rest_still_has_the_card_that_its_message_carries(shop: Shop) -> None:
    carried: list[bool] = []

    class Watched(SimulatedAcquirer):
        def reverse(self, window: Sequence[Reversal]) -> Sequence[Answer | None]:
            carried.extend(one.card is not None for one in window)
            return super().reverse(window)

    shop.bundle([shop.seal(0)])
    run_with(shop, DISPATCH)
    with till(shop, Watched(shop.books)) as made:
        with made.ledger.atomic():
            charge = dispatch.find(made.ledger, id_of(0))
            dispatch.ship(
                made.ledger,
                charge,
                DISPATCH,
                shipment="parcel-1",
                amount=1_000,
                final=True,
                early=False,
                now=shop.now,
            )
        send(made, shop.now)
    assert carried == [True]
    assert shop.rows("SELECT vault FROM live_attempt") == [(None,)]


# Given back


def test_refunds_never_give_back_more_than_was_taken_and_each_goes_once(shop: Shop) -> None:
    shop.bundle([shop.seal(0)])
    shop.run()
    with till(shop) as made:

        def back(reference: str, amount: int | None) -> None:
            with made.ledger.atomic():
                charge = dispatch.find(made.ledger, id_of(0))
                dispatch.refund(
                    made.ledger, charge, reference=reference, amount=amount, currency="EUR", now=shop.now
                )
            send(made, shop.now)

        back("R-1", 1_000)
        back("R-1", 1_000)
        with pytest.raises(ProcessorError, match="REFUND-AMOUNT"):
            back("R-2", AMOUNT)
        assert shop_state(made.ledger) == "paid"
        back("R-2", None)
        assert shop_state(made.ledger) == "refunded"
        with pytest.raises(ProcessorError, match="REFUND-AMOUNT"):
            back("R-3", None)
        with pytest.raises(ProcessorError, match="REFUND-NAME"):
            back("R-1", 900)
    assert booked(shop)[1:] == [("refund", 1_000, "00"), ("refund", AMOUNT - 1_000, "00")]


def test_order_of_which_more_is_to_be_sent_is_not_refunded_by_giving_back_a_part(shop: Shop) -> None:
    shop.bundle([shop.seal(0)])
    run_with(shop, DISPATCH)
    ship(shop, 0, shipment="parcel-1", amount=1_000)
    with till(shop) as made:
        with made.ledger.atomic():
            charge = dispatch.find(made.ledger, id_of(0))
            dispatch.refund(made.ledger, charge, reference="R", amount=None, currency=None, now=shop.now)
        send(made, shop.now)
    assert shop.state(0)[0] == "authorised"
    ship(shop, 0, shipment="parcel-2")
    assert shop.state(0)[0] == "dispatched"


def test_goods_whose_money_goes_back_are_not_sent(shop: Shop) -> None:
    shop.bundle([shop.seal(0)])
    shop.run()
    with shop.ledger() as ledger, ledger.atomic():
        charge = dispatch.find(ledger, id_of(0))
        dispatch.refund(ledger, charge, reference="R", amount=None, currency=None, now=shop.now)
    with pytest.raises(ProcessorError, match="being given back"):
        ship(shop, 0)


def shop_state(ledger: Ledger) -> str:
    row = ledger.row("SELECT state FROM orders")
    assert row is not None
    return str(row[0])


def test_database_itself_takes_and_gives_back_no_more_than_there_is(shop: Shop) -> None:
    shop.bundle([shop.seal(0)])
    run_with(shop, DISPATCH)
    with till(shop) as made:
        sent = dispatch.find(made.ledger, id_of(0)).authorised
        assert sent is not None

        def owe(kind: OperationKind, reference: str, amount: int) -> None:
            wanted = Wanted(original=sent, approval="", kind=kind, reference=reference, amount=amount)
            with made.ledger.atomic():
                owed_operations.owe(made.ledger, [wanted], now=shop.now)

        with pytest.raises(sqlite3.IntegrityError, match="than was authorised"):
            owe(OperationKind.CAPTURE, "a", AMOUNT + 1)
        other = Wanted(
            original=replace(sent, currency="JPY"),
            approval="",
            kind=OperationKind.CAPTURE,
            reference="a",
            amount=1,
        )
        other = Wanted(
            original=replace(sent, currency="JPY"),
            approval="",
            kind=OperationKind.CAPTURE,
            reference="a",
            amount=1,
        )
        with pytest.raises(sqlite3.IntegrityError, match="another currency"), made.ledger.atomic():
            owed_operations.owe(made.ledger, [other], now=shop.now)
        owe(OperationKind.CAPTURE, "a", AMOUNT)
        with pytest.raises(sqlite3.IntegrityError, match="than was authorised"):
            owe(OperationKind.CAPTURE, "b", 1)
        with pytest.raises(sqlite3.IntegrityError):
            owe(OperationKind.CAPTURE, "a", 0)
        with pytest.raises(sqlite3.IntegrityError, match="than was taken"):
            owe(OperationKind.REFUND, "c", 1)  # it is not answered yet
        send(made, shop.now)
        owe(OperationKind.REFUND, "c", AMOUNT)
        with pytest.raises(sqlite3.IntegrityError, match="than was taken"):
            owe(OperationKind.REFUND, "d", 1)
        with pytest.raises(sqlite3.IntegrityError, match="does not change"), made.ledger.atomic():
            made.ledger.execute("UPDATE operation SET state = 'pending' WHERE kind = 'capture'")
        with pytest.raises(sqlite3.IntegrityError, match="does not change"), made.ledger.atomic():
            made.ledger.execute("UPDATE operation SET amount = 1")
        with pytest.raises(sqlite3.IntegrityError, match="never forgotten"), made.ledger.atomic():
            made.ledger.execute("DELETE FROM operation")
        owe(OperationKind.VOID, "e", AMOUNT)
        with pytest.raises(sqlite3.IntegrityError, match="is released"):
            owe(OperationKind.CAPTURE, "f", 1)


def test_only_a_pending_operation_is_answered() -> None:
    assert {state for state, _ in TRANSITIONS} == {OperationState.PENDING}
    assert set(TRANSITIONS.values()) == {OperationState.DONE, OperationState.FAILED}


# Words and numbers


@settings(max_examples=200)
@given(st.integers(0, 10**12 - 1), st.sampled_from(["EUR", "JPY", "KWD", "GBP"]))
def test_amounts_are_read_as_they_are_shown(amount: int, currency: str) -> None:
    assert minor_units(money(amount, currency)) == (amount, currency)


@given(st.text(max_size=20))
def test_any_other_text_is_no_amount(text: str) -> None:
    with pytest.raises(ProcessorError, match="USAGE-AMOUNT"):
        minor_units(f"{text}?")


@pytest.mark.parametrize(
    ("card", "scheme"),
    [
        ("424242*4242", Scheme.VISA),
        ("555555*4444", Scheme.MASTERCARD),
        ("222300*0011", Scheme.MASTERCARD),
        ("378282*0005", Scheme.AMEX),
        ("353011*0000", Scheme.JCB),
        ("620000*0000", Scheme.UNIONPAY),
        ("601111*1117", Scheme.DISCOVER),
        ("305693*9020", Scheme.DINERS),
        ("675964*1234", Scheme.MAESTRO),
        ("900000*0000", Scheme.OTHER),
        ("", Scheme.OTHER),
    ],
)
def test_scheme_is_known_by_the_first_digits(card: str, scheme: Scheme) -> None:
    assert scheme_of(card) is scheme


# For how long an authorisation may wait


@pytest.mark.parametrize(
    ("card", "again", "agreed", "days"),
    [
        ("424242*4242", False, {}, 9),
        ("424242*4242", True, {}, 4),  # the customer's code is not in it: it counts as the merchant's
        ("555555*4444", False, {}, 6),
        ("555555*4444", True, {}, 6),
        ("424242*4242", True, {Scheme.VISA: 30}, 30),
        ("", False, {}, 4),  # after a restore it may be any
        ("", False, {Scheme.AMEX: 2}, 2),
        ("999999*0000", False, {Scheme.OTHER: 12}, 12),
    ],
)
def test_days_of_an_authorisation_are_the_schemes_less_one_or_the_acquirers(
    card: str, again: bool, agreed: dict[Scheme, int], days: int
) -> None:
    assert authorisation_days(card, again=again, agreed=agreed) == days


def test_no_scheme_is_left_out_and_none_is_left_without_a_day() -> None:
    assert {*SCHEME_DAYS, Scheme.OTHER} == set(Scheme)
    assert all(1 <= days - CLEARING_DAYS <= 30 for pair in SCHEME_DAYS.values() for days in pair)


@pytest.mark.parametrize("wrong", [{"visa": 0}, {"visa": 31}, {"viza": 5}, {"visa": "5"}, {"VISA": 5}])
def test_days_that_no_acquirer_grants_and_schemes_that_there_are_not_are_refused(
    wrong: dict[str, Any],
) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"authorisation_days": wrong}, ChargingConfig)


def test_card_that_a_release_must_carry_outlives_the_authorisation(shop: Shop) -> None:
    carried: list[bool] = []

    class ReversesByCard(SimulatedAcquirer):
        def reverse(self, window: Sequence[Reversal]) -> Sequence[Answer | None]:
            carried.extend(one.card is not None for one in window)
            return super().reverse(window)

    charging = ChargingConfig(
        capture="dispatch", vault_days=1, authorisation_days={Scheme.VISA: 30}, reversal_days=2
    )
    shop.bundle([shop.seal(0)])
    run_with(shop, charging)
    shop.now += 30 * DAY
    run_with(shop, charging, ReversesByCard(shop.books))
    assert carried == [True]
    assert shop.state(0)[0] == "order-again"


def test_authorisation_that_ends_soon_is_a_case_and_in_every_status(shop: Shop) -> None:
    today = datetime.fromtimestamp(shop.now, UTC).date()
    charging = ChargingConfig(
        capture="dispatch", preorders={an_order(2).items[0].sku: today + timedelta(days=20)}
    )
    next_bundle(shop, 0, 1, 2)
    run_with(shop, charging)
    ends = shop.now + 9 * DAY

    def told() -> tuple[list[tuple[str, int, int]], list[str]]:
        with shop.ledger() as ledger:
            cases = open_cases(
                ledger, charging=charging, acquirer=AcquirerConfig(), hold_seconds=DAY, now=shop.now
            )
            notices = duties.notices(ledger, charging, now=shop.now)
        assert all(case.needs_person for case in cases)
        assert all(notice.needs_person for notice in notices)
        assert {case.rule for case in cases} | {item.rule for item in notices} <= {"CHARGE-AUTH-ENDING"}
        return [(case.order_id, case.amount, case.deadline) for case in cases], [
            item.message for item in notices
        ]

    shop.now = ends - 2 * DAY - 1
    assert told() == ([], [])
    shop.now += 1
    ship(shop, 0, shipment="parcel-1", amount=1_000)
    cases, (message,) = told()
    assert cases == [(id_of(0), AMOUNT - 1_000, ends), (id_of(1), AMOUNT, ends)]
    assert message.startswith("2 orders are authorised, and not sent")
    ship(shop, 0, shipment="parcel-2")
    with till(shop) as made:
        with made.ledger.atomic():
            dispatch.cancel(made.ledger, dispatch.find(made.ledger, id_of(1)), now=shop.now)
        send(made, shop.now)
    assert told() == ([], [])  # the pre-order's goods come later: it is authorised anew when they do
