"""Logs as lines of JSON: one a request, with fields of an allow-list, and whatever else the server has to say.

Why here: a log must be safe to ship to whoever reads logs, so what may be in it is decided in one place.
Must not: take a body, a header, a query, a path that a client made, an address, a token or an Idempotency-Key.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os

import msgspec

_FLUSH_SECONDS = 0.1
_FLUSH_LINES = 200


class RequestLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that is ever logged of a request. There is no other way into the log, so this is the allow-list.

    ``time``: Unix seconds. ``route``: the address as a template, never as it was asked. ``ms``: until the answer's end.
    ``rule``: of a refusal. ``client``: 8 hex digits that stand for a network until the server's next start, and for
    nothing outside it. ``parent``: the caller's span.
    """

    time: float
    level: str
    event: str
    method: str
    route: str
    status: int
    ms: float
    worker: int
    client: str
    trace: str
    span: str
    parent: str = ""
    rule: str = ""


class RequestLog:
    """Writes lines to ``descriptor``, some at a time; whatever cannot be written is dropped, never waited for twice."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._encoder = msgspec.json.Encoder()
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None

    def write(self, line: RequestLine) -> None:
        """Take one line; it is written within a tenth of a second."""
        self._lines.append(self._encoder.encode(line))
        if len(self._lines) >= _FLUSH_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what was taken."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lines:
            rest = memoryview(b"\n".join(self._lines) + b"\n")
            self._lines.clear()
            with contextlib.suppress(OSError):
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]


class JsonLines(logging.Formatter):
    """What the server and its libraries log, in the same form: time, level, logger and text; never an exception's."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "event": "server",
            "logger": record.name,
            "text": record.getMessage(),
        }
        return msgspec.json.encode(line).decode()
