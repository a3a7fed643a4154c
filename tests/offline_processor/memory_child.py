"""A process that makes one run by the real command and then writes its own memory to a file (for test_memory.py).

It knows no card to look for: the test that started it does. With ``leak`` it keeps the first card on purpose.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from offline_processor import cli
from offline_processor.cards import CardTable
from tests.keys.memory_child import dump
from transfer.wire.card import CardView

LEAKED: list[bytes] = []


def leak_one_card() -> None:
    """From now on the first card that is opened is copied out of its locked memory."""
    right = CardTable.open

    def leaking(table: CardTable, slot: int, *arguments: object) -> CardView | str:
        opened = right(table, slot, *arguments)  # type: ignore[arg-type]
        if not LEAKED:
            LEAKED.append(bytes(table._views[slot]))
        return opened

    CardTable.open = leaking  # type: ignore[assignment, method-assign]


def main() -> None:
    mode, out, *arguments = sys.argv[1:]
    memory, maps = (os.open(f"/proc/self/{name}", os.O_RDONLY) for name in ("mem", "maps"))
    if mode == "leak":
        leak_one_card()
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
