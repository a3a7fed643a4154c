"""A lean HTTP client that keeps connections busy, or sends at a rate whatever the answers, and measures each answer.

Why here: a library's client costs as much as the server it measures; this one runs in a process of its own.
Must not: be used for anything but measuring; it reads no more of an answer than it needs.
"""

from __future__ import annotations

import json
import resource
import select
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_ANSWER_LIMIT = 65_536
_CONNECTIONS = 2500
_LAST_ANSWER_SECONDS = 20.0
_ACCEPTED = b"202"


def requests(host: str, port: int, lines: Path) -> Iterator[tuple[str, bytes]]:
    """The requests of a file that has an Idempotency-Key, a space and a JSON body on each line, with their keys."""
    for line in lines.read_bytes().splitlines():
        key, _, body = line.partition(b" ")
        head = (
            f"POST /orders HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
            f"Idempotency-Key: {key.decode()}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        yield key.decode(), head.encode("ascii") + body


def _is_whole(answer: bytes) -> bool:
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator:
        return False
    start = head.lower().index(b"content-length:") + len(b"content-length:")
    return len(body) >= int(head[start:].split(b"\r\n", 1)[0])


@dataclass(slots=True)
class _Line:
    """One keep-alive connection, and the request that is under way on it."""

    socket: socket.socket
    key: str = ""
    sent_at: float = 0.0
    partial: bytes = b""


@dataclass(slots=True)
class Client:
    """Connections to one server, and what came back over them."""

    host: str
    port: int
    poll: select.epoll = field(default_factory=select.epoll)
    lines: dict[int, _Line] = field(default_factory=dict)
    idle: list[int] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    odd: list[str] = field(default_factory=list)

    @property
    def under_way(self) -> int:
        return len(self.lines) - len(self.idle)

    def open(self) -> None:
        """One more connection."""
        opened = socket.create_connection((self.host, self.port), timeout=5)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lines[opened.fileno()] = _Line(opened)
        self.poll.register(opened.fileno(), select.EPOLLIN)
        self.idle.append(opened.fileno())

    def send(self, key: str, request: bytes, now: float) -> None:
        """Send on an idle connection; ``now`` is when it was due."""
        line = self.lines[self.idle.pop()]
        line.key, line.sent_at = key, now
        line.socket.sendall(request)

    def receive(self, timeout: float) -> int:
        """Read what is there; how many requests were answered, or lost with their connection."""
        ended = 0
        for number, _ in self.poll.poll(timeout):
            line = self.lines[number]
            try:
                received = line.socket.recv(_ANSWER_LIMIT)
            except OSError:
                received = b""
            if not received:
                self._lost(number)
                ended += 1
                continue
            answer = line.partial + received
            if not _is_whole(answer):
                line.partial = answer
                continue
            line.partial = b""
            ended += 1
            self._count(line, answer)
            if b"connection: close" in answer[:1024].lower():
                self._close(number)
            else:
                self.idle.append(number)
        return ended

    def _count(self, line: _Line, answer: bytes) -> None:
        status = answer[9:12]
        self.statuses[status.decode("ascii")] += 1
        if status == _ACCEPTED:
            self.accepted.append(line.key)
            self.seconds.append(time.perf_counter() - line.sent_at)
        elif len(self.odd) < 3:
            self.odd.append(answer.decode("latin-1"))

    def _lost(self, number: int) -> None:
        self.statuses["none"] += 1
        self._close(number)

    def _close(self, number: int) -> None:
        self.poll.unregister(number)
        self.lines.pop(number).socket.close()
        if number in self.idle:
            self.idle.remove(number)


def keep_busy(client: Client, work: Iterator[tuple[str, bytes]], connections: int) -> float:
    """Send everything over so many connections, each as soon as it was answered; the seconds that it took."""
    for _ in range(connections):
        client.open()
    started = time.perf_counter()
    more = True
    while more or client.under_way:
        while more and client.idle:
            one = next(work, None)
            if one is None:
                more = False
            else:
                client.send(*one, time.perf_counter())
        if client.under_way:
            client.receive(1.0)
    return time.perf_counter() - started


def keep_rate(client: Client, work: Iterator[tuple[str, bytes]], rate: float) -> float:
    """Send one request each 1/``rate`` seconds, whatever is answered; the seconds until the last was sent.

    A request waits for no connection: when all are busy it counts as not sent.
    """
    for _ in range(
        _CONNECTIONS
    ):  # before the clock starts: to open one can take seconds when the server is full
        client.open()
    started = time.perf_counter()
    for number, one in enumerate(work):
        due = started + number / rate
        while (wait := due - time.perf_counter()) > 0:
            client.receive(min(wait, 0.01))
        if number % 16 == 0:  # behind its time, it still has to listen
            client.receive(0)
        if client.idle:
            client.send(*one, due)
        else:
            client.statuses["not sent"] += 1
    elapsed = time.perf_counter() - started
    end = time.perf_counter() + _LAST_ANSWER_SECONDS
    while client.under_way and time.perf_counter() < end:
        client.receive(0.1)
    client.statuses["none"] += client.under_way
    return elapsed


def main(host: str, port: str, how: str, number: str, lines: str, accepted: str) -> None:
    """``how``: busy (``number`` connections) or rate (``number`` a second). Prints what was measured as JSON.

    The keys of all orders that were accepted go to the file ``accepted``.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 2 * _CONNECTIONS), most))
    client = Client(host, int(port))
    work = iter(list(requests(host, int(port), Path(lines))))
    elapsed = (
        keep_busy(client, work, int(number)) if how == "busy" else keep_rate(client, work, float(number))
    )
    Path(accepted).write_text("\n".join(client.accepted), encoding="ascii")
    seconds = sorted(client.seconds) or [0.0]
    json.dump(
        {
            "orders": len(client.accepted),
            "seconds": elapsed,
            "rate": len(client.accepted) / elapsed,
            "p50_ms": 1000 * seconds[len(seconds) // 2],
            "p99_ms": 1000 * seconds[len(seconds) * 99 // 100],
            "statuses": client.statuses,
            "odd": client.odd,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
