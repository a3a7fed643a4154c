"""The trail of commands: every one leaves its entries, and entries that are cut off the end are missed."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click
import pytest

from keys.console import ExitCode
from keys.private.sign import generate_signing_key, sign_file
from offline_processor import ledger_report
from offline_processor.cli import cli
from offline_processor.cli_trail import ONLY_LOOK, TrailGroup
from offline_processor.errors import ProcessorError
from offline_processor.ledger import anchor
from offline_processor.ledger.ledger import Ledger
from offline_processor.trail import Trail, unended
from tests.offline_processor.commands import configure, processor
from tests.offline_processor.shop import Shop, open_shop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOW = int(time.time()) - 60


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop of today: its commands run by the real clock."""
    made = open_shop(tmp_path, now=NOW)
    yield made
    made.keystore.close()


@pytest.fixture
def worked(shop: Shop) -> Shop:
    """A shop whose ledger has some entries."""
    shop.bundle([shop.seal(0), shop.seal(1)])
    shop.run()
    return shop


def a_trail(command: str = "run", *, now: int = NOW + 5, **changes: Any) -> Trail:
    return Trail(command=command, account="op", who="A. Keeper", clock=lambda: now, **changes)


def leave(shop: Shop, trail: Trail, *, code: int = 0, rule: str = "") -> None:
    """What a command leaves that opens the keys, works and ends."""
    with shop.ledger() as ledger:
        trail.begin(ledger, shop.keystore)
        with ledger.atomic():
            ledger.append("noted", "work", ledger.newest, {})
        trail.settle(ledger, shop.keystore)
    with shop.ledger() as ledger:
        trail.end(ledger, code=code, rule=rule)


def entries(shop: Shop, kind: str) -> list[tuple[str, dict[str, Any]]]:
    found = shop.rows("SELECT subject, facts FROM entry WHERE kind = ? ORDER BY id", kind)
    return [(subject, json.loads(facts)) for subject, facts in found]


def cut_off(shop: Shop, count: int) -> None:
    """Delete the newest entries."""
    tamper(shop, *["DELETE FROM entry WHERE id = (SELECT max(id) FROM entry)"] * count)


def tamper(shop: Shop, *statements: str) -> None:
    """Change the ledger as somebody would who has the file and knows SQL."""
    with closing(sqlite3.connect(shop.root / "state" / "ledger.db")) as database, database:
        for trigger in ("entry_is_never_changed", "entry_is_never_deleted"):
            database.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        for statement in statements:
            assert database.execute(statement).rowcount != 0


def refusal(shop: Shop) -> str:
    """The rule by which verify-ledger and the next command refuse this ledger; both must say the same."""
    rules = []
    with shop.ledger() as ledger:
        for look in (
            lambda: ledger_report.verify(ledger),
            lambda: a_trail().begin(ledger, shop.keystore),
        ):
            try:
                look()
                rules.append("")
            except ProcessorError as error:
                rules.append(error.rule)
    assert rules[0] == rules[1], rules
    return rules[0]


# What is kept


def test_every_command_leaves_who_when_what_and_result(shop: Shop) -> None:
    shop.bundle([shop.seal(0), shop.seal(1)])
    config = configure(shop)
    with config.open("a", encoding="utf-8") as file:
        file.write('[operator]\nname = "A. Keeper"\n')
    refused = processor("run", config, "--confirm", "3 orders: EUR 1.00", "--json")
    assert refused.document["rule"] == "CONTROL-TOTAL"
    cancelled = processor("cancel", config, "0" * 32, "--who", "B. Other", "--why", "asked")
    assert cancelled.code == ExitCode.NEEDS_PERSON
    assert processor("verify-ledger", config).code == ExitCode.DONE  # it only looks, and leaves nothing
    begun, ended = entries(shop, "command-begun"), entries(shop, "command-ended")
    assert [subject for subject, _ in begun] == ["run", "cancel"] == [subject for subject, _ in ended]
    assert [facts["who"] for _, facts in begun] == ["A. Keeper", "B. Other"]
    assert all(facts["account"] for _, facts in begun + ended)
    assert begun[1][1]["order"] == "0" * 32
    assert [(facts["code"], facts["rule"]) for _, facts in ended] == [(4, "CONTROL-TOTAL"), (3, "")]
    numbers = [row[0] for row in shop.rows("SELECT id FROM entry WHERE kind = 'command-begun' ORDER BY id")]
    assert [facts["begun"] for _, facts in ended] == numbers


def test_command_that_fails_before_the_keys_are_open_leaves_its_end(worked: Shop, tmp_path: Path) -> None:
    config = configure(worked)
    wrong = tmp_path / "wrong"
    wrong.write_text("not the passphrase at all")
    wrong.chmod(0o600)
    text = config.read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("passphrase_file")]
    config.write_text(text.replace(line, f'passphrase_file = "{wrong}"'))
    ran = processor("run", config, "--json")
    rule = ran.document["rule"]
    assert rule.startswith("KEY")
    ((command, facts),) = entries(worked, "command-ended")
    assert (command, facts["rule"], facts["code"], facts["begun"]) == ("run", rule, ran.code, 0)


def test_act_of_the_ceremony_is_told_by_the_next_command_once(worked: Shop) -> None:
    config = configure(worked)
    rotate = ("rotate", "order-key", "--config", str(config), "--who", "Åsa Keeper", "--json")
    words = [sys.executable, "-m", "keys", *rotate]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    damaged = worked.root / "keystore.records" / "20270101T000000Z-rotation-ab12"
    damaged.mkdir()
    (damaged / "record.json").write_bytes(b"{}")
    worked.reopen()
    for _ in range(2):
        leave(worked, a_trail(now=int(time.time()) + 5))
    (name, facts), (other, bare) = entries(worked, "key-act")
    assert (facts["act"], facts["who"]) == ("rotation", ["Åsa Keeper"])
    assert any("order-key 2" in line for line in facts["result"])
    record = worked.root / "keystore.records" / name / "record.json"
    assert facts["record"] == hashlib.sha256(record.read_bytes()).hexdigest()
    assert (other, list(bare)) == (damaged.name, ["record"])
    with worked.ledger() as ledger:
        ledger.verify_chain()


@pytest.mark.parametrize("off", [-3600, 4 * 86_400])
def test_wrong_clock_of_a_command_does_not_become_the_ledgers(worked: Shop, off: int) -> None:
    with worked.ledger() as ledger:
        newest = ledger.newest
    leave(worked, a_trail(now=newest + off))
    with worked.ledger() as ledger:
        assert ledger.newest == newest
    assert entries(worked, "command-begun")[0][1]["clock"] == newest + off


def test_command_that_is_added_later_keeps_its_trail_too() -> None:
    def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
        for name, command in group.commands.items():
            if isinstance(command, click.Group):
                yield from commands(command, f"{path}{name} ")
            else:
                yield f"{path}{name}", command

    assert isinstance(cli, TrailGroup)
    found = dict(commands(cli))
    assert {name for name, command in found.items() if not hasattr(command.callback, "keeps_trail")} == set()
    assert set(found) >= ONLY_LOOK

    @cli.command("added-by-a-test")
    def added() -> None: ...

    assert hasattr(cli.commands.pop("added-by-a-test").callback, "keeps_trail")
    assert added.name == "added-by-a-test"


# What is found


def test_whole_ledger_is_found_whole(worked: Shop) -> None:
    leave(worked, a_trail())
    assert refusal(worked) == ""


@pytest.mark.parametrize("cut", [2, 3, 5])
def test_entries_cut_off_the_end_are_found(worked: Shop, cut: int) -> None:
    leave(worked, a_trail())
    cut_off(worked, cut)
    assert refusal(worked) == "LEDGER-CUT"


def test_every_entry_but_the_very_last_word_is_signed_for(worked: Shop) -> None:
    for number in range(3):
        leave(worked, a_trail(f"command-{number}"))
    with worked.ledger() as ledger:
        assert unended(ledger) is None
        last = ledger.entries
    assert worked.rows("SELECT kind FROM entry WHERE id = ?", last) == [("command-ended",)]
    cut_off(worked, 1)
    with worked.ledger() as ledger:
        assert ledger_report.verify(ledger).unended == (last - 2, NOW + 5, "command-2")
    cut_off(worked, 1)
    assert refusal(worked) == "LEDGER-CUT"


def test_shortened_history_that_is_told_on_is_found(worked: Shop) -> None:
    leave(worked, a_trail())
    cut_off(worked, 3)
    with worked.ledger() as ledger, ledger.atomic():  # the same number of entries again, well chained
        for _ in range(3):
            ledger.append("noted", "nothing happened", NOW, {})
    assert refusal(worked) == "LEDGER-CUT"


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM anchor",
        "UPDATE anchor SET signature = replace(signature, 'a', 'b')",
        "UPDATE anchor SET document = x'7b7d'",
        "UPDATE anchor SET document = CAST(replace(CAST(document AS TEXT), '\"epoch\":1', '\"epoch\":2') AS BLOB)",
    ],
)
def test_anchor_that_is_gone_damaged_or_a_strangers_is_refused(worked: Shop, statement: str) -> None:
    leave(worked, a_trail())
    tamper(worked, statement)
    assert refusal(worked) == "LEDGER-ANCHOR"


def test_anchor_of_a_stranger_is_refused_by_the_next_command(worked: Shop) -> None:
    leave(worked, a_trail())
    stranger = generate_signing_key()
    ((document,),) = worked.rows("SELECT document FROM anchor")
    ours = worked.keystore.identity.public_key.hex().encode()
    forged = document.replace(ours, stranger.public_key.hex().encode())
    with worked.ledger() as ledger:
        with ledger.atomic():
            values = (forged, sign_file(stranger, forged, anchor.COMMENT))
            ledger.execute("UPDATE anchor SET document = ?, signature = ?", values)
        found = ledger_report.verify(ledger).signed
        assert found is not None
        assert found.identity == stranger.public_key.hex()  # shown as a fingerprint, which a person compares
        with pytest.raises(ProcessorError, match="LEDGER-ANCHOR"):
            a_trail().begin(ledger, worked.keystore)


def test_anchor_outlives_the_rotation_of_the_identity(worked: Shop) -> None:
    leave(worked, a_trail())
    worked.keystore.rotate_identity(NOW + 10)
    leave(worked, a_trail("later"))
    assert refusal(worked) == ""


def test_command_that_fails_at_its_work_is_signed_for(worked: Shop) -> None:
    with worked.ledger() as ledger:
        trail = a_trail()
        trail.begin(ledger, worked.keystore)
        with ledger.atomic():
            ledger.append("noted", "work", ledger.newest, {})
        trail.give_up(ledger, worked.keystore)
    cut_off(worked, 1)
    assert refusal(worked) == "LEDGER-CUT"


# The report


def test_signed_report_finds_a_ledger_that_was_replaced_whole(
    worked: Shop, tmp_path: Path, tool: Callable[[str], Path]
) -> None:
    path, config, report = worked.root / "state" / "ledger.db", configure(worked), tmp_path / "ledger.json"
    older = path.read_bytes()
    assert processor("verify-ledger", config, "--signed-report", str(report)).code == ExitCode.DONE
    again = processor("verify-ledger", config, "--signed-report", str(report), "--json")
    assert (again.code, again.document["rule"]) == (ExitCode.USAGE, "REPORT-EXISTS")
    worked.reopen()
    (tmp_path / "identity.pub").write_text(worked.keystore.identity.minisign.encode())
    words: list[str | Path] = [tool("minisign"), "-V", "-p", tmp_path / "identity.pub", "-m", report]
    assert subprocess.run(words, check=False, capture_output=True, timeout=60).returncode == 0
    worked.keystore.close()
    same = processor("verify-ledger", config, "--against", str(report), "--json")
    assert same.code == ExitCode.DONE, same.err
    assert same.document["against"]["entries"] < same.document["entries"]
    path.write_bytes(older)  # an older copy, anchor and all
    assert processor("verify-ledger", config).code == ExitCode.DONE
    replaced = processor("verify-ledger", config, "--against", str(report), "--json")
    assert (replaced.code, replaced.document["rule"]) == (ExitCode.REFUSED, "LEDGER-CUT")


def test_report_that_was_touched_or_is_a_strangers_is_refused(worked: Shop, tmp_path: Path) -> None:
    report, signature = tmp_path / "r.json", tmp_path / "r.json.minisig"
    leave(worked, a_trail())
    with worked.ledger() as ledger:
        ledger_report.write(ledger, worked.keystore, report, account="op", who="", now=NOW)
        good, signed = report.read_bytes(), signature.read_text()
        assert ledger_report.check(ledger, report, None).entries == ledger.entries
        with pytest.raises(ProcessorError, match="another identity"):
            ledger_report.check(ledger, report, "0000-" * 7 + "0000")
        stranger = generate_signing_key()
        forged = good.replace(
            worked.keystore.identity.public_key.hex().encode(), stranger.public_key.hex().encode()
        )
        for document, text in (
            (good.replace(b'"epoch":1', b'"epoch":2'), signed),
            (good[:-1], signed),
            (good, signed[:-9]),
            (forged, sign_file(stranger, good, ledger_report.COMMENT)),
            (good, sign_file(worked.keystore.identity, good, anchor.COMMENT)),
        ):
            report.write_bytes(document)
            signature.write_text(text)
            with pytest.raises(ProcessorError, match="REPORT-SIGNATURE"):
                ledger_report.check(ledger, report, None)


def test_backup_and_mirror_have_the_anchor_that_fits_them(worked: Shop, tmp_path: Path) -> None:
    worked.mirror = tmp_path / "mirror.db"
    leave(worked, a_trail())
    with closing(Ledger(worked.mirror)) as mirrored:
        found = ledger_report.verify(mirrored)
        assert found.signed is not None
        assert found.entries - found.signed.entries == 1  # the command's last word
