"""The acquirer's line without its driver: what bare encoding and decoding costs, and what the simulator can answer.

Both are the measure of the link: its rate is a ratio to the first, and the second says whom it waits for.
"""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import iso8583

from offline_processor.acquirers.iso8583 import codec, messages, profile
from offline_processor.charging import Reference
from tests.faults.sweep import scratch
from tests.offline_processor.line import simulator

MESSAGES = 4_000
LATENCY_MS = 5.0
WINDOWS = (8, 32)
_TERMS = messages.Terms(terminal="SHOP0001", merchant="RECORDSTORE0001", acquirer_id="000001")
_READ_SIZE = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Messages a second with so many unanswered at once; ``most`` is what the latency lets through (0: no latency)."""

    window: int
    rate: float
    most: float


def bare_rate() -> float:
    """Pairs a second of pyiso8583's encode and decode, of the same authorisations, and nothing else."""
    dialect = profile.load("ascii-1987")
    named = [_named(dialect, number) for number in range(MESSAGES)]
    started = time.perf_counter()
    for message in named:
        raw, _ = iso8583.encode(message, dialect.spec)
        iso8583.decode(raw, dialect.spec)
    return MESSAGES / (time.perf_counter() - started)


def simulator_figures() -> list[Figure]:
    """What the simulator answers on one connection, its books durable, at each window with latency and once without."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=scratch()) as folder:
        figures = []
        with simulator(Path(folder) / "latency.db", "--latency", str(LATENCY_MS)) as line:
            for window in WINDOWS:
                rate = _ask(line.address, window)
                figures.append(Figure(window=window, rate=rate, most=window / (LATENCY_MS / 1000)))
        with simulator(Path(folder) / "at-once.db") as line:
            figures.append(Figure(window=WINDOWS[-1], rate=_ask(line.address, WINDOWS[-1]), most=0))
    return figures


def _ask(address: str, window: int) -> float:
    dialect = profile.load("ascii-1987")
    frames = [_framed(dialect, number) for number in range(MESSAGES)]
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _pump(connection, frames, window, lambda received: len(codec.split(dialect, received)))


def _pump(
    connection: socket.socket, frames: list[bytes], window: int, taken: Callable[[bytearray], int]
) -> float:
    received, sent, answered = bytearray(), 0, 0
    started = time.perf_counter()
    while answered < len(frames):
        upto = min(len(frames), answered + window)
        if upto > sent:
            connection.sendall(b"".join(frames[sent:upto]))
            sent = upto
        received += connection.recv(_READ_SIZE)
        answered += taken(received)
    return len(frames) / (time.perf_counter() - started)


def _framed(dialect: profile.Profile, number: int) -> bytes:
    raw = codec.encode(dialect, _message(dialect, number))
    return bytes(codec.prefix(dialect, raw) + raw)


def _named(dialect: profile.Profile, number: int) -> dict[str, str]:
    message = _message(dialect, number)
    return {"t": message.mti} | {str(name): text for name, text in message.fields.items()}


def _message(dialect: profile.Profile, number: int) -> codec.Message:
    sent = Reference(
        number=number,
        order_id=f"{number:032x}",
        attempt=1,
        stan=number + 1,
        rrn=f"01{number:010d}",
        sent_at=int(time.time()),
        amount=2_499,
        currency="EUR",
    )
    return messages.authorisation(dialect, _TERMS, sent, pan_digits=16, cvv_digits=3)
