"""The scan of the proof: what it must find, and what it must leave alone.

Why here: a scan that finds nothing proves nothing unless it is known to find what is there.
Must not: write a card anywhere but into a test's own folder.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from tests.end_to_end.scan import PLANTED_CVV_COMPARTMENT, PLANTED_CVV_TEXT, digits_of, scan, spellings
from transfer.wire.card import Card, encode_card

PAN = b"4242424242424242"


@pytest.mark.parametrize("kind", spellings(PAN))
def test_every_spelling_of_a_card_number_is_found_anywhere_in_a_file(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "deep" / "in" / "here.bin"
    file.parent.mkdir(parents=True)
    file.write_bytes(os.urandom(100_001) + spellings(PAN)[kind] + os.urandom(100))
    looked = scan(tmp_path, [PAN])
    assert [(found.path, found.kind, found.offset) for found in looked.pans] == [(file, kind, 100_001)]
    assert (looked.files, looked.size) == (1, file.stat().st_size)


def test_a_card_number_in_a_database_and_in_a_file_name_is_found(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "books.db")
    with database:
        database.execute("CREATE TABLE note (text TEXT)")
        database.execute("INSERT INTO note VALUES (?)", (f"card {PAN.decode()} charged",))
    database.close()
    (tmp_path / f"{PAN.decode()}.txt").write_text("empty")
    assert {found.path.name for found in scan(tmp_path, [PAN]).pans} == {"books.db", f"{PAN.decode()}.txt"}


@pytest.mark.parametrize(
    "text",
    [
        PLANTED_CVV_TEXT,
        b'{"card":{"security_code":"1234"}}',
        rb"body={\"security_code\": \"123\"}",
        b"security_code=123&x=1",
        b"CVV: 123",
        b"cvv2 = b'123'",
    ],
)
def test_a_security_code_where_a_field_names_it_is_found(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "log").write_bytes(b"before " + text + b" after")
    assert [found.kind for found in scan(tmp_path, []).cvvs] == ["text"]


@pytest.mark.parametrize("cvv", [b"123", b"1234"])
def test_an_opened_card_compartment_is_found(tmp_path: Path, cvv: bytes) -> None:
    card = Card(pan=PAN, cvv=cvv, expiry_month=12, expiry_year=2031)
    opened = encode_card(card, header_digest=bytes(32), order_box_digest=bytes(32), amount=1, currency="EUR")
    (tmp_path / "core").write_bytes(os.urandom(500) + opened + os.urandom(500))
    looked = scan(tmp_path, [PAN])
    assert [found.kind for found in looked.pans] == ["digits"]
    assert [found.kind for found in looked.cvvs] == ["card compartment"]


def test_the_planted_codes_are_found_once_each(tmp_path: Path) -> None:
    (tmp_path / "planted").write_bytes(PLANTED_CVV_TEXT + b"\n" + PLANTED_CVV_COMPARTMENT)
    assert len(scan(tmp_path, []).cvvs) == 2


def test_other_digits_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(
        '{"bin": "424242", "last_four": "4242", "amount": 737, "status": 202, "cvv": "?"}'
    )
    (tmp_path / "noise").write_bytes(os.urandom(3_000_000))
    looked = scan(tmp_path, [PAN])
    assert (looked.pans, looked.cvvs, looked.unread) == ([], [], [])


def test_what_cannot_be_looked_into_is_reported_and_no_symlink_leads_out(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(PAN)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    os.mkfifo(inside / "pipe")
    looked = scan(inside, [PAN])
    assert (looked.files, looked.pans) == (0, [])
    assert [line.partition(" is ")[0] for line in looked.unread] == [
        str(inside / "link"),
        str(inside / "pipe"),
    ]


def test_a_number_as_people_write_it_is_its_digits() -> None:
    assert digits_of("3566-0020-2036-0505") == b"3566002020360505"
    assert digits_of("3782 822463 10005") == b"378282246310005"
