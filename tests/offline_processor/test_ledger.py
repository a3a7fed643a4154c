"""The ledger: append-only, chained, held by one process, with a clock that only goes forward."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from offline_processor.errors import ProcessorError
from offline_processor.ledger.ledger import CLOCK_JUMP, Ledger
from tests.offline_processor.shop import LOST_ANSWER_CARD, NOW, Shop, a_card, id_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(shop: Shop) -> Path:
    """A ledger with some entries, closed."""
    shop.bundle([shop.seal(0), shop.seal(1, card=a_card(LOST_ANSWER_CARD))])
    shop.run()
    return shop.root / "state" / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    opened = Ledger(path)
    yield opened
    opened.close()


def tamper(path: Path, *statements: str) -> None:
    """Change the file as somebody would who has it and knows SQL."""
    with closing(sqlite3.connect(path)) as database, database:
        for trigger in ("entry_is_never_changed", "entry_is_never_deleted"):
            database.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            assert database.execute(statement).rowcount != 0


# Append-only


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET facts = '{}' WHERE id = 1",
        "UPDATE entry SET at = at + 1",
        "DELETE FROM entry WHERE id = 1",
        "DELETE FROM entry",
        "INSERT OR REPLACE INTO entry SELECT id, at, kind, subject, '{}', chain FROM entry WHERE id = 1",
    ],
)
def test_entry_cannot_be_changed_or_deleted(ledger: Ledger, statement: str) -> None:
    before = list(ledger.rows("SELECT * FROM entry"))
    with pytest.raises(sqlite3.IntegrityError, match="append-only"), ledger.atomic():
        ledger.execute(statement)
    assert list(ledger.rows("SELECT * FROM entry")) == before


def test_transaction_that_fails_leaves_nothing_and_the_chain_goes_on(ledger: Ledger) -> None:
    entries = ledger.verify_chain()

    def half() -> None:
        with ledger.atomic():
            ledger.append("noted", "half", NOW, {})
            ledger.set_counter("half", 1)
            raise KeyError("half")

    with pytest.raises(KeyError):
        half()
    assert (ledger.verify_chain(), ledger.counter("half")) == (entries, 0)
    with ledger.atomic():
        ledger.append("noted", "whole", NOW, {})
    assert ledger.verify_chain() == entries + 1


def test_second_live_attempt_is_refused_by_the_database(ledger: Ledger) -> None:
    again = (
        "INSERT INTO live_attempt (number, attempt, state, stan, rrn, sent_at, amount, currency)"
        " VALUES (1, 2, 'intent', 9, '0', 0, 1, 'EUR')"
    )
    with pytest.raises(sqlite3.IntegrityError, match=r"UNIQUE|PRIMARY"), ledger.atomic():
        ledger.execute(again)


def test_second_order_of_one_id_is_refused_by_the_database(ledger: Ledger) -> None:
    copy = (
        "INSERT INTO orders SELECT number + 100, order_id, node, sequence, position, basket_digest, amount,"
        " currency, state, reason, rule, card, attempts, changed_at, told, release_at, capture FROM orders"
    )
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"), ledger.atomic():
        ledger.execute(copy)


def test_second_bundle_of_one_batch_key_is_refused_by_the_database(ledger: Ledger) -> None:
    copy = (
        "INSERT INTO bundle SELECT node, sequence + 1, manifest, batch_key, orders, state, outcome, screened_to,"
        " confirmed, accepted_at, settled_at, told FROM bundle"
    )
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"), ledger.atomic():
        ledger.execute(copy)


# The chain


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET facts = replace(facts, ':2499,', ':2498,') WHERE kind = 'screened'",
        "UPDATE entry SET at = at + 1 WHERE id = 3",
        "UPDATE entry SET kind = 'settled' WHERE id = 3",
        "UPDATE entry SET subject = 'nobody' WHERE id = 3",
        "DELETE FROM entry WHERE id = 1",
        "DELETE FROM entry WHERE id = 4",
    ],
)
def test_altered_or_removed_entry_is_found(path: Path, statement: str) -> None:
    tamper(path, statement)
    with closing(Ledger(path)) as ledger, pytest.raises(ProcessorError, match="LEDGER-CHAIN"):
        ledger.verify_chain()


def test_reordered_entries_are_found(path: Path) -> None:
    tamper(
        path,
        "UPDATE entry SET id = -2 WHERE id = 2",
        "UPDATE entry SET id = 2 WHERE id = 3",
        "UPDATE entry SET id = 3 WHERE id = -2",
    )
    with closing(Ledger(path)) as ledger, pytest.raises(ProcessorError, match="LEDGER-CHAIN"):
        ledger.verify_chain()


def test_removed_entry_is_found_even_when_the_numbers_are_closed_up(path: Path) -> None:
    tamper(
        path,
        "DELETE FROM entry WHERE id = 2",
        "UPDATE entry SET id = 2 WHERE id = 3",
        "UPDATE entry SET id = 3 WHERE id = 4",
    )
    with closing(Ledger(path)) as ledger, pytest.raises(ProcessorError, match="LEDGER-CHAIN"):
        ledger.verify_chain()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET at = at + 1 WHERE id = (SELECT max(id) FROM entry)",
        "UPDATE entry SET chain = zeroblob(32) WHERE id = (SELECT max(id) - 1 FROM entry)",
        "DELETE FROM entry WHERE id = (SELECT max(id) - 1 FROM entry)",
    ],
)
def test_ledger_whose_newest_entry_is_not_chained_does_not_open(path: Path, statement: str) -> None:
    tamper(path, statement)
    with pytest.raises(ProcessorError, match="LEDGER-CHAIN"):
        Ledger(path)
    tamper_again = sqlite3.connect(path)  # and it is not left locked or half-open
    tamper_again.close()


def test_chain_survives_the_erasure_of_a_person(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        entries = ledger.verify_chain()
        with ledger.atomic():
            ledger.execute("DELETE FROM person")
        assert ledger.verify_chain() == entries


def test_entries_name_no_customer_and_no_card(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        entries = "\n".join(
            "|".join(map(str, row)) for row in ledger.rows("SELECT kind, subject, facts FROM entry")
        )
    assert "424242*4242" in entries
    for secret in ("Ölund", "asa0", "Storgatan", "4242424242424242", "LP-0000"):
        assert secret not in entries


# One process


def test_second_process_is_refused(ledger: Ledger, path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from offline_processor.ledger.ledger import Ledger\n"
        "from offline_processor.errors import ProcessorError\n"
        "try: Ledger(Path(sys.argv[1]))\n"
        "except ProcessorError as error: print(error.rule)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "LEDGER-IN-USE"


def test_ledger_is_private_to_its_owner(path: Path) -> None:
    assert path.stat().st_mode & 0o077 == 0


# The clock


def test_clock_behind_the_newest_entry_is_refused(shop: Shop, path: Path) -> None:
    shop.now -= 1
    with pytest.raises(ProcessorError, match="CLOCK-BACK"):
        shop.run()
    shop.now += 1
    shop.run()


def test_clock_far_ahead_is_refused_until_a_person_confirms_it(shop: Shop, path: Path) -> None:
    shop.now += CLOCK_JUMP + 1
    with pytest.raises(ProcessorError, match="CLOCK-JUMP"):
        shop.run()
    shop.now -= 1
    shop.run()


def test_new_ledger_takes_any_clock(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "new.db")) as ledger:
        ledger.check_clock(1)
        ledger.check_clock(4_000_000_000)


def test_order_and_entry_tell_the_same(shop: Shop, path: Path) -> None:
    kinds = [kind for (kind,) in shop.rows("SELECT kind FROM entry WHERE subject = ? ORDER BY id", id_of(0))]
    assert kinds == ["screened", "intent", "attempt", "operation", "operation-answered"]
    kinds = [kind for (kind,) in shop.rows("SELECT kind FROM entry WHERE subject = ? ORDER BY id", id_of(1))]
    assert kinds == ["screened", "intent", "attempt", "card-held"]
