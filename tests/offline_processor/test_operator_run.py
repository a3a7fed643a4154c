"""The operator's driver in a whole run: keyed at the terminal, killed while the card stands there, settled first."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import time
from pathlib import Path

from tests.keys.terminal import Terminal
from tests.offline_processor.commands import configure, processor
from tests.offline_processor.shop import VISA, Shop, next_bundle, open_shop

SETSID = ("setsid", "--wait", sys.executable, "-m", "offline_processor")
GROUPED = " ".join(VISA.decode()[start : start + 4] for start in range(0, 16, 4))


def a_shop(folder: Path) -> tuple[Shop, Path]:
    shop = open_shop(folder, now=int(time.time()) - 600)
    next_bundle(shop, 0)
    config = configure(shop)
    with config.open("a") as file:
        file.write('driver = "operator"\n')
    return shop, config


def key_it(terminal: Terminal) -> None:
    """Read the card, and type the approval."""
    terminal.answer("waits for the card", "")
    terminal.expect(GROUPED)
    terminal.expect("when the terminal has answered.")
    time.sleep(0.05)
    terminal.send_raw(b" ")
    terminal.answer("1 to 5", "1")
    terminal.answer("Approval code on the receipt", "A1B2C3")
    terminal.answer("Is that what the terminal says", "yes")


def test_keyed_order_is_paid_and_an_interrupted_one_is_settled_before_it_is_shown_again(
    tmp_path: Path,
) -> None:
    shop, config = a_shop(tmp_path)
    with Terminal("run", "--config", config, module="offline_processor") as terminal:
        terminal.answer("Type the shop's control total", "1 order: EUR 24.99")
        terminal.answer("waits for the card", "")
        terminal.expect(GROUPED)
        assert shop_state(shop) == [("intent",)]  # marked as being keyed before it was shown
        os.kill(terminal.child, signal.SIGKILL)
        terminal.end()
    with Terminal("run", "--config", config, module="offline_processor") as terminal:
        asked = terminal.answer("1 to 3", "2")
        assert GROUPED not in asked
        terminal.answer("Is that right", "yes")
        key_it(terminal)
        assert terminal.end() == 0
        assert GROUPED not in terminal.main_screen()
    assert shop.rows("SELECT state, attempts FROM orders") == [("paid", 2)]


def shop_state(shop: Shop) -> list[tuple[str, ...]]:
    """The live attempts; read beside the run, for a ledger cannot be opened twice."""
    database = sqlite3.connect(f"file:{shop.root / 'state' / 'ledger.db'}?mode=ro", uri=True)
    try:
        return list(database.execute("SELECT state FROM live_attempt"))
    finally:
        database.close()


def test_run_without_a_terminal_is_refused_before_anything_is_marked(tmp_path: Path) -> None:
    shop, config = a_shop(tmp_path)
    ran = processor("run", config, "--confirm", "1 order: EUR 24.99", "--json", program=SETSID)
    assert (ran.code, ran.document["rule"]) == (2, "OPERATOR-TERMINAL")
    assert shop.rows("SELECT count(*) FROM live_attempt") == [(0,)]
