"""Cases: everything that waits for a person or for time, with the reason in words, what may be done, and until when.

Why here: one typed list for the command, the guided day and the reports.
Must not: change anything, name a customer, or show more of a card than BIN and last four.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from offline_processor import authorisations, decisions
from offline_processor.acquirers.report import in_words as time_in_words
from offline_processor.attempts import DAY
from offline_processor.case_form import Case, CaseKind, Phone
from offline_processor.charging import UNWANTED, DeclineClass, decline_class
from offline_processor.config import AcquirerConfig, ChargingConfig
from offline_processor.control_total import money
from offline_processor.ledger import batch_files, cases, exceptions, operations, reports, requests, reversals
from offline_processor.ledger.cases import Waiting
from offline_processor.ledger.exceptions import OpenFinding
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.operations import Operation
from offline_processor.ledger.requests import Request
from offline_processor.ledger.reversals import OpenReversal
from offline_processor.meanings import code_in_words, meaning
from offline_processor.outcomes import AUTHORISATION_ENDING
from offline_processor.stages import OrderState

_WHO: Final = "--who NAME --why TEXT"
_RUN: Final = "offline-processor run"


def open_cases(
    ledger: Ledger, *, charging: ChargingConfig, acquirer: AcquirerConfig, hold_seconds: int, now: int
) -> list[Case]:
    """Every open case, those that need a person first, each kind oldest first."""
    found = [
        *_waiting_orders(ledger, charging, acquirer, hold_seconds),
        *(_second_person(item) for item in requests.asked(ledger)),
        *(_mismatch(item) for item in exceptions.opened(ledger)),
        *(_refused(item) for item in cases.refused(ledger)),
        *_unanswered(ledger, charging, acquirer, now),
        *_ending(ledger, charging, now),
        *_declined(ledger),
        *_charged_unseen(ledger),
        *_of_files(ledger),
        *_strays(ledger),
    ]
    places = {kind: place for place, kind in enumerate(CaseKind)}
    return sorted(found, key=lambda case: (places[case.kind], case.since, case.id))


def _waiting_orders(
    ledger: Ledger, charging: ChargingConfig, acquirer: AcquirerConfig, hold_seconds: int
) -> Iterator[Case]:
    given_up = {item.sent.order_id: item for item in reversals.given_up(ledger)}
    charged = reports.pending_ids(ledger)
    for order in cases.waiting(ledger):
        if order.order_id in given_up:
            yield _manual(ledger, order, given_up[order.order_id], acquirer)
        elif order.state == OrderState.QUARANTINED:
            yield _quarantined(order, charged=order.order_id in charged, hold_seconds=hold_seconds)
        else:
            yield _held(order, charging)


def _manual(ledger: Ledger, order: Waiting, item: OpenReversal, acquirer: AcquirerConfig) -> Case:
    settle = f"offline-processor settle-attempt {order.order_id} {_WHO}"
    stands = () if order.rule in UNWANTED else (f"{settle} --found approved",)
    phone = Phone(
        merchant=acquirer.merchant,
        terminal=acquirer.terminal,
        rrn=item.sent.rrn,
        stan=item.sent.stan,
        sent_at=item.sent.sent_at,
        amount=item.sent.amount,
        currency=item.sent.currency,
        card=item.card,
        approval=item.approval,
        code=cases.last_code(ledger, order.order_id),
        reversal_stan=item.stan,
        reversal_at=item.at,
        tries=item.tries,
    )
    return _of_order(
        order,
        CaseKind.MANUAL,
        f"whether it was charged is not known: {item.tries} reversals had no answer",
        may=(f"{settle} --found reversed", *stands),
        phone=phone,
    )


def _quarantined(order: Waiting, *, charged: bool, hold_seconds: int) -> Case:
    given_back = " --given-back" if charged else ""
    return _of_order(
        order,
        CaseKind.QUARANTINED,
        f"it is not charged: {meaning(order.rule)}",
        may=(f"offline-processor case order-again {order.order_id}{given_back} {_WHO}",),
        deadline=0 if charged else order.card_until or order.changed_at + hold_seconds,
    )


def _held(order: Waiting, charging: ChargingConfig) -> Case:
    end = f"offline-processor case order-again {order.order_id} {_WHO}"
    if order.attempt == "submitted":
        why = "its authorisation is in a file to the acquirer, and the answer has not come"
        return _of_order(
            order, CaseKind.UNKNOWN, why, may=("offline-processor batch-file import ANSWER.answer",)
        )
    if order.attempt:
        given_up = order.reversed_since + charging.reversal_days * DAY if order.reversed_since else 0
        why = f"whether it was charged is not known ({meaning(order.rule)}); the next run reverses it first"
        return _of_order(order, CaseKind.UNKNOWN, why, may=(_RUN,), deadline=given_up)
    if order.retry_at:
        why = f"{meaning(order.rule)}; the next try is not made before {time_in_words(order.retry_at)}"
        return _of_order(order, CaseKind.HELD, why, may=(_RUN, end), deadline=order.retry_until)
    why = f"{meaning(order.rule)}; it is reversed, and the next run tries afresh"
    return _of_order(order, CaseKind.HELD, why, may=(_RUN, end), deadline=order.card_until)


def _of_order(
    order: Waiting,
    kind: CaseKind,
    why: str,
    *,
    may: tuple[str, ...],
    deadline: int = 0,
    phone: Phone | None = None,
) -> Case:
    return Case(
        id=order.order_id,
        kind=kind,
        order_id=order.order_id,
        rule=order.rule,
        why=why,
        may=may,
        amount=order.amount,
        currency=order.currency,
        since=order.changed_at,
        deadline=deadline,
        phone=phone,
    )


def _second_person(item: Request) -> Case:
    decision = msgspec.json.decode(item.document, type=decisions.Decision)
    weight = decisions.Weight(order_id=item.order_id, amount=item.amount, currency=item.currency)
    return Case(
        id=f"R{item.number}",
        kind=CaseKind.SECOND_PERSON,
        order_id=item.order_id,
        rule="REQUEST-SECOND-PERSON",
        why=f"{item.who} has decided to {decisions.in_words(decision, weight)} ({item.why});"
        " somebody else has to confirm it",
        may=(
            f"offline-processor approve R{item.number} --who NAME",
            f"offline-processor approve R{item.number} --refuse {_WHO}",
        ),
        amount=item.amount,
        currency=item.currency,
        since=item.at,
        deadline=item.at + decisions.REQUEST_DAYS * DAY,
    )


def _mismatch(item: OpenFinding) -> Case:
    found = item.finding
    ours = money(found.ours, found.currency) if found.ours >= 0 else "nothing"
    theirs = money(found.theirs, found.currency) if found.theirs >= 0 else "nothing"
    named = f", RRN {found.rrn}, STAN {found.stan:06d}" if found.rrn else ""
    return Case(
        id=f"X{item.number}",
        kind=CaseKind.MISMATCH,
        order_id=found.order_id,
        rule=found.rule,
        why=f"{meaning(found.rule)}: {found.what}{named}; here {ours}, there {theirs}",
        may=(f"offline-processor case close X{item.number} {_WHO}",),
        amount=max(found.ours, found.theirs, 0),
        currency=found.currency,
        since=item.at,
    )


def _refused(item: Operation) -> Case:
    sent = item.original
    wish = f"the {item.kind} of {money(item.amount, sent.currency)}"
    why = f"the acquirer refused {wish} with code {item.code}"
    if not item.code:  # found owed after a restore, and something else done in its place
        why = f"{wish} was owed, and the acquirer's report shows another in its place"
    return Case(
        id=item.id,
        kind=CaseKind.REFUSED,
        order_id=sent.order_id,
        rule=operations.REFUSED[item.kind],
        why=f"{why} (RRN {sent.rrn}, STAN {item.stan:06d})",
        may=(
            f"offline-processor case again {item.id} {_WHO}",
            f"offline-processor case close {item.id} {_WHO}",
        ),
        amount=item.amount,
        currency=sent.currency,
        since=item.sent_at,
    )


def _unanswered(
    ledger: Ledger, charging: ChargingConfig, acquirer: AcquirerConfig, now: int
) -> Iterator[Case]:
    """Captures, refunds and voids that were sent as often as a reversal would have been, in vain."""
    for item in operations.pending(ledger):
        sent = item.original
        if item.tries < charging.reversal_tries or now - item.sent_at < charging.reversal_days * DAY:
            continue
        row = ledger.row("SELECT card FROM orders WHERE number = ?", (sent.number,))
        yield Case(
            id=item.id,
            kind=CaseKind.UNANSWERED,
            order_id=sent.order_id,
            rule="OPERATION-UNANSWERED",
            why=f"the {item.kind} of {money(item.amount, sent.currency)} was sent {item.tries} times without an answer;"
            " every run sends it again: ask the acquirer why",
            may=(_RUN,),
            amount=item.amount,
            currency=sent.currency,
            since=item.sent_at,
            phone=Phone(
                merchant=acquirer.merchant,
                terminal=acquirer.terminal,
                rrn=sent.rrn,
                stan=item.stan,
                sent_at=item.sent_at,
                amount=item.amount,
                currency=sent.currency,
                card=str(row[0]) if row else "",
                approval=item.approval,
                code=item.code,
                reversal_stan=0,
                reversal_at=0,
                tries=item.tries,
            ),
        )


def _ending(ledger: Ledger, charging: ChargingConfig, now: int) -> Iterator[Case]:
    """What was authorised, and ends soon while its goods are still here."""
    for item in authorisations.ending(ledger, charging, now=now):
        yield Case(
            id=item.order_id,
            kind=CaseKind.ENDING,
            order_id=item.order_id,
            rule=AUTHORISATION_ENDING,
            why=f"its authorisation ends, and {money(item.amount, item.currency)} of it is not taken: send the goods,"
            " or it is released",
            may=(
                f"offline-processor dispatch {item.order_id}",
                f"offline-processor cancel {item.order_id} {_WHO}",
            ),
            amount=item.amount,
            currency=item.currency,
            since=item.sent_at,
            deadline=item.until,
        )


def _declined(ledger: Ledger) -> Iterator[Case]:
    for item in cases.declined(ledger):
        refer = decline_class(item.code) is DeclineClass.CALL_ISSUER
        told = "was told to call their bank" if refer else "was told to try later: have the cause mended"
        yield Case(
            id=item.order_id,
            kind=CaseKind.REFER if refer else CaseKind.OUR_FAULT,
            order_id=item.order_id,
            rule=f"DE39 {item.code}",
            why=f"declined, {code_in_words(item.code)} (code {item.code}); the customer {told}",
            may=(f"offline-processor case close {item.order_id} {_WHO}",),
            amount=item.amount,
            currency=item.currency,
            since=item.at,
        )


def _charged_unseen(ledger: Ledger) -> Iterator[Case]:
    unseen = set(reports.unknown_orders(ledger))
    for charge in reports.pending(ledger):
        if charge.order_id in unseen:
            yield Case(
                id=charge.order_id,
                kind=CaseKind.CHARGED_UNSEEN,
                order_id=charge.order_id,
                rule="RECONCILE-TO-COME",
                why="the acquirer has charged it, and it has not come to this ledger: ask its node to send its"
                " bundle again (spool-sync resend)",
                may=(_RUN,),
                amount=charge.amount,
                currency=charge.currency,
                since=charge.at,
            )


def _of_files(ledger: Ledger) -> Iterator[Case]:
    for number, file, rule, what in batch_files.open_cases(ledger):
        yield Case(
            id=f"B{number}",
            kind=CaseKind.BATCH_FILE,
            order_id="",
            rule=rule,
            why=f"{meaning(rule)}: file {file}, {what}",
            may=(f"offline-processor batch-file close-case {number} {_WHO}",),
            amount=0,
            currency="",
            since=0,
        )


def _strays(ledger: Ledger) -> Iterator[Case]:
    for item in cases.strays(ledger):
        yield Case(
            id=item.id,
            kind=CaseKind.STRAY,
            order_id=item.order_id,
            rule=item.rule,
            why=f"an envelope was put aside and not charged: {meaning(item.rule)}",
            may=(f"offline-processor case close {item.id} {_WHO}",),
            amount=0,
            currency="",
            since=item.at,
        )
