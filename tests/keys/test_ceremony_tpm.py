"""A ceremony whose ring secret is in a TPM: broken off, it leaves nothing in the chip either; held, it works."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from keys.keystore import Keystore
from keys.private import tpm as chip
from keys.ring_index import RingBackend
from tests.keys import tpm
from tests.keys.ceremony_play import PASSPHRASES, Players, write_plan
from tests.keys.conftest import locked
from tests.keys.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.needs_tool("swtpm", "tpm2_nvwrite")


@pytest.fixture
def machine(
    tmp_path: Path, tool: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tpm.Tpm]:
    running = tpm.start(tmp_path / "chip", tool("swtpm"))
    monkeypatch.setenv("TPM2TOOLS_TCTI", running.address)
    yield running
    running.stop()


def test_ceremony_with_a_tpm_gives_everything_back_or_keeps_one_index(
    tmp_path: Path, machine: tpm.Tpm
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    plan = write_plan(home, passphrases=1)
    text = plan.read_text(encoding="utf-8")
    plan.write_text(
        text.replace('path = "keystore"', 'path = "keystore"\nring_secret = "tpm"'), encoding="utf-8"
    )
    before = chip.indices()
    with Terminal("run", plan) as terminal:
        players = Players(terminal, holders=("Ben",))
        players.check_machine()
        players.choose_passphrases()
        terminal.expect("When you are alone")
        assert len(chip.indices() - before) == 1
        terminal.interrupt()
        assert terminal.end() == 1
    assert chip.indices() == before
    with Terminal("run", plan) as terminal:
        Players(terminal, holders=("Ben",)).hold()
        assert terminal.end() == 0
    assert len(chip.indices() - before) == 1
    with (
        locked(PASSPHRASES["Ben"].encode()) as passphrase,
        Keystore.open(home / "keystore", [passphrase]) as keystore,
    ):
        assert keystore.ring_backend is RingBackend.TPM
