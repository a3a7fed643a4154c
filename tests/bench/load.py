"""A lean HTTP client that keeps a number of connections busy and measures each answer.

Why here: a library's client costs more than the server it measures; this one runs in a process of its own.
Must not: be used for anything but measuring; it reads no more of an answer than it needs.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path


class _Connection(asyncio.Protocol):
    """One keep-alive connection that sends the next order as soon as the last one is answered."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._started = 0.0
        self._answer = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)  # noqa: S101  what asyncio promises
        self._transport = transport
        self._next()

    def _next(self) -> None:
        assert self._transport is not None  # noqa: S101
        request = next(self._load.requests, None)
        if request is None:
            self._transport.close()
            return
        self._started = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, separator, body = self._answer.partition(b"\r\n\r\n")
        if not separator:
            return
        start = head.lower().index(b"content-length:") + len(b"content-length:")
        if len(body) < int(head[start:].split(b"\r\n", 1)[0]):
            return
        self._load.seconds.append(time.perf_counter() - self._started)
        if not head.startswith(b"HTTP/1.1 202"):
            self._load.refused.append(self._answer.decode("latin-1"))
        self._answer = b""
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._load.one_ended()


class Load:
    """Posts every body once over ``connections`` connections. ``seconds``: how long each answer took."""

    def __init__(self, host: str, port: int, bodies: list[bytes], connections: int) -> None:
        self.host, self.port, self.connections = host, port, connections
        self.requests: Iterator[bytes] = iter([_request(host, port, body) for body in bodies])
        self.seconds: list[float] = []
        self.refused: list[str] = []
        self._open = connections
        self._ended = asyncio.Event()

    def one_ended(self) -> None:
        self._open -= 1
        if not self._open:
            self._ended.set()

    async def run(self) -> float:
        """The seconds from the first request to the last answer."""
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        for _ in range(self.connections):
            await loop.create_connection(lambda: _Connection(self), self.host, self.port)
        await self._ended.wait()
        return time.perf_counter() - started


def _request(host: str, port: int, body: bytes) -> bytes:
    head = (
        f"POST /orders HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        f"Idempotency-Key: {secrets.token_urlsafe(24)}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def main(host: str, port: str, connections: str, repeat: str, bodies: str) -> None:
    """Post the bodies (one a line in a file) ``repeat`` times; print what was measured as JSON."""
    lines = Path(bodies).read_bytes().splitlines() * int(repeat)

    async def measure() -> dict[str, object]:
        load = Load(host, int(port), lines, int(connections))
        elapsed = await load.run()
        times = sorted(load.seconds)
        return {
            "orders": len(times),
            "rate": len(times) / elapsed,
            "p50_ms": 1000 * times[len(times) // 2],
            "p99_ms": 1000 * times[len(times) * 99 // 100],
            "refused": load.refused[:3],
        }

    json.dump(asyncio.run(measure()), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
