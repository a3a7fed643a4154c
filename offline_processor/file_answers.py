"""What an answer file means for the orders: attempts move on by the same table as with an answer over a line.

Why here: the importer knows records and no attempts; this is the one place where its answers reach the books.
Must not: commit by itself, settle an attempt that was given up meanwhile, or answer an operation.

Captures, reversals and refunds are not settled here: each is an advice that its caller repeats until it is answered,
and the driver gives the answer that was imported at the next repetition.
"""

from __future__ import annotations

from collections.abc import Sequence

from offline_processor import dispatch
from offline_processor.acquirers.batch_file.form import Kind
from offline_processor.acquirers.batch_file.importing import TakenAnswer
from offline_processor.capturing import Capture, at_dispatch
from offline_processor.charging import TRANSITIONS, event_of
from offline_processor.ledger import operations, orders
from offline_processor.ledger.ledger import Ledger
from offline_processor.outcomes import outcome_of
from offline_processor.stages import OrderState

LATE = "BATCH-ANSWER-LATE"


def settle_answers(
    ledger: Ledger, taken: Sequence[TakenAnswer], *, capture: Capture = "sale", now: int
) -> list[tuple[str, str]]:
    """Settle the authorisations among ``taken``, in the caller's transaction; returns (rule, what) for a person.

    What is paid at once is owed its capture, a record of the next file; anything else is captured when its goods go.
    ``capture``: which of the two, as configured.

    An answer to an attempt that does not wait for one any more (it is being reversed) is recorded and changes
    nothing: the reversal stands.
    """
    cases = []
    moves, outcomes = [], []
    for item in taken:
        if item.kind is not Kind.AUTHORISE:
            continue
        sent, heard = item.sent, item.answer
        live = orders.live_attempt(ledger, sent.number)
        event = event_of(sent, heard)
        if live is None or live[0].rrn != sent.rrn or (live[1], event) not in TRANSITIONS:
            facts = {"stan": sent.stan, "rrn": sent.rrn, "code": heard.code}
            ledger.append("late-answer", sent.order_id, now, facts)
            cases.append((LATE, f"A {sent.rrn} stan {sent.stan} code {heard.code}"))
            continue
        order = dispatch.find(ledger, sent.order_id)
        later = at_dispatch(order, capture)
        outcome = outcome_of(
            sent,
            heard,
            state=live[1],
            at_dispatch=later,
            keep_vault=later and order.release_at > 0,
        )
        moves.append(outcome.move)
        outcomes.append((sent, order.card, outcome.settled))
    orders.record_events(ledger, moves, now=now)
    orders.settle_charged(ledger, outcomes, now=now)
    paid = [
        operations.whole(sent, move.approval)
        for move, (sent, _, settled) in zip(moves, outcomes, strict=True)
        if settled.state is OrderState.PAID
    ]
    operations.owe(ledger, paid, now=now)
    return cases
