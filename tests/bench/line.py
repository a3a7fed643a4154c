"""The acquirer's line: the rates of link and charging against window/latency, and against bare encoding and decoding.

At the link's other end is a small process that knows one message's layout and answers after a time, or at once: what it
costs is not the link's. What the simulator, with its durable books, can answer at most is measured by itself.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import iso8583
import msgspec

from keys.private.locked import LockedBuffer
from offline_processor.acquirers.iso8583 import codec, messages, profile
from offline_processor.acquirers.iso8583.acquirer_side import answered
from offline_processor.acquirers.iso8583.driver import Iso8583Acquirer, open_iso8583
from offline_processor.acquirers.iso8583.mac import Algorithm, MacKey
from offline_processor.acquirers.protocol import Authorisation
from offline_processor.attempts import charge
from offline_processor.charging import Reference
from offline_processor.config import AcquirerConfig
from offline_processor.ledger import operations
from offline_processor.stages import OrderState
from tests.faults.sweep import scratch
from tests.offline_processor.commands import profile_with
from tests.offline_processor.line import simulator
from tests.offline_processor.mac_keys import CHECKS, KEYS, key_file, mac_key
from tests.offline_processor.till import at_the_till
from tests.tools.known import ROOT
from transfer.wire.card import CARD_SIZE, Card, CardView, decode_card, encode_card

MESSAGES = 4_000
ROUNDS = 5
COMMIT = 500
"""Messages that the batch hands over at once."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkFigures:
    """What the link sent and had answered: with latency, and with a host that answers at once beside the bare rate.

    ``with_mac``: at once, with a MAC on every message of both directions; by algorithm.
    """

    latency: list[Figure]
    at_once: float
    bare: float
    with_mac: dict[Algorithm, float]


def link_figures() -> LinkFigures:
    """Authorisations by the driver, in commits of ``COMMIT``; all but ``latency`` are medians of turns."""
    with card() as one:
        latency = []
        with bare_host(latency=LATENCY_MS / 1000) as address:
            for window in WINDOWS:
                rate = sorted(_authorise(address, one, window=window) for _ in range(3))[1]
                latency.append(Figure(window=window, rate=rate, most=window / (LATENCY_MS / 1000)))
        bares, rates = [], dict[Algorithm | None, list[float]]()
        with ExitStack() as hosts:
            addresses = {mac: hosts.enter_context(bare_host(mac=mac)) for mac in (None, *KEYS)}
            for _ in range(ROUNDS):
                for mac, address in addresses.items():
                    rates.setdefault(mac, []).append(_authorise(address, one, window=WINDOWS[-1], mac=mac))
                bares.append(bare_rate())
    return LinkFigures(
        latency=latency,
        at_once=median(rates[None]),
        bare=median(bares),
        with_mac={mac: median(rates[mac]) for mac in KEYS},
    )


def _open(address: str, window: int, folder: Path, mac: Algorithm | None = None) -> Iso8583Acquirer:
    config = AcquirerConfig(
        driver="iso8583",
        profile=str(profile_with(folder, answer=30, mac=mac)),
        mac_key=None if mac is None else key_file(folder, mac),
        mac_key_check="" if mac is None else CHECKS[mac],
        address=address,
        terminal=_TERMS.terminal,
        merchant=_TERMS.merchant,
        acquirer_id=_TERMS.acquirer_id,
        in_flight=window,
    )
    return open_iso8583(config, now=lambda: int(time.time()), clock=time.monotonic, sleep=time.sleep)


def _authorise(address: str, one: CardView, *, window: int, mac: Algorithm | None = None) -> float:
    at = int(time.time())
    asked = [Authorisation(reference=_reference(number, at), card=one) for number in range(MESSAGES)]
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=scratch()) as folder,
        closing(_open(address, window, Path(folder), mac)) as acquirer,
    ):
        started = time.perf_counter()
        approved = 0
        for start in range(0, MESSAGES, COMMIT):
            answers = acquirer.authorise(iter(asked[start : start + COMMIT]))
            approved += sum(answer is not None and answer.code == "00" for _, answer in answers)
        spent = time.perf_counter() - started
    if approved != MESSAGES:
        raise RuntimeError(f"{MESSAGES - approved} messages had no answer")
    return MESSAGES / spent


def charging_figures() -> list[Figure]:
    """Orders by the real charging over the link: intents and outcomes durable in a ledger on this disk."""
    figures = []
    with bare_host(latency=LATENCY_MS / 1000) as address:
        for window in WINDOWS:
            rate = sorted(_charge(address, window=window) for _ in range(3))[1]
            figures.append(Figure(window=window, rate=rate, most=window / (LATENCY_MS / 1000)))
    return figures


def _charge(address: str, *, window: int) -> float:
    now, spent, paid = int(time.time()), 0.0, 0
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        closing(_open(address, window, Path(folder))) as acquirer,
        at_the_till(Path(folder), acquirer, count=MESSAGES, window=COMMIT, now=now) as desk,
    ):
        while (opened := desk.window()).ready:
            started = time.perf_counter()
            charged = charge(desk.till, opened, now=now)
            spent += time.perf_counter() - started
            paid += sum(outcome.state is OrderState.PAID for outcome in charged.outcomes)
            with desk.ledger.atomic():  # as if taken: what is owed now is not of this figure
                operations.accepted(desk.ledger, [(item, "00") for item in charged.owed], now=now)
    if paid != MESSAGES:
        raise RuntimeError(f"{MESSAGES - paid} orders were not paid")
    return MESSAGES / spent


@contextmanager
def card() -> Iterator[CardView]:
    """One card in locked memory."""
    given = Card(pan=b"4242424242424242", cvv=b"737", expiry_month=12, expiry_year=2031)
    raw = encode_card(
        given, header_digest=bytes(32), order_box_digest=bytes(32), amount=2_499, currency="EUR"
    )
    with LockedBuffer(CARD_SIZE) as place:
        place.view[:] = raw
        yield decode_card(place.view)


@contextmanager
def bare_host(*, latency: float = 0.0, mac: Algorithm | None = None) -> Iterator[str]:
    """The address of a host that copies trace number and retrieval reference into a prepared answer.

    ``mac``: it writes its own MAC, and does not look at ours.
    """
    dialect = profile.load("ascii-1987")
    if mac is not None:
        dialect = msgspec.structs.replace(dialect, mac=True, mac_algorithm=mac)
    asked = _message(dialect, 1)
    answer = answered(dialect, asked, code="00", approval="000001")
    raw, places = codec.encode_with_layout(dialect, asked)
    back, back_places = codec.encode_with_layout(dialect, answer)
    signed = answered(dialect, messages.sign_on(dialect, _TERMS, 1, 0), code="00", simulator=True)
    layout = {
        "latency": latency,
        "mac": mac,
        "request": len(raw) + 2,
        "copied": [(places[n].start + 2, back_places[n].start + 2, len(asked.fields[n])) for n in (11, 37)],
        "answer": (codec.prefix(dialect, back) + bytes(back)).hex(),
        "signed_on": (
            codec.prefix(dialect, codec.encode(dialect, signed)) + codec.encode(dialect, signed)
        ).hex(),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.line", json.dumps(layout)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    if process.stdout is None:
        raise RuntimeError("the host speaks through a pipe")
    try:
        yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.communicate()


def _bare_host(text: str) -> None:
    layout = json.loads(text)
    key = None if layout["mac"] is None else mac_key(layout["mac"])
    signed_on = _authenticated(key, bytearray.fromhex(layout["signed_on"]))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connected, _ = listener.accept()
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected.recv(_READ_SIZE)
            connected.sendall(signed_on)
            with suppress(ConnectionError):
                _serve(connected, layout, key)
            connected.close()


def _authenticated(key: MacKey | None, frame: bytearray) -> bytearray:
    if key is not None:
        view = memoryview(frame)
        key.write(view[2:-8], view[-8:])
    return frame


def _serve(connected: socket.socket, layout: dict[str, Any], key: MacKey | None) -> None:
    size, copied, latency = layout["request"], layout["copied"], layout["latency"]
    template = bytes.fromhex(layout["answer"])
    received = bytearray()
    due: deque[tuple[float, bytearray]] = deque()
    while True:
        wait = max(0.0, due[0][0] - time.monotonic()) if due else None
        if select.select([connected], [], [], wait)[0]:
            part = connected.recv(_READ_SIZE)
            if not part:
                return
            at = time.monotonic() + latency
            received += part
            whole = len(received) // size * size
            for start in range(0, whole, size):
                answer = bytearray(template)
                for source, target, width in copied:
                    answer[target : target + width] = received[start + source : start + source + width]
                due.append((at, _authenticated(key, answer)))
            del received[:whole]
        ready = bytearray()
        while due and due[0][0] <= time.monotonic():
            ready += due.popleft()[1]
        if ready:
            connected.sendall(ready)


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
    sent = _reference(number, int(time.time()))
    return messages.authorisation(dialect, _TERMS, sent, pan_digits=16, cvv_digits=3)


def _reference(number: int, at: int) -> Reference:
    return Reference(
        number=number,
        order_id=f"{number:032x}",
        attempt=1,
        stan=number + 1,
        rrn=f"01{number:010d}",
        sent_at=at,
        amount=2_499,
        currency="EUR",
    )


if __name__ == "__main__":
    _bare_host(sys.argv[1])
