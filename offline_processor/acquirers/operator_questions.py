"""What the operator is asked of the terminal: an authorisation's result, a void, a capture, a refund, the day's totals.

Why here: every typed answer is checked, shown back and confirmed before it counts; the driver only sees values.
Must not: guess. What nobody can tell is no answer, and no card data is asked for or shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from iso4217 import Currency

from keys.screen import Screen
from offline_processor.acquirers.operator_page import short_form
from offline_processor.acquirers.protocol import Advice, BatchTotals
from offline_processor.acquirers.report import in_words
from offline_processor.charging import (
    APPROVED_CODE,
    DECLINE_CLASS,
    Answer,
    Reference,
    SecurityCode,
)
from offline_processor.control_total import money

PARTIAL_CODE: Final = "10"
NOTHING_THERE_CODE: Final = "25"
_APPROVAL: Final = re.compile(r"[0-9A-Z]{2,6}", re.ASCII)
_CODE: Final = re.compile(r"[0-9A-Z]{2}", re.ASCII)
_COUNT: Final = re.compile(r"0|[1-9][0-9]{0,6}", re.ASCII)
_AMOUNT_LIMIT: Final = 10**15
DECLINES: Final = (
    ("declined, no more said", "05"),
    ("not enough money", "51"),
    ("expired card", "54"),
    ("wrong security code", "82"),
    ("call the issuer, or refer", "01"),
    ("retain the card", "04"),
    ("issuer or network not available, try later", "91"),
    ("invalid merchant or terminal", "03"),
)
"""What terminals show, and the response code that it stands for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedTotals:
    """A day report's figures for one currency, minor units."""

    sales: int
    sold: int
    refunds: int
    refunded: int


def result_of(screen: Screen, sent: Reference) -> Answer | None:
    """The terminal's answer to an authorisation; None when it is not known."""
    while True:
        screen.page(
            f"Order {short_form(sent.order_id)}, {money(sent.amount, sent.currency)}: what does the terminal say?",
            "",
            "  1  approved",
            "  2  approved, but the security code does not match",
            "  3  approved for less than the whole amount",
            "  4  declined",
            "  5  I do not know, it was not keyed, or there was no answer",
            "",
        )
        choice = _choose(screen, 5)
        found = _result(screen, sent, choice)
        kept = [
            f"You said of order {short_form(sent.order_id)}: {_in_words(found)}.",
            "",
            f"Next: {_what_next(found)}",
            "",
        ]
        screen.page(*kept)
        if screen.confirm("Is that what the terminal says"):
            return found


def _result(screen: Screen, sent: Reference, choice: int) -> Answer | None:
    match choice:
        case 1:
            return answer(sent, APPROVED_CODE, approval=_approval(screen))
        case 2:
            code = _approval(screen)
            return answer(sent, APPROVED_CODE, approval=code, security_code=SecurityCode.MISMATCH)
        case 3:
            code = _approval(screen)
            amount = ask_amount(screen, "Approved amount", sent.currency)
            return answer(sent, PARTIAL_CODE, approval=code, amount=amount)
        case 4:
            return answer(sent, _decline(screen))
        case _:
            return None


def void_of(screen: Screen, advice: Advice) -> Answer | None:
    """Whether an order that may have been keyed is void now; None when nobody can tell yet."""
    original, sent = advice.original, advice.reference
    lines = [
        "This order was being keyed, and how it ended is not known, or it must not stand."
        if not advice.approval
        else "This order was approved and must not stand: void it.",
        "Look in the terminal's journal:",
        "",
        *_facts(original, advice),
        "",
        "  1  it was there, and I voided it (or it was voided before)",
        "  2  it is not there, or it was declined: nothing to void",
        "  3  I cannot tell now: ask me again in the next run",
        "",
    ]
    said = {1: "it is voided", 2: "there is nothing to void", 3: "ask again in the next run"}
    choice = _confirmed_choice(screen, lines, said)
    if choice == 3:  # noqa: PLR2004  the third of those above
        return None
    return answer(sent, APPROVED_CODE if choice == 1 else NOTHING_THERE_CODE)


def done_of(screen: Screen, advice: Advice, *, what: str) -> Answer | None:
    """Whether a capture or a refund was done on the terminal: done, refused with a code, or None for later."""
    sent = advice.reference
    lines = [
        f"{what} {money(sent.amount, sent.currency)} on the terminal, by this journal entry:",
        *(["It may have been done already: look in the journal first."] if advice.repeat else []),
        "",
        *_facts(advice.original, advice),
        "",
        "  1  done",
        "  2  the terminal refused it",
        "  3  not now: ask me again in the next run",
        "",
    ]
    choice = _confirmed_choice(screen, lines, {1: "done", 2: "refused", 3: "ask again in the next run"})
    if choice == 1:
        return answer(sent, APPROVED_CODE)
    return answer(sent, _decline(screen)) if choice == 2 else None  # noqa: PLR2004  the second of those above


def totals_of(screen: Screen, totals: BatchTotals) -> TypedTotals | None:
    """The figures of the terminal's day report for one currency, or None when there is none yet."""
    while True:
        screen.page(f"Print the terminal's day report and take its totals in {totals.currency}.", "")
        if not screen.confirm("Is the report there"):
            return None
        typed = TypedTotals(
            sales=_count(screen, "How many sales"),
            sold=ask_amount(screen, "Sales together", totals.currency),
            refunds=_count(screen, "How many refunds"),
            refunded=ask_amount(screen, "Refunds together", totals.currency),
        )
        screen.page(
            f"{typed.sales} sales, {money(typed.sold, totals.currency)};"
            f" {typed.refunds} refunds, {money(typed.refunded, totals.currency)}.",
            "",
        )
        if screen.confirm("Is that what the report says"):
            return typed


def answer(  # noqa: D103
    sent: Reference,
    code: str,
    *,
    approval: str = "",
    amount: int | None = None,
    security_code: SecurityCode = SecurityCode.NOT_CHECKED,
) -> Answer:
    return Answer(
        stan=sent.stan,
        rrn=sent.rrn,
        amount=sent.amount if amount is None else amount,
        currency=sent.currency,
        code=code,
        approval=approval,
        security_code=security_code,
    )


def ask_amount(screen: Screen, what: str, currency: str) -> int:
    """An amount as people write it, in minor units."""
    while (amount := minor_units(screen.ask(f"{what}, {currency}"), currency)) is None:
        screen.say(f"Type an amount as on the receipt, like {money(1250, currency).partition(' ')[2]}.")
    return amount


def minor_units(typed: str, currency: str) -> int | None:
    """Minor units of an amount in digits with a point or a comma, or None when it is none of this currency."""
    if not re.fullmatch(r"[0-9]{1,13}([.,][0-9]{1,4})?", typed, re.ASCII):
        return None
    exponent = Currency(currency).exponent or 0
    try:
        scaled = Decimal(typed.replace(",", ".")).scaleb(exponent)
    except InvalidOperation:
        return None
    whole = int(scaled)
    return whole if whole == scaled and whole < _AMOUNT_LIMIT else None


def _facts(original: Reference, advice: Advice) -> list[str]:
    lines = [
        f"  Order          {short_form(original.order_id)}",
        f"  Amount         {money(original.amount, original.currency)}",
        f"  Time (UTC)     about {in_words(original.sent_at)}",
    ]
    if advice.card is not None:
        lines.append(f"  Card           {advice.card.bin}*{advice.card.last_four}")
    return [*lines, f"  Approval code  {advice.approval}"] if advice.approval else lines


def _confirmed_choice(screen: Screen, lines: Sequence[str], said: dict[int, str]) -> int:
    while True:
        screen.page(*lines)
        choice = _choose(screen, len(said))
        screen.say(f"You said: {said[choice]}.")
        if screen.confirm("Is that right"):
            return choice


def _choose(screen: Screen, most: int) -> int:
    while not (
        (typed := screen.ask(f"1 to {most}")).isascii() and typed.isdigit() and 1 <= int(typed) <= most
    ):
        screen.say(f"Type a number from 1 to {most}.")
    return int(typed)


def _approval(screen: Screen) -> str:
    while not _APPROVAL.fullmatch(typed := screen.ask("Approval code on the receipt").upper()):
        screen.say("An approval code has 2 to 6 letters and digits.")
    return typed


def _decline(screen: Screen) -> str:
    other = len(DECLINES) + 1
    screen.say("", *(f"  {place}  {what}" for place, (what, _) in enumerate(DECLINES, 1)))
    screen.say(f"  {other}  it shows a code of two characters", "")
    choice = _choose(screen, other)
    if choice < other:
        return DECLINES[choice - 1][1]
    while not _CODE.fullmatch(typed := screen.ask("The code").upper()) or typed == APPROVED_CODE:
        screen.say("A code of a refusal has two letters or digits, and is not 00.")
    return typed


def _count(screen: Screen, what: str) -> int:
    while not _COUNT.fullmatch(typed := screen.ask(what)):
        screen.say("Type a number.")
    return int(typed)


def _in_words(found: Answer | None) -> str:
    if found is None:
        return "it is not known how it ended"
    if found.code == PARTIAL_CODE:
        return f"approved for {money(found.amount, found.currency)} only, approval code {found.approval}"
    if found.code == APPROVED_CODE:
        mismatch = found.security_code is SecurityCode.MISMATCH
        return f"approved, approval code {found.approval}" + (", security code wrong" if mismatch else "")
    return f"declined, code {found.code}"


def _what_next(found: Answer | None) -> str:
    if found is None:
        return "the order is held, and the next run asks you to look for it in the terminal's journal."
    if found.code == APPROVED_CODE and found.security_code is not SecurityCode.MISMATCH:
        return "it counts as paid."
    if found.code in DECLINE_CLASS:
        return "the order is declined, and the shop is told."
    return "it must not stand: you will be asked to void it."
