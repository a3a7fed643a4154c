"""One order is captured at once or when its goods go: by a person's word, its goods, or the configuration."""

from __future__ import annotations

import shutil
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keys.errors import RuleError
from offline_processor import batch, dispatch
from offline_processor.acquirers.batch_file.driver import BatchFileAcquirer
from offline_processor.acquirers.batch_file.form import Kind
from offline_processor.acquirers.batch_file.importing import TakenAnswer
from offline_processor.acquirers.simulator.books import standings
from offline_processor.attempts import end_retries
from offline_processor.batch import run
from offline_processor.capturing import Capture
from offline_processor.charging import Answer, AttemptState
from offline_processor.cli import cli
from offline_processor.config import ChargingConfig
from offline_processor.errors import ProcessorError
from offline_processor.file_answers import settle_answers
from offline_processor.ledger import orders
from offline_processor.ledger.ledger import Ledger
from offline_processor.workplace import RunReport
from tests.offline_processor.commands import configure
from tests.offline_processor.desk import desk
from tests.offline_processor.disaster import acquirers_report, back_up, bring_in_report, lose, rebuild
from tests.offline_processor.shop import (
    LOST_ANSWER_CARD,
    Shop,
    a_card,
    an_order,
    id_of,
    next_bundle,
    open_shop,
)
from tests.offline_processor.simulated import SimulatedAcquirer
from tests.offline_processor.test_backup import killed, steps_of
from tests.offline_processor.test_batch_file_commands import a_shop
from tests.offline_processor.test_crashes import DONE as CHILD_DONE
from tests.offline_processor.test_crashes import KILLED
from tests.offline_processor.test_dispatch import run_with, ship

DONE, _, _, NEEDS_PERSON, _, NOTHING_TO_DO = range(6)
DAY = 86_400
KEEPER = ("--who", "A. Keeper", "--why", "made to order")
OTHER = ("--who", "B. Keeper", "--why", "in stock")
AMOUNT = 2_499
LATER_CARD = b"4000000000009995"
NEVER = 10**9


def receive(shop: Shop, charging: ChargingConfig = ChargingConfig()) -> None:  # noqa: B008  frozen
    """What `receive` does: the orders are here, and none is charged."""
    shop.drop_in.mkdir(exist_ok=True)
    shop.drop_out.mkdir(exist_ok=True)
    with closing(SimulatedAcquirer(shop.books)) as acquirer, shop.ledger() as ledger:
        place, report = replace(shop.workplace(ledger, acquirer), charging=charging), RunReport()
        batch.begin(place, report)
        batch.take_in(place, report)


def say(shop: Shop, number: int, wanted: Capture) -> bool:
    """A person's word about the order of this number."""
    with shop.ledger() as ledger, ledger.atomic():
        charge = dispatch.find(ledger, id_of(number))
        return dispatch.capture_when(ledger, charge, wanted, now=shop.now)


def taken(shop: Shop) -> dict[str, int]:
    """What the acquirer captured of each order."""
    return {one.reference: one.captured for one in standings(shop.books)}


def released(shop: Shop, days: dict[int, int], *, capture: Capture = "sale") -> ChargingConfig:
    """A configuration in which the goods of the orders of these numbers are there in so many days."""
    today = datetime.fromtimestamp(shop.now, UTC).date()
    return ChargingConfig(
        capture=capture,
        preorders={
            an_order(number).items[0].sku: today + timedelta(days=far) for number, far in days.items()
        },
    )


# By the commands


def test_order_that_came_is_captured_when_a_person_says_and_the_others_as_configured(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, now=int(time.time()) - 600)
    next_bundle(shop, *range(4))
    config = configure(shop)
    said = ("capture-when", id_of(0), id_of(1), "--at", "dispatch", *KEEPER)
    with desk(config) as at:
        assert [error["rule"] for error in at.say(*said).document["errors"]] == ["ORDER-UNKNOWN"] * 2
        assert at.say("receive").code == DONE
        ran = at.say(*said)
        assert (ran.code, ran.document["orders"]) == (DONE, [id_of(0), id_of(1)])
        assert at.say(*said).code == NOTHING_TO_DO
        assert at.say("capture-when", id_of(1), "--at", "sale", *OTHER).code == DONE
        mixed = at.say("capture-when", id_of(3), "0" * 32, "--at", "dispatch", *KEEPER)
        assert (mixed.code, mixed.document["orders"]) == (NEEDS_PERSON, [id_of(3)])
        assert at.say("run", "--confirm", "4 orders: EUR 99.96").code == DONE
        assert taken(shop) == {id_of(0): 0, id_of(1): AMOUNT, id_of(2): AMOUNT, id_of(3): 0}
        for number, state in ((0, "authorised"), (1, "paid")):
            late = at.say("capture-when", id_of(number), "--at", "dispatch", *KEEPER)
            (error,) = late.document["errors"]
            assert (late.code, error["rule"]) == (NEEDS_PERSON, "DISPATCH-STATE")
            assert state in error["message"]
        assert at.say("dispatch", id_of(0)).code == DONE
        assert taken(shop)[id_of(0)] == AMOUNT
    words = shop.rows(
        "SELECT subject, json_extract(facts, '$.who'), json_extract(facts, '$.at') FROM entry"
        " WHERE kind = 'capture-when' ORDER BY id"
    )
    assert words == [
        (id_of(0), "A. Keeper", "dispatch"),
        (id_of(1), "A. Keeper", "dispatch"),
        (id_of(1), "B. Keeper", "sale"),
        (id_of(3), "A. Keeper", "dispatch"),
    ]
    begun = (
        "SELECT DISTINCT json_extract(facts, '$.who') FROM entry WHERE kind = 'command-begun' AND subject = ?"
    )
    assert set(shop.rows(begun, "capture-when")) == {("A. Keeper",), ("B. Keeper",)}


def test_word_that_is_cut_short_anywhere_is_whole_or_not_there(tmp_path: Path) -> None:
    base, at_work = tmp_path / "base", tmp_path / "work"
    base.mkdir()
    shop = open_shop(base, now=int(time.time()) - 600)
    next_bundle(shop, 0, 1)
    receive(shop)
    configure(shop)
    copied = Shop(root=at_work, keystore=shop.keystore, node_key=shop.node_key, now=shop.now)
    words = ["capture-when", id_of(0), id_of(1), "--at", "dispatch", *KEEPER]

    def give() -> None:
        sys.stdout = sys.stderr = (tmp_path / "said").open("w")
        try:
            cli.main([*words, "--config", str(at_work / "offline.toml")], standalone_mode=False)
        except (RuleError, click.ClickException) as error:
            raise AssertionError(words) from error

    def fresh() -> None:
        shutil.rmtree(at_work, ignore_errors=True)
        shutil.copytree(base, at_work)

    def noted() -> tuple[int, int]:
        ((marked,),) = copied.rows("SELECT count(*) FROM orders WHERE capture = 'dispatch'")
        ((entries,),) = copied.rows("SELECT count(*) FROM entry WHERE kind = 'capture-when'")
        return marked, entries

    fresh()
    steps = steps_of(give, tmp_path / "trace")
    assert noted() == (2, 2)
    seen = set()
    assert "COMMIT" in steps
    for at in range(len(steps)):
        fresh()
        assert killed(give, at) == KILLED, at
        found = noted()
        assert found in {(0, 0), (2, 2)}
        if found not in seen:
            assert killed(give, NEVER) == CHILD_DONE
            assert noted() == (2, 2)
        seen.add(found)
    assert seen == {(0, 0), (2, 2)}


# Which of the three decides


@given(
    configured=st.sampled_from(get_args(Capture)),
    wishes=st.lists(
        st.tuples(st.sampled_from(["", *get_args(Capture)]), st.sampled_from([None, -2, 5])),
        min_size=1,
        max_size=9,
    ),
)
@settings(max_examples=5, deadline=None)
def test_every_order_is_captured_at_once_or_when_its_goods_go_and_never_else(
    configured: Capture, wishes: list[tuple[Capture, int | None]]
) -> None:
    numbers = set(range(len(wishes)))
    with tempfile.TemporaryDirectory() as folder:
        shop = open_shop(Path(folder))
        days = {number: far for number, (_, far) in enumerate(wishes) if far is not None}
        charging = released(shop, days, capture=configured)
        next_bundle(shop, *numbers)
        receive(shop, charging)
        at_once = set()
        for number, (said, far) in enumerate(wishes):
            heard = bool(said)
            if said == "sale" and far == 5:
                heard = False
                with pytest.raises(ProcessorError, match="CAPTURE-EARLY"):
                    say(shop, number, said)
            elif said:
                say(shop, number, said)
            unsaid = "sale" if far is None and configured == "sale" else "dispatch"
            at_once |= {number} if (said if heard else unsaid) == "sale" else set()
        for _ in range(2):
            run_with(shop, charging)
            assert taken(shop) == {id_of(number): AMOUNT * (number in at_once) for number in numbers}
            assert {number for number in numbers if shop.state(number)[0] == "paid"} == at_once
            shop.now += DAY
        with shop.ledger() as ledger, ledger.atomic():
            for number in numbers:
                dispatch.ship(
                    ledger,
                    dispatch.find(ledger, id_of(number)),
                    charging,
                    shipment="sent",
                    amount=None,
                    final=False,
                    early=True,
                    now=shop.now,
                )
        run_with(shop, charging)
        assert taken(shop) == {id_of(number): AMOUNT for number in numbers}
        shop.keystore.close()


def test_goods_that_have_come_may_be_captured_at_once_by_a_word(shop: Shop) -> None:
    charging = released(shop, {0: 20})
    next_bundle(shop, 0)
    run_with(shop, charging)
    shop.now += 10 * DAY
    run_with(shop, charging)
    assert shop.state(0) == ("held", "none", "CHARGE-AUTH-EXPIRED")
    with pytest.raises(ProcessorError, match="CAPTURE-EARLY"):
        say(shop, 0, "sale")
    shop.now += 11 * DAY
    assert say(shop, 0, "sale")
    run_with(shop, charging)
    assert shop.state(0) == ("paid", "none", "")
    assert taken(shop) == {id_of(0): AMOUNT}


def test_held_order_is_captured_as_said_once_nothing_of_it_is_with_the_acquirer(shop: Shop) -> None:
    charging = ChargingConfig(retry_declines=1)
    keys = shop.keys_for()
    cards = [a_card(LATER_CARD), a_card(LOST_ANSWER_CARD)]
    shop.bundle(
        [shop.seal(number, keys=keys, card=card) for number, card in enumerate(cards)],
        batch_key_id=keys.batch_key_id,
    )
    run_with(shop, charging)
    assert [shop.state(number)[0] for number in range(2)] == ["held", "held"]
    assert say(shop, 0, "dispatch")
    with pytest.raises(ProcessorError, match="DISPATCH-STATE") as refusal:
        say(shop, 1, "dispatch")
    assert "was sent to the acquirer" in refusal.value.message
    shop.now += DAY
    run_with(shop, charging, SimulatedAcquirer(shop.books, faults=["code-00@authorisation"]))
    assert shop.state(0)[0] == "authorised"
    assert taken(shop).get(id_of(0), 0) == 0
    assert shop.rows("SELECT count(*) FROM operation WHERE number = 1") == [(0,)]


def answer_all(ledger: Ledger, code: str, *, now: int) -> None:
    """What an answer file says of every authorisation that waits for one."""
    sent = [reference for reference, _ in orders.open_attempts(ledger, AttemptState.SUBMITTED)]
    answers = [
        TakenAnswer(
            kind=Kind.AUTHORISE,
            operation="",
            sent=one,
            answer=Answer(stan=one.stan, rrn=one.rrn, amount=one.amount, currency=one.currency, code=code),
        )
        for one in sent
    ]
    with ledger.atomic():
        settle_answers(ledger, answers, capture="sale", now=now)


def test_word_stands_where_an_answer_file_says_later_that_it_was_approved(tmp_path: Path) -> None:
    shop, key = a_shop(tmp_path)  # two orders
    receive(shop)
    say(shop, 0, "dispatch")
    with shop.ledger() as ledger:
        run(
            shop.workplace(
                ledger, BatchFileAcquirer(ledger, public_key=key, rehearsal=True, clock=lambda: shop.now)
            )
        )
        with pytest.raises(ProcessorError, match="DISPATCH-STATE"):
            dispatch.capture_when(ledger, dispatch.find(ledger, id_of(1)), "dispatch", now=shop.now)
        answer_all(ledger, "00", now=shop.now)
    assert [shop.state(number)[0] for number in range(2)] == ["authorised", "paid"]
    assert shop.rows("SELECT number, kind, state FROM operation") == [(2, "capture", "pending")]
    shop.keystore.close()


@pytest.mark.parametrize(("code", "end"), [("00", "authorised"), ("14", "declined")])
def test_card_that_waited_for_its_goods_goes_with_the_answer_of_a_file_too(
    tmp_path: Path, code: str, end: str
) -> None:
    shop, key = a_shop(tmp_path)
    charging = released(shop, {0: 20})
    run_with(shop, charging)
    shop.now += 10 * DAY
    run_with(shop, charging)
    assert shop.rows("SELECT number FROM retry") == [(1,)]
    shop.now += 11 * DAY
    with shop.ledger() as ledger:
        file = BatchFileAcquirer(ledger, public_key=key, rehearsal=True, clock=lambda: shop.now)
        run(replace(shop.workplace(ledger, file), charging=charging))
        assert ledger.row("SELECT count(*) FROM retry") == (1,)
        answer_all(ledger, code, now=shop.now)
    assert shop.state(0)[0] == end
    assert shop.rows("SELECT number FROM retry") == []
    shop.now += 90 * DAY
    told = shop.state(0)
    with shop.ledger() as ledger:
        assert end_retries(ledger, now=shop.now) == 0
    assert shop.state(0) == told
    shop.keystore.close()


def test_order_that_waits_for_a_person_is_not_captured_by_a_word(shop: Shop) -> None:
    shop.bundle([shop.seal(0, card=a_card(b"4242424242424241"))])
    receive(shop)
    shop.run_later()
    with pytest.raises(ProcessorError, match="DISPATCH-STATE"):
        say(shop, 0, "dispatch")


def test_database_itself_keeps_the_word_about_a_charged_order(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    with shop.ledger() as ledger, pytest.raises(sqlite3.IntegrityError, match="is charged"), ledger.atomic():
        ledger.execute("UPDATE orders SET capture = 'dispatch'")
    next_bundle(shop, 1)
    receive(shop)
    with shop.ledger() as ledger, pytest.raises(sqlite3.IntegrityError, match="CHECK"), ledger.atomic():
        ledger.execute("UPDATE orders SET capture = 'now' WHERE state = 'screened'")


# The second disk, and the backup


def test_word_is_on_the_mirror_and_in_the_backup(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, custodians=(2, 3))
    shop.mirror = tmp_path / "mirror.db"
    next_bundle(shop, 0, 1)
    receive(shop)
    say(shop, 0, "dispatch")
    with closing(sqlite3.connect(shop.mirror)) as second:
        assert second.execute("SELECT capture FROM orders ORDER BY number").fetchall() == [
            ("dispatch",),
            ("",),
        ]
    backup = back_up(shop).path
    lose(shop)
    rebuild(shop, backup)
    shop.now += 60
    bring_in_report(shop)
    assert shop.rows("SELECT capture FROM orders ORDER BY number") == [("dispatch",), ("",)]
    shop.keystore.close()


@pytest.mark.parametrize("known", [True, False], ids=["order in the backup", "order after it"])
def test_word_that_a_restore_has_lost_takes_nothing_before_the_goods_go(tmp_path: Path, known: bool) -> None:
    shop = open_shop(tmp_path, custodians=(2, 3))
    backup = back_up(shop, "first.sealed").path
    next_bundle(shop, 0, 1)
    receive(shop)
    if known:
        backup = back_up(shop, "second.sealed").path
    shop.now += 60
    say(shop, 0, "dispatch")
    shop.run()
    lose(shop)
    rebuild(shop, backup)
    shop.now += 2 * 3600
    bring_in_report(shop, acquirers_report(shop))
    shop.run_later()
    assert [shop.state(number)[0] for number in range(2)] == ["authorised", "paid"]
    assert taken(shop) == {id_of(0): 0, id_of(1): AMOUNT}
    ship(shop, 0)
    assert taken(shop) == {id_of(0): AMOUNT, id_of(1): AMOUNT}
    shop.keystore.close()
