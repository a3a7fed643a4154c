"""The mirror has every transaction before it counts as done: the loss of the first disk costs nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from offline_processor.errors import ProcessorError
from offline_processor.ledger import mirror as mirrors
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.mirror import includes, take, tip_of
from tests.offline_processor.commands import configure, processor
from tests.offline_processor.shop import NOW, Shop, id_of
from tests.offline_processor.test_crashes import (
    DONE,
    KILLED,
    Kill,
    assert_next_runs_finish,
    prepared,
    sample,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NEEDS_PERSON, REFUSED = 3, 4

__all__ = ["prepared"]


def content(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every table of a ledger's file."""
    with closing(sqlite3.connect(path)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        # When migrations were applied is each file's own affair.
        return {
            name: sorted(database.execute(f"SELECT * FROM {name}").fetchall(), key=repr)  # noqa: S608
            for name in names
            if name not in {"_sqlite_migrations", "sqlite_stat1"}
        }


@pytest.fixture
def mirrored(shop: Shop) -> Shop:
    shop.mirror = shop.root / "second" / "mirror.db"
    shop.mirror.parent.mkdir()
    return shop


def files(shop: Shop) -> tuple[Path, Path]:
    assert shop.mirror is not None
    return shop.root / "state" / "ledger.db", shop.mirror


# In step


def test_run_leaves_ledger_and_mirror_the_same(mirrored: Shop) -> None:
    mirrored.bundle([mirrored.seal(0), mirrored.seal(1)])
    mirrored.run()
    ledger, mirror = files(mirrored)
    assert content(ledger) == content(mirror)
    with closing(Ledger(mirror)) as read:
        assert read.verify_chain() > 5


def test_mirror_that_is_configured_later_is_brought_up(shop: Shop) -> None:
    shop.bundle([shop.seal(0)])
    shop.run()
    shop.mirror = shop.root / "second" / "mirror.db"
    shop.mirror.parent.mkdir()
    with shop.ledger() as ledger:
        assert ledger.mirror_was_behind
    assert content(files(shop)[0]) == content(files(shop)[1])
    with shop.ledger() as ledger:
        assert not ledger.mirror_was_behind


def test_transaction_that_fails_leaves_nothing_in_either(mirrored: Shop) -> None:
    def half(ledger: Ledger) -> None:
        with ledger.atomic():
            ledger.append("noted", "half", NOW, {})
            ledger.set_counter("half", 1)
            raise KeyError("half")

    with mirrored.ledger() as ledger:
        with pytest.raises(KeyError):
            half(ledger)
        with ledger.atomic():
            ledger.append("noted", "whole", NOW, {})
    assert content(files(mirrored)[0]) == content(files(mirrored)[1])


def test_tables_that_a_newer_version_adds_are_in_the_mirror_too(mirrored: Shop) -> None:
    with mirrored.ledger() as ledger:
        ledger._connection.execute("CREATE TABLE of_tomorrow (x)")
    with mirrored.ledger() as ledger, ledger.atomic():
        assert ledger.mirror_was_behind
        ledger.execute("INSERT INTO of_tomorrow VALUES (1)")
    assert content(files(mirrored)[1])["of_tomorrow"] == [(1,)]


# A crash at any point, and the first disk is gone


def acknowledged_in_a_killed_run(shop: Shop, at: int) -> tuple[int, str]:
    """One run in a child that is gone before step ``at``; how it ended, and the last tip that anyone was told of."""
    told = shop.root / "told"
    child = os.fork()
    if child:
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return ended, told.read_text() if told.exists() else ""
    try:
        shop.reopen()
        real = Ledger._commit_mirror
        trace: list[str] = []
        descriptor = os.open(told, os.O_WRONLY | os.O_CREAT)

        def committed(ledger: Ledger) -> None:
            real(ledger)
            os.pwrite(descriptor, f"{ledger.entries:08d} {ledger._chain.hex():>64}".encode(), 0)

        setattr(Ledger, "_commit_mirror", committed)  # noqa: B010
        Kill(at, trace)
        shop.run()
        shop.keystore.close()
        (shop.root / "trace").write_text("\n".join(trace))
        os._exit(DONE)
    finally:
        os._exit(1)


@pytest.fixture
def fresh(prepared: Shop, tmp_path: Path) -> Iterator[Callable[[], Shop]]:
    """Gives a mirrored copy of the prepared shop."""

    def copy() -> Shop:
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(prepared.root, tmp_path / "copy")
        second = tmp_path / "copy" / "second"
        second.mkdir()
        made = dataclasses.replace(prepared, root=tmp_path / "copy", mirror=second / "mirror.db")
        with made.ledger():
            pass
        return made

    yield copy
    shutil.rmtree(tmp_path / "copy", ignore_errors=True)


def test_loss_of_the_first_disk_at_any_point_costs_nothing(fresh: Callable[[], Shop]) -> None:
    shop = fresh()
    assert acknowledged_in_a_killed_run(shop, -1)[0] == DONE
    steps = (shop.root / "trace").read_text().splitlines()
    assert steps.count("COMMIT") > 30  # both files commit
    for at in sample(steps, seed=5, others=4)[::4]:
        shop = fresh()
        ended, told = acknowledged_in_a_killed_run(shop, at)
        assert ended == KILLED
        ledger, mirror = files(shop)
        shutil.rmtree(shop.root / "state")  # ledger, our copies of bundles, returns: all of the disk
        with closing(sqlite3.connect(mirror)) as read:
            tip = tip_of(read)
            if told:
                entries, chain = told.split()
                row = read.execute("SELECT chain FROM entry WHERE id = ?", (int(entries),)).fetchone()
                assert row[0].hex() == chain, at
        with pytest.raises(ProcessorError, match="LEDGER-MIRROR") as refused, shop.ledger():
            pass
        assert "mirror --take" in refused.value.remedy
        assert take(mirror, ledger) == tip.entries
        assert_next_runs_finish(shop)
        assert content(ledger) == content(mirror)


def test_mirror_behind_by_a_crash_is_brought_up(fresh: Callable[[], Shop]) -> None:
    shop = fresh()
    ledger, mirror = files(shop)
    before = mirror.read_bytes()
    shop.reopen()
    shop.run()
    shop.keystore.close()
    mirror.write_bytes(before)
    with shop.ledger() as opened:
        assert opened.mirror_was_behind
    assert content(ledger) == content(mirror)


# Refusals


def test_mirror_whose_chain_was_broken_is_not_taken(mirrored: Shop) -> None:
    mirrored.bundle([mirrored.seal(0)])
    mirrored.run()
    ledger, mirror = files(mirrored)
    with closing(sqlite3.connect(mirror)) as database, database:
        database.execute("DROP TRIGGER entry_is_never_changed")
        database.execute("UPDATE entry SET at = at + 1 WHERE id = 2")
    before = ledger.read_bytes()
    with pytest.raises(ProcessorError, match="LEDGER-CHAIN"):
        take(mirror, ledger)
    assert ledger.read_bytes() == before


def test_mirror_ahead_is_refused_and_says_which_is_newer(mirrored: Shop) -> None:
    mirrored.bundle([mirrored.seal(0)])
    mirrored.run()
    ledger, mirror = files(mirrored)
    old = ledger.read_bytes()
    mirrored.bundle([])
    mirrored.run_later()
    ledger.write_bytes(old)
    with pytest.raises(ProcessorError, match=r"LEDGER-MIRROR: the mirror .* is newer") as refused:
        mirrored.run_later()
    assert "mirror --take" in refused.value.remedy
    take(mirror, ledger)
    mirrored.run_later()
    assert mirrored.state(0)[0] == "paid"


def test_files_that_went_different_ways_are_refused_and_neither_is_taken(mirrored: Shop) -> None:
    mirrored.bundle([mirrored.seal(0)])
    mirrored.run()
    ledger, mirror = files(mirrored)
    for path in (ledger, mirror):
        with closing(Ledger(path)) as alone, alone.atomic():
            alone.append("noted", str(path), mirrored.now, {})
    with pytest.raises(ProcessorError, match=r"LEDGER-MIRROR: .* different ways"):
        mirrored.run_later()
    with pytest.raises(ProcessorError, match=r"LEDGER-MIRROR: .* lacks"):
        take(mirror, ledger)


def test_transactions_without_entries_count_too(mirrored: Shop) -> None:
    with mirrored.ledger() as ledger, ledger.atomic():
        ledger.append("noted", "x", NOW, {})
    ledger_file, mirror = files(mirrored)
    with closing(Ledger(mirror)) as alone, alone.atomic():
        alone.set_counter("alone", 1)
    with pytest.raises(ProcessorError, match=r"LEDGER-MIRROR: the mirror .* is newer"), mirrored.ledger():
        pass
    with closing(sqlite3.connect(mirror)) as read, closing(sqlite3.connect(ledger_file)) as primary:
        assert includes(read, tip_of(primary))


def test_mirror_that_is_gone_stops_everything_until_a_new_one_is_begun(mirrored: Shop) -> None:
    mirrored.bundle([mirrored.seal(0)])
    with mirrored.ledger():
        pass
    shutil.rmtree(files(mirrored)[1].parent)
    with pytest.raises(ProcessorError, match="LEDGER-MIRROR-DISK"):
        mirrored.run()
    files(mirrored)[1].parent.mkdir()  # an empty mount point is not the disk
    with pytest.raises(ProcessorError, match="LEDGER-MIRROR-DISK") as refused:
        mirrored.run()
    assert "mirror --renew" in refused.value.remedy
    assert mirrored.charges() == {}
    ledger, mirror = files(mirrored)
    with closing(Ledger(ledger, mirror=mirror, renew_mirror=True)):
        pass
    mirrored.run()
    assert content(ledger) == content(mirror)


def test_mirror_disk_that_fails_stops_the_run(mirrored: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    mirrored.bundle([mirrored.seal(0), mirrored.seal(1)])
    with mirrored.ledger():
        pass
    real, left = mirrors.Mirror.commit, [4]

    def commit(mirror: mirrors.Mirror) -> None:
        left[0] -= 1
        if left[0] < 0:
            with mirror._disk_errors():
                raise sqlite3.OperationalError("disk I/O error")
        real(mirror)

    monkeypatch.setattr(mirrors.Mirror, "commit", commit)
    with pytest.raises(ProcessorError, match="LEDGER-MIRROR-DISK"):
        mirrored.run()
    charged = mirrored.charges()
    with mirrored.ledger() as ledger:  # opening brings it up; then its disk fails again
        left[0] = 0
        with pytest.raises(ProcessorError, match="LEDGER-MIRROR-DISK"), ledger.atomic():
            ledger.append("noted", "x", mirrored.now, {})
        with pytest.raises(ProcessorError, match="missed a transaction"), ledger.atomic():
            ledger.append("noted", "y", mirrored.now, {})
    assert mirrored.charges() == charged
    monkeypatch.undo()
    mirrored.run_later()
    mirrored.run_later()
    assert mirrored.charges() == {id_of(0): 1, id_of(1): 1}
    assert content(files(mirrored)[0]) == content(files(mirrored)[1])


def write_much(ledger: Ledger) -> None:
    with ledger.atomic():
        for number in range(2_000):
            ledger.append("noted", f"{number:064d}", NOW, {})


def test_full_mirror_disk_is_found_before_the_ledger_commits(mirrored: Shop) -> None:
    with mirrored.ledger() as ledger:
        assert ledger._mirror is not None
        ledger._mirror._database.execute("PRAGMA max_page_count = 10")
        entries = ledger.entries
        with pytest.raises(ProcessorError, match=r"LEDGER-MIRROR-DISK: .* full"):
            write_much(ledger)
        assert ledger.verify_chain() == entries == ledger.entries


def test_two_processes_never_share_a_mirror(mirrored: Shop) -> None:
    with mirrored.ledger(), pytest.raises(ProcessorError, match="LEDGER-IN-USE"):
        Ledger(mirrored.root / "other.db", mirror=mirrored.mirror)


# The command


def test_mirror_command_takes_and_renews(mirrored: Shop) -> None:
    mirrored.bundle([mirrored.seal(0)])
    mirrored.run()
    config = configure(mirrored)
    assert processor("mirror", config, "--json").document["rule"] == "USAGE-MIRROR"
    config.write_text(config.read_text().replace("[acquirer]", 'mirror = "second/mirror.db"\n[acquirer]'))
    assert processor("mirror", config, "--take", "--renew", "--json").document["rule"] == "USAGE-MIRROR"
    same = processor("mirror", config, "--json")
    assert (same.code, same.document["was_behind"]) == (DONE, False)
    shutil.rmtree(mirrored.root / "state")
    ran = processor("status", config, "--json")
    assert (ran.code, ran.document["rule"]) == (REFUSED, "LEDGER-MIRROR")
    assert processor("mirror", config, "--take").code == DONE
    found = processor("status", config, "--json")
    assert found.document["orders"] == {"paid": 1}
    assert "MIRROR-SAME-DISK" in [notice["rule"] for notice in found.document["notices"]]
    files(mirrored)[1].unlink()
    assert processor("run", config, "--json").document["rule"] == "LEDGER-MIRROR-DISK"
    for verb in ("status", "verify-ledger"):  # what only reads goes on, and says so
        reading = processor(verb, config, "--json")
        assert reading.code == NEEDS_PERSON
        assert "mirror --renew" in json.dumps(reading.document) or "mirror" in reading.document
    found = processor("status", config, "--json")
    assert found.document["orders"] == {"paid": 1}
    assert "LEDGER-MIRROR-DISK" in [notice["rule"] for notice in found.document["notices"]]
    renewed = processor("mirror", config, "--renew")
    assert (renewed.code, "A new mirror was begun" in renewed.out) == (DONE, True)
