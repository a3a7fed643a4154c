"""One connection's exchange: whatever comes, in any pieces and order, an answer reaches its own request or nobody."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from offline_processor.acquirers.iso8583 import codec, messages, samples
from offline_processor.acquirers.iso8583.acquirer_side import answered
from offline_processor.acquirers.iso8583.codec import LARGEST, Message
from offline_processor.acquirers.iso8583.exchange import HOST_REQUESTS, REMEMBERED, Exchange, Reply
from offline_processor.acquirers.iso8583.frame import next_frame
from offline_processor.acquirers.iso8583.profile import SHIPPED, Profile, load
from offline_processor.acquirers.iso8583.samples import ORIGINAL, REVERSAL, TERMS
from offline_processor.errors import ProcessorError

PROFILES = {name: load(name) for name in SHIPPED}
PROFILE = PROFILES["ascii-1987"]
TIME = 30.0


def request(number: int) -> Message:
    """Authorisations and reversals in turn; the same number is the same message."""
    sent = replace(ORIGINAL, stan=number + 1, rrn=f"{number + 1:012d}")
    if number % 2:
        advice = replace(REVERSAL, reference=sent, original=replace(ORIGINAL, rrn=sent.rrn))
        return messages.reversal(PROFILE, TERMS, advice)
    return messages.authorisation(PROFILE, TERMS, sent, pan_digits=16, cvv_digits=3)


def framed(message: Message) -> bytes:
    raw = codec.encode(PROFILE, message)
    return codec.prefix(PROFILE, raw) + bytes(raw)


def answer(number: int, *, code: str = "00") -> bytes:
    return framed(answered(PROFILE, request(number), code=code))


def received(exchange: Exchange, data: bytes, *, now: float = 0.0) -> list[Reply]:
    replies, _ = exchange.receive(memoryview(bytearray(data)), now=now)
    return replies


def host_asks(function: str, stan: int = 1) -> Message:
    """What a host sends of itself; its trace numbers and terminal may be those of our own requests."""
    named = {7: "1128020000", 11: f"{stan:06d}", 41: "SHOP0001", 70: function}
    return Message(mti="0800", fields=named)


GARBAGE = (
    b"\x00\x00",
    b"\xff\xff" + b"0" * 40,
    (40).to_bytes(2, "big") + b"\xfe" * 40,
    answer(0)[:2] + b"0110" + b"\xff" * (len(answer(0)) - 6),
)


class Conversation(RuleBasedStateMachine):
    """A host that may say anything at any time, in any pieces, against what a reader would expect by hand."""

    @initialize(clean=st.sampled_from([True, True, False]))
    def begin(self, *, clean: bool) -> None:
        self.clean = clean
        self.exchange = Exchange(profile=PROFILE)
        self.now = 0.0
        self.line = bytearray()  # sent by the host, not yet received
        self.marks: list[
            tuple[int, int, str]
        ] = []  # (end in all that was sent, request, code); -1: no message
        self.delivered = 0
        self.buffer = bytearray()
        self.deadlines: dict[int, float] = {}
        self.answers: dict[int, str] = {}
        self.sent = 0
        self.got: dict[int, Reply] = {}
        self.poisoned = False
        self.ignored = 0
        self.to_host: list[str] = []

    @precondition(lambda self: not self.exchange.tired and not self.exchange.broken)
    @rule(number=st.integers(0, 11))
    def ask(self, number: int) -> None:
        if number in self.deadlines:
            assert self.exchange.knows(request(number))
            return
        assert not self.exchange.knows(request(number))
        self.deadlines[number] = self.now + TIME
        self.exchange.asked(number, request(number), deadline=self.now + TIME)

    @precondition(lambda self: self.deadlines)
    @rule(data=st.data(), code=st.sampled_from(["00", "05", "09"]))
    def host_answers(self, data: st.DataObject, code: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.deadlines)))
        self._says(answer(number, code=code), number, code)

    @rule(number=st.integers(0, 15))
    def host_answers_what_may_not_have_been_asked(self, number: int) -> None:
        self._says(answer(number), number, "00")

    @rule(number=st.integers(0, 11))
    def host_sends_the_request_back(self, number: int) -> None:
        self._says(framed(request(number)), 999, "")

    @precondition(lambda self: self.deadlines)
    @rule(data=st.data(), field=st.sampled_from([11, 37, 41]))
    def host_answers_to_other_numbers(self, data: st.DataObject, field: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.deadlines)))
        other = answered(PROFILE, request(number), code="00")
        other.fields[field] = {11: "900000", 37: "900000000000", 41: "SHOP0002"}[field]
        self._says(framed(other), 999, "")

    @rule(number=st.integers(1, 12), function=st.sampled_from(["301", "001", "002", "101"]))
    def host_asks_something_itself(self, number: int, function: str) -> None:
        self._says(framed(host_asks(function, number)), -2, function)

    @precondition(lambda self: not self.clean)
    @rule(garbage=st.sampled_from(GARBAGE))
    def host_sends_garbage(self, garbage: bytes) -> None:
        self._says(garbage, -1, "")

    @precondition(lambda self: self.line)
    @rule(size=st.integers(1, 900))
    def some_bytes_come(self, size: int) -> None:
        part = bytes(self.line[:size])
        del self.line[:size]
        self.buffer += part
        self.delivered += len(part)
        replies, taken = self.exchange.receive(memoryview(bytearray(self.buffer)), now=self.now)
        del self.buffer[:taken]
        self._expect()
        said = [(one.mti, one.fields[70], one.fields[39]) for one in self.exchange.to_answer]
        expected = [("0810", asked, "00" if asked == "301" else "40") for asked in self.to_host]
        assert said == expected[:HOST_REQUESTS]
        assert self.exchange.strangers + self.exchange.duplicates == self.ignored
        self.to_host, self.exchange.to_answer = [], []
        for reply in replies:
            assert reply.ticket not in self.got  # one answer a request, never two
            assert messages.key(reply.message) == messages.key(request(reply.ticket))
            assert reply.message.fields[39] == self.answers[reply.ticket]
            assert reply.late is (self.deadlines[reply.ticket] <= self.now)
            self.got[reply.ticket] = reply
        assert self.got.keys() == self.answers.keys()

    @rule(seconds=st.sampled_from([1.0, 14.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.exchange.run_out(self.now)

    @invariant()
    def who_waits_is_known(self) -> None:
        if not hasattr(self, "exchange"):
            return
        open_ones = [self.deadlines[one] for one in self.deadlines if one not in self.got]
        waiting = [one for one in open_ones if one > self.now]
        assert self.exchange.waiting == len(waiting)
        assert self.exchange.deadline == min(waiting, default=None)
        assert self.exchange.settled is (not open_ones)
        assert self.exchange.tired or len(waiting) == len(open_ones)
        assert self.exchange.broken is self.poisoned

    def _says(self, data: bytes, number: int, code: str) -> None:
        self.line += data
        self.sent += len(data)
        self.marks.append((self.sent, number, code))

    def _expect(self) -> None:
        """What has come whole, read by hand: the first final answer to what was asked; nothing after a broken frame."""
        while self.marks and not self.poisoned:
            end, number, code = self.marks[0]
            begin_seen = self.delivered >= end
            if number == -1 and (begin_seen or self.exchange.broken):
                self.poisoned = True
                return
            if not begin_seen:
                return
            self.marks.pop(0)
            if number == -2:
                self.to_host.append(code)
                continue
            if number not in self.deadlines or number in self.answers:
                self.ignored += 1
            elif code != "09":
                self.answers[number] = code


Conversation.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestAnyConversation = Conversation.TestCase


def test_a_second_request_of_the_same_numbers_is_for_another_connection() -> None:
    exchange = Exchange(profile=PROFILE)
    exchange.asked(1, request(1), deadline=TIME)
    with pytest.raises(AssertionError, match="another connection"):
        exchange.asked(2, request(1), deadline=TIME)
    assert len(received(exchange, answer(1))) == 1
    with pytest.raises(AssertionError, match="another connection"):
        exchange.asked(2, request(1), deadline=TIME)


def test_what_was_taken_back_is_not_waited_for() -> None:
    exchange = Exchange(profile=PROFILE)
    exchange.asked(1, request(1), deadline=TIME)
    exchange.run_out(TIME)
    exchange.taken_back(request(1))
    assert (exchange.waiting, exchange.settled, exchange.knows(request(1))) == (0, True, False)
    assert received(exchange, answer(1)) == []
    assert exchange.strangers == 1


def test_our_own_echo_sent_back_is_no_request_of_the_hosts() -> None:
    exchange = Exchange(profile=PROFILE)
    ours = messages.echo(PROFILE, TERMS, 7, samples.AT)
    exchange.asked(1, ours, deadline=TIME)
    assert received(exchange, framed(ours)) == []
    assert (exchange.to_answer, exchange.strangers) == ([], 1)
    assert [one.ticket for one in received(exchange, framed(answered(PROFILE, ours, code="00")))] == [1]


def test_our_own_answer_to_an_echo_test_sent_back_signs_nobody_on() -> None:
    exchange = Exchange(profile=PROFILE)
    asked = messages.sign_on(PROFILE, TERMS, 7, samples.AT)
    received(exchange, framed(host_asks("301", stan=7)))
    (ours,) = exchange.to_answer
    exchange.asked(1, asked, deadline=TIME)
    assert messages.key(ours) == messages.key(asked)
    assert ours.fields[39] == "00"
    assert received(exchange, framed(ours)) == []
    assert (exchange.strangers, exchange.settled) == (1, False)
    silent = answered(PROFILE, asked, code="00")  # some hosts do not say again what was asked
    silent.fields.pop(70)
    assert [one.ticket for one in received(exchange, framed(silent))] == [1]


def test_what_a_host_asks_without_end_takes_no_more_memory() -> None:
    exchange = Exchange(profile=PROFILE)
    for _ in range(50):
        received(exchange, framed(host_asks("301")) * 20)
    assert len(exchange.to_answer) == HOST_REQUESTS
    assert (exchange.strangers, exchange.duplicates, exchange.settled) == (0, 0, True)


@pytest.mark.parametrize("without", [11, 70])
def test_request_of_the_hosts_that_does_not_say_what_it_wants_is_ignored(without: int) -> None:
    exchange = Exchange(profile=PROFILE)
    asked = host_asks("301")
    asked.fields.pop(without)
    received(exchange, framed(asked))
    assert (exchange.to_answer, exchange.strangers) == ([], 1)


def test_duplicates_are_told_from_strangers_within_bounds() -> None:
    exchange = Exchange(profile=PROFILE)
    for number in range(REMEMBERED + 10):
        exchange.asked(number, request(number), deadline=TIME)
        assert len(received(exchange, answer(number))) == 1
    received(exchange, answer(REMEMBERED))
    received(exchange, answer(0))
    assert (exchange.duplicates, exchange.strangers) == (1, 1)


def test_answers_to_totals_and_sign_on_may_have_a_reference_of_the_hosts_own() -> None:
    exchange = Exchange(profile=PROFILE)
    for ticket, asked in enumerate(
        (messages.sign_on(PROFILE, TERMS, 7, samples.AT), messages.totals(PROFILE, TERMS, samples.TOTALS))
    ):
        exchange.asked(ticket, asked, deadline=TIME)
        said = answered(PROFILE, asked, code="00")
        said.fields[37] = "HOSTS0WN0001"
        assert [one.ticket for one in received(exchange, framed(said))] == [ticket]


@pytest.mark.parametrize("echoes", [True, False])
def test_reference_is_compared_unless_the_host_has_its_own(*, echoes: bool) -> None:
    profile = msgspec.structs.replace(PROFILE, echoes_reference=echoes)
    for own in ("H0STS0WN0001", None):
        exchange = Exchange(profile=profile)
        exchange.asked(3, request(0), deadline=TIME)
        said = answered(PROFILE, request(0), code="00")
        said.fields.pop(37)
        if own:
            said.fields[37] = own
        replies = received(exchange, framed(said))
        assert [one.ticket for one in replies] == ([3] if echoes is False else [])
        sent = replace(ORIGINAL, stan=1, rrn=f"{1:012d}")
        told = messages.answer(profile, request(0), said, sent=sent)
        assert (told.rrn == sent.rrn) is not echoes


@pytest.mark.parametrize("name", SHIPPED)
@given(sizes=st.lists(st.integers(1, 60), max_size=12), cuts=st.lists(st.integers(1, 90), max_size=30))
def test_frames_are_found_in_any_pieces(name: str, sizes: list[int], cuts: list[int]) -> None:
    profile = PROFILES[name]
    bodies = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    line = b"".join(codec.prefix(profile, body) + body for body in bodies)
    found: list[bytes] = []
    buffer = bytearray()
    while line or cuts:
        size = cuts.pop() if cuts else len(line)
        buffer += line[:size]
        line = line[size:]
        at = 0
        while True:
            frame, taken = next_frame(profile, memoryview(buffer)[at:])
            if frame is None:
                break
            found.append(bytes(frame))
            at += taken
        buffer = buffer[at:]
    assert found == bodies
    assert not buffer


ASCII_LENGTH = msgspec.structs.replace(PROFILE, length_prefix="ascii4")


@pytest.mark.parametrize("profile", [PROFILE, ASCII_LENGTH], ids=["binary2", "ascii4"])
@given(data=st.one_of(st.binary(max_size=80), st.from_regex(rb"00[0-4][0-9].{,60}", fullmatch=True)))
def test_any_bytes_are_frames_or_refused(profile: Profile, data: bytes) -> None:
    frame: memoryview | None = None
    taken, rule_id = 0, ""
    try:
        frame, taken = next_frame(profile, memoryview(data))
    except ProcessorError as refusal:
        rule_id = refusal.rule
    width = 2 if profile is PROFILE else 4
    head = data[:width]
    size = int.from_bytes(head, "big") if width == 2 else int(head) if head.isdigit() else 0
    if len(data) < width or (0 < size <= LARGEST and len(data) < width + size):
        assert (frame, taken, rule_id) == (None, 0, "")
    elif 0 < size <= LARGEST:
        assert frame is not None
        assert (bytes(frame), taken) == (data[width : width + size], width + size)
    else:
        assert rule_id == "ISO-LENGTH"
