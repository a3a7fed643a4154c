"""Dispatch, cancellation, refunds, cases and second persons, as people type them: the real commands, the real books."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from offline_processor import dispatch
from offline_processor.acquirers.simulator.books import standings
from offline_processor.ledger import operations
from tests.offline_processor.commands import configure
from tests.offline_processor.desk import Desk, desk
from tests.offline_processor.shop import (
    SILENT_AMOUNT,
    Shop,
    a_card,
    an_order,
    id_of,
    next_bundle,
    open_shop,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DONE, _, USAGE, NEEDS_PERSON, REFUSED, NOTHING_TO_DO = range(6)
DAY = 86_400
REFUSED_CAPTURE = 9_977
REFUSED_REFUND = 9_979
WHO = ("--who", "A. Keeper", "--why", "customer asked")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop of some days ago: commands run by the real clock."""
    made = open_shop(tmp_path, now=int(time.time()) - 5 * DAY)
    yield made
    made.keystore.close()


@pytest.fixture
def at_the_desk(shop: Shop) -> Iterator[Callable[..., Desk]]:
    """A desk whose configuration has this under [charging]."""
    with ExitStack() as desks:
        yield lambda charging="": desks.enter_context(desk(_config(shop, charging)))


def _config(shop: Shop, charging: str) -> Path:
    config = configure(shop)
    text = config.read_text().replace("[acquirer]", '[acquirer]\nmerchant = "M1"\nterminal = "T1"')
    config.write_text(f"{text}[charging]\n{charging}\n")
    return config


def listed(at: Desk) -> dict[str, list[dict[str, Any]]]:
    """The open cases by kind."""
    ran = at.say("cases")
    found: dict[str, list[dict[str, Any]]] = {}
    for case in ran.document["cases"]:
        found.setdefault(case["kind"], []).append(case)
    assert ran.code == (NEEDS_PERSON if any(case["needs_person"] for case in ran.document["cases"]) else DONE)
    return found


def test_parcels_go_one_by_one_and_the_shop_is_told(shop: Shop, at_the_desk: Callable[..., Desk]) -> None:
    next_bundle(shop, 0, 1)
    at = at_the_desk('capture = "dispatch"')
    assert at.say("run", "--confirm", "2 orders: EUR 49.98").code == DONE
    first, second = id_of(0), id_of(1)
    part = ("dispatch", first, "--amount", "EUR 10.00", "--shipment", "parcel-1")
    assert at.say(*part).code == DONE
    assert at.say(*part).code == NOTHING_TO_DO
    other = at.say("dispatch", first, "--amount", "EUR 11.00", "--shipment", "parcel-1")
    assert (other.code, other.document["errors"][0]["rule"]) == (NEEDS_PERSON, "DISPATCH-NAME")
    much = at.say("dispatch", first, "--amount", "EUR 15.00", "--shipment", "parcel-2")
    assert much.document["errors"][0]["rule"] == "DISPATCH-AMOUNT"
    (shop.root / "sent.txt").write_text(f"{second}\n{first}\n{'0' * 32}\n")
    ran = at.say("dispatch", "--file", str(shop.root / "sent.txt"))
    assert ran.code == NEEDS_PERSON
    assert ran.document["orders"] == [second, first]
    assert [error["rule"] for error in ran.document["errors"]] == ["ORDER-UNKNOWN"]
    assert {one.reference: one.captured for one in standings(shop.books)} == {first: 2_499, second: 2_499}
    assert at.say("run").code == DONE
    assert shop.told(0) == shop.told(1) == ("dispatched", "none")


def test_words_that_name_no_order_no_part_and_no_person_are_refused(
    shop: Shop, at_the_desk: Callable[..., Desk]
) -> None:
    next_bundle(shop, 0)
    shop.run()
    at = at_the_desk()
    order = id_of(0)
    wrong = (
        (("dispatch", "9f"), "USAGE-ORDER"),
        (("dispatch", order, "--amount", "EUR 1.00"), "USAGE-SHIPMENT"),
        (("refund", order, "--whole", "--reference", "4242 4242 4242 4242", *WHO), "USAGE-WORDS"),
        (("settle-attempt", order, "--found", "reversed", "--approval", "AB", *WHO), "USAGE-APPROVAL"),
        (("approve", "X1", "--who", "B. Witness"), "USAGE-REQUEST"),
        (("case", "close", "\x07", *WHO), "USAGE-CASE"),
    )
    assert [at.say(*words).document["rule"] for words, _ in wrong] == [rule for _, rule in wrong]


def test_refund_above_the_limit_waits_for_another_person_in_a_command_of_their_own(
    shop: Shop, at_the_desk: Callable[..., Desk]
) -> None:
    next_bundle(shop, 0)
    shop.run()
    at = at_the_desk("second_person_above = { EUR = 1000 }")
    order = id_of(0)
    small = ("refund", order, "--amount", "EUR 10.00", "--reference", "R-1", *WHO)
    assert at.say(*small).code == DONE
    assert at.say(*small).code == NOTHING_TO_DO
    changed = at.say("refund", order, "--amount", "EUR 9.00", "--reference", "R-1", *WHO)
    assert changed.document["errors"][0]["rule"] == "REFUND-NAME"
    large = ("refund", order, "--whole", "--reference", "R-2", *WHO)
    for _ in range(2):  # asking twice is asking once
        asked = at.say(*large)
        assert (asked.code, asked.document["second_person"], asked.document["done"]) == (
            NEEDS_PERSON,
            ["R1"],
            [],
        )
    assert [one.refunded for one in standings(shop.books)] == [1_000]
    (case,) = listed(at)["second person"]
    assert (case["id"], case["rule"], case["amount"]) == ("R1", "REQUEST-SECOND-PERSON", 1_499)
    alone = at.say("approve", "R1", "--who", "a keeper")
    assert alone.document["errors"][0]["rule"] == "REQUEST-SAME-PERSON"
    assert [one.refunded for one in standings(shop.books)] == [1_000]
    assert at.say("approve", "R1", "--who", "B. Witness").code == DONE
    assert [one.refunded for one in standings(shop.books)] == [2_499]
    assert at.say("approve", "R1", "--who", "C. Other").document["rule"] == "REQUEST-UNKNOWN"
    facts = json.loads(shop.rows("SELECT facts FROM entry WHERE kind = 'refund' ORDER BY id DESC")[0][0])
    assert (facts["who"], facts["second"], facts["reference"]) == ("A. Keeper", "B. Witness", "R-2")
    assert listed(at) == {}
    assert at.say("run").code == DONE
    assert shop.told(0) == ("refunded", "none")


def test_refused_refund_that_goes_again_weighs_with_those_that_went_before(
    shop: Shop, at_the_desk: Callable[..., Desk]
) -> None:
    next_bundle(shop, 0)
    shop.run()
    with shop.ledger() as ledger, ledger.atomic():
        for name, accepted in (("R1", False), ("R2", True)):
            charge = dispatch.find(ledger, id_of(0))
            (made,) = dispatch.refund(
                ledger, charge, reference=name, amount=600, currency="EUR", now=shop.now
            )
            operations.answered(
                ledger, made, accepted=accepted, code="00" if accepted else "13", now=shop.now
            )
        (refused,) = operations.failed(ledger)
    at = at_the_desk("second_person_above = { EUR = 1000 }")
    asked = at.say("case", "again", refused.id, *WHO)
    assert (asked.code, asked.document["second_person"]) == (NEEDS_PERSON, ["R1"])
    assert shop.rows("SELECT sum(amount) FROM operation WHERE kind = 'refund' AND state != 'failed'") == [
        (600,)
    ]


def test_what_the_acquirer_refused_is_a_case_with_the_ways_out_of_it(
    shop: Shop, at_the_desk: Callable[..., Desk]
) -> None:
    orders = {0: REFUSED_CAPTURE, 1: REFUSED_REFUND}
    keys = shop.keys_for()
    shop.bundle([shop.seal(n, keys=keys, order=an_order(n, amount=amount)) for n, amount in orders.items()])
    shop.run()
    at = at_the_desk("second_person_above = { EUR = 100000 }")
    unpaid = at.say("dispatch", id_of(0))
    assert unpaid.document["errors"][0]["rule"] == "DISPATCH-UNPAID"
    refund = ("refund", id_of(1), "--whole", "--reference", "R-1", *WHO)
    assert at.say(*refund).code == NEEDS_PERSON
    found = {case["rule"]: case for case in listed(at)["refused"]}
    assert found.keys() == {"CAPTURE-REFUSED", "REFUND-REFUSED"}
    for case in found.values():
        assert f"case again {case['id']}" in case["may"][0]
        assert f"case close {case['id']}" in case["may"][1]
    assert at.say(*refund).document["errors"][0]["rule"] == "REFUND-REFUSED"
    again = at.say("case", "again", str(found["CAPTURE-REFUSED"]["id"]), *WHO)
    assert (again.code, len(again.document["refused"])) == (NEEDS_PERSON, 1)
    for case in listed(at)["refused"]:
        assert at.say("case", "close", str(case["id"]), *WHO).code == DONE
    assert listed(at) == {}
    closed_twice = at.say("case", "close", str(found["REFUND-REFUSED"]["id"]), *WHO)
    assert closed_twice.document["errors"][0]["rule"] == "CASE-UNKNOWN"
    assert [(one.captured, one.refunded) for one in standings(shop.books)] == [(0, 0), (9_979, 0)]


def test_attempt_that_nobody_answers_for_days_is_phoned_about_and_settled(
    shop: Shop, at_the_desk: Callable[..., Desk]
) -> None:
    keys = shop.keys_for()
    shop.bundle([shop.seal(n, keys=keys, order=an_order(n, amount=SILENT_AMOUNT)) for n in (0, 1)])
    shop.run()
    for _ in range(11):
        shop.run_later(8 * 3600)
    at = at_the_desk("second_person_above = { EUR = 100000 }")
    cases = listed(at)["phone the acquirer"]
    sent = {
        row[0]: row[1:]
        for row in shop.rows("SELECT order_id, rrn, stan, card FROM live_attempt JOIN orders USING (number)")
    }
    for case in cases:
        phone = case["phone"]
        assert isinstance(phone, dict)
        assert (phone["rrn"], phone["stan"], phone["card"]) == sent[case["order_id"]]
        assert (phone["merchant"], phone["terminal"], phone["amount"], phone["tries"]) == (
            "M1",
            "T1",
            SILENT_AMOUNT,
            10,
        )
        assert min(phone["sent_at"], phone["reversal_at"], phone["reversal_stan"]) > 0
    assert "4242424242424242" not in json.dumps(cases)
    shown = at.say("cases", as_json=False)
    assert "to say on the phone: merchant M1, terminal T1, card 424242*4242" in shown.out
    assert f"settle-attempt {id_of(0)}" in shown.out
    ended = at.say("case", "order-again", id_of(0), *WHO)
    assert ended.document["errors"][0]["rule"] == "CASE-STATE"
    assert at.say("settle-attempt", id_of(0), "--found", "reversed", *WHO).code == DONE
    stands = ("settle-attempt", id_of(1), "--found", "approved", "--approval", "7Z11", *WHO)
    at.say(*stands)
    assert shop.state(0) == ("order-again", "try-later", "CHARGE-GIVEN-UP")
    assert shop.state(1)[0] == "paid"
    assert shop.rows("SELECT approval, amount FROM operation") == [("7Z11", SILENT_AMOUNT)]
    again = at.say(*stands)
    assert again.document["errors"][0]["rule"] == "ATTEMPT-NOT-MANUAL"


def test_quarantined_order_is_ended_by_a_word_and_never_charged_by_one(
    shop: Shop, at_the_desk: Callable[..., Desk]
) -> None:
    keys = shop.keys_for()
    shop.bundle(
        [
            shop.seal(0, keys=keys, order=an_order(0, currency="XXQ")),
            shop.seal(1, keys=keys, card=a_card(b"4000000000000259")),
        ]
    )
    shop.run()
    at = at_the_desk()
    found = listed(at)
    (case,) = found["quarantined"]
    assert case["rule"] == "ORDER-CURRENCY"
    assert "not in ISO 4217" in str(case["why"])
    assert case["deadline"]
    (referred,) = found["refer to issuer"]
    assert (referred["order_id"], referred["rule"]) == (id_of(1), "DE39 01")
    assert at.say("case", "order-again", id_of(0), *WHO).code == DONE
    assert shop.state(0) == ("order-again", "try-later", "CASE-ENDED")
    assert at.say("case", "order-again", id_of(0), *WHO).document["errors"][0]["rule"] == "CASE-STATE"
    assert at.say("case", "close", id_of(1), *WHO).code == DONE
    assert listed(at) == {}
    assert shop.charges() == {}


def test_cancelled_order_is_released_and_the_customer_is_told(
    shop: Shop, at_the_desk: Callable[..., Desk]
) -> None:
    next_bundle(shop, 0)
    at = at_the_desk('capture = "dispatch"')
    assert at.say("run", "--confirm", "1 order: EUR 24.99").code == DONE
    assert at.say("cancel", id_of(0), *WHO).code == DONE
    assert at.say("cancel", id_of(0), *WHO).code == NOTHING_TO_DO
    assert [one.reserved for one in standings(shop.books)] == [0]
    sent = at.say("dispatch", id_of(0))
    assert sent.document["errors"][0]["rule"] == "DISPATCH-STATE"
    assert at.say("run").code == DONE
    assert shop.told(0) == ("refunded", "none")
