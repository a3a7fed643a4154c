"""After the loss of the machine: nobody charged twice, and none told to order again who was charged.

The simulated acquirer books everything that it sees; its books judge, and a restore without reconciliation is the
planted fault that the same judge must find.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest

from keys.errors import KeysError
from keys.private.unseal import generate_sealing_key
from offline_processor import batch, dispatch, reconciliation
from offline_processor.acquirers.protocol import HandedOver, Heard
from offline_processor.acquirers.report import ReportKind, ReportLine, ReportOutcome
from offline_processor.charging import SecurityCode
from offline_processor.config import ChargingConfig
from offline_processor.errors import ProcessorError
from offline_processor.ledger import operations, reports
from offline_processor.sequences import set_sequence
from tests.offline_processor.acquirers import BadLine, LineCutError, changed, cut, silent
from tests.offline_processor.disaster import (
    acquirers_report,
    back_up,
    bring_in_report,
    lose,
    put_old_keystore_back,
    rebuild,
    recover_keystore,
    restore_ledger,
    wronged,
)
from tests.offline_processor.forgery import with_byte_changed
from tests.offline_processor.shop import (
    DECLINED_CARD,
    HOLD_HOURS,
    HOUR,
    LOST_ANSWER_CARD,
    NO_ANSWER_AMOUNT,
    VISA,
    Shop,
    a_card,
    an_order,
    id_of,
    open_shop,
)
from tests.offline_processor.test_dispatch import DISPATCH, run_with, ship
from transfer.wire.records import Revocation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from offline_processor.acquirers.protocol import Authorisation, Reversal
    from offline_processor.reconciliation import Reconciled

HELD, BEFORE, CHARGED, DECLINED, UNKNOWN, LATE = 0, 1, (2, 3), 4, 5, (6, 7)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = open_shop(tmp_path, custodians=(2, 3))
    yield made
    made.keystore.close()
    if made.custody_key is not None:
        made.custody_key.close()


def next_bundle(shop: Shop, *numbers: int, pans: Mapping[int, bytes] = MappingProxyType({})) -> Path:
    keys = shop.keys_for()
    envelopes = [
        shop.seal(number, keys=keys, card=a_card(pans[number]) if number in pans else None)
        for number in numbers
    ]
    return shop.bundle(envelopes, batch_key_id=keys.batch_key_id)


def days_before_the_loss(shop: Shop) -> Path:
    """A bundle, a backup, another bundle that is charged, and a third that comes too late; the backup's file."""
    next_bundle(shop, HELD, BEFORE, pans={HELD: LOST_ANSWER_CARD})
    shop.run()
    shop.now += HOUR
    backup = back_up(shop).path
    shop.now += HOUR
    next_bundle(shop, *CHARGED, DECLINED, UNKNOWN, pans={DECLINED: DECLINED_CARD, UNKNOWN: LOST_ANSWER_CARD})
    shop.run()
    next_bundle(shop, *LATE)
    shop.now += HOUR
    return backup


# The whole


def test_every_bundle_sent_again_after_a_restore_wrongs_nobody(shop: Shop) -> None:
    backup = days_before_the_loss(shop)
    lose(shop)
    rebuild(shop, backup)
    with pytest.raises(ProcessorError, match="LEDGER-UNRECONCILED"):
        shop.run()
    done = bring_in_report(shop)
    assert set(done.to_come) == {id_of(number) for number in (*CHARGED, UNKNOWN)}
    assert done.paid == [id_of(HELD)]  # reversed, then charged afresh, after the backup
    shop.run_later()
    shop.run_later()
    assert wronged(shop) == []
    states = {number: shop.state(number)[0] for number in range(8)}
    assert states == {
        **dict.fromkeys((HELD, BEFORE, *CHARGED), "paid"),
        UNKNOWN: "authorised",  # its answer was lost, so nothing was taken yet
        **dict.fromkeys((DECLINED, *LATE), "order-again"),
    }
    assert shop.charges() == {id_of(number): 1 for number in (HELD, BEFORE, *CHARGED, UNKNOWN)}
    with shop.ledger() as ledger:
        ledger.verify_chain()
        assert reports.pending(ledger) == []
    # Who was charged is sent the goods: the orders were opened.
    assert shop.rows(
        "SELECT count(*) FROM person AS p JOIN orders AS o USING (number) WHERE o.state IN ('paid', 'authorised')"
    ) == [(5,)]


def test_judge_finds_a_restore_without_reconciliation(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    backup = days_before_the_loss(shop)
    lose(shop)
    rebuild(shop, backup)
    monkeypatch.setattr(batch, "check_reconciled", lambda ledger: None)
    with shop.ledger() as ledger, ledger.atomic():
        ledger.set_counter("forgotten-before-epoch", 2)
    shop.run()
    shop.run_later()
    found = wronged(shop)
    assert any(f"{id_of(number)} was charged and told order-again" in found for number in CHARGED), found


def test_unreconciled_ledger_receives_charges_and_answers_nothing(shop: Shop) -> None:
    backup = days_before_the_loss(shop)
    lose(shop)
    rebuild(shop, backup)
    before = sorted(path.name for path in (shop.drop_out / "shop-a").iterdir())
    charges = shop.charges()
    with pytest.raises(ProcessorError, match="LEDGER-UNRECONCILED") as refused:
        shop.run()
    assert "offline-processor reconcile" in refused.value.remedy
    assert sorted(path.name for path in (shop.drop_out / "shop-a").iterdir()) == before
    assert (shop.charges(), id_of(2) in shop.states()) == (charges, False)


def test_new_epoch_is_seen_in_references_and_names_and_revokes_what_is_lost(shop: Shop) -> None:
    backup = days_before_the_loss(shop)
    outstanding = {entry.key_id.hex() for entry in shop.keystore.ring.unused("shop-a")}
    lose(shop)
    rebuild(shop, backup)
    bring_in_report(shop)
    shop.run_later()
    assert shop.newest_return().name.startswith("r0002-")
    revoked = {record.key for record in shop.records() if isinstance(record, Revocation)}
    # Keys issued after the backup are not known by name; the roll of the new epoch leaves them out.
    assert len(revoked & outstanding) > 0
    next_bundle(shop, 20)
    shop.run_later()
    assert shop.state(20)[0] == "paid"
    ((rrn,),) = shop.rows(
        "SELECT l.rrn FROM live_attempt AS l JOIN orders AS o USING (number) WHERE o.order_id = ?", id_of(20)
    )
    assert rrn.startswith("02")
    subjects = [key for (key,) in shop.rows("SELECT subject FROM entry WHERE kind = 'key-destroyed'")]
    assert len(subjects) == len(set(subjects))


def test_ledger_of_a_bundle_that_confirms_a_forgotten_return_goes_on_after_reconciliation(shop: Shop) -> None:
    backup = days_before_the_loss(shop)
    forgotten = shop.confirmation()  # a return of the lost ledger, made after the backup
    lose(shop)
    rebuild(shop, backup)
    bring_in_report(shop)
    shop.run_later()
    shop.bundle([], newest_return=forgotten)
    report = shop.run_later()
    assert (report.refused, report.received) == ([], ["shop-a/b00000004"])


# What of an order the report decides


def test_order_whose_amount_the_report_contradicts_waits_for_a_person_for_ever(shop: Shop) -> None:
    backup = days_before_the_loss(shop)
    lose(shop)
    rebuild(shop, backup)
    report = acquirers_report(shop)
    lines = [replace(line, amount=1) if line.order_id == id_of(CHARGED[0]) else line for line in report.lines]
    bring_in_report(shop, replace(report, lines=tuple(lines)))
    shop.run_later()
    assert shop.state(CHARGED[0]) == ("quarantined", "under-review", "RECONCILE-AMOUNT")
    shop.run_later(HOLD_HOURS * HOUR + 60)
    shop.run_later(HOLD_HOURS * HOUR + 60)
    assert shop.state(CHARGED[0])[0] == "quarantined"
    assert wronged(shop) == []


def test_database_itself_keeps_a_charged_order_from_being_charged_or_ordered_again(shop: Shop) -> None:
    backup = days_before_the_loss(shop)
    lose(shop)
    rebuild(shop, backup)
    bring_in_report(shop)
    shop.run_later()
    with shop.ledger() as ledger:
        order = reports.known_order(ledger, id_of(CHARGED[0]))
        assert order is not None
        with ledger.atomic():
            ledger.execute("DELETE FROM live_attempt WHERE number = ?", (order.number,))
            reports.remember(
                ledger,
                reports.Charged(
                    order_id=id_of(CHARGED[0]), rrn="01ZZ", stan=1, at=1, amount=1, currency="EUR"
                ),
            )
        for statement in (
            "UPDATE orders SET state = 'order-again' WHERE number = ?",
            "UPDATE orders SET state = 'declined' WHERE number = ?",
            (
                "INSERT INTO live_attempt (number, attempt, state, stan, rrn, sent_at, amount, currency)"
                " VALUES (?, 2, 'intent', 9, '0', 0, 1, 'EUR')"
            ),
        ):
            with pytest.raises(sqlite3.IntegrityError, match="charged this order already"), ledger.atomic():
                ledger.execute(statement, (order.number,))


def test_reversed_or_declined_order_goes_on_as_usual(shop: Shop) -> None:
    backup = days_before_the_loss(shop)
    lose(shop)
    rebuild(shop, backup)
    report = acquirers_report(shop)
    lines = [
        replace(line, outcome=ReportOutcome.REVERSED) if line.order_id in map(id_of, CHARGED) else line
        for line in report.lines
    ]
    done = bring_in_report(shop, replace(report, lines=tuple(lines)))
    assert id_of(CHARGED[0]) not in done.to_come
    shop.run_later()
    assert shop.state(CHARGED[0]) == ("order-again", "expired", "KEY-DESTROYED")


def test_order_told_that_it_was_declined_but_charged_becomes_paid_and_is_named(shop: Shop) -> None:
    next_bundle(shop, 0, pans={0: DECLINED_CARD})
    shop.run()
    shop.now += HOUR
    backup = back_up(shop).path
    shop.now += HOUR
    lose(shop)
    rebuild(shop, backup)
    report = acquirers_report(shop)
    (line,) = [replace(line, outcome=ReportOutcome.APPROVED, rrn="01NEWER00001") for line in report.lines]
    taken = replace(line, kind=ReportKind.CAPTURE, stan=line.stan + 1)
    done = bring_in_report(shop, replace(report, lines=(line, taken)))
    assert (done.paid, done.told_otherwise) == ([id_of(0)], [id_of(0)])
    shop.run_later()
    assert shop.told(0) == ("paid", "none")


def test_order_that_was_never_read_but_charged_waits_for_a_person(shop: Shop) -> None:
    backup = days_before_the_loss(shop)
    lose(shop)
    rebuild(shop, backup)
    report = acquirers_report(shop)
    others = tuple(line for line in report.lines if line.order_id != id_of(CHARGED[0]))
    bring_in_report(shop, replace(report, lines=others))
    shop.run_later()
    assert shop.state(CHARGED[0])[0] == "order-again"  # that report was false, as the next one shows
    with shop.ledger() as ledger, ledger.atomic():
        ledger.set_counter("unreconciled", shop.now)
    done = bring_in_report(shop, report)
    assert (done.amount_differs, done.told_otherwise) == ([id_of(CHARGED[0])], [id_of(CHARGED[0])])
    assert shop.state(CHARGED[0])[2] == "RECONCILE-AMOUNT"


def test_second_charge_in_the_report_is_named(shop: Shop) -> None:
    backup = days_before_the_loss(shop)
    lose(shop)
    rebuild(shop, backup)
    report = acquirers_report(shop)
    line = next(line for line in report.lines if line.order_id == id_of(CHARGED[0]))
    done = bring_in_report(shop, replace(report, lines=(*report.lines, replace(line, rrn="99ZZ00000001"))))
    assert done.twice == [id_of(CHARGED[0])]
    assert done.needs_person()


def test_payment_that_the_report_does_not_show_is_named(shop: Shop) -> None:
    backup = days_before_the_loss(shop)
    lose(shop)
    rebuild(shop, backup)
    report = acquirers_report(shop)
    lines = tuple(line for line in report.lines if line.order_id != id_of(BEFORE))
    done = bring_in_report(shop, replace(report, lines=lines))
    assert done.not_at_the_acquirer == [id_of(BEFORE)]
    assert shop.state(BEFORE)[0] == "paid"


@pytest.mark.parametrize("fault", ["late", "early", "future", "outside"])
def test_report_that_does_not_cover_the_time_is_refused(shop: Shop, fault: str) -> None:
    backup = days_before_the_loss(shop)
    lose(shop)
    rebuild(shop, backup)
    report = acquirers_report(shop)
    start, shop.now = 0, shop.now + HOUR
    if fault == "late":
        start = shop.now - HOUR
    elif fault == "outside":
        report = replace(report, lines=(replace(report.lines[0], at=shop.now + 1), *report.lines[1:]))
    elif fault == "early":
        shop.now -= 2 * HOUR
    ahead = 1 if fault == "future" else 0
    with pytest.raises(ProcessorError, match=r"REPORT-PERIOD"):
        bring_in_report(shop, report, start=start, ahead=ahead)
    with shop.ledger() as ledger:
        assert ledger.counter("unreconciled")
        assert ledger.row("SELECT 1 FROM entry WHERE kind = 'reported'") is None


def test_second_loss_restored_from_the_same_old_backup_must_not_use_an_epoch_twice(shop: Shop) -> None:
    backup = days_before_the_loss(shop)
    lose(shop)
    rebuild(shop, backup)
    bring_in_report(shop)
    shop.run_later()
    next_bundle(shop, 30)
    shop.run_later()
    assert shop.state(30)[0] == "paid"
    lose(shop)
    rebuild(shop, backup)
    with pytest.raises(ProcessorError, match="RECONCILE-EPOCH") as refused:
        bring_in_report(shop)
    assert "--epoch-above 2" in refused.value.remedy
    lose(shop)
    rebuild(shop, backup, epoch_above=2)
    bring_in_report(shop)
    shop.run_later()
    shop.run_later()
    assert shop.newest_return().name.startswith("r0003-")
    assert wronged(shop) == []
    assert shop.state(30)[0] == "paid"


class Unreached(BadLine):
    """What it authorises it books; its answers are lost, or ``handed_over`` for later, and no reversal reaches it."""

    handed_over = False

    def authorise(self, asked: Iterator[Authorisation]) -> Heard:  # type: ignore[override]
        for place, _ in super().authorise(asked):
            yield place, HandedOver.HANDED_OVER if self.handed_over else None

    def reverse(self, window: Sequence[Reversal]) -> Sequence[None]:
        return [None] * len(window)


@pytest.mark.parametrize("state", ["submitted", "manual"])
def test_attempt_that_waits_for_a_file_or_a_person_is_settled_by_the_report_and_taken_once(
    shop: Shop, state: str
) -> None:
    line = Unreached(path=shop.books)
    line.handed_over = state == "submitted"
    next_bundle(shop, 0)
    shop.run(line)
    for _ in range(11 if state == "manual" else 0):
        shop.now += 8 * HOUR
        shop.run(Unreached(path=shop.books))
    ((found, sent_at),) = shop.rows("SELECT state, sent_at FROM live_attempt")
    assert found == state
    shop.now += 2 * HOUR
    backup = back_up(shop).path
    lose(shop)
    rebuild(shop, backup)
    with shop.ledger() as ledger:
        assert reconciliation.needed_from(ledger) == sent_at - HOUR  # the newest entry is later than that
    assert bring_in_report(shop, acquirers_report(shop)).paid == [id_of(0)]
    assert shop.rows("SELECT state FROM live_attempt") == [("approved",)]
    assert shop.rows("SELECT count(*) FROM operation") == [(0,)]  # nothing was taken: it is when the goods go
    shop.run_later()
    ship(shop, 0)
    shop.run_later()
    assert [line.kind for line in acquirers_report(shop).lines] == [
        ReportKind.AUTHORISATION,
        ReportKind.CAPTURE,
    ]
    assert wronged(shop) == []


@pytest.mark.parametrize("how", ["pre-order", "at dispatch", "in parts", "known here"])
def test_order_whose_goods_are_still_here_is_authorised_after_a_restore_and_taken_when_they_go(
    shop: Shop, how: str
) -> None:
    release = datetime.fromtimestamp(shop.now, UTC).date() + timedelta(days=2)
    ahead = ChargingConfig(preorders={an_order(0).items[0].sku: release})
    charging = ahead if how == "pre-order" else DISPATCH
    backup = back_up(shop).path
    next_bundle(shop, 0)
    if how == "known here":
        line = Unreached(path=shop.books)
        line.handed_over = True
        run_with(shop, charging, line)
        backup = back_up(shop, "later.sealed").path
    else:
        run_with(shop, charging)
    if how == "in parts":
        ship(shop, 0, shipment="parcel-1", amount=1_000)
        charging = ChargingConfig()
    lose(shop)
    rebuild(shop, backup)
    shop.now += 2 * HOUR
    bring_in_report(shop, acquirers_report(shop), capture=charging.capture)
    run_with(shop, charging)
    assert shop.state(0)[0] == "authorised"
    assert shop.told(0) == ("authorised", "none")
    shop.now += 3 * 24 * HOUR
    ship(shop, 0, shipment="parcel-2")
    assert shop.state(0)[0] == "dispatched"
    taken = [line.amount for line in acquirers_report(shop).lines if line.kind is ReportKind.CAPTURE]
    assert sum(taken) == 2499
    assert wronged(shop) == []


def authorised_before_the_backup(shop: Shop) -> Path:
    next_bundle(shop, 0)
    run_with(shop, DISPATCH)
    shop.now += 3 * HOUR
    next_bundle(shop, 1)
    shop.run()
    return back_up(shop).path


def rebuilt_with_its_own_time_only(shop: Shop, backup: Path, *more: ReportLine) -> Reconciled:
    """The report of no more than what is needed: the authorisation of what was taken since is older."""
    lose(shop)
    rebuild(shop, backup)
    shop.now += 2 * HOUR
    with shop.ledger() as ledger:
        start = reconciliation.needed_from(ledger)
    report = acquirers_report(shop)
    lines = tuple(line for line in [*report.lines, *more] if line.at >= start)
    assert all(line.kind is not ReportKind.AUTHORISATION for line in lines if line.order_id == id_of(0))
    return bring_in_report(shop, replace(report, lines=lines), start=start)


@pytest.mark.parametrize("amount", [None, 1_000])
def test_what_was_taken_after_the_backup_of_an_older_authorisation_is_not_taken_again(
    shop: Shop, amount: int | None
) -> None:
    backup = authorised_before_the_backup(shop)
    ship(shop, 0, amount=amount)
    rebuilt_with_its_own_time_only(shop, backup)
    assert shop.state(0)[0] == ("dispatched" if amount is None else "authorised")
    ship(shop, 0, shipment="parcel-2")
    captures = [line.amount for line in acquirers_report(shop).lines if line.kind is ReportKind.CAPTURE]
    assert sum(captures) == 2 * 2499  # of this order, and of the one that was paid at once
    shop.run()
    assert shop.rows("SELECT number FROM live_attempt WHERE vault IS NOT NULL") == []


@pytest.mark.parametrize("taken", [False, True], ids=["reserved", "taken"])
@pytest.mark.parametrize("backed_up", ["before it ended", "while its release was owed", "while it waited"])
def test_pre_order_that_was_authorised_anew_after_the_backup_is_charged_once(
    shop: Shop, backed_up: str, taken: bool
) -> None:
    release = datetime.fromtimestamp(shop.now, UTC).date() + timedelta(days=20)
    ahead = ChargingConfig(preorders={an_order(0).items[0].sku: release})
    next_bundle(shop, 0)
    run_with(shop, ahead)
    backups = {"before it ended": back_up(shop, "1.sealed").path}
    shop.now += 10 * 24 * HOUR
    run_with(shop, ahead, BadLine(path=shop.books, reversing=silent))
    assert shop.rows("SELECT kind, state FROM operation") == [("void", "pending")]
    backups["while its release was owed"] = back_up(shop, "2.sealed").path
    run_with(shop, ahead)
    assert shop.state(0) == ("held", "none", "CHARGE-AUTH-EXPIRED")
    backups["while it waited"] = back_up(shop, "3.sealed").path
    shop.now += 11 * 24 * HOUR
    run_with(shop, ahead)
    if taken:
        ship(shop, 0)
    shop.now += HOUR
    lose(shop)
    rebuild(shop, backups[backed_up])
    shop.now += 2 * HOUR
    done = bring_in_report(shop)
    assert (done.paid, done.twice, done.beyond, done.not_at_the_acquirer) == ([id_of(0)], [], [], [])
    assert shop.rows("SELECT number FROM retry") == []
    run_with(shop, ahead)
    assert shop.told(0) == ("dispatched" if taken else "authorised", "none")
    ship(shop, 0, shipment="sent after")
    run_with(shop, ahead)
    assert shop.state(0)[0] == "dispatched"
    assert [line.amount for line in acquirers_report(shop).lines if line.kind is ReportKind.CAPTURE] == [2499]
    assert wronged(shop) == []


@pytest.mark.parametrize("when", ["earlier", "of another amount", "known here"])
def test_charge_beside_an_order_that_is_authorised_here_is_named_and_ends_nothing(
    shop: Shop, when: str
) -> None:
    backup = authorised_before_the_backup(shop)
    lose(shop)
    rebuild(shop, backup)
    shop.now += 2 * HOUR
    report = acquirers_report(shop)
    ours = next(line for line in report.lines if line.order_id == id_of(0))
    other = next(line for line in report.lines if line.order_id == id_of(1))
    beside = {
        "earlier": replace(ours, rrn="01ZZ00000001", stan=77, at=ours.at - 1),
        "of another amount": replace(ours, rrn="01ZZ00000001", stan=77, at=shop.now, amount=2498),
        "known here": replace(ours, rrn=other.rrn, stan=77, at=shop.now),
    }[when]
    done = bring_in_report(shop, replace(report, lines=(beside,)))
    assert done.twice == [id_of(0)]
    assert shop.state(0)[0] == "authorised"
    assert shop.rows("SELECT state FROM live_attempt WHERE rrn = ?", ours.rrn) == [("approved",)]


def test_what_was_owed_and_then_done_under_another_number_is_a_persons_case_and_not_done_again(
    shop: Shop,
) -> None:
    next_bundle(shop, 0)
    run_with(shop, DISPATCH)
    shop.now += 3 * HOUR
    with shop.ledger() as ledger, ledger.atomic():
        charge = dispatch.find(ledger, id_of(0))
        dispatch.ship(
            ledger, charge, DISPATCH, shipment="sent", amount=None, final=True, early=False, now=shop.now
        )
    ((owed, sent_at),) = shop.rows("SELECT stan, sent_at FROM operation")
    shop.now += 3 * HOUR
    backup = back_up(shop).path
    lose(shop)
    rebuild(shop, backup)
    shop.now += 2 * HOUR
    with shop.ledger() as ledger:
        assert reconciliation.needed_from(ledger) == sent_at - HOUR
    report = acquirers_report(shop)
    first = next(line for line in report.lines if line.order_id == id_of(0))
    other = replace(first, kind=ReportKind.CAPTURE, stan=owed + 70, at=shop.now)
    done = bring_in_report(shop, replace(report, lines=(*report.lines, other)))
    assert done.beyond == []
    assert shop.rows("SELECT stan, state FROM operation ORDER BY stan") == [
        (owed, "failed"),
        (owed + 70, "done"),
    ]
    assert shop.state(0)[0] == "dispatched"
    shop.run_later()
    assert [line for line in acquirers_report(shop).lines if line.kind is ReportKind.CAPTURE] == []
    with shop.ledger() as ledger:
        assert [item.stan for item in operations.failed(ledger)] == [owed]


def test_more_than_can_have_been_taken_is_named_and_left_out(shop: Shop) -> None:
    backup = authorised_before_the_backup(shop)
    ship(shop, 0)
    shop.now += HOUR
    taken = next(
        line
        for line in acquirers_report(shop).lines
        if line.kind is ReportKind.CAPTURE and line.order_id == id_of(0)
    )
    done = rebuilt_with_its_own_time_only(shop, backup, replace(taken, stan=taken.stan + 70))
    assert done.beyond == [id_of(0)]
    assert done.needs_person()
    assert any("ask the acquirer" in line for line in reconciliation.in_words(done))
    assert shop.state(0)[0] == "dispatched"


@pytest.mark.parametrize(
    ("changes", "reported", "end"),
    [
        ({"security_code": SecurityCode.MISMATCH}, 2499, ("declined", "new-card", "CHARGE-CVV")),
        ({"code": "10", "amount": 1200}, 1200, ("declined", "new-card", "CHARGE-PARTIAL")),
        ({"amount": 2498}, 2498, ("quarantined", "under-review", "CHARGE-AMOUNT")),
    ],
    ids=str,
)
def test_approval_that_must_not_be_taken_is_reversed_though_the_report_shows_it(
    shop: Shop, changes: dict[str, Any], reported: int, end: tuple[str, str, str]
) -> None:
    next_bundle(shop, 0)
    shop.run(BadLine(path=shop.books, authorising=partial(changed, **changes)))
    shop.now += HOUR
    backup = back_up(shop).path
    lose(shop)
    rebuild(shop, backup)
    report = acquirers_report(shop)
    report = replace(report, lines=tuple(replace(line, amount=reported) for line in report.lines))
    done = bring_in_report(shop, report)
    assert (done.reversing, done.paid, done.amount_differs) == ([id_of(0)], [], [])
    assert shop.state(0) == ("held", "none", end[2])
    shop.run_later()
    assert shop.state(0) == end
    assert [line.outcome for line in acquirers_report(shop).lines] == [ReportOutcome.REVERSED]
    assert shop.charges() == {}


# Bundles that nobody sends again


def test_quorum_goes_on_behind_bundles_that_are_gone(shop: Shop) -> None:
    backup = days_before_the_loss(shop)
    lost_digest = shop.rows("SELECT manifest FROM bundle WHERE sequence = 2")[0][0]
    # The receipt of bundle 2 was in: the node has deleted it, and sends the third alone.
    for file in (shop.drop_in / "shop-a" / "b00000002").iterdir():
        file.unlink()
    lose(shop)
    rebuild(shop, backup)
    bring_in_report(shop)
    refused = shop.run_later().refused
    assert [error.rule for error in refused] == ["BUNDLE-SEQUENCE"]
    assert "set-sequence" in refused[0].remedy
    with shop.ledger() as ledger:
        spool = shop.root / "state" / "spool" / "shop-a"
        with pytest.raises(ProcessorError, match="SEQUENCE-BACK"):
            set_sequence(ledger, spool, node="shop-a", sequence=1, manifest=lost_digest, now=shop.now)
        done = set_sequence(ledger, spool, node="shop-a", sequence=2, manifest=lost_digest, now=shop.now)
    assert (done.first, done.last) == (2, 2)
    assert set(done.charged) == {id_of(number) for number in (*CHARGED, UNKNOWN)}
    assert shop.run_later().received == ["shop-a/b00000003"]
    assert {shop.state(number)[0] for number in LATE} == {"order-again"}
    assert wronged(shop) == []
    with shop.ledger() as ledger:
        assert len(reports.unknown_orders(ledger)) == 3


# What a restore refuses


def test_restore_overwrites_nothing(shop: Shop) -> None:
    backup = days_before_the_loss(shop)
    with pytest.raises(ProcessorError, match="RESTORE-EXISTS"):
        rebuild(shop, backup)


def test_restore_that_was_cut_short_between_ledger_and_keystore_goes_on(shop: Shop) -> None:
    backup = days_before_the_loss(shop)
    other = back_up(shop, "other.sealed").path
    lose(shop)
    restore_ledger(shop, backup)
    with pytest.raises(ProcessorError, match="RESTORE-OTHER"):
        rebuild(shop, other)
    rebuild(shop, backup)
    with pytest.raises(ProcessorError, match="LEDGER-UNRECONCILED"):
        shop.run()
    assert not list((shop.root / "state").glob("*restoring*"))


def test_restore_needs_the_custody_key(shop: Shop) -> None:
    backup = days_before_the_loss(shop)
    lose(shop)
    stranger = generate_sealing_key()
    with pytest.raises(KeysError, match="SEALED-FILE-KEY"):
        restore_ledger(replace(shop, custody_key=stranger), backup)
    stranger.close()
    assert not (shop.root / "state" / "ledger.db").exists()


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9, 0.999])
def test_damaged_or_cut_backup_restores_nothing(shop: Shop, place: float) -> None:
    raw = days_before_the_loss(shop).read_bytes()
    lose(shop)
    for damaged in (
        raw[: int(len(raw) * place)],
        raw[: (at := int(len(raw) * place))] + bytes([raw[at] ^ 1]) + raw[at + 1 :],
    ):
        file = shop.root / "damaged.sealed"
        file.write_bytes(damaged)
        with pytest.raises((ProcessorError, KeysError), match=r"SEALED-FILE-|BACKUP-DAMAGED"):
            restore_ledger(shop, file)
        assert [path.name for path in (shop.root / "state").iterdir()] == []


def test_old_keystore_under_a_newer_ledger_is_refused(shop: Shop, tmp_path: Path) -> None:
    backup = days_before_the_loss(shop)
    shutil.copytree(shop.root / "keystore", tmp_path / "old-disk")
    lose(shop)
    rebuild(shop, backup)
    bring_in_report(shop)
    shop.run_later()
    put_old_keystore_back(shop, tmp_path / "old-disk")
    with pytest.raises(ProcessorError, match="LEDGER-EPOCH"):
        shop.run_later()


def test_recovered_keystore_with_no_ledger_at_all_must_be_reconciled_first(shop: Shop) -> None:
    days_before_the_loss(shop)
    copy = shop.keystore.custody_copy(shop.now)
    lose(shop)
    recover_keystore(shop, copy)
    with pytest.raises(ProcessorError, match="LEDGER-UNRECONCILED"):
        shop.run_later()
    bring_in_report(shop)
    shop.run_later()
    shop.run_later()
    assert wronged(shop) == []
    assert {shop.state(number)[0] for number in (BEFORE, *CHARGED)} == {"paid"}


def test_backup_holds_no_card_box_and_no_ring_key(shop: Shop) -> None:
    next_bundle(shop, 0, 1, pans={0: LOST_ANSWER_CARD})
    shop.run()
    ((box,),) = shop.rows("SELECT box FROM held_card")
    assert len(box) > 100
    backup = back_up(shop).path
    lose(shop)
    restore_ledger(shop, backup)
    with closing(sqlite3.connect(shop.root / "state" / "ledger.db")) as database:
        assert database.execute("SELECT box FROM held_card").fetchall() == [(b"",)]
    content = (shop.root / "state" / "ledger.db").read_bytes()
    assert box not in content
    assert box[:32] not in content
    assert an_order(0).customer.email.encode() not in backup.read_bytes()


# Any history


@pytest.mark.parametrize("seed", range(8))
def test_any_history_before_the_loss_wrongs_nobody(shop: Shop, seed: int) -> None:
    chance = random.Random(seed)
    cards = [VISA, VISA, VISA, DECLINED_CARD, LOST_ANSWER_CARD]
    amounts = [2499, 2499, NO_ANSWER_AMOUNT]
    backup, number = back_up(shop).path, 0
    for day in range(6):
        keys = shop.keys_for()
        envelopes = []
        for _ in range(chance.randrange(4)):
            order = an_order(number, amount=chance.choice(amounts))
            envelopes.append(shop.seal(number, keys=keys, order=order, card=a_card(chance.choice(cards))))
            number += 1
        confirmation = shop.confirmation() if day and chance.random() < 0.5 else None
        shop.bundle(envelopes, batch_key_id=keys.batch_key_id, newest_return=confirmation)
        shop.now += chance.randrange(1, 30) * HOUR
        if chance.random() < 0.3 and envelopes:
            with suppress(LineCutError):
                shop.run(
                    BadLine(path=shop.books, authorising=cut)
                )  # killed while the acquirer has the window
        shop.run_later()
        if chance.random() < 0.3:
            backup = back_up(shop, f"backup-{day}.sealed").path
    if chance.random() < 0.5:
        next_bundle(shop, number)
    lose(shop)
    shop.now += HOUR
    rebuild(shop, backup)
    bring_in_report(shop)
    for _ in range(4):
        shop.run_later(chance.randrange(1, 80) * HOUR)
        assert wronged(shop) == []
    charged = shop.charges()
    states = {order: state for order, (state, _, _) in shop.states().items()}
    assert {order for order, state in states.items() if state in {"paid", "authorised"}} == set(charged)
    with shop.ledger() as ledger:
        ledger.verify_chain()


def test_charged_order_that_cannot_be_read_waits_for_a_person_instead_of_being_ordered_again(
    shop: Shop,
) -> None:
    shop.run()
    with shop.ledger() as ledger, ledger.atomic():
        for number in (0, 1):
            charge = reports.Charged(
                order_id=id_of(number),
                rrn=f"01{number:010d}",
                stan=1,
                at=shop.now,
                amount=2499,
                currency="EUR",
            )
            reports.remember(ledger, charge)
    keys = shop.keys_for()
    envelopes = [shop.seal(number, keys=keys) for number in range(3)]
    for number in (0, 2):
        box = with_byte_changed(envelopes[number].order_box, 9)
        envelopes[number] = replace(envelopes[number], order_box=box)
    shop.bundle(envelopes, batch_key_id=keys.batch_key_id)
    shop.run_later()
    assert [shop.state(number)[0] for number in range(3)] == ["quarantined", "authorised", "quarantined"]
    shop.run_later(HOLD_HOURS * HOUR + 60)
    assert shop.state(0) == ("quarantined", "under-review", "RECONCILE-ORDER")
    assert shop.state(2)[0] == "order-again"  # the control: nobody charged this one
    assert shop.charges() == {}
