"""One message of each kind with invented contents, to try a profile out.

Why here: a profile's mistake must show when it is loaded, not when the first customer is charged.
Must not: be sent.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from offline_processor.acquirers.iso8583 import messages
from offline_processor.acquirers.iso8583.acquirer_side import answered
from offline_processor.acquirers.protocol import BatchTotals, Capture, Refund, Reversal
from offline_processor.charging import Reference, SecurityCode

if TYPE_CHECKING:
    from offline_processor.acquirers.iso8583.codec import Message
    from offline_processor.acquirers.iso8583.profile import Profile

AT: Final = 1_795_401_900
TERMS: Final = messages.Terms(terminal="SHOP0001", merchant="MERCHANT0000001", acquirer_id="12345678901")
ORIGINAL: Final = Reference(
    number=1,
    order_id="ab" * 16,
    attempt=1,
    stan=300,
    rrn="000000000300",
    sent_at=AT,
    amount=2_500,
    currency="EUR",
)
REFERENCE: Final = Reference(
    number=1,
    order_id="ab" * 16,
    attempt=1,
    stan=301,
    rrn="000000000300",
    sent_at=AT + 61,
    amount=1_500,
    currency="EUR",
)
CAPTURE: Final = Capture(
    operation="cd" * 16,
    reference=REFERENCE,
    original=ORIGINAL,
    approval="000300",
    repeat=False,
    card=None,
    final=True,
)
REFUND: Final = Refund(
    operation="ce" * 16, reference=REFERENCE, original=ORIGINAL, approval="000300", repeat=True, card=None
)
REVERSAL: Final = Reversal(
    operation="cf" * 16,
    reference=dataclasses.replace(REFERENCE, amount=ORIGINAL.amount),
    original=ORIGINAL,
    approval="",
    repeat=True,
    card=None,
    keep=1_000,
)
TOTALS: Final = BatchTotals(
    currency="EUR", captures=3, captured=4_500, refunds=1, refunded=500, stan=302, sent_at=AT + 62
)


def every_kind(profile: Profile) -> dict[str, Message]:
    """Requests, and an answer to each, by name."""
    asked = {
        "sign-on": messages.sign_on(profile, TERMS, 1, AT),
        "authorisation": messages.authorisation(profile, TERMS, ORIGINAL, pan_digits=16, cvv_digits=3),
        "authorisation, longest": messages.authorisation(
            profile, TERMS, ORIGINAL, pan_digits=19, cvv_digits=4
        ),
        "authorisation, no CVV": messages.authorisation(
            profile, TERMS, ORIGINAL, pan_digits=15, cvv_digits=0
        ),
        "capture": messages.capture(profile, TERMS, CAPTURE, pan_digits=16),
        "refund": messages.refund(profile, TERMS, REFUND, pan_digits=16),
        "reversal": messages.reversal(profile, TERMS, REVERSAL, pan_digits=16),
        "totals": messages.totals(profile, TERMS, TOTALS),
    }
    answers = {
        f"{name}, answered": answered(
            profile, one, code="00", approval="000300", security_code=SecurityCode.MATCH
        )
        for name, one in asked.items()
    }
    return asked | answers
