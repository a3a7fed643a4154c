"""The messages that we send, and what an answer to one means.

Why here: pure, so that every element of every message is shown by golden vectors and no socket.
Must not: see a card (its places are filled with zeros, which frame.py overwrites in locked memory), or do I/O.

Message types end in 0 the first time and in 1 when they may have been sent before. No address is ever sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from iso4217 import Currency

from offline_processor.acquirers.iso8583.codec import Message, security_code_text
from offline_processor.acquirers.protocol import (
    Advice,
    BatchAnswer,
    BatchTotals,
    Capture,
    Refund,
    Reversal,
    Verb,
)
from offline_processor.charging import (
    APPROVED_CODE,
    PARTIAL_CODE,
    REVERSED_CODES,
    Answer,
    DeclineClass,
    Reference,
    SecurityCode,
)
from offline_processor.errors import ProcessorError

if TYPE_CHECKING:
    from offline_processor.acquirers.iso8583.profile import Profile

SIGN_ON, ECHO = "001", "301"
NOT_SUPPORTED: Final = "40"
"""Requested function not supported (ISO 8583:1987)."""
SIMULATOR: Final = "SIMULATOR"
SALE, REFUND = "000000", "200000"
NUMBER_OF: Final = {one.code: f"{one.number:03d}" for one in Currency}
CURRENCY_OF: Final = {number: code for code, number in NUMBER_OF.items()}
_HOST_REQUESTS: Final = ("0800", "0801")
_REPEATED_TO_HOST: Final = (7, 11, 12, 13, 24, 32, 33, 37, 41, 42, 70)
_NO_FEES: Final = "0" * 12 + "C00000000" * 2
_LIKE: Final = {
    DeclineClass.NEVER_RETRY: "05",
    DeclineClass.RETRY_LATER: "91",
    DeclineClass.NEW_CARD: "14",
    DeclineClass.CALL_ISSUER: "01",
    DeclineClass.OUR_FAULT: "12",
}
"""A code of the profile's own is recorded as the standard's one of its class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Our names at the acquirer: elements 41, 42 and 32 (left out when "")."""

    terminal: str
    merchant: str
    acquirer_id: str = ""


def sign_on(profile: Profile, terms: Terms, stan: int, at: int) -> Message:
    """0800 that opens a connection; its answer says whether a simulator is at the other end."""
    return _network(profile, terms, stan, at, SIGN_ON)


def echo(profile: Profile, terms: Terms, stan: int, at: int) -> Message:
    """0800 that asks whether the other end is there."""
    return _network(profile, terms, stan, at, ECHO)


def is_host_request(message: Message) -> bool:
    """True for a network management request that the host begins, if it says what it wants and can be answered."""
    return message.mti in _HOST_REQUESTS and {11, 70} <= message.fields.keys()


def answer_to_host(request: Message) -> Message:
    """0810 to a request of the host's: its echo test is answered with 00, and with 40 what we do not do.

    So is a sign-off or a change of keys: a host that means it hangs up, or refuses the next message.
    """
    fields = {number: request.fields[number] for number in _REPEATED_TO_HOST if number in request.fields}
    code = APPROVED_CODE if request.fields[70] == ECHO else NOT_SUPPORTED
    return Message(mti=response_mti(request.mti), fields=fields | {39: code})


def authorisation(
    profile: Profile, terms: Terms, reference: Reference, *, pan_digits: int, cvv_digits: int
) -> Message:
    """0100. ``cvv_digits`` is 0 when no security code is sent."""
    fields = _financial(profile, terms, reference, SALE) | _card(pan_digits)
    if cvv_digits:
        fields[profile.cvv_field] = security_code_text(profile, cvv_digits)
    return Message(mti="0100", fields=fields)


def capture(profile: Profile, terms: Terms, advice: Capture, *, pan_digits: int = 0) -> Message:
    """0220, or 0221 when it may have been sent before. The standard has no element for ``final``."""
    return _advice(profile, terms, advice, "022", SALE, pan_digits, Verb.CAPTURE)


def refund(profile: Profile, terms: Terms, advice: Refund, *, pan_digits: int = 0) -> Message:
    """0220 or 0221 with processing code 20."""
    return _advice(profile, terms, advice, "022", REFUND, pan_digits, Verb.REFUND)


def reversal(profile: Profile, terms: Terms, advice: Reversal, *, pan_digits: int = 0) -> Message:
    """0420 or 0421; element 95 says what stays reserved or taken, if anything does."""
    message = _advice(profile, terms, advice, "042", SALE, pan_digits, Verb.REVERSE)
    if profile.reversal_stan == "same":
        message.fields[11] = f"{advice.original.stan:06d}"
    if advice.keep:
        message.fields[95] = f"{advice.keep:012d}{_NO_FEES}"
    return message


def totals(profile: Profile, terms: Terms, batch: BatchTotals) -> Message:
    """0500: what our ledger says was taken (debits) and given back (credits) in one currency."""
    del profile
    currency = _currency(batch.currency)
    net = batch.captured - batch.refunded
    fields = _names(terms, batch.stan, batch.sent_at) | {
        15: _at(batch.sent_at).strftime("%m%d"),
        49: currency,
        50: currency,
        74: f"{batch.refunds:010d}",
        76: f"{batch.captures:010d}",
        86: f"{batch.refunded:016d}",
        88: f"{batch.captured:016d}",
        97: f"{'D' if net >= 0 else 'C'}{abs(net):016d}",
    }
    return Message(mti="0500", fields=fields)


@lru_cache(maxsize=64)
def response_mti(mti: str) -> str:
    """The type that answers one: 0100 by 0110, 0421 by 0430. A response is its own."""
    return f"{mti[:2]}{int(mti[2]) | 1}0"


def is_response(message: Message) -> bool:
    """True for an answer; what a broken host sends back unchanged is none."""
    return message.mti == response_mti(message.mti)


def key(message: Message) -> tuple[str, str, str, str]:
    """What request and answer have in common: the answer's type, terminal, trace number, retrieval reference."""
    found = message.fields
    return response_mti(message.mti), found.get(41, ""), found.get(11, ""), found.get(37, "")


def is_simulator(profile: Profile, message: Message) -> bool:
    """True when the answer to a sign-on or echo says that nobody is charged there."""
    return message.mti == "0810" and message.fields.get(profile.simulator_field, "").startswith(SIMULATOR)


def is_in_progress(profile: Profile, message: Message) -> bool:
    """True when the host asks to wait: another answer to the same request follows."""
    return message.fields.get(39, "") in profile.codes.in_progress


def answer(profile: Profile, request: Message, response: Message, *, sent: Reference | None = None) -> Answer:
    """What the response says; ``ISO-FORM`` when it is none to this request, or names no code or trace number.

    ``sent``: the reference of what was sent; its trace number is returned where a reversal had to use the original's.
    """
    said = response.fields
    if not is_response(response) or key(response)[0] != key(request)[0] or not {11, 39} <= said.keys():
        del request, response, said
        raise ProcessorError(
            "ISO-FORM",
            "an answer from the acquirer names no code, or is of another kind than what was asked",
            "nothing counts as answered; compare the profile with the acquirer's specification (PROFILES.md)",
        )
    is_authorisation, is_reversal = response.mti == "0110", response.mti == "0430"
    if is_authorisation and profile.echoes_amount:
        echoed = said
    else:  # what was already done is not undone because its answer says no amount; another one it still may say
        echoed = {number: request.fields.get(number, "") for number in (4, 49)} | said
    number = echoed.get(49, "")
    stan = int(said[11])
    if sent is not None and said[11] == request.fields[11]:
        stan = sent.stan
    return Answer(
        stan=stan,
        rrn=(said if profile.echoes_reference else request.fields).get(37, ""),
        amount=int(echoed.get(4) or "0"),
        currency=CURRENCY_OF.get(number, number),
        code=_reversal_code(profile, said[39]) if is_reversal else _code(profile, said[39]),
        approval=said.get(38, "").strip(),
        security_code=_security_code(profile, said),
        address=_result(said, profile.avs_result_field, profile.avs_result_position, 1).strip(),
    )


def batch_answer(profile: Profile, response: Message) -> BatchAnswer | None:
    """What the host says of our totals; None when it says something else."""
    code = response.fields.get(39, "") if response.mti == "0510" else ""
    if code in profile.codes.in_balance:
        return BatchAnswer.IN_BALANCE
    return BatchAnswer.OUT_OF_BALANCE if code in profile.codes.out_of_balance else None


def _network(profile: Profile, terms: Terms, stan: int, at: int, function: str) -> Message:
    del profile
    return Message(mti="0800", fields=_names(terms, stan, at) | {70: function})


def _names(terms: Terms, stan: int, at: int) -> dict[int, str]:
    fields = {
        7: _times(at, 0)[0],
        11: f"{stan:06d}",
        41: terms.terminal.ljust(8),
        42: terms.merchant.ljust(15),
    }
    return fields | ({32: terms.acquirer_id} if terms.acquirer_id else {})


def _financial(profile: Profile, terms: Terms, reference: Reference, processing: str) -> dict[int, str]:
    _, local_date, local_time = _times(reference.sent_at, profile.utc_offset_minutes)
    return (
        {int(number): text for number, text in profile.constants.items()}
        | _names(terms, reference.stan, reference.sent_at)
        | {
            3: processing,
            4: f"{reference.amount:012d}",
            12: local_time,
            13: local_date,
            37: reference.rrn,
            49: _currency(reference.currency),
            profile.eci_field: profile.eci_value,
            profile.order_reference_field: reference.order_id,
        }
    )


def _card(pan_digits: int) -> dict[int, str]:
    return {2: "0" * pan_digits, 14: "0000"} if pan_digits else {}


def _advice(
    profile: Profile, terms: Terms, advice: Advice, mti: str, processing: str, pan_digits: int, verb: Verb
) -> Message:
    fields = _financial(profile, terms, advice.reference, processing)
    if verb in profile.pan_in:
        fields |= _card(pan_digits)
    if advice.approval:
        fields[38] = advice.approval.ljust(6)
    if profile.operation_field is not None:
        fields[profile.operation_field] = advice.operation
    fields[90] = _original(terms, advice.original)
    return Message(mti=mti + ("1" if advice.repeat else "0"), fields=fields)


def _original(terms: Terms, original: Reference) -> str:
    """Element 90: type, trace number, time, acquirer and (none) forwarder of the authorisation."""
    sent = _at(original.sent_at).strftime("%m%d%H%M%S")
    return f"0100{original.stan:06d}{sent}{terms.acquirer_id:0>11}{'0' * 11}"


@lru_cache(maxsize=64)
def _times(seconds: int, offset_minutes: int) -> tuple[str, str, str]:
    """(date and time in UTC, local date, local time); a window of messages has one time."""
    at = _at(seconds)
    local = at + timedelta(minutes=offset_minutes)
    return at.strftime("%m%d%H%M%S"), local.strftime("%m%d"), local.strftime("%H%M%S")


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _currency(code: str) -> str:
    if code not in NUMBER_OF:
        raise ProcessorError(
            "ISO-FORM",
            f"ISO 4217 has no number for the currency {code[:3]!r}",
            "correct the shop's currency; nothing was sent",
        )
    return NUMBER_OF[code]


def _code(profile: Profile, code: str) -> str:
    if code in profile.codes.approved:
        return APPROVED_CODE
    if code in profile.codes.partial:
        return PARTIAL_CODE
    return _LIKE[profile.declines[code]] if code in profile.declines else _unless_standard(code)


def _unless_standard(code: str) -> str:
    """A code that the profile does not give this meaning is none that charging would take for an approval."""
    return f"?{code}" if code in (APPROVED_CODE, PARTIAL_CODE) else code


def _reversal_code(profile: Profile, code: str) -> str:
    if code in profile.codes.reversed:
        return code if code in REVERSED_CODES else "21"
    return f"?{code}" if code in REVERSED_CODES else code


def _security_code(profile: Profile, said: dict[int, str]) -> SecurityCode:
    size = len(profile.cvv_match)
    found = _result(said, profile.cvv_result_field, profile.cvv_result_position, size)
    if found == profile.cvv_mismatch:
        return SecurityCode.MISMATCH
    return SecurityCode.MATCH if found == profile.cvv_match else SecurityCode.NOT_CHECKED


def _result(said: dict[int, str], number: int, position: int, size: int) -> str:
    return said.get(number, "")[position : position + size]
