"""A process that hands a window of cards over to the acquirer's file and then writes its memory to a file.

It reads the cards from a file into locked memory and knows none; with ``leak`` it keeps one on purpose.
"""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path

from keys.private.locked import LockedBuffer, harden_process, zero_stack
from offline_processor.acquirers.protocol import Authorisation
from offline_processor.ledger.ledger import Ledger
from tests.keys.memory_child import dump
from tests.offline_processor.batch_play import driver, reference
from transfer.wire.card import CARD_SIZE, decode_card

LEAKED: list[bytes] = []


def main() -> None:
    mode, path, key, cards, dumped = sys.argv[1:]
    memory, maps = (os.open(f"/proc/self/{name}", os.O_RDONLY) for name in ("mem", "maps"))
    harden_process()
    file = os.open(cards, os.O_RDONLY)
    slots = LockedBuffer(os.fstat(file).st_size)
    os.readv(file, [slots.view])
    if mode == "leak":
        LEAKED.append(bytes(slots.view[:CARD_SIZE]))
    places = range(0, slots.size, CARD_SIZE)
    with closing(Ledger(Path(path))) as ledger, closing(driver(ledger, bytes.fromhex(key))) as acquirer:
        asked = [
            Authorisation(
                reference=reference(number), card=decode_card(slots.view[place : place + CARD_SIZE])
            )
            for number, place in enumerate(places, 1)
        ]
        heard = list(acquirer.authorise(iter(asked)))
        if [place for place, _ in heard] != list(range(len(asked))):
            raise RuntimeError("not every card was handed over")
    slots.close()
    zero_stack()
    dump(memory, maps, Path(dumped))


if __name__ == "__main__":
    main()
