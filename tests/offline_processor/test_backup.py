"""Backups and the commands of a bad day, killed at every kind of step: what is called good is good."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from keys.custody import Assembly
from keys.private.unseal import SealingKey
from keys.public.fingerprint import fingerprint
from offline_processor import backup as backups
from offline_processor.acquirers.report import in_words
from offline_processor.backup import LAST_BACKUP
from offline_processor.errors import ProcessorError
from offline_processor.restore import read_backup_header
from tests.offline_processor.commands import Ran, accept_swap, acquirer_report, configure, processor
from tests.offline_processor.disaster import (
    acquirers_report,
    back_up,
    bring_in_report,
    lose,
    rebuild,
    wronged,
)
from tests.offline_processor.shop import HOUR, Shop, id_of, next_bundle, open_shop
from tests.offline_processor.test_crashes import DONE, KILLED, Kill, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

USAGE, NEEDS_PERSON, REFUSED, NOTHING_TO_DO = 2, 3, 4, 5


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = open_shop(tmp_path / "shop", custodians=(2, 3), now=int(time.time()) - 3 * HOUR)
    made.bundle([made.seal(0), made.seal(1)])
    made.run()
    made.now += HOUR
    yield made
    made.keystore.close()


# A backup


def test_backup_is_read_back_recorded_and_leaves_nothing_in_clear(shop: Shop) -> None:
    made = back_up(shop)
    assert made.sha256 == hashlib.sha256(made.path.read_bytes()).hexdigest()
    assert made.size == made.path.stat().st_size
    assert made.path.stat().st_mode & 0o077 == 0
    assert [path.name for path in (shop.root / "state").iterdir() if "snapshot" in path.name] == []
    with shop.ledger() as ledger:
        assert ledger.counter(LAST_BACKUP) == shop.now
        assert ledger.row("SELECT kind, subject FROM entry ORDER BY id DESC LIMIT 1") == (
            "backup-made",
            "backup.sealed",
        )
    content = made.path.read_bytes()
    for clear in (b"SQLite format", b"example.org", b"Storgatan", b"424242*4242"):
        assert clear not in content


def test_backup_into_a_directory_gets_a_name_of_its_own_and_overwrites_nothing(shop: Shop) -> None:
    first = back_up(shop, "").path
    assert first.parent == shop.root
    assert first.name.startswith("backup-20")
    assert first.name.endswith("-e0001.sealed")
    with pytest.raises(ProcessorError, match="BACKUP-EXISTS"):
        back_up(shop, "")


def test_snapshot_that_a_crash_left_is_wiped(shop: Shop) -> None:
    left = shop.root / "state" / "backup.snapshot"
    left.write_bytes(b"in clear" * 1000)
    os.link(left, shop.root / "witness")
    back_up(shop)
    assert not left.exists()
    assert (shop.root / "witness").read_bytes() == bytes(8000)


def test_backup_that_does_not_read_back_is_none(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def bad_medium(descriptor: int) -> None:
        real(descriptor)
        name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if name.endswith(".part"):
            with Path(name).open("r+b") as file:
                file.seek(70_000)
                file.write(b"rotten")

    monkeypatch.setattr(os, "fsync", bad_medium)
    with pytest.raises(ProcessorError, match="BACKUP-READBACK"):
        back_up(shop)
    assert [path.name for path in shop.root.iterdir() if "backup" in path.name] == []
    with shop.ledger() as ledger:
        assert ledger.counter(LAST_BACKUP) == 0


def test_medium_that_is_not_there_is_said(shop: Shop) -> None:
    with pytest.raises(ProcessorError, match="BACKUP-WRITE"):
        back_up(shop, "no-such-medium/backup.sealed")


def test_damaged_ledger_is_not_backed_up(shop: Shop) -> None:
    with shop.ledger() as ledger, ledger.atomic():
        ledger.execute("DROP TRIGGER entry_is_never_changed")
        ledger.execute("UPDATE entry SET at = at + 1 WHERE id = 2")
    with pytest.raises(ProcessorError, match="LEDGER-CHAIN"):
        back_up(shop)
    assert not (shop.root / "backup.sealed").exists()


def quorum(shop: Shop) -> SealingKey:
    assembly = Assembly(None)
    for words in shop.shares:
        if assembly.add(words) == 0:
            break
    return assembly.key()


# Killed at any step


def killed(work: Callable[[], Any], at: int, trace_to: Path | None = None) -> int:
    """``work`` in a child that is gone before step ``at``."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    trace: list[str] = []
    try:
        Kill(at, trace)
        work()
        if trace_to is not None:
            trace_to.write_text("\n".join(trace))
        os._exit(DONE)
    finally:
        os._exit(1)


def steps_of(work: Callable[[], Any], place: Path) -> list[str]:
    assert killed(work, -1, place) == DONE
    return place.read_text().splitlines()


def test_backup_that_is_killed_anywhere_leaves_a_whole_one_or_none(shop: Shop, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shop.keystore.close()
    shutil.copytree(shop.root, base)

    def work() -> None:
        shop.reopen()
        back_up(shop)

    def fresh() -> None:
        shutil.rmtree(shop.root)
        shutil.copytree(base, shop.root)

    steps = steps_of(work, tmp_path / "trace")
    whole = 0
    for at in sample(steps, seed=3, others=6)[::2]:
        fresh()
        assert killed(work, at) == KILLED
        there = (shop.root / "backup.sealed").exists()
        whole += there
        shop.reopen()
        if there:
            lose(shop)
            rebuild(shop, shop.root / "backup.sealed")
        else:
            back_up(shop)
            assert not list((shop.root / "state").glob("backup.snapshot*"))
        shop.keystore.close()
    assert whole < len(steps)


def test_restore_and_reconciliation_killed_anywhere_are_finished_by_the_same_commands(
    shop: Shop, tmp_path: Path
) -> None:
    backup = back_up(shop).path
    next_bundle(shop, 2, 3)
    shop.now += HOUR
    shop.run()
    lose(shop)
    base = tmp_path / "base"
    shutil.copytree(shop.root, base)
    report = acquirers_report(shop)

    def work() -> None:
        state = shop.root / "state"
        if not (shop.root / "keystore").exists():
            shop.custody_key = quorum(shop)  # a fork takes no secrets along
            rebuild(shop, backup)
        else:
            shop.reopen()
        assert state.exists()
        with shop.ledger() as ledger:
            reconciled = not ledger.counter("unreconciled") and ledger.counter("epoch")
        if not reconciled:
            bring_in_report(shop, report)
        shop.run()
        shop.keystore.close()

    steps = steps_of(work, tmp_path / "trace")
    assert steps.count("COMMIT") > 5
    for at in sample(steps, seed=4, others=6)[::3]:
        shutil.rmtree(shop.root)
        shutil.copytree(base, shop.root)
        assert killed(work, at) == KILLED, at
        assert wronged(shop) == []
        assert killed(work, -1) == DONE, (at, steps[at])
        assert wronged(shop) == []
        assert {shop.state(number)[0] for number in range(4)} == {"paid"}, at
        assert set(shop.charges().values()) == {1}


# The commands


def shares(shop: Shop, count: int = 2) -> int:
    reading, writing = os.pipe()
    os.write(writing, "\n".join([*shop.shares[:count], ""]).encode())
    os.close(writing)
    return reading


def with_shares(shop: Shop, command: str, config: Path, *arguments: str, count: int = 2) -> Ran:
    descriptor = shares(shop, count)
    try:
        return processor(
            command,
            config,
            *arguments,
            "--shares-fd",
            str(descriptor),
            "--json",
            descriptors=(descriptor,),
        )
    finally:
        os.close(descriptor)


def test_bad_day_by_the_commands(shop: Shop) -> None:
    identity = fingerprint(shop.keystore.identity.public_key)
    config = accept_swap(configure(shop))
    made = processor("backup", config, "--out", str(shop.root / "day.sealed"), "--json")
    assert made.code == DONE, made.err
    again = processor("backup", config, "--out", str(shop.root / "day.sealed"), "--json")
    assert (again.code, again.document["rule"]) == (USAGE, "BACKUP-EXISTS")
    assert processor("status", config, "--json").document["last_backup"] is not None
    nothing = ("--from", "1970-01-01T00:00:00Z", "--until", "1971-01-01T00:00:00Z", "--who", "A. Keeper")
    report = shop.root / "report.csv"
    assert acquirer_report(shop.books, report).code == DONE
    assert processor("reconcile", config, str(report), *nothing).code == DONE

    # Another bundle is charged, then the machine is lost.
    shop.reopen()
    shop.now = int(time.time())
    next_bundle(shop, 2)
    shop.keystore.close()
    assert processor("run", config, "--confirm", "1 order: EUR 24.99").code == DONE
    lose(shop)

    backup = str(shop.root / "day.sealed")
    few = with_shares(shop, "restore", config, backup, "--passphrases", "1", count=1)
    assert few.document["rule"] == "SHARE-MISSING"
    assert (
        with_shares(shop, "restore", config, backup, "--passphrases", "1").document["rule"]
        == "KEY-FINGERPRINT"
    )  # nobody to ask
    other = fingerprint(b"?" * 32)
    assert (
        with_shares(shop, "restore", config, backup, "--passphrases", "1", "--fingerprint", other).document[
            "rule"
        ]
        == "KEY-FINGERPRINT"
    )
    assert not (shop.root / "keystore").exists()
    assert not (shop.root / "state" / "ledger.db").exists()
    ran = with_shares(shop, "restore", config, backup, "--passphrases", "1", "--fingerprint", identity)
    assert ran.code == NEEDS_PERSON, ran.out + ran.err
    assert ran.document["epoch"] == 2
    assert ran.document["custody_copy"] == str(shop.root / "keystore.custody")
    assert (shop.root / "keystore.custody").is_file()
    assert (
        with_shares(shop, "restore", config, backup, "--passphrases", "1").document["rule"]
        == "RESTORE-EXISTS"
    )
    refused = processor("run", config, "--json")
    assert (refused.code, refused.document["rule"]) == (REFUSED, "LEDGER-UNRECONCILED")
    status = processor("status", config, "--json")
    assert status.code == NEEDS_PERSON
    assert "LEDGER-UNRECONCILED" in [notice["rule"] for notice in status.document["notices"]]

    report.unlink()
    acquirer_report(shop.books, report)
    until = in_words(int(time.time()))
    since = ("--from", "1970-01-01T00:00:00Z", "--until")
    for wrong, rule in (
        ((*since, "yesterday", "--who", "A"), "USAGE-TIME"),
        ((*since, until, "--who", "A\nB"), "USAGE-WORDS"),
        ((*since, "2020-01-01T00:00:00Z", "--who", "A"), "REPORT-PERIOD"),
    ):
        assert processor("reconcile", config, str(report), *wrong, "--json").document["rule"] == rule
    done = processor("reconcile", config, str(report), *since, until, "--who", "A. Keeper", "--json")
    assert (done.code, done.document["to_come"]) == (DONE, [id_of(2)]), done.out
    to_come = processor("status", config, "--json")
    assert (to_come.code, to_come.document["charged_to_come"]) == (NEEDS_PERSON, [id_of(2)])
    assert "RECONCILE-TO-COME" in [notice["rule"] for notice in to_come.document["notices"]]
    assert processor("run", config, "--json").code == DONE
    assert wronged(shop) == []
    assert shop.state(2)[0] == "paid"


def test_set_sequence_needs_a_quorum_and_a_node(shop: Shop) -> None:
    config = accept_swap(configure(shop))
    digest = "ab" * 32
    asked = ("--node", "shop-a", "--sequence", "5", "--digest")
    assert with_shares(shop, "set-sequence", config, *asked, "no").document["rule"] == "USAGE-DIGEST"
    stranger = ("--node", "shop-x", "--sequence", "5", "--digest", digest)
    assert with_shares(shop, "set-sequence", config, *stranger).document["rule"] == "USAGE-NODE"
    few = with_shares(shop, "set-sequence", config, *asked, digest, count=1)
    assert few.document["rule"] == "SHARE-MISSING"
    assert shop.rows("SELECT last_sequence FROM node") == [(1,)]
    done = with_shares(shop, "set-sequence", config, *asked, digest)
    assert (done.code, done.document["first"], done.document["last"]) == (NEEDS_PERSON, 2, 5)
    assert shop.rows("SELECT last_sequence, last_manifest FROM node") == [(5, digest)]
    back = with_shares(shop, "set-sequence", config, *asked, digest)
    assert back.document["rule"] == "SEQUENCE-BACK"


def test_keystore_without_custodians_allows_neither_backup_nor_set_sequence(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, now=int(time.time()) - HOUR)
    config = configure(shop)
    made = processor("backup", config, "--out", str(tmp_path / "b.sealed"), "--json")
    assert made.document["rule"] == "CUSTODY-NONE"
    arguments = ("--node", "shop-a", "--sequence", "5", "--digest", "ab" * 32, "--json")
    assert processor("set-sequence", config, *arguments).document["rule"] == "CUSTODY-NONE"


def test_report_command_says_where_no_books_are(tmp_path: Path) -> None:
    books, report = tmp_path / "books.db", tmp_path / "r.csv"
    ran = acquirer_report(books, report)
    assert (ran.code, ran.document["rule"]) == (USAGE, "USAGE-BOOKS")
    books.touch()
    report.touch()
    assert acquirer_report(books, report).document["rule"] == "USAGE-OUT"


def test_backup_header_names_the_custody(shop: Shop) -> None:

    header = read_backup_header(back_up(shop).path)
    assert header.notes["rehearsal"] == "yes"  # for the prompts of a restore
    assert backups.custody_of(header) == shop.keystore.custody
