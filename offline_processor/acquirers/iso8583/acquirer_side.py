"""The other end's half: what a request asks for, and the answer to it; for the simulator and for trying profiles.

Why here: the simulator must speak any profile that we can load, and nothing else knows where its elements stand.
Must not: decide anything, or be used for what we send.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from offline_processor.acquirers.iso8583.codec import Message
from offline_processor.acquirers.iso8583.messages import CURRENCY_OF, NUMBER_OF, SIMULATOR, response_mti
from offline_processor.acquirers.protocol import BatchTotals
from offline_processor.charging import SecurityCode
from offline_processor.errors import ProcessorError

if TYPE_CHECKING:
    from offline_processor.acquirers.iso8583.profile import Profile

_AMOUNT, _CURRENCY = 4, 49
_REPEATED: Final = frozenset((3, 4, 7, 11, 12, 13, 15, 32, 37, 41, 42, 49, 50, 70))
_APPROVING: Final = ("00", "10")
_KINDS: Final = {
    "08": "network",
    "01": "authorisation",
    "02": "capture",
    "04": "reversal",
    "05": "totals",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a request asks for. ``kind``: network, authorisation, capture, refund, reversal or totals.

    ``time`` is MMDDhhmmss in UTC; ``bin`` and ``last_four`` are "" unless it was decoded with ``keep_ends``.
    """

    kind: str
    stan: int
    rrn: str
    time: str
    amount: int
    currency: str
    order_id: str
    operation: str
    bin: str
    last_four: str
    has_cvv: bool
    original_stan: int
    original_time: str
    keep: int
    totals: BatchTotals | None


def requested(profile: Profile, message: Message) -> Request:
    """What it asks for; ``ISO-FORM`` when that cannot be told."""
    request = _requested(profile, message)
    del message
    if request is None:
        raise ProcessorError(
            "ISO-FORM", "a request is of no kind, or names no trace number, time or currency"
        )
    return request


def _requested(profile: Profile, message: Message) -> Request | None:
    found = message.fields
    kind = _KINDS.get(message.mti[:2], "")
    if kind == "capture" and found.get(3, "").startswith("20"):
        kind = "refund"
    currency = CURRENCY_OF.get(found.get(49, ""), "")
    keep, pan, original = found.get(95, "")[:12], found.get(2, ""), found.get(90, "")
    if not kind or not {7, 11} <= found.keys() or bool(currency) is (kind == "network"):
        return None
    if keep and not (keep.isascii() and keep.isdecimal()):
        return None
    return Request(
        kind=kind,
        stan=int(found[11]),
        rrn=found.get(37, ""),
        time=found[7],
        amount=int(found.get(4) or "0"),
        currency=currency,
        order_id=found.get(profile.order_reference_field, ""),
        operation="" if profile.operation_field is None else found.get(profile.operation_field, ""),
        bin=pan[:6],
        last_four=pan[-4:],
        has_cvv=profile.cvv_field in found,
        original_stan=int(original[4:10] or "0"),
        original_time=original[10:20],
        keep=int(keep or "0"),
        totals=_totals(found, currency) if kind == "totals" else None,
    )


def _totals(found: dict[int, str], currency: str) -> BatchTotals:
    captures, captured, refunds, refunded = (int(found.get(number) or "0") for number in (76, 88, 74, 86))
    return BatchTotals(
        currency=currency,
        captures=captures,
        captured=captured,
        refunds=refunds,
        refunded=refunded,
        stan=int(found[11]),
        sent_at=0,
    )


def answered(
    profile: Profile,
    request: Message,
    *,
    code: str,
    approval: str = "",
    stan: int | None = None,
    amount: int | None = None,
    currency: str | None = None,
    security_code: SecurityCode = SecurityCode.NOT_CHECKED,
    simulator: bool = False,
) -> Message:
    """The answer to a request: its own elements again, but where another value is given; no card."""
    fields = {number: text for number, text in request.fields.items() if number in _REPEATED}
    fields[39] = code
    if stan is not None:
        fields[11] = f"{stan:06d}"
    if amount is not None and _AMOUNT in fields:
        fields[_AMOUNT] = f"{amount:012d}"
    if currency is not None and _CURRENCY in fields:
        fields[_CURRENCY] = NUMBER_OF[currency]
    mti = response_mti(request.mti)
    if approval and code in _APPROVING and mti in ("0110", "0230", "0430"):
        fields[38] = approval.ljust(6)
    if mti == "0110" and security_code is not SecurityCode.NOT_CHECKED:
        found = profile.cvv_match if security_code is SecurityCode.MATCH else profile.cvv_mismatch
        fields[profile.cvv_result_field] = " " * profile.cvv_result_position + found
    if mti == "0810" and simulator:
        fields[profile.simulator_field] = SIMULATOR
    return Message(mti=mti, fields=fields)
