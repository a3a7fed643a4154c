"""A lean HTTP client that keeps a number of connections busy and measures each answer.

Why here: a library's client costs as much as the server it measures; this one runs in a process of its own.
Must not: be used for anything but measuring; it reads no more of an answer than it needs.
"""

from __future__ import annotations

import json
import secrets
import select
import socket
import sys
import time
from pathlib import Path

_ANSWER_LIMIT = 65_536


def _request(host: str, port: int, body: bytes) -> bytes:
    head = (
        f"POST /orders HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        f"Idempotency-Key: {secrets.token_urlsafe(24)}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def _is_whole(answer: bytes) -> bool:
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator:
        return False
    start = head.lower().index(b"content-length:") + len(b"content-length:")
    return len(body) >= int(head[start:].split(b"\r\n", 1)[0])


def measure(host: str, port: int, bodies: list[bytes], connections: int) -> dict[str, object]:
    """Post every body once over ``connections`` keep-alive connections, each sending as soon as it is answered."""
    requests = iter([_request(host, port, body) for body in bodies])
    seconds: list[float] = []
    refused: list[str] = []
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    started: dict[int, float] = {}
    partial: dict[int, bytes] = {}
    for _ in range(connections):
        connection = socket.create_connection((host, port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets[connection.fileno()] = connection
        poll.register(connection.fileno(), select.EPOLLIN)
    begin = time.perf_counter()
    for number, connection in sockets.items():
        request = next(requests, None)
        if request is not None:
            started[number] = time.perf_counter()
            connection.sendall(request)
    while started:
        for number, _ in poll.poll():
            connection = sockets[number]
            received = connection.recv(_ANSWER_LIMIT)
            if not received:
                raise ConnectionError("the server closed a connection")
            answer = partial.pop(number, b"") + received
            if not _is_whole(answer):
                partial[number] = answer
                continue
            now = time.perf_counter()
            seconds.append(now - started.pop(number))
            if not answer.startswith(b"HTTP/1.1 202"):
                refused.append(answer.decode("latin-1"))
            request = next(requests, None)
            if request is not None:
                started[number] = now
                connection.sendall(request)
    elapsed = time.perf_counter() - begin
    seconds.sort()
    return {
        "orders": len(seconds),
        "rate": len(seconds) / elapsed,
        "p50_ms": 1000 * seconds[len(seconds) // 2],
        "p99_ms": 1000 * seconds[len(seconds) * 99 // 100],
        "refused": refused[:3],
    }


def main(host: str, port: str, connections: str, repeat: str, bodies: str) -> None:
    """Post the bodies (one a line in a file) ``repeat`` times; print what was measured as JSON."""
    lines = Path(bodies).read_bytes().splitlines() * int(repeat)
    json.dump(measure(host, int(port), lines, int(connections)), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
