"""Answering an enquiry by mail.

Why here: an answer is on disk before it leaves, so that a broken line does not become a second letter unnoticed.
Must not: write to anybody but the enquiry's sender.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from datetime import UTC, datetime

from intake.enquiries.desk import Enquiry, EnquiryDesk
from intake.errors import IntakeError
from intake.mail.line import Fate, MailLine
from intake.mail.message import Letter
from intake.texts import is_harmful

ANSWER_MAXIMUM = 20_000


def answer(
    desk: EnquiryDesk,
    number: str,
    text: str,
    line: MailLine,
    *,
    shop: str,
    keep_open: bool,
    again: bool,
    now: Callable[[], int],
) -> Fate:
    """Send ``text`` to who asked, and close the enquiry unless it is to be kept open.

    ``ENQUIRY-ANSWER-UNKNOWN``: nobody knows whether an earlier answer was sent; ``again`` sends all the same.
    """
    enquiry, answers = desk.one(number)
    checked = text.replace("\r\n", "\n").strip("\n")
    harmful = any(is_harmful(row.replace("\t", " ")) for row in checked.split("\n"))
    if not checked.strip() or len(checked) > ANSWER_MAXIMUM or harmful:
        raise IntakeError(
            "USAGE-ANSWER",
            f"an answer has 1 to {ANSWER_MAXIMUM} characters, without control characters",
            "it comes on standard input, or from --file",
        )
    if not again and any(not earlier.sent for earlier in answers):
        raise IntakeError(
            "ENQUIRY-ANSWER-UNKNOWN",
            "nobody knows whether an earlier answer to this enquiry was sent",
            f"look at it with: intake enquiries show {enquiry.number}; --again sends a new one all the same",
        )
    kept: list[int] = []

    def keep() -> bool:
        kept.append(desk.begin_answer(enquiry.number, checked, now=now()))
        return True

    fate = line.send(letter(enquiry, checked, len(answers) + 1, shop=shop), now=now(), before=keep)
    if fate is Fate.TAKEN:
        desk.answer_sent(kept[0])
        if not keep_open:
            desk.settle(enquiry.number, now=now())
    elif fate is not Fate.UNKNOWN and kept:
        desk.answer_not_sent(kept[0])
    return fate


def letter(enquiry: Enquiry, text: str, count: int, *, shop: str) -> Letter:
    """The answer as a message; what was asked stands below it."""
    asked = textwrap.indent(enquiry.text, "> ", lambda _: True)
    day = datetime.fromtimestamp(enquiry.received_at, UTC).strftime("%Y-%m-%d")
    return Letter(
        to=enquiry.email,
        subject=f"Your question {enquiry.number} to {shop}",
        text=f"{text}\n\n-- \n{shop}\n\nYou wrote on {day}:\n{asked}\n",
        identity=f"enquiry.{enquiry.number.lower()}.{count}",
    )
