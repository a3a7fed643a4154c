"""The operator's commands: the control total, exit codes, JSON documents and the attempt to open an old bundle."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from offline_processor.control_total import ControlTotal, same
from offline_processor.ledger.ledger import CLOCK_JUMP
from tests.offline_processor.commands import configure, processor, processor_at_a_terminal
from tests.offline_processor.shop import (
    LOST_ANSWER_CARD,
    PASSPHRASE,
    Shop,
    a_card,
    an_order,
    id_of,
    open_shop,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DONE, ERROR, USAGE, NEEDS_PERSON, REFUSED, NOTHING_TO_DO = range(6)
TOTAL = "3 orders: EUR 49.98, JPY 2499"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop of today with three good orders in its drop."""
    made = open_shop(tmp_path, now=int(time.time()))
    orders = [an_order(0), an_order(1), an_order(2, currency="JPY")]
    made.bundle([made.seal(number, order=order) for number, order in enumerate(orders)])
    yield made
    made.keystore.close()


# The control total


def test_confirmed_total_is_charged_and_the_run_is_done(shop: Shop) -> None:
    ran = processor("run", configure(shop), "--confirm", TOTAL)
    assert ran.code == DONE, ran.err
    assert f"Control total to be charged: {TOTAL}" in ran.err
    assert "REHEARSAL" in ran.err
    assert "Return written: shop-a/r0001-00000001" in ran.out
    assert len(shop.charges()) == 3


def test_wrong_total_charges_nothing(shop: Shop) -> None:
    config = configure(shop)
    ran = processor("run", config, "--confirm", "3 orders: EUR 49.98, JPY 2500", "--json")
    assert ran.code == REFUSED
    assert ran.document["rule"] == "CONTROL-TOTAL"
    assert TOTAL in ran.document["message"]
    assert shop.charges() == {}
    assert processor("run", config, "--confirm", TOTAL).code == DONE


def test_total_that_nobody_confirms_charges_nothing(shop: Shop) -> None:
    ran = processor("run", configure(shop), "--json")
    assert ran.code == USAGE
    assert ran.document["rule"] == "USAGE-CONFIRM"
    assert f"--confirm '{TOTAL}'" in ran.document["remedy"]
    assert shop.charges() == {}


def test_total_typed_at_the_terminal_is_charged(shop: Shop) -> None:
    ran = processor_at_a_terminal(configure(shop), TOTAL.lower())
    assert ran.code == DONE, ran.err
    assert len(shop.charges()) == 3


def test_wrong_total_typed_at_the_terminal_charges_nothing(shop: Shop) -> None:
    ran = processor_at_a_terminal(configure(shop), "3 orders")
    assert ran.code == REFUSED
    assert "CONTROL-TOTAL" in ran.err
    assert shop.charges() == {}


def test_confirmed_total_need_not_be_confirmed_again_after_a_crash(shop: Shop) -> None:
    asked: list[ControlTotal] = []
    shop.confirm = asked.append
    shop.run()
    shop.run_later()
    assert [str(total) for total in asked] == [TOTAL]


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        (TOTAL, True),
        ("3 ORDERS:  eur 49.98,\tjpy 2499 ", True),
        ("3 orders: EUR 49.98", False),
        ("3 orders: EUR 49.98, JPY 24.99", False),
        ("3 orders: JPY 2499, EUR 49.98", False),
        ("", False),
    ],
)
def test_total_is_compared_whole_but_not_by_case_and_spaces(typed: str, right: bool) -> None:
    total = ControlTotal(orders=3, amounts={"JPY": 2499, "EUR": 4998})
    assert str(total) == TOTAL
    assert same(total, typed) is right


def test_total_shows_each_currency_with_its_own_decimals() -> None:
    assert str(ControlTotal(orders=1, amounts={"KWD": 5})) == "1 order: KWD 0.005"
    assert str(ControlTotal(orders=0, amounts={})) == "0 orders"


# Exit codes and documents


def test_run_without_anything_to_do_says_so(shop: Shop) -> None:
    config = configure(shop)
    processor("run", config, "--confirm", TOTAL)
    ran = processor("run", config, "--json")
    assert ran.code == NOTHING_TO_DO
    assert ran.document["received"] == []
    assert ran.document["returns"] == []


def test_document_of_a_run(shop: Shop) -> None:
    key = shop.keys_for().batch_key_id.hex()
    ran = processor("run", configure(shop), "--confirm", TOTAL, "--json")
    document = ran.document
    assert document["received"] == ["shop-a/b00000001"]
    assert document["orders"] == {"paid": 3}
    assert document["paid"] == {"EUR": 4998, "JPY": 2499}
    assert document["refused"] == []
    assert [(gone["key"], gone["reason"]) for gone in document["keys_destroyed"]] == [(key, "batch-done")]
    assert document["returns"] == [{"node": "shop-a", "name": "r0001-00000001", "records": 4}]


def test_order_that_waits_for_a_person_shows_in_the_exit_code(shop: Shop) -> None:
    shop.run()
    keys = shop.keys_for()
    shop.bundle([shop.seal(9, keys=keys, card=a_card(LOST_ANSWER_CARD))], batch_key_id=keys.batch_key_id)
    ran = processor("run", configure(shop), "--confirm", "1 order: EUR 24.99")
    assert ran.code == NEEDS_PERSON
    assert id_of(9) in ran.out


def test_order_put_aside_shows_in_the_exit_code(shop: Shop) -> None:
    shop.run()
    keys = shop.keys_for()
    other = shop.seal(0, keys=keys, order=an_order(0, amount=1))
    shop.bundle([other], batch_key_id=keys.batch_key_id)
    ran = processor("run", configure(shop), "--json")
    assert ran.code == NEEDS_PERSON
    assert ran.document["rules"] == {"ORDER-ID-CONFLICT": 1}


def test_refused_bundle_shows_in_the_exit_code_with_its_rule_and_remedy(shop: Shop) -> None:
    (shop.drop_in / "shop-a" / "b00000001" / "envelopes.bin").write_bytes(b"")
    config = configure(shop)
    ran = processor("run", config, "--json")
    assert ran.code == REFUSED
    (refused,) = ran.document["refused"]
    assert refused["rule"] == "BUNDLE-DAMAGED"
    assert "spool-sync push" in refused["remedy"]
    ran = processor("run", config)
    assert ran.code == REFUSED
    assert "BUNDLE-DAMAGED" in ran.err


def test_broken_ledger_is_an_error_and_never_dressed_up(shop: Shop) -> None:
    config = configure(shop)
    (shop.root / "state").mkdir()
    (shop.root / "state" / "ledger.db").write_bytes(b"no database" * 100)
    ran = processor("run", config, "--confirm", TOTAL, "--json")
    assert ran.code == ERROR
    assert "Traceback" in ran.err
    assert shop.charges() == {}


def test_setting_that_is_unknown_is_a_usage_error(shop: Shop) -> None:
    config = configure(shop)
    config.write_text(config.read_text() + "check_clock = false\n")
    ran = processor("run", config, "--json")
    assert ran.code == USAGE
    assert ran.document["rule"] == "CONFIG-UNKNOWN"


def test_second_run_at_the_same_time_is_refused(shop: Shop) -> None:
    config = configure(shop)
    shop.reopen()
    ran = processor("run", config, "--json")
    assert ran.code == USAGE
    assert ran.document["rule"] == "KEYSTORE-BUSY"


def test_passphrase_can_come_from_a_descriptor(shop: Shop) -> None:
    config = configure(shop)
    (shop.root / "passphrase").unlink()
    reading, writing = os.pipe()
    os.write(writing, PASSPHRASE + b"\n")
    os.close(writing)
    arguments = ("--confirm", TOTAL, "--passphrase-fd", str(reading))
    assert processor("run", config, *arguments, descriptors=(reading,)).code == DONE
    os.close(reading)
    assert processor("run", config, "--json").code == USAGE  # without one, nothing is opened


def test_status_needs_no_passphrase(shop: Shop) -> None:
    shop.run()
    config = configure(shop)
    (shop.root / "passphrase").unlink()
    ran = processor("status", config, "--json")
    assert ran.code == DONE
    assert ran.document == {
        "orders": {"paid": 3},
        "nodes": [{"node": "shop-a", "last_sequence": 1, "return_number": 1, "confirmed_return": 0}],
        "epoch": 1,
        "unreconciled": False,
        "charged_to_come": [],
        "keys": None,  # no run of the command has looked at them yet
        "last_backup": None,
        "mirror": None,
        "notices": [],
    }
    assert "shop-a" in processor("status", config).out


def test_verify_ledger_counts_the_entries_and_finds_a_break(shop: Shop) -> None:
    shop.run()
    (entries,) = shop.rows("SELECT count(*) FROM entry")[0]
    config = configure(shop)
    assert processor("verify-ledger", config, "--json").document == {"entries": entries, "chain": "intact"}
    with shop.ledger() as ledger, ledger.atomic():
        ledger.execute("DROP TRIGGER entry_is_never_changed")
        ledger.execute("UPDATE entry SET at = at + 1 WHERE id = 2")
    ran = processor("verify-ledger", config, "--json")
    assert ran.code == REFUSED
    assert ran.document["rule"] == "LEDGER-CHAIN"


def test_ledger_that_is_not_there_is_not_called_intact(shop: Shop) -> None:
    config = configure(shop)
    for command in ("verify-ledger", "status"):
        ran = processor(command, config, "--json")
        assert ran.code == REFUSED
        assert ran.document["rule"] == "LEDGER-MISSING"
    assert not (shop.root / "state" / "ledger.db").exists()


def test_directory_that_is_no_bundle_is_refused_by_try_open(shop: Shop) -> None:
    ran = processor("try-open", configure(shop), str(shop.drop_in), "--json")
    assert ran.code == REFUSED
    assert ran.document["rule"] == "BUNDLE-FORMAT"


def test_return_that_could_not_be_written_is_not_called_written_until_it_is(shop: Shop) -> None:
    config = configure(shop)
    shop.drop_out.rmdir()
    ran = processor("run", config, "--confirm", TOTAL)
    assert ran.code == REFUSED
    assert "MEDIUM-NONE" in ran.err
    assert "Return written" not in ran.out
    shop.drop_out.mkdir()
    again = processor("run", config)
    assert again.code == DONE
    assert "Return written: shop-a/r0001-00000001" in again.out


# The clock


def test_clock_far_ahead_needs_a_person(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, now=int(time.time()) - CLOCK_JUMP - 3600)
    shop.bundle([])
    shop.run()
    config = configure(shop)
    ran = processor("run", config, "--json")
    assert ran.code == REFUSED
    assert ran.document["rule"] == "CLOCK-JUMP"
    assert "--clock-is-right" in ran.document["remedy"]
    # By now a batch key is overdue, and a node that was silent for so long needs a person.
    confirmed = processor("run", config, "--clock-is-right", "--json")
    assert confirmed.code == NEEDS_PERSON
    assert [notice["rule"] for notice in confirmed.document["notices"]] == ["NODE-SILENT"]
    assert processor("run", config, "--json").document["notices"] == confirmed.document["notices"]
    assert shop.rows("SELECT count(*) FROM entry WHERE kind = 'clock-confirmed'") == [(1,)]


def test_clock_behind_the_ledger_is_never_right(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, now=int(time.time()) + 3600)
    shop.bundle([])
    shop.run()
    config = configure(shop)
    for _ in range(2):
        ran = processor("run", config, "--clock-is-right", "--json")
        assert ran.code == REFUSED
        assert ran.document["rule"] == "CLOCK-BACK"
    assert processor("run", config, "--json").document["rule"] == "CLOCK-BACK"


# Evidence


def test_old_bundle_opens_before_settlement_and_never_after(shop: Shop) -> None:
    key = shop.keys_for().batch_key_id.hex()
    copy = shop.root / "copy"
    shutil.copytree(shop.drop_in / "shop-a" / "b00000001", copy)
    config = configure(shop)
    before = processor("try-open", config, str(copy), "--json")
    assert before.code == DONE, before.err
    assert (before.document["cards"], before.document["opened"]) == (3, 3)
    assert before.document["destroyed"] == {}
    assert "4242" not in before.out + before.err
    assert processor("run", config, "--confirm", TOTAL).code == DONE
    after = processor("try-open", config, str(copy), "--json")
    assert (after.document["cards"], after.document["opened"]) == (3, 0)
    assert after.document["keys_tried"] >= 30  # the fresh keys of the return just made
    assert set(after.document["destroyed"]) == {key}
    assert "0 of 3 cards opened" in processor("try-open", config, str(copy)).out
