"""Not connected to the Internet: a whole batch without a socket, and no run of real keys where there is a way out."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.offline_processor.commands import configure, processor
from tests.offline_processor.shop import DECLINED_CARD, LOST_ANSWER_CARD, Shop, a_card, open_shop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHILD = (sys.executable, "-m", "tests.offline_processor.socket_child")
CONNECTED = (sys.executable, "-m", "tests.offline_processor.connected_child")
PROCESSOR = (sys.executable, "-m", "offline_processor")
TOTAL = "6 orders: EUR 149.94"


def with_a_batch(root: Path, *, rehearsal: bool = True) -> Shop:
    shop = open_shop(root, now=int(time.time()), rehearsal=rehearsal)
    cards = [a_card(), a_card(DECLINED_CARD), a_card(LOST_ANSWER_CARD), a_card(), a_card(), a_card(year=2020)]
    shop.bundle([shop.seal(number, card=card) for number, card in enumerate(cards)])
    return shop


def charged(shop: Shop) -> int:
    return len(shop.charges())


# Sockets


def test_whole_batch_runs_while_every_socket_call_raises(tmp_path: Path) -> None:
    shop = with_a_batch(tmp_path)
    config = configure(shop)
    child = (*CHILD, "run")
    ran = processor("run", config, "--confirm", TOTAL, "--json", program=child)
    assert ran.code == 3, ran.err
    assert ran.document["orders"] == {"paid": 3, "declined": 2, "held": 1}
    ran = processor("run", config, "--json", program=child)
    assert ran.code == 0, ran.err
    assert (ran.document["reversed"], ran.document["orders"]) == (1, {"paid": 1})
    for command in ("status", "verify-ledger"):
        assert processor(command, config, program=child).code == 0


def test_trap_for_sockets_is_set() -> None:
    tried = subprocess.run([*CHILD, "control"], capture_output=True, text=True, check=True)
    assert tried.stdout.split() == ["refused"] * 8


# A network namespace of its own


@pytest.fixture
def alone(tool: Callable[[str], Path]) -> list[str]:
    """The beginning of a command line that puts a command into a network namespace of its own."""
    program = str(tool("network-namespace"))
    for flags in (["--user", "--map-root-user", "--net"], ["--net"]):
        if subprocess.run([program, *flags, "true"], capture_output=True, check=False).returncode == 0:
            return [program, *flags]
    raise AssertionError("the tool was found, but does not work")


def test_isolated_rehearsal_bears_no_mark_of_a_connection(tmp_path: Path, alone: list[str]) -> None:
    shop = with_a_batch(tmp_path)
    ran = processor("run", configure(shop), "--confirm", TOTAL, "--json", program=[*alone, *PROCESSOR])
    assert ran.code == 3, ran.err
    marks = [mark.split(":")[0] for mark in ran.document["marks"]]
    assert marks[0] == "REHEARSAL"
    assert not {"NOT ISOLATED", "NOT CONFINED"} & set(marks)
    assert charged(shop) == 4


def test_connected_rehearsal_goes_on_and_is_marked(tmp_path: Path, alone: list[str]) -> None:
    shop = with_a_batch(tmp_path)
    config = configure(shop)
    ran = processor("run", config, "--confirm", TOTAL, "--json", program=[*alone, *CONNECTED])
    assert ran.code == 3, ran.err
    assert [mark.split(":")[0] for mark in ran.document["marks"]] == ["REHEARSAL", "NOT ISOLATED"]
    assert "192.0.2.7" in ran.document["marks"][1]
    ran = processor("run", config, program=[*alone, *CONNECTED])
    assert "NOT ISOLATED" in ran.out + ran.err


def test_connected_machine_with_real_keys_is_refused(tmp_path: Path, alone: list[str]) -> None:
    shop = with_a_batch(tmp_path, rehearsal=False)
    ran = processor("run", configure(shop), "--confirm", TOTAL, "--json", program=[*alone, *CONNECTED])
    assert ran.code == 4
    assert ran.document["rule"] == "RUN-NOT-ISOLATED"
    assert "192.0.2.7" in ran.document["message"]
    assert charged(shop) == 0


def test_real_keys_are_never_used_with_the_simulator(tmp_path: Path, alone: list[str]) -> None:
    shop = with_a_batch(tmp_path, rehearsal=False)
    ran = processor("run", configure(shop), "--confirm", TOTAL, "--json", program=[*alone, *PROCESSOR])
    assert ran.code == 4
    assert ran.document["rule"] == "RUN-SIMULATOR"
    assert charged(shop) == 0
