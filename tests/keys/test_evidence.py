"""Reading a ledger for the evidence: any bytes, any entries, and a hundred thousand of them."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keys import evidence_ledger
from keys.errors import KeysError
from keys.evidence import LedgerKeys, make
from keys.evidence_files import as_text
from keys.public import canonical
from keys.public.chain import GENESIS, link
from keys.ring_index import KeyRole, RingBackend, RingIndex

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

KINDS = ("key-issued", "card-held", "bundle-accepted", "key-emptied", "key-destroyed", "settled")
ENTRY = (
    "CREATE TABLE entry (id INTEGER PRIMARY KEY, at INTEGER, kind TEXT, subject TEXT, facts TEXT, chain BLOB)"
)


def write(path: Path, entries: Iterable[tuple[int, str, str, str]]) -> Path:
    """A ledger as it is documented: each entry chained to the one before."""
    database = sqlite3.connect(path)
    database.execute(ENTRY)
    chain = GENESIS
    for number, (at, kind, subject, facts) in enumerate(entries, 1):
        chain = link(chain, number=number, at=at, kind=kind, subject=subject, facts=facts)
        database.execute(
            "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?)", (number, at, kind, subject, facts, chain)
        )
    database.commit()
    database.close()
    return path


def rule_of(path: Path) -> str:
    with pytest.raises(KeysError) as refusal:
        evidence_ledger.read(path)
    assert refusal.value.remedy
    return refusal.value.rule


@given(raw=st.binary(max_size=500) | st.binary(max_size=500).map(lambda raw: b"SQLite format 3\0" + raw))
def test_what_is_no_ledger_is_refused(raw: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    path.write_bytes(raw)
    assert rule_of(path) == "EVIDENCE-LEDGER"


def test_missing_ledger_is_refused_and_not_made(tmp_path: Path) -> None:
    assert rule_of(tmp_path / "none.db") == "EVIDENCE-LEDGER"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "row",
    [
        ("'1'", "1", "'x'", "'y'", "'{}'", "x'00'"),
        ("1", "1", "'x'", "'y'", "'{}'", "NULL"),
        ("1", "-1", "'x'", "'y'", "'{}'", "x'00'"),
        ("1", "1", "x'ff'", "'y'", "NULL", "x'00'"),
    ],
)
def test_rows_of_other_types_are_refused(tmp_path: Path, row: tuple[str, ...]) -> None:
    database = sqlite3.connect(tmp_path / "ledger.db")
    database.execute("CREATE TABLE entry (id, at, kind, subject, facts, chain)")
    database.execute(f"INSERT INTO entry VALUES ({', '.join(row)})")  # noqa: S608
    database.commit()
    database.close()
    assert rule_of(tmp_path / "ledger.db") in {"EVIDENCE-LEDGER", "LEDGER-CHAIN"}


names = st.sampled_from(
    ("role", "reason", "destroyed_at", "epoch", "key", "batch_key", "node", "number", "issued_at")
)
values: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=5),
    st.sampled_from(("batch", "limit", "ab" * 16, "shop-a")),
)
facts = st.dictionaries(names, values).map(json.dumps) | st.text(max_size=20)
entries = st.tuples(
    st.integers(0, 2**40), st.sampled_from(KINDS), st.sampled_from(("ab" * 16, "cd" * 16, "x")), facts
)


@example(written=[(253_402_300_800, "settled", "x", "{}")])  # the year 10000
@given(written=st.lists(entries, max_size=5))
def test_any_chained_entries_are_read_or_refused_by_rule(
    written: list[tuple[int, str, str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(tmp_path_factory.mktemp("ledger") / "ledger.db", written)
    try:
        found = evidence_ledger.read(path)
    except KeysError as error:
        assert error.rule in {"EVIDENCE-ENTRY", "EVIDENCE-LEDGER"}  # noqa: PT017  or it reads
        return
    assert found.entries == len(written)
    index = RingIndex(epoch=1, nodes=[], batch_keys=[], hold_keys=[], destroyed=[])
    made = make(
        found, index, backend=RingBackend.TPM, identity=bytes(32), rehearsal=False, hold_limit=1, now=2
    )
    assert canonical.decode(canonical.encode(made), type(made), limit=10**6, what="evidence") == made
    assert as_text(made)


def test_ledger_with_an_unfinished_write_ahead_log_is_read_whole_and_left_as_it_is(tmp_path: Path) -> None:
    writer = sqlite3.connect(tmp_path / "ledger.db")
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute(ENTRY)
    chain = link(GENESIS, number=1, at=5, kind="noted", subject="x", facts="{}")
    writer.execute("INSERT INTO entry VALUES (1, 5, 'noted', 'x', '{}', ?)", (chain,))
    writer.commit()  # in the log only, as a killed run leaves it
    before = (tmp_path / "ledger.db").read_bytes()
    assert evidence_ledger.read(tmp_path / "ledger.db").entries == 1
    assert (tmp_path / "ledger.db").read_bytes() == before
    writer.close()


@pytest.mark.needs_tool("mounts")
def test_copy_on_a_medium_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    place = tmp_path / "medium"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
    try:
        write(place / "ledger.db", [(5, "noted", "x", "{}")])
        with contextlib.closing(sqlite3.connect(place / "ledger.db")) as database:
            database.execute("PRAGMA journal_mode = WAL")
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        assert evidence_ledger.read(place / "ledger.db").entries == 1
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_hundred_thousand_entries_take_seconds_and_little_memory(tmp_path: Path) -> None:
    settled = [
        (n, "settled", f"{n:032x}", '{"amount":2499,"currency":"EUR","state":"paid"}') for n in range(98_000)
    ]
    issued = [
        (n, "key-issued", f"{n:032x}", f'{{"epoch":1,"issued_at":{n},"node":"shop-a","number":{n + 1}}}')
        for n in range(2_000)
    ]
    path = write(tmp_path / "ledger.db", issued + settled)
    began = time.process_time()
    found = evidence_ledger.read(path)
    took = time.process_time() - began
    tracemalloc.start()
    evidence_ledger.read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"100,000 entries: {took:.2f} s, {peak / 1e6:.1f} MB at most")
    assert (found.entries, len(found.keys)) == (100_000, 2_000)
    assert took < 4
    assert peak < 10_000_000


def test_bundle_that_came_after_the_destruction_used_nothing() -> None:
    found = LedgerKeys()
    found.destroyed("ab" * 16, KeyRole.BATCH, destroyed_at=5)
    found.used("ab" * 16, 9)
    assert "used_at" not in found.keys["ab" * 16].facts
