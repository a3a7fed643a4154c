"""The simulated acquirer's end of the line: connections on loopback, frames in, answers out, faults on the way.

Why here: how an outcome is lost between two machines can only be shown with two processes and a line between them.
Must not: listen anywhere but on loopback, decide what is booked, or answer before the books are durable.
"""

from __future__ import annotations

import heapq
import ipaddress
import selectors
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

from offline_processor.acquirers.iso8583 import codec
from offline_processor.acquirers.iso8583.tls import BLOCKED, ServingTls, has_more, shake
from offline_processor.acquirers.simulator.faults import Fault
from offline_processor.acquirers.simulator.host import IN_PROGRESS, Host, Message, Reply
from offline_processor.errors import ProcessorError

_READ_SIZE: Final = 256 * 1024
_BACKLOG: Final = 16
_IDLE: Final = 0.25
_GARBAGE: Final = bytes(range(255, 191, -1))
_LARGEST_PORT: Final = 0xFFFF


_LAST_STAN: Final = 999_999
_WITHOUT_ANSWER: Final[dict[Fault, list[bytes]]] = {
    Fault.LOST_BEFORE: [],
    Fault.LOST_AFTER: [],
    Fault.HANG_UP: [b""],
    Fault.GARBAGE: [_GARBAGE],
}
_ENDING: Final = frozenset({Fault.CUT, Fault.HANG_UP})


class WireError(Exception):
    """What came is no message of this profile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One message as it came: what the host reads of it, and what its answer repeats of it."""

    message: Message
    asked: codec.Message = field(repr=False)


class Wire(Protocol):
    """A profile's way to write messages."""

    def split(self, received: bytearray) -> list[bytes]:
        """Take the whole messages out of what was received; ``WireError``."""
        ...

    def read(self, raw: bytes) -> Request | None:
        """One message, None for an answer to ours; ``WireError``."""
        ...

    def write(self, request: Request, reply: Reply, *, stan: int, code: str) -> bytes:
        """The answer, without its length."""
        ...

    def echo(self) -> bytes:
        """An echo test of the host's own, without its length."""
        ...

    def frame(self, raw: bytes, *, oversize: bool = False) -> bytes:
        """A message with its length before it, or with one that is too large."""
        ...


_SHAPES: Final[dict[Fault, Callable[[Wire, bytes, bytes], bytes]]] = {
    Fault.CUT: lambda wire, raw, whole: whole[: len(whole) // 2],
    Fault.DUPLICATE: lambda wire, raw, whole: whole + whole,
    Fault.TRUNCATED: lambda wire, raw, whole: wire.frame(raw[: len(raw) // 2]),
    Fault.OVERSIZE: lambda wire, raw, whole: wire.frame(raw, oversize=True),
    Fault.HOST_ECHO: lambda wire, raw, whole: wire.frame(wire.echo()) + whole,
    Fault.WRONG_MAC: lambda wire, raw, whole: wire.frame(raw[:-1] + bytes([raw[-1] ^ 1])),
}


@dataclass(slots=True, kw_only=True, eq=False)
class _Connection:
    socket: socket.socket = field(repr=False)
    received: bytearray = field(default_factory=bytearray, repr=False)
    to_send: bytearray = field(default_factory=bytearray, repr=False)
    shaken: bool = False
    ends: bool = False
    closed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class _Due:
    """What is sent when its time has come; ``number`` keeps the order of what is due together."""

    at: float
    number: int
    connection: _Connection = field(compare=False)
    data: bytes = field(compare=False, repr=False)
    ends: bool = field(compare=False, default=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """How long an answer takes, and how much longer a late one, in seconds."""

    latency: float = 0.0
    late: float = 30.0


class Server:
    """Listens on a loopback address (``host:port``, port 0 for any) until told to stop.

    ``clock`` gives seconds that only go forward; ``tls``: what the line speaks. ``SIMULATOR-LISTEN`` for any other
    address.
    """

    def __init__(
        self,
        listen: str,
        host: Host,
        wire: Wire,
        *,
        clock: Callable[[], float],
        delays: Delays,
        tls: ServingTls | None = None,
    ) -> None:
        self._tls = tls
        self._host, self._wire, self._clock, self._delays = host, wire, clock, delays
        self._selector = selectors.DefaultSelector()
        self._due: list[_Due] = []
        self._number = 0
        self.unreadable = 0
        self._listener = _listen(listen)
        self._selector.register(self._listener, selectors.EVENT_READ)

    @property
    def address(self) -> str:
        """Where it listens."""
        host, port = self._listener.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def serve(self, *, until: Callable[[], bool] = lambda: False) -> None:
        """Answer until ``until`` says so."""
        while not until():
            self.step()

    def step(self) -> None:
        """Wait for something, and do it."""
        wait = _IDLE if not self._due else min(_IDLE, max(0.0, self._due[0].at - self._clock()))
        requests: list[tuple[_Connection, Request]] = []
        for key, events in self._selector.select(wait):
            if key.fileobj is self._listener:
                self._accept()
                continue
            connection: _Connection = key.data
            if not connection.shaken and not self._shake(connection):
                continue
            if events & selectors.EVENT_WRITE:
                self._flush(connection)
            if events & selectors.EVENT_READ and not connection.closed:
                requests += [(connection, request) for request in self._receive(connection)]
        if requests:
            replies = self._host.answer_all([request.message for _, request in requests])
            for (connection, request), reply in zip(requests, replies, strict=True):
                self._plan(connection, request, reply)
        self._send_due()

    def close(self) -> None:
        """End every connection and listen no more."""
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            accepted, _ = self._listener.accept()
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                try:
                    accepted = self._tls.accepted(accepted)
                except OSError:  # who called has hung up already
                    accepted.close()
                    return
            self._selector.register(accepted, selectors.EVENT_READ, _Connection(socket=accepted))

    def _shake(self, connection: _Connection) -> bool:
        """Go on with TLS's handshake; True when it is over. What we say in it is small: nobody waits to write it."""
        try:
            connection.shaken = shake(connection.socket)
        except OSError:
            self._drop(connection)
        return connection.shaken and not connection.closed

    def _receive(self, connection: _Connection) -> list[Request]:
        try:
            part = connection.socket.recv(_READ_SIZE)
            while has_more(connection.socket):
                part += connection.socket.recv(_READ_SIZE)
        except BLOCKED:
            return []
        except OSError:
            part = b""
        if not part:
            self._drop(connection)
            return []
        connection.received += part
        try:
            read = [self._wire.read(raw) for raw in self._wire.split(connection.received)]
        except WireError:
            self.unreadable += 1
            self._drop(connection)
            return []
        return [request for request in read if request is not None]

    def _plan(self, connection: _Connection, request: Request, reply: Reply) -> None:
        """Put what this reply and its fault send into the queue."""
        at = self._clock() + (self._delays.late if reply.fault is Fault.LATE else 0)
        for data in self._sendings(request, reply):
            at += self._delays.latency
            self._put(at, connection, data, ends=reply.fault in _ENDING)

    def _sendings(self, request: Request, reply: Reply) -> list[bytes]:
        """What is sent of an answer, one part after the other."""
        if reply.fault in _WITHOUT_ANSWER:
            return [self._wire.frame(part) if part else b"" for part in _WITHOUT_ANSWER[reply.fault]]
        stan = request.message.stan
        raw = self._wire.write(request, reply, stan=stan, code=reply.code)
        whole = self._wire.frame(raw)
        if reply.fault in _SHAPES:
            return [_SHAPES[reply.fault](self._wire, raw, whole)]
        if reply.fault is Fault.IN_PROGRESS:
            return [self._wire.frame(self._wire.write(request, reply, stan=stan, code=IN_PROGRESS)), whole]
        if reply.fault in (Fault.OTHER_STAN, Fault.ONLY_OTHER_STAN):
            other = self._wire.write(request, reply, stan=stan % _LAST_STAN + 1, code=reply.code)
            return [self._wire.frame(other) + (whole if reply.fault is Fault.OTHER_STAN else b"")]
        return [whole]

    def _put(self, at: float, connection: _Connection, data: bytes, *, ends: bool = False) -> None:
        self._number += 1
        due = _Due(at=at, number=self._number, connection=connection, data=data, ends=ends)
        heapq.heappush(self._due, due)

    def _send_due(self) -> None:
        now = self._clock()
        touched: dict[int, _Connection] = {}
        while self._due and self._due[0].at <= now:
            due = heapq.heappop(self._due)
            if not due.connection.closed and not due.connection.ends:
                due.connection.to_send += due.data
                due.connection.ends = due.ends
                touched[id(due.connection)] = due.connection
        for connection in touched.values():
            self._flush(connection)

    def _flush(self, connection: _Connection) -> None:
        if connection.closed:
            return
        try:
            sent = connection.socket.send(connection.to_send) if connection.to_send else 0
        except BLOCKED:
            sent = 0
        except OSError:
            self._drop(connection)
            return
        del connection.to_send[:sent]
        if connection.ends and not connection.to_send:
            self._drop(connection)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.to_send else 0)
        self._selector.modify(connection.socket, wanted, connection)

    def _drop(self, connection: _Connection) -> None:
        if not connection.closed:
            connection.closed = True
            self._selector.unregister(connection.socket)
            connection.socket.close()


def _listen(text: str) -> socket.socket:
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    try:
        address, number = ipaddress.ip_address(host), int(port)
    except ValueError:
        address, number = None, -1
    if address is None or not address.is_loopback or not 0 <= number <= _LARGEST_PORT:
        raise ProcessorError(
            "SIMULATOR-LISTEN",
            f"the simulated acquirer listens on loopback only, not on {text[:60]!r}",
            "give --listen 127.0.0.1:PORT; port 0 takes a free one and says which",
        )
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET  # noqa: PLR2004
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((str(address), number))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ProcessorError(
            "SIMULATOR-LISTEN",
            f"the simulated acquirer cannot listen on {text}: {error.strerror}",
            "end what uses that port, or give --listen 127.0.0.1:0",
        ) from error
    return listener
