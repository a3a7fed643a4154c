"""The whole life of the keys through the real commands: ceremony, orders, rotation, loss, recovery, orders.

Why here: custody is only worth what a recovery from it gives; nothing less than the whole shows that.
Must not: reach into a keystore or ledger to bring a situation about; what is lost is lost by deleting it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from intake.money import control_total
from keys.console import ExitCode
from keys.record_form import decode_record
from offline_processor.acquirers.simulator.books import unreversed_approvals
from tests.end_to_end import orders, story
from tests.end_to_end.commands import Outcome, Shell
from tests.end_to_end.conftest import quiet_shell
from tests.end_to_end.orders import SETTLED, Receipt, Status
from tests.end_to_end.places import NODE, Places, fresh, write_passphrases, write_settings
from tests.keys.ceremony_play import PASSPHRASES, Players, write_plan
from tests.keys.terminal import Terminal

_WORKERS = 2
_RUN_ENDS = (ExitCode.DONE, ExitCode.NEEDS_PERSON)
_SYNC_ENDS = (ExitCode.DONE, ExitCode.NEEDS_PERSON, ExitCode.NOTHING_TO_DO)


@dataclass(slots=True, kw_only=True)
class Life:
    """One shop with its workstation, its custodians' sheets, and every order that was ever acknowledged."""

    shell: Shell
    places: Places
    url: str
    shares: list[str] = field(default_factory=list, repr=False)  # a failing test prints what it was given
    receipts: list[Receipt] = field(default_factory=list)

    @property
    def offline(self) -> Path:
        return self.places.offline_toml.parent

    def take(self, count: int) -> list[Receipt]:
        story.take_orders(self.shell, self.places, self.url, count=count)
        taken = orders.read_receipts(self.places.receipts)
        self.receipts += taken
        return taken

    def push(self) -> None:
        self.shell.run("spool-sync", "push", "--config", self.places.node_toml, expect=_SYNC_ENDS)

    def pull(self) -> None:
        self.shell.run("spool-sync", "pull", "--config", self.places.node_toml, expect=_SYNC_ENDS)

    def charge(self, charged: Sequence[Receipt], *expect: ExitCode) -> Outcome:
        total = control_total((receipt.amount, receipt.currency) for receipt in charged)
        confirm = ("--confirm", total) if charged else ()
        return self.shell.offline(
            *("offline-processor", "run", "--config", self.places.offline_toml, *confirm),
            expect=expect or (*_RUN_ENDS, ExitCode.NOTHING_TO_DO),
        )

    def command(self, *words: str | Path, expect: tuple[int, ...] = (ExitCode.DONE,)) -> Outcome:
        return self.shell.offline(*words, "--config", self.places.offline_toml, expect=expect)

    def with_shares(self, custodians: Sequence[int], *words: str | Path) -> Outcome:
        """A command that needs a quorum; the sheets go in through a descriptor, never as arguments."""
        sheets = self.places.var / "sheets"
        descriptor = os.open(sheets, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.writelines(self.shares[place] + "\n" for place in custodians)
        line = " ".join(self.shell.short(word) for word in words)
        try:
            return self.shell.offline(
                *("sh", "-c", f"{line} --config {self.places.offline_toml} --shares-fd 3 3<{sheets}"),
                expect=_RUN_ENDS,
            )
        finally:
            sheets.unlink()

    def statuses(self, receipts: Sequence[Receipt]) -> dict[str, Status]:
        return orders.statuses(self.url, receipts)


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    with fresh(tmp_path / "var") as places:
        shell = quiet_shell(places)
        port = story.free_port()
        with story.open_circuit(shell, places):
            write_passphrases(places)
            write_settings(places, port=port, workers=_WORKERS)
            _dual_control(places)
            yield Life(shell=shell, places=places, url=f"http://127.0.0.1:{port}")


def _dual_control(places: Places) -> None:
    """Two holders, each with a passphrase; a rehearsal may have them in files."""
    toml = places.offline_toml.read_text("utf-8")
    second = 'passphrase_file = "passphrase"\nsecond_passphrase_file = "second-passphrase"'
    places.offline_toml.write_text(toml.replace('passphrase_file = "passphrase"', second), encoding="utf-8")
    for name, holder in (("passphrase", "Ben"), ("second-passphrase", "Cleo")):
        file = places.offline_toml.parent / name
        file.touch(mode=0o600)
        file.write_text(PASSPHRASES[holder] + "\n", encoding="ascii")


def _hold_ceremony(life: Life) -> None:
    made = life.shell.run("spool-sync", "init-node", "--config", life.places.node_toml)
    fingerprint = story.fingerprints(made)[0]
    plan = write_plan(life.offline, nodes={NODE: str(life.places.node_identity)})
    with Terminal("run", plan) as terminal:
        players = Players(terminal)
        players.hold(fingerprint)
        assert terminal.end() == ExitCode.DONE, terminal.shown[-800:]
        life.shares = players.shares
    verified = life.shell.run("key-ceremony", "verify-record", life.offline / "ceremony")
    offline_identity = story.fingerprints(verified)[0]
    trust = ("intake", "trust", life.offline / "ceremony" / f"node-{NODE}", "--config", life.places.node_toml)
    life.shell.run(*trust, "--fingerprint", offline_identity)


def _lose_workstation(life: Life) -> None:
    """The disk is dead: keystore, ledger and spool of the offline side are gone."""
    shutil.rmtree(life.offline / "keystore")
    shutil.rmtree(life.offline / "state")


def _recover(life: Life, backup: Path, *, since: datetime) -> None:
    """Three other custodians than those of the rehearsal; a new machine; then the acquirer's report."""
    on_paper = decode_record((life.offline / "ceremony" / "record.json").read_bytes()).identity.fingerprint
    restore = ("offline-processor", "restore", backup, "--passphrases", "2", "--epoch-above", "1")
    life.with_shares((1, 3, 4), *restore, "--fingerprint", on_paper)
    refused = life.charge([], ExitCode.REFUSED)
    assert "LEDGER-UNRECONCILED" in refused.output
    report = life.offline / "report.csv"
    life.shell.run("offline-processor", "acquirer-report", "--books", life.places.books, "--out", report)
    until = datetime.now(UTC)
    period = ("--from", f"{since:%Y-%m-%dT%H:%M:%SZ}", "--until", f"{until:%Y-%m-%dT%H:%M:%SZ}")
    life.command("offline-processor", "reconcile", report, *period, "--who", "Ada")


def _go_on_behind_lost_bundles(life: Life) -> None:
    """The node will not send again what has its receipt: a quorum sets where its chain stands."""
    status = life.shell.run(
        "spool-sync", "status", "--config", life.places.node_toml, "--json", expect=_SYNC_ENDS
    )
    receipted = status.document["last_receipted"]
    where = ("--node", NODE, "--sequence", str(receipted["sequence"]), "--digest", receipted["manifest"])
    life.with_shares((0, 2, 4), "offline-processor", "set-sequence", *where)


def _day(life: Life, taken: Sequence[Receipt]) -> None:
    life.push()
    life.charge(taken)
    life.pull()


def _until_the_backup(life: Life) -> None:
    """Orders, a rotation half-way, orders; then the backup."""
    _day(life, life.take(8))
    rotated = life.take(2)  # sealed to the first order key, and opened after the rotation
    copy = life.offline / "custody-2.copy"
    life.command("key-ceremony", "rotate", "order-key", "--custody-copy", copy, "--who", "Ada")
    _day(life, rotated)
    assert _order_key_number(life) == 2
    life.command("offline-processor", "backup", "--out", life.places.var / "second-disk")


def test_three_of_five_custodians_bring_the_shop_back_and_every_order_is_accounted_for(life: Life) -> None:
    began = datetime.now(UTC) - timedelta(seconds=1)
    _hold_ceremony(life)
    (life.places.var / "second-disk").mkdir()
    with story.open_shop(life.shell, life.places, life.url):
        _until_the_backup(life)
        _day(life, life.take(4))  # charged, and answered, by the ledger that will be lost
        before_the_loss = life.statuses(life.receipts)
        on_the_way = life.take(5)
        life.push()
        in_the_spool = life.take(3)

        _lose_workstation(life)
        assert "KEYSTORE-MISSING" in life.charge([], ExitCode.USAGE).output
        _recover(life, next((life.places.var / "second-disk").iterdir()), since=began - timedelta(hours=2))
        _go_on_behind_lost_bundles(life)
        _day(life, [])
        again = life.statuses([*on_the_way, *in_the_spool])
        assert {status.state for status in again.values()} == {"order-again"}

        _day(life, life.take(len(again)))  # the customers order again
        _day(life, [])  # what had no answer at first gets one
        last = life.statuses(life.receipts)

    assert {status.state for status in last.values()} <= SETTLED
    assert all(last[order] == was for order, was in before_the_loss.items() if was.state in SETTLED)
    paid = {order for order, status in last.items() if status.state == "paid"}
    assert unreversed_approvals(life.places.books) == dict.fromkeys(paid, 1)
    assert len(paid) > len(before_the_loss) // 2
    verified = life.command("offline-processor", "verify-ledger", "--json").document
    assert verified["chain"] == "intact"


def _order_key_number(life: Life) -> int:
    """Which order key the intake offers to seal to now."""
    code, document = orders.get(life.url, "/keys")
    assert code == 200
    return int(document["order_key"]["number"])
