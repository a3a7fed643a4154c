"""A process in which the operator's driver asks a person at a terminal (run by test_operator.py on a pty).

It gets the cards from a file that it reads into locked memory, and writes what the driver answered to another; with
``dump`` it also writes its own memory, and with ``leak`` it keeps one card on purpose.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from keys import console
from keys.private.locked import LockedBuffer, harden_process, zero_stack
from offline_processor.acquirers.operator import OperatorAcquirer
from offline_processor.acquirers.protocol import Advice, Authorisation, BatchTotals, Capture, Refund, Reversal
from offline_processor.charging import Reference
from offline_processor.errors import ProcessorError
from tests.keys.memory_child import dump
from transfer.wire.card import CARD_SIZE, decode_card

LEAKED: list[bytes] = []


def reference(number: int) -> Reference:
    return Reference(
        number=number,
        order_id=f"{number:032x}"[::-1],
        attempt=1,
        stan=number,
        rrn=f"01{number:010d}",
        sent_at=1_790_000_000,
        amount=2499,
        currency="EUR",
    )


def advice(kind: type[Advice], number: int) -> Advice:
    more = {"final": True, "at_once": sys.argv[1] != "dispatch"} if kind is Capture else {}
    return kind(
        operation=f"{number:032x}",
        reference=reference(number),
        original=reference(number),
        approval="A1B2C3",
        repeat=False,
        card=None,
        **more,
    )


def act(driver: OperatorAcquirer, verb: str, slots: LockedBuffer) -> list[object]:
    count = slots.size // CARD_SIZE
    views = [slots.view[start : start + CARD_SIZE] for start in range(0, count * CARD_SIZE, CARD_SIZE)]
    match verb:
        case "authorise":
            asked = (
                Authorisation(
                    reference=reference(number),
                    card=decode_card(view),
                    only_reserves=sys.argv[1] == "dispatch",
                )
                for number, view in enumerate(views, 1)
            )
            return [answer for _, answer in driver.authorise(asked)]
        case "reverse":
            return list(driver.reverse([advice(Reversal, 1)]))  # type: ignore[list-item]
        case "capture":
            return list(driver.capture([advice(Capture, 1)]))  # type: ignore[list-item]
        case "refund":
            return list(driver.refund([advice(Refund, 1)]))  # type: ignore[list-item]
        case _:
            totals = BatchTotals(
                currency="EUR",
                captures=2,
                captured=4998,
                refunds=0,
                refunded=0,
                stan=1,
                sent_at=1_790_000_000,
            )
            return [driver.close_batch(totals)]


def main() -> None:
    mode, verb, seconds, cards, out, dumped = sys.argv[1:]
    memory, maps = (os.open(f"/proc/self/{name}", os.O_RDONLY) for name in ("mem", "maps"))
    if mode == "alone":
        os.setsid()
    harden_process()
    try:
        driver = OperatorAcquirer(
            rehearsal=True,
            shown_seconds=int(seconds),
            before_screen=lambda: None,
        )
    except ProcessorError as error:
        console.report_error(error, as_json=False)
        sys.exit(4)
    file = os.open(cards, os.O_RDONLY)
    slots = LockedBuffer(os.fstat(file).st_size)
    os.readv(file, [slots.view])
    if mode == "leak":
        LEAKED.append(bytes(slots.view[:CARD_SIZE]))
    code = 0
    try:
        Path(out).write_text(json.dumps([repr(found) for found in act(driver, verb, slots)]))
    except KeyboardInterrupt:
        code = 130
    finally:
        driver.close()
        slots.close()
        zero_stack()
    if mode in ("dump", "leak"):
        dump(memory, maps, Path(dumped))
    sys.exit(code)


if __name__ == "__main__":
    main()
