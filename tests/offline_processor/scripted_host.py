"""An acquirer's host that does exactly what a test tells it, on a real TCP connection.

Why here: what a line can do to an answer (trickle it, cut it, give it to another) needs a host without manners.
Must not: decide anything by itself, or end a test well when its script has failed.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from offline_processor.acquirers.iso8583 import codec
from offline_processor.acquirers.iso8583.acquirer_side import answered
from offline_processor.acquirers.iso8583.codec import Message
from offline_processor.acquirers.iso8583.frame import is_authentic
from offline_processor.acquirers.iso8583.mac import MacKey
from offline_processor.acquirers.iso8583.profile import Profile

_PATIENCE = 10.0
_END = 5.0


class Peer:
    """One connection as the host sees it."""

    def __init__(self, connected: socket.socket, dialect: Profile, mac: MacKey | None = None) -> None:
        self.socket, self._dialect, self._mac = connected, dialect, mac
        self.seen: list[Message] = []
        self._received = bytearray()
        self._frames: list[bytes] = []

    def request(self) -> Message:
        """The next message; ``EOFError`` when the other end has hung up."""
        while not self._frames:
            part = self.socket.recv(65_536)
            if not part:
                raise EOFError
            self._received += part
            self._frames = codec.split(self._dialect, self._received)
        frame = self._frames.pop(0)
        assert is_authentic(self._dialect, memoryview(frame), self._mac), "a request without the MAC"
        message = codec.decode(self._dialect, frame)
        self.seen.append(message)
        return message

    def requests(self, count: int) -> list[Message]:
        """So many."""
        return [self.request() for _ in range(count)]

    def framed(self, request: Message, *, code: str = "00", **changes: Any) -> bytes:
        """The bytes of an answer."""
        return self.frame(answered(self._dialect, request, code=code, approval="A1", **changes))

    def frame(self, message: Message) -> bytes:
        """The bytes of any message."""
        raw = codec.encode(self._dialect, message)
        places = codec.mac_places(self._dialect, memoryview(raw))
        if self._mac is not None and places is not None:
            self._mac.write(*places)
        return codec.prefix(self._dialect, raw) + bytes(raw)

    def send(self, data: bytes) -> None:
        """Send just these."""
        self.socket.sendall(data)

    def answer(self, request: Message, *, code: str = "00", **changes: Any) -> None:
        """Answer one."""
        self.send(self.framed(request, code=code, **changes))

    def sign_on(self, *, code: str = "00", simulator: bool = True) -> None:
        """Answer the first message of a connection."""
        self.answer(self.request(), code=code, simulator=simulator)

    def serve(self) -> None:
        """Answer all that comes until the other end hangs up."""
        while True:
            self.answer(self.request(), simulator=True)

    def until_hung_up(self) -> None:
        """Read and say nothing."""
        while True:
            self.request()


Script = Callable[[Peer], None]


def signed_on(then: Script) -> Script:
    """Sign on first."""

    def script(peer: Peer) -> None:
        peer.sign_on()
        then(peer)

    return script


def polite(peer: Peer) -> None:
    """Answer everything."""
    peer.serve()


def hang_up(peer: Peer) -> None:
    """End the connection, whatever came."""


@dataclass(kw_only=True)
class Host:
    """Where it listens, and every connection that it had."""

    port: int
    peers: list[Peer] = field(default_factory=list)
    faults: list[BaseException] = field(default_factory=list)
    listener: socket.socket

    def stop_listening(self) -> None:
        """From now on every new connection is refused."""
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def seen(self, mti: str) -> list[str]:
        """The trace numbers of all messages of a type, over all connections."""
        return [message.fields[11] for peer in self.peers for message in peer.seen if message.mti == mti]


def _serve(host: Host, peer: Peer, script: Script, tls: ssl.SSLContext | None) -> None:
    try:
        if tls is not None:
            peer.socket = tls.wrap_socket(peer.socket, server_side=True)
        with peer.socket:
            script(peer)
    except (EOFError, ConnectionError, ssl.SSLError):
        pass
    except BaseException as fault:  # noqa: BLE001  raised again where the test ends
        host.faults.append(fault)


@contextmanager
def scripted_host(
    dialect: Profile, *scripts: Script, tls: ssl.SSLContext | None = None, mac: MacKey | None = None
) -> Iterator[Host]:
    """One connection after the other is given to one script after the other; the last serves all that follow."""
    listener = socket.create_server(("127.0.0.1", 0))
    host = Host(port=listener.getsockname()[1], listener=listener)
    threads: list[threading.Thread] = []

    def listen() -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            accepted.settimeout(_PATIENCE)
            peer = Peer(accepted, dialect, mac)
            host.peers.append(peer)
            script = scripts[min(len(host.peers), len(scripts)) - 1]
            thread = threading.Thread(target=_serve, args=(host, peer, script, tls), daemon=True)
            threads.append(thread)
            thread.start()

    accepting = threading.Thread(target=listen, daemon=True)
    accepting.start()
    try:
        yield host
    finally:
        host.stop_listening()
        accepting.join(_END)
        for peer in host.peers:
            with suppress(OSError):
                peer.socket.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(_END)
    if host.faults:
        raise host.faults[0]
