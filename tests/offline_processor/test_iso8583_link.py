"""The link against hosts without manners: an answer reaches its own request, and nothing is ever sent twice."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any

import msgspec
import pytest

from offline_processor.acquirers.iso8583 import codec, messages
from offline_processor.acquirers.iso8583.connection import Request
from offline_processor.acquirers.iso8583.dialling import Line
from offline_processor.acquirers.iso8583.driver import Iso8583Acquirer, open_iso8583
from offline_processor.acquirers.iso8583.link import ATTEMPTS, Link, Settings
from offline_processor.acquirers.iso8583.mac import MacKey
from offline_processor.acquirers.iso8583.profile import SHIPPED, Profile, Timeouts, load
from offline_processor.acquirers.iso8583.samples import AT, ORIGINAL, REVERSAL, TERMS, TOTALS
from offline_processor.acquirers.iso8583.tls import Tls
from offline_processor.acquirers.protocol import Authorisation, BatchAnswer, Reversal
from offline_processor.charging import Answer
from offline_processor.config import AcquirerConfig
from offline_processor.errors import ProcessorError
from tests.offline_processor.scripted_host import (
    Host,
    Peer,
    Script,
    hang_up,
    polite,
    scripted_host,
    signed_on,
)
from transfer.wire.card import Card, decode_card, encode_card

SOON = 0.3
PAN, CVV = b"4242424242424242", b"737"


def impatient(name: str = "ascii-1987", **changes: Any) -> Profile:
    return msgspec.structs.replace(load(name), timeouts=Timeouts(connect=1, answer=SOON), **changes)


def patient(name: str = "ascii-1987", **changes: Any) -> Profile:
    return msgspec.structs.replace(load(name), timeouts=Timeouts(connect=5, answer=10), **changes)


ASCII = impatient()
"""For hosts that leave something unanswered; a test in which all is answered gives them more time."""
PATIENT = patient()


@dataclass(kw_only=True)
class Caller:
    """Our end: the driver, and the pauses that it made (which take no time here)."""

    driver: Iso8583Acquirer
    link: Link
    pauses: list[float] = field(default_factory=list)
    fetched: int = 0

    def authorise(self, *numbers: int) -> list[Answer | None]:
        self.fetched = 0
        heard = list(self.driver.authorise(self._fetched(numbers)))
        assert sorted(place for place, _ in heard) == list(range(self.fetched))  # each is told of once
        return [dict(heard).get(place) for place in range(len(numbers))]

    def _fetched(self, numbers: Sequence[int]) -> Iterator[Authorisation]:
        for number in numbers:
            self.fetched += 1
            yield authorisation(number)

    def reverse(self, *numbers: int) -> list[Answer | None]:
        return list(self.driver.reverse([reversal(number) for number in numbers]))

    def memory_is_clean(self) -> bool:
        return not any(
            any(buffer.view) for one in self.link._memories for buffer in (one.outgoing, one.incoming)
        )


@contextmanager
def caller(
    host: Host,
    profile: Profile = ASCII,
    *,
    connections: int = 1,
    in_flight: int = 32,
    clock: Callable[[], float] = time.monotonic,
    tls: Tls | None = None,
    mac: MacKey | None = None,
) -> Iterator[Caller]:
    pauses: list[float] = []
    link = Link(
        Settings(
            profile=profile,
            terms=TERMS,
            line=Line(address=ip_address("127.0.0.1"), port=host.port, tls=tls),
            connections=connections,
            in_flight=in_flight,
            clock=clock,
            sleep=pauses.append,
            now=lambda: AT,
            mac=mac,
        )
    )
    made = Caller(driver=Iso8583Acquirer(link, profile, TERMS), link=link, pauses=pauses)
    try:
        yield made
        assert made.memory_is_clean()
    finally:
        made.driver.close()


@contextmanager
def played(
    *scripts: Script, profile: Profile = ASCII, connections: int = 1, in_flight: int = 32
) -> Iterator[tuple[Host, Caller]]:
    with (
        scripted_host(profile, *scripts) as host,
        caller(host, profile, connections=connections, in_flight=in_flight) as ours,
    ):
        yield host, ours


def authorisation(number: int, *, cvv: bytes = CVV) -> Authorisation:
    card = Card(pan=PAN, cvv=cvv, expiry_month=12, expiry_year=2031)
    raw = encode_card(card, header_digest=bytes(32), order_box_digest=bytes(32), amount=2_500, currency="EUR")
    sent = replace(ORIGINAL, number=number, stan=number, rrn=f"{number:012d}")
    return Authorisation(reference=sent, card=decode_card(memoryview(raw)))


def request(number: int) -> Request:
    asked = authorisation(number)
    digits = {"pan_digits": len(asked.card.pan), "cvv_digits": len(asked.card.cvv)}
    return Request(message=messages.authorisation(ASCII, TERMS, asked.reference, **digits), card=asked.card)


def reversal(number: int) -> Reversal:
    original = authorisation(number)
    own = replace(original.reference, stan=500_000 + number)
    return replace(
        REVERSAL, reference=own, original=original.reference, card=original.card, operation=f"{number:032x}"
    )


def answers_of(driver: Iso8583Acquirer, numbers: Sequence[int]) -> list[Answer | None]:
    heard = dict(driver.authorise(authorisation(number) for number in numbers))
    return [heard[place] for place in range(len(numbers))]


def codes(answers: Sequence[Answer | None]) -> list[str | None]:
    return [None if answer is None else answer.code for answer in answers]


def stans(answers: Sequence[Answer | None]) -> list[int | None]:
    return [None if answer is None else answer.stan for answer in answers]


@pytest.mark.parametrize("name", SHIPPED)
def test_answers_in_any_order_reach_their_own_requests(name: str) -> None:
    profile = patient(name)

    def backwards(peer: Peer) -> None:
        for _ in range(4):
            for place, asked in enumerate(reversed(peer.requests(25))):
                peer.answer(asked, code="05" if place % 3 else "00", amount=2_500)

    with played(signed_on(backwards), profile=profile, in_flight=25) as (host, ours):
        answers = ours.authorise(*range(1, 101))
        assert stans(answers) == list(range(1, 101))
        assert codes(answers) == ["05" if (24 - place % 25) % 3 else "00" for place in range(100)]
    assert max(Counter(host.seen("0100")).values()) == 1


def test_a_window_larger_than_the_buffers_goes_through() -> None:
    with played(polite, profile=PATIENT, in_flight=256) as (host, ours):
        assert codes(ours.authorise(*range(1, 601))) == ["00"] * 600
    assert len(host.peers) == 1


def test_several_connections_share_what_may_be_unanswered() -> None:
    most: list[int] = []

    def slowly(peer: Peer) -> None:
        peer.socket.setblocking(True)
        while True:
            asked = [peer.request()]
            peer.socket.settimeout(0.05)
            try:
                while True:
                    asked.append(peer.request())
            except TimeoutError:
                peer.socket.settimeout(5)
            most.append(len(asked))
            for one in asked:
                peer.answer(one)

    with played(signed_on(slowly), profile=PATIENT, connections=3, in_flight=12) as (host, ours):
        assert codes(ours.authorise(*range(1, 61))) == ["00"] * 60
        assert len(host.peers) == 3
        assert min(len(peer.seen) for peer in host.peers) > 10
        assert max(most) <= 12
    assert max(most) == 4  # never more than 12 over the three


def test_answer_that_trickles_in_counts_when_it_is_whole_in_time() -> None:
    def trickle(peer: Peer) -> None:
        for byte in peer.framed(peer.request()):
            peer.send(bytes([byte]))
        peer.serve()

    with played(signed_on(trickle), profile=PATIENT) as (_, ours):
        assert codes(ours.authorise(1, 2)) == ["00", "00"]


def test_host_that_trickles_without_end_does_not_stop_the_clock() -> None:
    def trickle(peer: Peer) -> None:
        whole = peer.framed(peer.request())
        for byte in whole[:-1]:
            peer.send(bytes([byte]))
            time.sleep(0.01)
        peer.until_hung_up()

    started = time.monotonic()
    with played(signed_on(trickle), polite) as (host, ours):
        assert codes(ours.authorise(1)) == [None]
        assert time.monotonic() - started < SOON * 5
        assert codes(ours.authorise(2)) == ["00"]
    assert host.seen("0100") == ["000001", "000002"]
    assert len(host.peers) == 2  # closed after the time-out


def test_host_that_floods_does_not_stop_the_clock() -> None:
    def flood(peer: Peer) -> None:
        asked = peer.request()
        stranger = peer.framed(asked, stan=900_000) * 200
        while True:
            peer.send(stranger)

    started = time.monotonic()
    with played(signed_on(flood), polite) as (_, ours):
        assert codes(ours.authorise(1)) == [None]
        assert time.monotonic() - started < SOON * 10
        assert codes(ours.authorise(2)) == ["00"]


def test_silence_is_no_answer_and_what_was_sent_is_not_sent_again() -> None:
    def silent_about_two(peer: Peer) -> None:
        while True:
            asked = peer.request()
            if asked.fields[11] != "000002":
                peer.answer(asked)

    with played(signed_on(silent_about_two), polite, in_flight=3) as (host, ours):
        assert codes(ours.authorise(*range(1, 7))) == ["00", None, "00", "00", "00", "00"]
        assert codes(ours.authorise(7)) == ["00"]
    assert sorted(host.seen("0100")) == [f"{number:06d}" for number in range(1, 8)]
    assert [len(peer.seen) for peer in host.peers] == [
        7,
        2,
    ]  # after the time-out nothing more over that connection


def test_late_answer_is_marked_late() -> None:
    def late(peer: Peer) -> None:
        first, second = peer.requests(2)
        time.sleep(SOON * 0.5)
        peer.answer(second)
        third = peer.request()  # keeps the connection open beyond the first one's time
        time.sleep(SOON * 0.7)
        peer.answer(first)
        peer.answer(third)
        peer.until_hung_up()

    with played(signed_on(late), in_flight=2) as (_, ours):
        answers = ours.authorise(1, 2, 3)
        assert [answer and answer.late for answer in answers] == [True, False, False]


@pytest.mark.parametrize("end", [hang_up, "cut"], ids=["hung up", "cut inside a frame"])
def test_cut_is_no_answer_and_the_rest_goes_over_a_new_connection(end: Script | str) -> None:
    def cut(peer: Peer) -> None:
        asked = peer.requests(2)
        peer.answer(asked[0])
        if end == "cut":
            peer.send(peer.framed(asked[1])[:30])

    with played(signed_on(cut), polite, in_flight=2) as (host, ours):
        answers = codes(ours.authorise(*range(1, 9)))
        lost = answers.count(None)
        assert 1 <= lost <= 2  # the second, and the third when it was already on its way
        assert answers == ["00", *[None] * lost, *["00"] * (7 - lost)]
    assert max(Counter(host.seen("0100")).values()) == 1


@pytest.mark.parametrize(
    "garbage",
    [b"\x00\x00", b"\xff\xff\xff", b"\x00\x10" + b"\xff" * 16, b"HTTP/1.1 200 OK\r\n\r\n" * 40],
)
def test_garbage_ends_the_connection_and_answers_nothing(garbage: bytes) -> None:
    def babble(peer: Peer) -> None:
        asked = peer.requests(2)
        peer.answer(asked[1])
        peer.send(garbage)
        peer.send(peer.framed(asked[0]))  # after garbage nothing is believed
        peer.until_hung_up()

    with played(signed_on(babble), polite, in_flight=2) as (host, ours):
        answers = codes(ours.authorise(1, 2, 3, 4))
        assert answers[:2] == [None, "00"]
        assert answers[3] == "00"
    assert max(Counter(host.seen("0100")).values()) == 1


def test_only_the_own_answer_counts() -> None:
    def liar(peer: Peer) -> None:
        asked = peer.request()
        peer.send(peer.frame(asked))  # the request itself, sent back
        for name, value in ((11, "000099"), (37, "000000000099"), (41, "SHOP0002")):
            other = codec.Message(mti="0110", fields={**asked.fields, 39: "00"})
            for card in (2, 14, 60):
                other.fields.pop(card, None)
            other.fields[name] = value
            peer.send(peer.frame(other))
        for mti in ("0130", "0230", "0430", "0810", "0510"):
            fields = {n: text for n, text in asked.fields.items() if n not in (2, 14, 60)}
            peer.send(peer.frame(codec.Message(mti=mti, fields=fields | {39: "00"})))
        without_code = {n: text for n, text in asked.fields.items() if n not in (2, 14, 60)}
        peer.answer(asked, code="05")
        peer.answer(asked, code="00")  # a second one changes nothing
        second = peer.request()
        peer.answer(asked, code="00")
        peer.send(peer.frame(codec.Message(mti="0110", fields=without_code | {11: second.fields[11]})))
        peer.until_hung_up()

    with played(signed_on(liar), polite) as (_, ours):
        assert codes(ours.authorise(1)) == ["05"]
        assert codes(ours.authorise(2)) == [None]


def test_in_progress_is_waited_for_within_the_time() -> None:
    def busy(peer: Peer) -> None:
        first = peer.request()
        for _ in range(3):
            peer.answer(first, code="09")
        peer.answer(first)
        second = peer.request()
        while True:
            peer.answer(second, code="09")
            time.sleep(0.02)

    with played(signed_on(busy), polite) as (_, ours):
        assert codes(ours.authorise(1)) == ["00"]
        started = time.monotonic()
        assert codes(ours.authorise(2)) == [None]
        assert time.monotonic() - started < SOON * 5


def test_host_that_repeats_the_card_is_read_without_it() -> None:
    def parrot(peer: Peer) -> None:
        raw = peer.socket.recv(65_536)
        asked = codec.decode(ASCII, raw[2:])
        said = peer.framed(asked)
        fields = {**codec.decode(ASCII, said[2:]).fields, 2: PAN.decode(), 14: "3112", 60: CVV.decode()}
        peer.send(peer.frame(codec.Message(mti="0110", fields=fields)))
        peer.until_hung_up()

    with played(signed_on(parrot)) as (_, ours):
        reply = ours.link.ask_one(request(1))
        assert reply is not None
        assert (reply.message.fields[2], reply.message.fields[14]) == ("0" * 16, "0000")
        assert PAN.decode() not in repr(reply.message.fields)
        assert ours.memory_is_clean()


def test_memory_is_wiped_after_every_kind_of_end() -> None:
    def half(peer: Peer) -> None:
        peer.answer(peer.request())
        peer.send(peer.framed(peer.request())[:-3])
        peer.until_hung_up()

    with played(signed_on(half), signed_on(hang_up), polite) as (_, ours):
        for number in range(1, 5):
            ours.authorise(number)
            assert ours.memory_is_clean()


def test_nothing_reaches_the_host_after_its_time_was_over() -> None:
    ours_is_done: list[bool] = []
    late: list[bytes] = []

    def reads_only_afterwards(peer: Peer) -> None:
        while not ours_is_done:
            time.sleep(0.01)
        time.sleep(0.2)
        received = 0
        try:
            while part := peer.socket.recv(65_536):
                received += len(part)
        except ConnectionResetError:
            late.append(b"reset")
        assert received < 300_000

    def small(peer: Peer) -> None:
        peer.sign_on()
        reads_only_afterwards(peer)

    with scripted_host(ASCII, small, polite) as host:
        host.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        with caller(host, in_flight=256) as ours:
            # So much that our own system still holds some of it when the time is over.
            ours.link._connections[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
            answers = ours.authorise(*range(1, 201))
            ours_is_done.append(True)
            sent_once = answers.count(None)
            assert 0 < sent_once < 200
            time.sleep(0.4)
    assert late == [b"reset"]
    assert max(Counter(host.seen("0100")).values()) == 1


def test_reversal_that_was_answered_no_is_repeated_over_a_new_connection() -> None:
    def no(peer: Peer) -> None:
        while True:
            peer.answer(peer.request(), code="96")

    with played(signed_on(no), polite, profile=PATIENT) as (host, ours):
        assert codes(ours.reverse(1, 2)) == ["96", "96"]
        assert codes(ours.reverse(1, 2)) == ["00", "00"]
    assert len(host.peers) == 2
    assert host.seen("0421") == ["500001", "500002"] * 2


def test_connection_that_is_left_by_choice_sends_what_it_began_and_no_more() -> None:
    def slow_reader(peer: Peer) -> None:
        peer.answer(peer.request(), code="96")
        time.sleep(
            0.3
        )  # meanwhile a frame is stuck half-way, and the last of the window may not go here again
        peer.serve()

    with scripted_host(PATIENT, signed_on(slow_reader), polite) as host:
        host.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        with caller(host, PATIENT, in_flight=256) as ours:
            ours.link._connections[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
            assert codes(ours.reverse(1)) == ["96"]
            assert codes(ours.reverse(*range(2, 91), 1)) == ["00"] * 90
    seen = [[message.fields[11] for message in peer.seen if message.mti == "0421"] for peer in host.peers]
    assert seen[0][0] == seen[1][-1] == "500001"
    assert len(seen[0]) > 1
    assert sorted(seen[0][1:] + seen[1][:-1]) == [f"{500_000 + number:06d}" for number in range(2, 91)]


def test_acquirer_that_is_not_there_is_said_before_anything_is_sent() -> None:
    with scripted_host(ASCII, polite) as host:
        host.stop_listening()
        with pytest.raises(ProcessorError, match="cannot be reached") as refused, caller(host):
            pass
    assert refused.value.rule == "ACQUIRER-UNREACHABLE"


@pytest.mark.parametrize(
    "script",
    [
        lambda peer: peer.sign_on(code="05"),
        lambda peer: peer.send(b"220 mail.example.org ESMTP\r\n"),
        lambda peer: peer.until_hung_up(),
        hang_up,
    ],
    ids=["refused", "no ISO 8583", "silent", "hung up"],
)
def test_sign_on_that_fails_is_said_before_anything_is_sent(script: Script) -> None:
    with scripted_host(ASCII, script) as host:
        with pytest.raises(ProcessorError, match="did not sign us on") as refused, caller(host):
            pass
        assert host.seen("0100") == []
    assert refused.value.rule == "ACQUIRER-SIGN-ON"


def test_after_a_cut_it_comes_back_with_growing_pauses_and_then_gives_up() -> None:
    with scripted_host(ASCII, signed_on(lambda peer: peer.answer(peer.request()))) as host:
        with caller(host, in_flight=1) as ours:
            assert codes(ours.authorise(1)) == ["00"]
            host.stop_listening()
            assert codes(ours.authorise(2, 3)) == [None, None]
            assert ours.fetched <= 2  # the second while the first was on its way, or nothing at all
            assert ours.pauses == [0.2 * 2**number for number in range(len(ours.pauses))]
            assert len(ours.pauses) in (ATTEMPTS - 1, ATTEMPTS)
            assert not ours.driver.echo()
            assert codes(ours.authorise(4, 5)) == [None, None]
            assert ours.fetched == 0  # so that no order has an intent which nobody could have seen
        assert host.seen("0100") in (["000001"], ["000001", "000002"])


def test_other_end_that_changes_its_kind_is_not_charged_at() -> None:
    def real(peer: Peer) -> None:
        peer.sign_on(simulator=False)
        peer.serve()

    with played(signed_on(hang_up), real) as (host, ours):
        assert ours.driver.is_simulator
        time.sleep(0.05)
        assert codes(ours.authorise(1, 2, 3)) == [None, None, None]
        assert ours.driver.is_simulator
    assert [message.mti for peer in host.peers[1:] for message in peer.seen] == ["0800"] * ATTEMPTS


def test_host_that_hung_up_between_two_windows_costs_no_order() -> None:
    with played(signed_on(lambda peer: peer.answer(peer.request())), polite, profile=PATIENT) as (host, ours):
        assert codes(ours.authorise(1)) == ["00"]
        time.sleep(0.05)
        assert codes(ours.authorise(2)) == ["00"]
        assert ours.pauses == []
    assert len(host.peers) == 2


def test_further_connection_that_is_refused_is_not_asked_for_again_at_once() -> None:
    with played(polite, lambda peer: peer.sign_on(code="05"), profile=PATIENT, connections=2) as (host, ours):
        for number in range(1, 6):
            assert codes(ours.authorise(number)) == ["00"]
    assert len(host.peers) == 2


def test_interrupted_it_hangs_up_and_wipes() -> None:
    class InterruptedHereError(Exception):
        pass

    with scripted_host(ASCII, signed_on(lambda peer: peer.until_hung_up()), polite) as host:

        def clock() -> float:
            if len(host.peers) == 1 and host.seen("0100"):
                raise InterruptedHereError
            return time.monotonic()

        with caller(host, clock=clock, in_flight=4) as ours:
            with pytest.raises(InterruptedHereError):
                ours.authorise(*range(1, 50))
            assert ours.memory_is_clean()
            ours.driver.close()
    assert 1 <= len(host.seen("0100")) <= 4


def test_totals_and_echo() -> None:
    def compare(peer: Peer) -> None:
        for code in ("00", "95", "12"):
            peer.answer(peer.request(), code=code)
        peer.answer(peer.request())
        peer.until_hung_up()

    with played(signed_on(compare)) as (_, ours):
        said = [ours.driver.close_batch(replace(TOTALS, stan=stan)) for stan in (1, 2, 3)]
        assert said == [BatchAnswer.IN_BALANCE, BatchAnswer.OUT_OF_BALANCE, None]
        assert ours.driver.echo()
        assert ours.driver.close_batch(TOTALS) is None
    with played(polite, profile=impatient(totals=False)) as (host, ours):
        assert ours.driver.close_batch(TOTALS) is BatchAnswer.NOT_COMPARED
        assert host.seen("0500") == []


def test_empty_window_is_answered_with_nothing() -> None:
    with played(polite) as (host, ours):
        assert ours.authorise() == []
    assert host.seen("0100") == []


def opened(**settings: Any) -> Callable[[], Iso8583Acquirer]:
    config = AcquirerConfig(driver="iso8583", **settings)
    return lambda: open_iso8583(config, now=lambda: AT, clock=time.monotonic, sleep=time.sleep)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"address": "acquirer.example:5000"}, "CONFIG-ISO8583"),
        ({"address": "127.0.0.1:0"}, "CONFIG-ISO8583"),
        ({"address": "127.0.0.1:5000"}, "CONFIG-ISO8583"),
        ({"address": "127.0.0.1:5000", "terminal": "SHOP0001"}, "CONFIG-ISO8583"),
        ({"address": "192.0.2.7:5000", "terminal": "SHOP0001", "merchant": "M"}, "CONFIG-ISO8583"),
        (
            {"address": "127.0.0.1:5000", "terminal": "T", "merchant": "M", "profile": "other-1987"},
            "ISO-PROFILE",
        ),
    ],
)
def test_line_that_is_not_wholly_configured_is_not_opened(settings: dict[str, Any], rule: str) -> None:
    with pytest.raises(ProcessorError) as refused:
        opened(**settings)()
    assert refused.value.rule == rule
