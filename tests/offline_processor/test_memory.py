"""After a run the process's memory and every file it wrote hold no PAN, no security code and no private key."""

from __future__ import annotations

import dataclasses
import random
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.offline_processor.commands import Ran, configure, processor
from tests.offline_processor.shop import PASSPHRASE, Shop, a_card, open_shop
from tests.offline_processor.traces import Cards, files_under, keys_in
from transfer.wire.card import Card, encode_card

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ORDERS = 200
TOTAL = f"{ORDERS} orders: EUR {ORDERS * 24.99:.2f}"
LAST_FOUR = {10: b"0002", 20: b"0341", 30: b"0341"}
"""Orders that the simulator declines or leaves without an answer; the others it approves."""


def some_cards() -> list[Card]:
    """Distinct PANs of 15, 16 and 19 digits with CVVs of 3 and 4 digits."""
    chance = random.Random(20)
    codes = iter(chance.sample(range(100, 1000), ORDERS))
    cards = []
    for number in range(ORDERS):
        size, first = {0: (15, "37"), 1: (19, "62")}.get(number % 10, (16, "4"))
        digits = first + "".join(chance.choices("123456789", k=size - len(first) - 4))
        last = LAST_FOUR.get(number, f"{5000 + number}".encode())
        code = next(codes)
        cvv = f"{chance.randrange(10)}{code}" if size == 15 else f"{code}"
        cards.append(a_card(digits.encode() + last, cvv=cvv.encode()))
    return cards


@pytest.fixture(scope="module")
def cards() -> list[Card]:
    return some_cards()


@pytest.fixture(scope="module")
def known(cards: list[Card]) -> Cards:
    return Cards(cvv_of={card.pan: card.cvv for card in cards})


@pytest.fixture
def batch(tmp_path: Path, cards: list[Card]) -> Iterator[Shop]:
    """A shop with a bundle of all the cards in its drop; one card was put into another order's envelope."""
    shop = open_shop(tmp_path, now=int(time.time()))
    envelopes = [shop.seal(number, card=card) for number, card in enumerate(cards)]
    envelopes[40] = dataclasses.replace(envelopes[40], card_box=envelopes[41].card_box)
    shop.bundle(envelopes)
    yield shop
    shop.keystore.close()


def private_keys(shop: Shop) -> dict[str, bytes]:
    """Every private key of the keystore, by name; read here, in the process that is not searched."""
    keystore = shop.keystore
    ring_secret = keystore.ring._file._wrapping
    assert ring_secret is not None
    keys = {
        "identity": bytes(keystore.identity.seed),
        "vault key": bytes(keystore.vault_key.view),
        "order key": bytes(keystore.order_keys[0].key.private.view),
        "master key": bytes(keystore._files.master.view),
        "ring secret": bytes(ring_secret.view),
        "passphrase": PASSPHRASE,
    }
    for kind in ("batch", "hold"):
        records = getattr(keystore.ring, f"{kind}_records")()
        for place, key_id in enumerate(
            bytes.fromhex(record.key_id) if kind == "hold" else record.entry.key_id for record in records
        ):
            keys[f"{kind} key {place}"] = bytes(keystore.ring._content.keys[key_id].private.view)
    return keys


def run_and_dump(shop: Shop, mode: str) -> tuple[Ran, bytes]:
    return do_and_dump(shop, mode, "run", "--confirm", TOTAL)


def do_and_dump(shop: Shop, mode: str, command: str, *arguments: str) -> tuple[Ran, bytes]:
    dumped = shop.root.parent / f"{shop.root.name}-memory"
    child = (sys.executable, "-m", "tests.offline_processor.memory_child", mode, str(dumped))
    ran = processor(command, configure(shop), *arguments, "--json", program=child)
    content = dumped.read_bytes()
    dumped.unlink()
    return ran, content


def test_memory_holds_no_card_and_no_key_after_a_run(batch: Shop, known: Cards) -> None:
    keys = private_keys(batch)
    assert len([name for name in keys if name.startswith("batch")]) == 5
    ran, memory = run_and_dump(batch, "run")
    assert ran.code == 3, ran.err  # some wait for a person
    assert ran.document["orders"] == {"paid": 196, "declined": 1, "held": 2, "quarantined": 1}
    batch.reopen()
    keys |= {f"{name} afterwards": key for name, key in private_keys(batch).items()}
    assert len([name for name in keys if name.startswith("hold")]) == 3
    assert len(memory) > 10_000_000
    assert str(batch.root).encode() in memory  # it is the memory of that very run
    assert known.pans_in(memory) == []
    assert known.cvvs_in(memory) == []
    assert keys_in(memory, keys) == set()
    for said in (ran.out, ran.err):
        assert known.pans_in(said.encode()) == []


def test_deliberate_leak_of_one_card_is_found(batch: Shop, known: Cards, cards: list[Card]) -> None:
    ran, memory = run_and_dump(batch, "leak")
    assert ran.code == 3, ran.err
    assert set(known.pans_in(memory)) == {cards[0].pan}
    assert set(known.cvvs_in(memory)) == {cards[0].cvv}


def test_memory_holds_no_card_and_no_key_after_a_run_that_failed(batch: Shop, known: Cards) -> None:
    keys = private_keys(batch)
    ran, memory = run_and_dump(batch, "cut")
    assert ran.code == 1
    assert "the line is cut" in ran.err
    assert known.pans_in(memory) == []
    assert known.cvvs_in(memory) == []
    assert keys_in(memory, keys) == set()


def test_memory_holds_no_card_and_no_key_after_trying_to_open_a_bundle(batch: Shop, known: Cards) -> None:
    keys = private_keys(batch)
    bundle = batch.drop_in / "shop-a" / "b00000001"
    ran, memory = do_and_dump(batch, "run", "try-open", str(bundle))
    assert (ran.code, ran.document["opened"]) == (0, ORDERS), ran.err
    assert known.pans_in(memory) == []
    assert known.cvvs_in(memory) == []
    assert keys_in(memory, keys) == set()


def test_no_file_holds_a_card_after_a_run(batch: Shop, known: Cards) -> None:
    batch.run()
    for later in (60, 60, 73 * 3600):
        batch.run_later(later)
        for path, content in files_under(batch.root).items():
            assert known.pans_in(content) == [], path
            assert known.cvvs_in(content) == [], path


def test_planted_card_is_found_in_a_file(batch: Shop, known: Cards, cards: list[Card]) -> None:
    batch.run()
    card = cards[7]
    compartment = encode_card(
        card, header_digest=bytes(32), order_box_digest=bytes(32), amount=2499, currency="EUR"
    )
    planted = batch.root / "state" / "planted"
    planted.write_bytes(b"before" + compartment + b"behind")
    found = {
        path: (known.pans_in(content), known.cvvs_in(content))
        for path, content in files_under(batch.root).items()
        if known.pans_in(content) or known.cvvs_in(content)
    }
    assert found == {planted: ([card.pan], [card.cvv, card.cvv])}


def test_ledger_and_books_keep_issuer_and_last_four_only(batch: Shop, cards: list[Card]) -> None:
    batch.run()
    kept = batch.rows("SELECT card FROM orders WHERE state = 'paid' ORDER BY number LIMIT 1")
    assert kept == [(f"{cards[0].pan[:6].decode()}*{cards[0].pan[-4:].decode()}",)]
