"""A process that makes one run by the real command and then writes its own memory to a file (for test_memory.py).

It knows no card to look for: the test that started it does. With ``leak`` it keeps the first card and a line's key
on purpose; with ``cut`` the acquirer fails while the cards of the next window are being opened.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from keys.private.locked import LockedBuffer
from offline_processor import cli
from offline_processor.acquirers.iso8583.mac import Algorithm, MacKey
from offline_processor.acquirers.protocol import Answered, Authorisation
from offline_processor.cards import CardTable
from tests.keys.memory_child import dump
from tests.offline_processor.simulated import SimulatedAcquirer
from transfer.wire.card import CardView

LEAKED: list[bytes] = []
LEAKED_KEYS: list[bytes] = []


def leak_one_card() -> None:
    """From now on the first card that is opened is copied out of its locked memory."""
    right = CardTable.open

    def leaking(table: CardTable, slot: int, *arguments: object) -> CardView | str:
        opened = right(table, slot, *arguments)  # type: ignore[arg-type]
        if not LEAKED:
            LEAKED.append(bytes(table._views[slot]))
        return opened

    CardTable.open = leaking  # type: ignore[assignment, method-assign]


def leak_the_lines_key() -> None:
    """From now on the key of a line's MAC is copied out of its locked memory."""
    right = MacKey.__init__

    def leaking(self: MacKey, algorithm: Algorithm, key: LockedBuffer) -> None:
        LEAKED_KEYS.append(bytes(key.view))
        right(self, algorithm, key)

    MacKey.__init__ = leaking  # type: ignore[method-assign]


def fail_at_the_second_window() -> None:
    """The acquirer raises, and opening is slow enough that the other thread is in the middle of a window then."""
    rightly_open, rightly_authorise = CardTable.open, SimulatedAcquirer.authorise
    windows: list[Iterator[Authorisation]] = []

    def slowly(table: CardTable, *arguments: object) -> CardView | str:
        time.sleep(0.004)
        return rightly_open(table, *arguments)  # type: ignore[arg-type]

    def failing(acquirer: SimulatedAcquirer, asked: Iterator[Authorisation]) -> Answered:
        windows.append(asked)
        if len(windows) > 1:
            next(asked)
            raise RuntimeError("the line is cut")
        yield from rightly_authorise(acquirer, asked)

    CardTable.open = slowly  # type: ignore[assignment, method-assign]
    SimulatedAcquirer.authorise = failing  # type: ignore[assignment, method-assign]


def main() -> None:
    mode, out, *arguments = sys.argv[1:]
    memory, maps = (os.open(f"/proc/self/{name}", os.O_RDONLY) for name in ("mem", "maps"))
    if mode == "leak":
        leak_one_card()
        leak_the_lines_key()
    elif mode == "cut":
        fail_at_the_second_window()
    sys.argv = ["offline-processor", *arguments]
    code: object = 0
    try:
        cli.main()
    except SystemExit as ended:
        code = ended.code
    dump(memory, maps, Path(out))
    sys.exit(int(str(code)))


if __name__ == "__main__":
    main()
