"""The summary of a run, for people and for programs.

Why here: what the operator reads last must come from one place, in the same words as the ledger's.
Must not: name a customer or show more of a card than the ledger keeps.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from keys import console
from keys.ring_index import KeyRole
from offline_processor.control_total import money
from offline_processor.key_state import Notice
from offline_processor.ledger import cases, subject_requests
from offline_processor.ledger.ledger import Ledger
from offline_processor.stages import OrderState
from offline_processor.workplace import RunReport


def needs_person(report: RunReport, ledger: Ledger) -> bool:
    """True when an order or a decision waits, a stray was put aside, a bundle not finished, or somebody asked."""
    asked = subject_requests.tally(ledger)[0]
    return cases.anything_waits(ledger) or asked > 0 or report.acquirer_silent or report.strays > 0


def anything_done(report: RunReport) -> bool:
    """True when the run received, settled, reversed, refused or sent anything."""
    return bool(
        report.received
        or report.refused
        or report.returns
        or report.interrupted
        or report.reversed
        or report.keys_destroyed
        or report.order_keys_destroyed
        or sum(report.outcomes.values())
    )


def as_document(report: RunReport, marks: list[str], notices: Sequence[Notice] = ()) -> dict[str, Any]:
    """The summary for ``--json``. Amounts are minor units."""
    return {
        "marks": marks,
        "received": report.received,
        "repeated": report.repeated,
        "refused": [
            {"rule": error.rule, "message": error.message, "remedy": error.remedy} for error in report.refused
        ],
        "orders": dict(report.outcomes),
        "rules": dict(report.rules),
        "paid": dict(report.paid),
        "known_already": report.known_already,
        "strays": report.strays,
        "subject_requests": report.subjects,
        "interrupted": report.interrupted,
        "reversed": report.reversed,
        "operations": {
            "done": dict(Counter(item.kind.value for item in report.operations.done)),
            "refused": [item.id for item in report.operations.refused],
            "open": len(report.operations.open),
        },
        "keys_destroyed": [
            {
                "key": record.key_id,
                "role": record.role.value,
                "number": record.number,
                "reason": record.reason.value,
            }
            for record in report.keys_destroyed
        ],
        "returns": [
            {"node": made.node, "name": made.name, "records": made.records} for made in report.returns
        ],
        "safe_to_remove": report.safe_to_remove,
        "order_keys_destroyed": [key.number for key in report.order_keys_destroyed],
        "acquirer_silent": report.acquirer_silent,
        "stopped": report.stopped,
        "notices": notices_as_document(notices),
    }


def notices_as_document(notices: Sequence[Notice]) -> list[dict[str, Any]]:
    """What a person is warned of, for ``--json``."""
    return [dataclasses.asdict(notice) for notice in notices]


def show_notices(notices: Sequence[Notice]) -> None:
    """The same for a person."""
    for notice in notices:
        console.warn(f"{notice.rule}: {notice.message}", style="yellow")


def show(report: RunReport, ledger: Ledger) -> None:
    """Print the summary for a person."""
    for error in report.refused:
        console.report_error(error, as_json=False)
    for line in _lines(report):
        console.say(line)
    if asked := subject_requests.tally(ledger)[0]:
        console.warn(
            f"{asked} people asked about their data and wait: offline-processor subject list", style="yellow"
        )
    states = [state.value for state in OrderState if report.outcomes[state.value]]
    _table("Orders in this run", ("state", "orders"), [(state, report.outcomes[state]) for state in states])
    paid = [(code, money(amount, code)) for code, amount in sorted(report.paid.items())]
    _table("Paid", ("currency", "amount"), paid)
    _table("Why not paid", ("rule or answer", "orders"), sorted(report.rules.items()))
    waiting = (
        "SELECT order_id, state, rule FROM orders WHERE state IN ('held', 'quarantined') ORDER BY number"
    )
    _table(
        "Orders that wait (the first 20)", ("order", "state", "why"), list(ledger.rows(f"{waiting} LIMIT 20"))
    )
    if report.stopped:
        console.warn(
            "Stopped as asked, between two windows: nothing is with the acquirer. Run again to go on.",
            style="bold",
        )
    if cases.anything_waits(ledger):
        console.say("What waits, why, and what may be done: offline-processor cases")
    if report.acquirer_silent:
        console.warn(
            "The acquirer is not to be reached, or answers nothing: charging stopped. Run again when it does."
        )


def _lines(report: RunReport) -> Iterator[str]:
    counted = (
        ("Bundles received", ", ".join(report.received)),
        ("Bundles that came again", ", ".join(report.repeated)),
        ("Interrupted attempts found and held", report.interrupted),
        ("Attempts of unknown outcome that are now reversed", report.reversed),
        ("Orders that were known already and not charged again", report.known_already),
        ("Envelopes put aside, because their order id is unreadable or another order's", report.strays),
    )
    yield from (f"{what}: {found}" for what, found in counted if found)
    for item in report.operations.refused:
        amount = money(item.amount, item.original.currency)
        yield (
            f"REFUSED by the acquirer: {item.kind} of {amount} for order {item.original.order_id}, code {item.code};"
            " phone the acquirer"
        )
    if report.operations.open:
        yield f"Captures, refunds and voids without an answer, to be sent again: {len(report.operations.open)}"
    for record in report.keys_destroyed:
        if record.role is KeyRole.BATCH:
            yield f"Destroyed: batch key {record.number} of {record.node}, {record.key_id} ({record.reason})"
    holds = Counter(record.reason for record in report.keys_destroyed if record.role is KeyRole.HOLD)
    yield from (f"Destroyed: hold keys, {reason}: {count}" for reason, count in sorted(holds.items()))
    for key in report.order_keys_destroyed:
        yield f"Destroyed: order key {key.number}, {key.key_id}"
    for made in report.returns:
        yield f"Return written: {made.node}/{made.name}, records: {made.records}"
    if report.safe_to_remove:
        yield f"Safe to remove: {report.safe_to_remove}"
    if not anything_done(report):
        yield "Nothing to do."


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    if rows:
        console.table(title, columns, rows)
