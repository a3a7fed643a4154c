"""The close of day: what was taken and given back since the last one, told to the acquirer and compared there.

Why here: a close is begun, sent and answered in steps that a crash may part; the same code takes up each.
Must not: begin a close before it is durable, or let one that is out of balance pass.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from offline_processor.acquirers.protocol import Acquirer, BatchAnswer
from offline_processor.daily import out_of_balance
from offline_processor.ledger import closes, exceptions
from offline_processor.ledger.closes import ClosedBatch, CloseState, OpenMatters
from offline_processor.ledger.ledger import Ledger

_ANSWERS: Final = {
    BatchAnswer.IN_BALANCE: CloseState.IN_BALANCE,
    BatchAnswer.OUT_OF_BALANCE: CloseState.OUT_OF_BALANCE,
    BatchAnswer.NOT_COMPARED: CloseState.NOT_COMPARED,
}


def close_batches(
    ledger: Ledger, acquirer: Acquirer, *, who: str, matters: OpenMatters, now: int
) -> list[ClosedBatch]:
    """Ask again what was not answered before, under its own number; then begin a close of what is new, and ask that."""
    unanswered = closes.pending(ledger)
    with ledger.atomic():
        begun = closes.begin(ledger, now=now)
        if begun:
            facts = {"close": begun[0].close, "attempts": matters.attempts, "operations": matters.operations}
            ledger.append("day-closed", who, now, facts)
    done: list[ClosedBatch] = []
    for item in [*unanswered, *begun]:
        answer = acquirer.close_batch(item.totals)
        if answer is None:
            done.append(item)
            continue
        state = _ANSWERS[answer]
        with ledger.atomic():
            closes.answered(ledger, [(item, state)], now=now)
            if state is CloseState.OUT_OF_BALANCE:
                exceptions.note(ledger, [out_of_balance(item)], now=now)
        done.append(replace(item, state=state))
    return done
