"""The messages of each verb, element by element, and what an answer to one means."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_processor.acquirers.iso8583 import messages, samples
from offline_processor.acquirers.iso8583.acquirer_side import answered, requested
from offline_processor.acquirers.iso8583.codec import Message
from offline_processor.acquirers.iso8583.profile import SHIPPED, Codes, load
from offline_processor.acquirers.iso8583.samples import (
    CAPTURE,
    ORIGINAL,
    REFUND,
    REVERSAL,
    TERMS,
    TOTALS,
)
from offline_processor.acquirers.protocol import BatchAnswer, Verb
from offline_processor.charging import (
    Event,
    SecurityCode,
    event_of,
    is_ours,
    is_reversed,
    matches,
    unwanted,
)
from offline_processor.errors import ProcessorError

PROFILE = load("ascii-1987")
PROFILES = {name: load(name) for name in SHIPPED}
ORIGINAL_DATA = "0100" + "000300" + "1123024500" + "12345678901" + "0" * 11
names = pytest.mark.parametrize("name", SHIPPED)


def authorisation(**changes: Any) -> Message:
    return messages.authorisation(PROFILE, TERMS, replace(ORIGINAL, **changes), pan_digits=16, cvv_digits=3)


def test_authorisation() -> None:
    sent = authorisation()
    assert sent.mti == "0100"
    assert sent.fields == {
        2: "0" * 16,
        3: "000000",
        4: "000000002500",
        7: "1123024500",
        11: "000300",
        12: "024500",
        13: "1123",
        14: "0000",
        22: "812",
        25: "59",
        32: "12345678901",
        37: "000000000300",
        41: "SHOP0001",
        42: "MERCHANT0000001",
        49: "978",
        60: "000",
        63: "ab" * 16,
    }


def test_authorisation_without_a_security_code_has_no_element_for_it() -> None:
    sent = messages.authorisation(PROFILE, TERMS, ORIGINAL, pan_digits=16, cvv_digits=0)
    assert 60 not in sent.fields


def test_security_code_within_its_element() -> None:
    bcd = PROFILES["bcd-1987"]
    assert messages.authorisation(bcd, TERMS, ORIGINAL, pan_digits=15, cvv_digits=4).fields[48] == "92040000"
    visa = msgspec.structs.replace(PROFILE, cvv_before="11", cvv_width=4)
    assert messages.authorisation(visa, TERMS, ORIGINAL, pan_digits=16, cvv_digits=3).fields[60] == "11 000"


def test_local_time_is_the_terminals_and_element_7_is_utc() -> None:
    profile = msgspec.structs.replace(PROFILE, utc_offset_minutes=-180)
    sent = messages.authorisation(profile, TERMS, ORIGINAL, pan_digits=16, cvv_digits=3).fields
    assert (sent[7], sent[12], sent[13]) == ("1123024500", "234500", "1122")


def test_short_names_are_filled_and_no_acquirer_is_left_out() -> None:
    terms = messages.Terms(terminal="T1", merchant="SHOP")
    sent = messages.echo(PROFILE, terms, 7, ORIGINAL.sent_at)
    assert (sent.mti, sent.fields[41], sent.fields[42]) == ("0800", "T1      ", "SHOP           ")
    assert (sent.fields[70], 32 in sent.fields) == ("301", False)
    assert messages.sign_on(PROFILE, terms, 7, ORIGINAL.sent_at).fields[70] == "001"


def test_capture() -> None:
    sent = messages.capture(PROFILE, TERMS, CAPTURE)
    assert (sent.mti, sent.fields[3], sent.fields[4]) == ("0220", "000000", "000000001500")
    assert (sent.fields[11], sent.fields[37], sent.fields[38]) == ("000301", "000000000300", "000300")
    assert (sent.fields[62], sent.fields[63]) == ("cd" * 16, "ab" * 16)
    assert sent.fields[90] == ORIGINAL_DATA
    assert {2, 14, 60, 95}.isdisjoint(sent.fields)
    assert messages.capture(PROFILE, TERMS, replace(CAPTURE, repeat=True)).mti == "0221"


def test_refund() -> None:
    sent = messages.refund(PROFILE, TERMS, REFUND)
    assert (sent.mti, sent.fields[3], sent.fields[90]) == ("0221", "200000", ORIGINAL_DATA)


def test_reversal() -> None:
    sent = messages.reversal(PROFILE, TERMS, REVERSAL, pan_digits=16)
    assert (sent.mti, sent.fields[4], sent.fields[11]) == ("0421", "000000002500", "000301")
    assert (sent.fields[90], sent.fields[2], sent.fields[14]) == (ORIGINAL_DATA, "0" * 16, "0000")
    assert sent.fields[95] == "000000001000" + "0" * 12 + "C00000000" * 2
    assert {38, 60}.isdisjoint(sent.fields)
    whole = messages.reversal(PROFILE, TERMS, replace(REVERSAL, keep=0, repeat=False))
    assert (whole.mti, 95 in whole.fields) == ("0420", False)


def test_reversal_with_the_originals_trace_number_where_the_profile_says_so() -> None:
    sent = messages.reversal(PROFILES["bcd-1987"], TERMS, REVERSAL)
    assert sent.fields[11] == "000300"
    response = answered(PROFILES["bcd-1987"], sent, code="00")
    got = messages.answer(PROFILES["bcd-1987"], sent, response, sent=REVERSAL.reference)
    assert got.stan == REVERSAL.reference.stan
    assert is_reversed(REVERSAL.reference, got)


@pytest.mark.parametrize("verb", Verb)
def test_card_goes_only_into_the_verbs_that_the_profile_names(verb: Verb) -> None:
    profile = msgspec.structs.replace(PROFILE, pan_in=frozenset({verb}))
    sent = {
        Verb.CAPTURE: messages.capture(profile, TERMS, CAPTURE, pan_digits=16),
        Verb.REVERSE: messages.reversal(profile, TERMS, REVERSAL, pan_digits=16),
        Verb.REFUND: messages.refund(profile, TERMS, REFUND, pan_digits=16),
    }
    assert {one for one, message in sent.items() if 2 in message.fields and 14 in message.fields} == {verb}


def test_totals() -> None:
    sent = messages.totals(PROFILE, TERMS, TOTALS)
    assert sent.mti == "0500"
    assert {number: sent.fields[number] for number in (15, 49, 50, 74, 76, 86, 88, 97)} == {
        15: "1123",
        49: "978",
        50: "978",
        74: "0000000001",
        76: "0000000003",
        86: "0000000000000500",
        88: "0000000000004500",
        97: "D0000000000004000",
    }
    more_refunded = messages.totals(PROFILE, TERMS, replace(TOTALS, refunded=5_000))
    assert more_refunded.fields[97] == "C0000000000000500"


@names
def test_no_message_has_an_element_for_an_address(name: str) -> None:
    assert all(
        not {43, 46, 47, 120, 121, 122, 123, 124} & message.fields.keys()
        for message in samples.every_kind(PROFILES[name]).values()
    )


def test_currency_without_a_number_is_not_sent() -> None:
    with pytest.raises(ProcessorError, match="ISO-FORM"):
        authorisation(currency="EUX")


@names
@pytest.mark.parametrize("currency", ["EUR", "GBP", "JPY", "ALL"])
def test_answer_that_echoes_all(name: str, currency: str) -> None:
    profile, reference = PROFILES[name], replace(ORIGINAL, currency=currency)
    sent = messages.authorisation(profile, TERMS, reference, pan_digits=16, cvv_digits=3)
    response = answered(profile, sent, code="00", approval="12AB", security_code=SecurityCode.MATCH)
    got = messages.answer(profile, sent, response)
    assert (got.code, got.approval, got.security_code, got.address) == ("00", "12AB", SecurityCode.MATCH, "")
    assert matches(reference, got)
    assert event_of(reference, got) is Event.APPROVAL
    assert messages.key(response) == messages.key(sent) == ("0110", "SHOP0001", "000300", "000000000300")


@names
def test_security_code_and_address_results_are_where_the_profile_says(name: str) -> None:
    profile = PROFILES[name]
    sent = messages.authorisation(profile, TERMS, ORIGINAL, pan_digits=16, cvv_digits=3)
    response = answered(profile, sent, code="00", security_code=SecurityCode.MISMATCH)
    text = response.fields[44].ljust(10)
    response.fields[44] = text[:1] + "Y" + text[2:]
    got = messages.answer(profile, sent, response)
    assert (got.security_code, got.address) == (SecurityCode.MISMATCH, "Y")
    response.fields[44] = "P" * 10
    assert messages.answer(profile, sent, response).security_code is SecurityCode.NOT_CHECKED


@pytest.mark.parametrize(
    ("given_values", "rule"),
    [
        ({"amount": 2_501}, "CHARGE-AMOUNT"),
        ({"currency": "USD"}, "CHARGE-AMOUNT"),
        ({"code": "10", "amount": 1_250}, "CHARGE-PARTIAL"),
        ({"security_code": SecurityCode.MISMATCH}, "CHARGE-CVV"),
    ],
)
def test_approval_that_is_not_what_was_asked_for(given_values: dict[str, Any], rule: str) -> None:
    sent = authorisation()
    response = answered(PROFILE, sent, **({"code": "00"} | given_values))
    assert unwanted(ORIGINAL, messages.answer(PROFILE, sent, response)) == rule


@pytest.mark.parametrize("missing", [4, 49])
def test_approval_that_echoes_no_amount_is_another_unless_the_profile_says_so(missing: int) -> None:
    sent = authorisation()
    response = answered(PROFILE, sent, code="00")
    del response.fields[missing]
    assert unwanted(ORIGINAL, messages.answer(PROFILE, sent, response)) == "CHARGE-AMOUNT"
    silent = msgspec.structs.replace(PROFILE, echoes_amount=False)
    assert event_of(ORIGINAL, messages.answer(silent, sent, response)) is Event.APPROVAL


@pytest.mark.parametrize(
    ("code", "means"),
    [
        ("00", Event.APPROVAL),
        ("08", Event.APPROVAL),
        ("05", Event.DECLINE),
        ("Z1", Event.DECLINE),
        ("Z9", Event.NO_ANSWER),
        ("11", Event.NO_ANSWER),
    ],
)
def test_codes_mean_what_the_profile_says(code: str, means: Event) -> None:
    codes = Codes(approved=("00", "08"), declines={"new_card": ("Z1",)})
    profile = msgspec.structs.replace(PROFILE, codes=codes)
    sent = authorisation()
    got = messages.answer(profile, sent, answered(profile, sent, code=code))
    assert event_of(ORIGINAL, got) is means


def test_code_that_the_profile_does_not_call_an_approval_is_none() -> None:
    profile = msgspec.structs.replace(PROFILE, codes=Codes(approved=("08",), reversed=("08",)))
    sent = authorisation()
    assert (
        event_of(ORIGINAL, messages.answer(profile, sent, answered(profile, sent, code="00")))
        is Event.NO_ANSWER
    )
    back = messages.reversal(profile, TERMS, REVERSAL)
    assert not is_reversed(
        REVERSAL.reference, messages.answer(profile, back, answered(profile, back, code="00"))
    )
    assert is_reversed(REVERSAL.reference, messages.answer(profile, back, answered(profile, back, code="08")))


def test_in_progress() -> None:
    sent = authorisation()
    assert messages.is_in_progress(PROFILE, answered(PROFILE, sent, code="09"))
    assert not messages.is_in_progress(PROFILE, answered(PROFILE, sent, code="00"))


@pytest.mark.parametrize("code", ["00", "21", "25"])
def test_reversal_is_answered(code: str) -> None:
    sent = messages.reversal(PROFILE, TERMS, REVERSAL)
    got = messages.answer(PROFILE, sent, answered(PROFILE, sent, code=code))
    assert is_reversed(REVERSAL.reference, got)


def test_answer_to_a_reversal_may_leave_the_amount_out() -> None:
    sent = messages.reversal(PROFILE, TERMS, REVERSAL)
    response = answered(PROFILE, sent, code="00")
    del response.fields[4], response.fields[49]
    assert is_reversed(REVERSAL.reference, messages.answer(PROFILE, sent, response))


@pytest.mark.parametrize("without", [11, 39])
def test_answer_without_code_or_trace_number_is_none(without: int) -> None:
    sent = authorisation()
    response = answered(PROFILE, sent, code="00")
    del response.fields[without]
    with pytest.raises(ProcessorError, match="ISO-FORM") as caught:
        messages.answer(PROFILE, sent, response)
    assert "SHOP" not in repr(caught.value)


def test_answer_of_another_kind_is_none() -> None:
    sent, other = authorisation(), messages.capture(PROFILE, TERMS, CAPTURE)
    for response in (
        answered(PROFILE, other, code="00"),
        sent,
        replace(sent, fields=sent.fields | {39: "00"}),
    ):
        with pytest.raises(ProcessorError, match="ISO-FORM"):
            messages.answer(PROFILE, sent, response)


def test_what_comes_back_unchanged_is_no_response() -> None:
    sent = authorisation()
    assert not messages.is_response(sent)
    assert messages.is_response(answered(PROFILE, sent, code="00"))


@pytest.mark.parametrize("repeat", [False, True])
def test_first_sending_and_repetition_are_answered_alike(repeat: bool) -> None:
    asked = messages.reversal(PROFILE, TERMS, replace(REVERSAL, repeat=repeat))
    assert messages.key(asked)[0] == answered(PROFILE, asked, code="00").mti == "0430"


def test_simulator_says_what_it_is() -> None:
    asked = messages.sign_on(PROFILE, TERMS, 1, ORIGINAL.sent_at)
    assert messages.is_simulator(PROFILE, answered(PROFILE, asked, code="00", simulator=True))
    assert not messages.is_simulator(PROFILE, answered(PROFILE, asked, code="00"))
    assert not messages.is_simulator(PROFILE, Message(mti="0110", fields={63: "SIMULATOR"}))


@pytest.mark.parametrize(
    ("code", "means"), [("00", BatchAnswer.IN_BALANCE), ("95", BatchAnswer.OUT_OF_BALANCE), ("96", None)]
)
def test_answer_to_totals(code: str, means: BatchAnswer | None) -> None:
    asked = messages.totals(PROFILE, TERMS, TOTALS)
    assert messages.batch_answer(PROFILE, answered(PROFILE, asked, code=code)) is means
    assert messages.batch_answer(PROFILE, answered(PROFILE, authorisation(), code=code)) is None


@names
def test_acquirer_reads_what_was_asked_for(name: str) -> None:
    profile = PROFILES[name]
    found = {
        kind: requested(profile, one) for kind, one in samples.every_kind(profile).items() if "," not in kind
    }
    assert {kind: one.kind for kind, one in found.items()} == {
        "sign-on": "network",
        "authorisation": "authorisation",
        "capture": "capture",
        "refund": "refund",
        "reversal": "reversal",
        "totals": "totals",
    }
    taken, back = found["capture"], found["reversal"]
    assert (taken.amount, taken.currency, taken.rrn, taken.order_id) == (
        1_500,
        "EUR",
        ORIGINAL.rrn,
        "ab" * 16,
    )
    assert (taken.original_stan, taken.original_time, taken.operation) == (300, "1123024500", "cd" * 16)
    assert (back.amount, back.keep, found["authorisation"].has_cvv, back.has_cvv) == (
        2_500,
        1_000,
        True,
        False,
    )
    sums = found["totals"].totals
    assert sums is not None
    assert (sums.captures, sums.captured, sums.refunds, sums.refunded) == (3, 4_500, 1, 500)


@given(
    mti=st.sampled_from(["0100", "0110", "0220", "0420", "0500", "0800", "9999"]),
    fields=st.dictionaries(
        st.sampled_from([2, 3, 37, 39, 41, 44, 60, 62, 63, 70, 95, 97]), st.text(max_size=20)
    ),
)
def test_any_message_is_read_or_refused_by_the_rule(mti: str, fields: dict[int, str]) -> None:
    decoded = {4: "000000002500", 7: "1123024500", 11: "000300", 49: "978", 90: ORIGINAL_DATA}
    for present in (decoded, {}):
        message = Message(mti=mti, fields=fields | present)
        for read in (
            lambda one: requested(PROFILE, one),
            lambda one: messages.answer(PROFILE, authorisation(), one),
        ):
            with suppress(ProcessorError):
                read(message)
        messages.key(message)
        messages.batch_answer(PROFILE, message)


def test_answer_to_another_trace_number_is_not_ours() -> None:
    sent = authorisation()
    response = answered(PROFILE, sent, code="00", stan=301)
    assert messages.key(response) != messages.key(sent)
    assert not is_ours(ORIGINAL, messages.answer(PROFILE, sent, response, sent=ORIGINAL))
