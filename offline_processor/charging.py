"""The charging state machine: an attempt's states as data, and what each answer of an acquirer means.

Why here: pure, so that no path through time-outs, crashes and late answers is left to the code that does I/O.
Must not: do I/O, see a card, or send an authorisation again; after no answer only a reversal follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from offline_processor.errors import ProcessorError
from transfer.wire.records import Reason


class AttemptState(StrEnum):
    """Where one try to authorise one order stands."""

    INTENT = "intent"
    SUBMITTED = "submitted"
    APPROVED = "approved"
    DECLINED = "declined"
    UNKNOWN = "unknown"
    REVERSAL_PENDING = "reversal-pending"
    REVERSED = "reversed"
    MANUAL = "manual"
    VOIDED = "voided"
    EXPIRED = "expired"


class Event(StrEnum):
    """What moves an attempt on."""

    APPROVAL = "approval"
    APPROVAL_UNWANTED = "approval unwanted"
    DECLINE = "decline"
    NO_ANSWER = "no answer"
    HANDED_OVER = "handed over"
    REVERSAL_SENT = "reversal sent"
    REVERSAL_ANSWERED = "reversal answered"
    REVERSAL_GIVEN_UP = "reversal given up"
    VOID_ANSWERED = "void answered"
    TIME_RAN_OUT = "time ran out"
    REPORTED_APPROVED = "reported approved"
    REPORTED_OTHERWISE = "reported otherwise"
    FOUND_APPROVED = "found approved by a person"
    FOUND_REVERSED = "found reversed by a person"


TRANSITIONS: dict[tuple[AttemptState, Event], AttemptState] = {
    (AttemptState.INTENT, Event.APPROVAL): AttemptState.APPROVED,
    (AttemptState.INTENT, Event.DECLINE): AttemptState.DECLINED,
    (AttemptState.INTENT, Event.APPROVAL_UNWANTED): AttemptState.UNKNOWN,
    (AttemptState.INTENT, Event.NO_ANSWER): AttemptState.UNKNOWN,
    (AttemptState.INTENT, Event.HANDED_OVER): AttemptState.SUBMITTED,
    (AttemptState.SUBMITTED, Event.APPROVAL): AttemptState.APPROVED,
    (AttemptState.SUBMITTED, Event.DECLINE): AttemptState.DECLINED,
    (AttemptState.SUBMITTED, Event.APPROVAL_UNWANTED): AttemptState.UNKNOWN,
    (AttemptState.SUBMITTED, Event.NO_ANSWER): AttemptState.UNKNOWN,
    (AttemptState.UNKNOWN, Event.REVERSAL_SENT): AttemptState.REVERSAL_PENDING,
    (AttemptState.REVERSAL_PENDING, Event.REVERSAL_SENT): AttemptState.REVERSAL_PENDING,
    (AttemptState.REVERSAL_PENDING, Event.REVERSAL_ANSWERED): AttemptState.REVERSED,
    (AttemptState.REVERSAL_PENDING, Event.REVERSAL_GIVEN_UP): AttemptState.MANUAL,
    (AttemptState.MANUAL, Event.FOUND_REVERSED): AttemptState.REVERSED,
    (AttemptState.MANUAL, Event.FOUND_APPROVED): AttemptState.APPROVED,
    (AttemptState.INTENT, Event.REPORTED_APPROVED): AttemptState.APPROVED,
    (AttemptState.SUBMITTED, Event.REPORTED_APPROVED): AttemptState.APPROVED,
    (AttemptState.UNKNOWN, Event.REPORTED_APPROVED): AttemptState.APPROVED,
    (AttemptState.REVERSAL_PENDING, Event.REPORTED_APPROVED): AttemptState.APPROVED,
    (AttemptState.MANUAL, Event.REPORTED_APPROVED): AttemptState.APPROVED,
    (AttemptState.INTENT, Event.REPORTED_OTHERWISE): AttemptState.REVERSED,
    (AttemptState.SUBMITTED, Event.REPORTED_OTHERWISE): AttemptState.REVERSED,
    (AttemptState.UNKNOWN, Event.REPORTED_OTHERWISE): AttemptState.REVERSED,
    (AttemptState.REVERSAL_PENDING, Event.REPORTED_OTHERWISE): AttemptState.REVERSED,
    (AttemptState.MANUAL, Event.REPORTED_OTHERWISE): AttemptState.REVERSED,
    (AttemptState.APPROVED, Event.VOID_ANSWERED): AttemptState.VOIDED,
    (AttemptState.APPROVED, Event.TIME_RAN_OUT): AttemptState.EXPIRED,
}

FINISHED = frozenset(
    {AttemptState.DECLINED, AttemptState.REVERSED, AttemptState.VOIDED, AttemptState.EXPIRED}
)
"""After these the database lets a new attempt be made; every other state keeps the order's one live attempt."""


def advance(state: AttemptState, event: Event) -> AttemptState:
    """The next state; ``CHARGE-TRANSITION`` (a bug or a broken ledger) when the table has none."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ProcessorError(
            "CHARGE-TRANSITION", f"an attempt that is {state} cannot take the event {event!r}"
        ) from None


def diagram() -> str:
    """The state machine as a Mermaid diagram, for RULES.md."""
    name = {state: state.name for state in AttemptState}
    rows = [f"    {name[state]} --> {name[after]}: {event}" for (state, event), after in TRANSITIONS.items()]
    return "\n".join(["stateDiagram-v2", "    [*] --> INTENT", *rows])


class DeclineClass(StrEnum):
    """What a decline means for what may follow."""

    NEVER_RETRY = "never retry"
    RETRY_LATER = "retry later"
    NEW_CARD = "new card data needed"
    CALL_ISSUER = "call the issuer"
    OUR_FAULT = "our fault"


APPROVED_CODE = "00"
PARTIAL_CODE = "10"
REVERSED_CODES = frozenset({"00", "21", "25"})
NOT_YET = frozenset({"09", "19", "68", "91", "96"})
"""In progress, try again, too late, issuer away, system fault: an advice is not answered yet, and is sent again."""
_CODES: dict[DeclineClass, str] = {
    DeclineClass.NEVER_RETRY: "04 05 07 15 34 36 41 43 46 57 59 62 63 93 R0 R1 R3",
    DeclineClass.RETRY_LATER: "19 51 61 65 86 91 92 96",
    DeclineClass.NEW_CARD: "14 54 55 75 82 N7",
    DeclineClass.CALL_ISSUER: "01 02 70 1A",
    DeclineClass.OUR_FAULT: "03 06 12 13 30 58",
}
DECLINE_CLASS: dict[str, DeclineClass] = {
    code: decline for decline, codes in _CODES.items() for code in codes.split()
}
"""ISO 8583:1987 data element 39, as Visa and Mastercard use it, to its class."""

_REASON = {
    DeclineClass.NEVER_RETRY: Reason.CARD_DECLINED,
    DeclineClass.RETRY_LATER: Reason.TRY_LATER,
    DeclineClass.NEW_CARD: Reason.NEW_CARD,
    DeclineClass.CALL_ISSUER: Reason.CALL_BANK,
    DeclineClass.OUR_FAULT: Reason.TRY_LATER,
}


def decline_class(code: str) -> DeclineClass:
    """The class of a response code that ``event_of`` took for a decline."""
    return DECLINE_CLASS[code]


def decline_reason(decline: DeclineClass) -> Reason:
    """What the customer may be told."""
    return _REASON[decline]


_FOLLOWS = {
    DeclineClass.NEVER_RETRY: "the order ends; a card to be picked up is told in no other way",
    DeclineClass.RETRY_LATER: "the order ends, or within `[charging] retry_declines` is tried again, without a CVV",
    DeclineClass.NEW_CARD: "the order ends; its customer may order again with card data that are right",
    DeclineClass.CALL_ISSUER: "the order ends, and is a case until a person has looked",
    DeclineClass.OUR_FAULT: "the order ends, and is a case until a person has looked",
}


def decline_table() -> str:
    """The decline classes as a Markdown table, for RULES.md."""
    rows = [
        f"| {decline} | {_CODES[decline]} | {_FOLLOWS[decline]} | {_REASON[decline]} |"
        for decline in DeclineClass
    ]
    return "\n".join(["| class | codes | what follows | the customer is told |", "|---|---|---|---|", *rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What names one message to the acquirer: trace number, retrieval reference, amount and our order reference.

    ``number`` is the ledger's own number of the order; ``stan`` 1 to 999,999; ``rrn`` 12 characters; ``sent_at`` Unix
    seconds; ``amount`` minor units of ``currency``.
    """

    number: int
    order_id: str
    attempt: int
    stan: int
    rrn: str
    sent_at: int
    amount: int
    currency: str


class SecurityCode(StrEnum):
    """What the issuer said of the CVV."""

    MATCH = "match"
    MISMATCH = "mismatch"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An acquirer's answer as received; it counts only if it ``matches`` what was sent.

    ``amount`` is the one echoed, or approved in part; ``address`` the AVS result as the host gives it. ``late``: it
    came after its time, when the attempt already counted as unknown; it is recorded, and reversed all the same.
    """

    stan: int
    rrn: str
    amount: int
    currency: str
    code: str
    approval: str = ""
    security_code: SecurityCode = SecurityCode.NOT_CHECKED
    address: str = ""
    late: bool = False


PARTIAL = "CHARGE-PARTIAL"
SECURITY_CODE = "CHARGE-CVV"
AMOUNT = "CHARGE-AMOUNT"
UNWANTED = frozenset({PARTIAL, SECURITY_CODE, AMOUNT})
"""Why an approval is not taken: it is reversed, and its order is never attempted again by itself."""


def is_ours(sent: Reference, answer: Answer) -> bool:
    """True when trace number and retrieval reference are those that were sent."""
    return (answer.stan, answer.rrn) == (sent.stan, sent.rrn)


def matches(sent: Reference, answer: Answer) -> bool:
    """True when amount and currency are those that were sent, too."""
    return is_ours(sent, answer) and (answer.amount, answer.currency) == (sent.amount, sent.currency)


def unwanted(sent: Reference, answer: Answer) -> str:
    """The rule by which an approval of ours is reversed at once; "" for none."""
    if answer.code == PARTIAL_CODE:
        return PARTIAL
    if not matches(sent, answer):
        return AMOUNT
    return SECURITY_CODE if answer.security_code is SecurityCode.MISMATCH else ""


def event_of(sent: Reference, answer: Answer | None) -> Event:
    """What an authorisation's answer, or its absence, means.

    An answer that is not to what was sent, or came too late, is none. Nor is a code that the table does not know: it
    may be an approval of a kind (with identification), so it is reversed and never taken for a decline.
    """
    if answer is None or answer.late or not is_ours(sent, answer):
        return Event.NO_ANSWER
    if answer.code in (APPROVED_CODE, PARTIAL_CODE):
        return Event.APPROVAL_UNWANTED if unwanted(sent, answer) else Event.APPROVAL
    return Event.DECLINE if answer.code in DECLINE_CLASS and matches(sent, answer) else Event.NO_ANSWER


def is_reversed(sent: Reference, answer: Answer | None) -> bool:
    """True when a reversal was answered: done (00), done before (21), or there is nothing to reverse (25)."""
    return answer is not None and matches(sent, answer) and answer.code in REVERSED_CODES
