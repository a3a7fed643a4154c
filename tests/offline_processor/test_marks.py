"""Every command that opens the keystore says, on screen or in its document, what the machine is not good for."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click
import pytest

from keys.public.fingerprint import fingerprint
from offline_processor import station
from offline_processor.cli import cli
from offline_processor.errors import ProcessorError
from tests.offline_processor.commands import accept_swap, configure
from tests.offline_processor.disaster import back_up, lose
from tests.offline_processor.shop import Shop, open_shop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PERIOD = ("--from", "1970-01-01T00:00:00Z", "--until", "1971-01-01T00:00:00Z", "--who", "A. Keeper")
REASON = ("--who", "A. Keeper", "--why", "tried")
UNKNOWN = "0" * 32
ARGUMENTS = {
    "approve": ("R1", "--who", "A. Keeper"),
    "backup": ("--out", "{root}/day.sealed"),
    "cancel": (UNKNOWN, *REASON),
    "capture-when": (UNKNOWN, "--at", "dispatch", *REASON),
    "day": (),
    "close-day": ("--who", "A. Keeper"),
    "dispatch": (UNKNOWN,),
    "reconcile": ("{root}/report.csv", *PERIOD),
    "refund": (UNKNOWN, "--whole", "--reference", "R-1", *REASON),
    "retire": ("shop-a",),
    "inspect": (),
    "preflight": (),
    "receive": (),
    "run": (),
    "set-sequence": ("--node", "shop-a", "--sequence", "5", "--digest", "ab" * 32, "--shares-fd", "{shares}"),
    "settle-attempt": (UNKNOWN, "--found", "reversed", *REASON),
    "try-open": ("{bundle}",),
    "verify-ledger": ("--signed-report", "{root}/ledger.json"),
    "write-return": (),
}
WITH_RESTORE = {
    *ARGUMENTS,
    "restore",
}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A rehearsal on a machine that has a route."""
    monkeypatch.setattr(station, "ways_out", lambda circuit: ["IPv4 route through eth0"])
    monkeypatch.setattr(station, "confine", lambda **needs: [])  # the tests' own process keeps its network
    made = open_shop(tmp_path, custodians=(2, 3), now=int(time.time()) - 60)
    yield made
    made.keystore.close()


def shares(shop: Shop) -> int:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as told:
        told.write("\n".join([*shop.shares[:2], ""]))
    return reading


def given(shop: Shop, command: str, *arguments: str) -> None:
    config = accept_swap(configure(shop))
    cli.main([command, "--config", str(config), *arguments], standalone_mode=False)


def assert_marked(shown: str) -> None:
    assert "REHEARSAL: throwaway keys" in shown
    assert "NOT ISOLATED: IPv4 route through eth0" in shown


def test_every_command_that_opens_the_keystore_is_tried_here() -> None:
    assert {
        name
        for name, command in cli.commands.items()
        if any(
            isinstance(option, click.Option) and option.name == "passphrase_fd" for option in command.params
        )
    } == WITH_RESTORE


@pytest.mark.parametrize("command", ARGUMENTS)
def test_command_shows_the_marks(shop: Shop, capfd: pytest.CaptureFixture[str], command: str) -> None:
    bundle = shop.bundle([])
    values = {"root": shop.root, "bundle": bundle, "shares": shares(shop)}
    with suppress(ProcessorError):  # there is no such order; the marks come first
        given(shop, command, *(text.format(**values) for text in ARGUMENTS[command]))
    assert_marked(capfd.readouterr().err)


@pytest.mark.parametrize("how", [(), ("--json",)])
def test_restore_shows_the_marks(shop: Shop, capfd: pytest.CaptureFixture[str], how: tuple[str, ...]) -> None:
    backup, identity = back_up(shop).path, fingerprint(shop.keystore.identity.public_key)
    lose(shop)
    answers = ("--passphrases", "1", "--fingerprint", identity, "--shares-fd", str(shares(shop)))
    given(shop, "restore", str(backup), *answers, *how)
    shown = capfd.readouterr()
    assert_marked(shown.out if how else shown.err)
