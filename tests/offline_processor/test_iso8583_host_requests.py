"""What a host begins itself, on real connections: it is answered, and disturbs nothing of ours however much it is."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec
import pytest

from offline_processor.acquirers.iso8583 import codec, messages
from offline_processor.acquirers.iso8583.codec import Message
from offline_processor.acquirers.iso8583.connection import Connection, Memory, Request
from offline_processor.acquirers.iso8583.exchange import HOST_REQUESTS
from offline_processor.acquirers.iso8583.frame import FRAME_MOST
from offline_processor.acquirers.iso8583.profile import SHIPPED
from tests.offline_processor.mac_keys import mac_key
from tests.offline_processor.scripted_host import Peer, polite, scripted_host, signed_on
from tests.offline_processor.test_iso8583_link import (
    PATIENT,
    SOON,
    caller,
    codes,
    patient,
    played,
    request,
    stans,
)


def asks(function: str, stan: int, **more: str) -> Message:
    named = {7: "1128020000", 11: f"{stan:06d}", 70: function}
    return Message(mti="0800", fields=named | {int(name[1:]): text for name, text in more.items()})


def answer_to(peer: Peer, asked: Message) -> Message:
    """Our answer, whatever else of ours comes before it (which is answered)."""
    peer.send(peer.frame(asked))
    while (said := peer.request()).mti != "0810":
        peer.answer(said)
    assert said.fields[11] == asked.fields[11]
    return said


@pytest.mark.parametrize("name", SHIPPED)
def test_echo_of_the_host_in_the_middle_of_a_window_is_answered_and_disturbs_nothing(name: str) -> None:
    told: list[Message] = []

    def curious(peer: Peer) -> None:
        for turn in range(5):
            asked = peer.requests(10)
            # The trace number of our own request that waits just then, and our terminal: still not its answer.
            stan = int(asked[0].fields[11])
            told.append(answer_to(peer, asks("301", stan, f41="SHOP0001", f32="123456")))
            peer.send(peer.frame(asks("301", 900 + turn)))
            for one in reversed(asked):
                peer.answer(one)
            told.append(peer.request())
        peer.serve()

    with played(signed_on(curious), profile=patient(name), in_flight=10) as (host, ours):
        assert stans(ours.authorise(*range(1, 51))) == list(range(1, 51))
        exchange = ours.link._connections[0].exchange
        assert (exchange.strangers, exchange.duplicates) == (0, 0)
        assert ours.driver.echo()
    assert [(one.mti, one.fields[39], one.fields[70]) for one in told] == [("0810", "00", "301")] * 10
    assert (told[0].fields[41], told[0].fields[32], told[0].fields[7]) == ("SHOP0001", "123456", "1128020000")
    assert len(host.peers) == 1


@pytest.mark.parametrize("function", ["001", "002", "101", "161", "201", "270"])
def test_what_we_do_not_do_is_refused_and_the_line_goes_on(function: str) -> None:
    told: list[Message] = []

    def demanding(peer: Peer) -> None:
        asked = peer.request()
        told.append(answer_to(peer, asks(function, 5, f48="0123456789ABCDEF", f53="9701100001000000")))
        peer.answer(asked)
        peer.serve()

    with played(signed_on(demanding), profile=PATIENT) as (host, ours):
        assert codes(ours.authorise(1, 2)) == ["00", "00"]
    (said,) = told
    assert said.fields == {7: "1128020000", 11: "000005", 39: "40", 70: function}  # and nothing of a key
    assert len(host.peers) == 1


def test_host_that_asks_before_it_answers_the_sign_on_is_answered() -> None:
    told: list[Message] = []

    def first(peer: Peer) -> None:
        asked = peer.request()
        told.append(answer_to(peer, asks("301", 1)))
        peer.answer(asked, simulator=True)
        peer.serve()

    with played(first, profile=PATIENT) as (_, ours):
        assert codes(ours.authorise(1)) == ["00"]
    assert [one.fields[39] for one in told] == ["00"]


def test_answer_to_the_host_has_the_mac_and_a_request_without_it_is_garbage() -> None:
    profile = msgspec.structs.replace(PATIENT, mac=True, mac_algorithm="aes-cmac")
    told: list[Message] = []

    def curious(peer: Peer) -> None:
        asked = peer.request()
        told.append(answer_to(peer, asks("301", 1)))  # ``request`` takes no message without
        peer.answer(asked)
        peer.request()
        peer.send(peer.frame(asks("301", 2))[:-1] + b"\x00")
        peer.until_hung_up()

    with (
        scripted_host(profile, signed_on(curious), polite, mac=mac_key("aes-cmac")) as host,
        caller(host, profile, mac=mac_key("aes-cmac")) as ours,
    ):
        assert codes(ours.authorise(1)) == ["00"]
        assert codes(ours.authorise(2)) == [None]
    assert [one.fields[39] for one in told] == ["00"]


def flooding(*, reads: bool) -> list[int]:
    """A host that asks without end while one of ours waits: how many it had answered of how many, all in all."""
    counted: list[int] = []

    def flood(peer: Peer) -> None:
        peer.request()
        block, sent = b"".join(peer.frame(asks("301", number)) for number in range(1, 201)), 0
        peer.socket.settimeout(0.05 if reads else 2)
        try:
            while True:
                peer.send(block)
                sent += 200
                if reads:
                    counted.append(len(peer.requests(8)))
        except OSError:
            counted.append(-sent)

    started = time.monotonic()
    with played(signed_on(flood), polite) as (host, ours):
        if not reads:
            ours.link._connections[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        assert codes(ours.authorise(1)) == [None]  # its time runs all the same
        assert time.monotonic() - started < SOON * 10
        assert codes(ours.authorise(2, 3)) == ["00", "00"]
        assert all(memory.outgoing.size == 32 * 1024 for memory in ours.link._memories)
        assert host.seen("0100") == ["000001", "000002", "000003"]
    return counted


@pytest.mark.parametrize("reads", [True, False], ids=["reads", "reads nothing"])
def test_host_that_asks_without_end_stops_neither_the_clock_nor_the_line(reads: bool) -> None:
    counted = flooding(reads=reads)
    assert sum(one for one in counted if one < 0) < -1_000
    if reads:
        assert sum(one for one in counted if one > 0) >= HOST_REQUESTS


def test_host_that_answers_all_and_never_reads_our_answers_to_it_is_left() -> None:
    def deaf(peer: Peer) -> None:
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        time.sleep(SOON * 4)

    with played(signed_on(deaf), polite, profile=PATIENT) as (host, ours):
        connection = ours.link._connections[0]
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        answer = messages.answer_to_host(asks("301", 1))
        for _ in range(3):  # so much of them as a request leaves room for no other
            while connection._filled + FRAME_MOST <= connection.memory.outgoing.size:
                connection._enqueue(None, answer, connection._write(Request(message=answer)))
            connection.flush()
        assert (connection.to_send, connection.exchange.waiting) == (True, 0)
        started = time.monotonic()
        assert codes(ours.authorise(1, 2)) == ["00", "00"]
        assert time.monotonic() - started < SOON * 3
    assert len(host.peers) == 2


@contextmanager
def connected() -> Iterator[tuple[Connection, socket.socket]]:
    """Our end of a connection whose buffers are small, and the bare other end."""
    near, far = socket.socketpair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    near.setblocking(False)
    far.settimeout(5)
    memory = Memory()
    connection = Connection(PATIENT, near, memory)
    try:
        yield connection, far
    finally:
        connection.close()
        far.close()
        memory.close()


def framed(*asked: Message) -> bytes:
    raws = [codec.encode(PATIENT, one) for one in asked]
    return b"".join(codec.prefix(PATIENT, raw) + bytes(raw) for raw in raws)


def ours_in(received: bytes) -> list[Message]:
    return [codec.decode(PATIENT, raw) for raw in codec.split(PATIENT, bytearray(received))]


def everything(connection: Connection, far: socket.socket) -> bytes:
    """All that is sent once the other end reads."""
    received = b""
    far.setblocking(False)
    while connection.to_send:
        received += far.recv(65_536)
        connection.flush()
    with suppress(BlockingIOError):
        received += far.recv(65_536)
    return received


def test_answer_to_the_host_is_sent_at_once() -> None:
    with connected() as (connection, far):
        far.sendall(framed(asks("301", 1), asks("002", 2)))
        assert connection.read(0.0) == []
        assert [one.fields[39] for one in ours_in(far.recv(4_096))] == ["00", "40"]
        assert not connection.to_send
        assert not any(connection.memory.outgoing.view)


def test_answers_that_cannot_be_sent_are_few_and_are_not_taken_back_for_requests() -> None:
    with connected() as (connection, far):
        for number in range(1, 61):
            assert connection.put(number, request(number), deadline=60.0)
        connection.flush()
        assert connection.to_send  # the line is full
        for _ in range(3):
            far.sendall(framed(*[asks("301", number) for number in range(1, 21)]))
            connection.read(0.0)
        filled = connection._filled
        connection.stopped = True
        back = connection.take_back()
        assert back == list(range(back[0], 61))
        assert connection.exchange.waiting == 60 - len(back)
        assert filled - connection._filled < len(back) * 200 + HOST_REQUESTS * 60
        far.sendall(framed(asks("301", 21)))
        connection.read(0.0)  # of a connection that has stopped nothing more is begun
        sent = ours_in(everything(connection, far))
        assert [int(one.fields[11]) for one in sent] == list(range(1, back[0]))


def test_no_more_than_so_many_wait_for_their_answer() -> None:
    with connected() as (connection, far):
        for number in range(1, 61):
            assert connection.put(number, request(number), deadline=60.0)
        connection.flush()
        for _ in range(3):
            far.sendall(framed(*[asks("301", number) for number in range(1, 21)]))
            connection.read(0.0)
        said = [one for one in ours_in(everything(connection, far)) if one.mti == "0810"]
        assert len(said) == HOST_REQUESTS
