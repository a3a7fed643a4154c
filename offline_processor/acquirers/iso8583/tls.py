"""TLS on the acquirer's line: one pinned authority, one name, and no way around them.

Why here: the only part of the offline side that imports ssl, so that what is trusted stands on one page.
Must not: trust the system's authorities, go on without TLS, or wait longer than it was told.

OpenSSL encrypts what is sent in a buffer of its own, over the copy of it there; what it has decrypted is wiped once it
was read (SSL_OP_CLEANSE_PLAINTEXT).
"""

from __future__ import annotations

import selectors
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from offline_processor.errors import ProcessorError

BLOCKED: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What sending and receiving raise when they cannot go on just now."""

_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
_CLEANSE_PLAINTEXT: Final = (
    0x2  # SSL_OP_CLEANSE_PLAINTEXT, from OpenSSL 3.0 on; this module of Python has no name for it
)
_SIZE_LIMIT: Final = 256 * 1024


class TlsError(Exception):
    """The other end is not who it must be, or speaks no TLS that we speak; ``args`` say why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Whom to trust on the line: certificates that ``context``'s authority gave to ``name``."""

    context: ssl.SSLContext = field(repr=False)
    name: str


def pinned(authority: Path, name: str) -> Tls:
    """TLS 1.2 or newer with a server that this authority (PEM) certified under this name. ``CONFIG-TLS``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it checks certificate and name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if ssl.OPENSSL_VERSION_INFO >= (3, 0):
        context.options |= _CLEANSE_PLAINTEXT
    try:
        with authority.open("rb") as file:
            pem = file.read(_SIZE_LIMIT + 1)
        if len(pem) > _SIZE_LIMIT:
            raise ValueError("it is too large")  # noqa: TRY301
        context.load_verify_locations(cadata=pem.decode("ascii"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise ProcessorError(
            "CONFIG-TLS",
            f"the authority of the acquirer's certificate cannot be read: {reason}",
            "set [acquirer] tls_authority to the PEM file of the authority that the acquirer named",
        ) from None
    return Tls(context=context, name=name)


def shaken(
    tls: Tls, connected: socket.socket, *, deadline: float, clock: Callable[[], float]
) -> ssl.SSLSocket:
    """The connection with TLS on it; ``TlsError``, and then it is closed."""
    try:
        wrapped = tls.context.wrap_socket(connected, server_hostname=tls.name, do_handshake_on_connect=False)
    except BaseException:
        connected.close()
        raise
    try:
        _shake(wrapped, deadline=deadline, clock=clock)
    except OSError as error:
        wrapped.close()
        raise TlsError(_reason(error)) from None
    except BaseException:
        wrapped.close()
        raise
    return wrapped


def _shake(wrapped: ssl.SSLSocket, *, deadline: float, clock: Callable[[], float]) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(wrapped, selectors.EVENT_READ)
        while True:
            try:
                wrapped.do_handshake()
            except ssl.SSLWantReadError:
                selector.modify(wrapped, selectors.EVENT_READ)
            except ssl.SSLWantWriteError:
                selector.modify(wrapped, selectors.EVENT_WRITE)
            else:
                return
            left = deadline - clock()
            if left <= 0:
                raise TimeoutError
            selector.select(left)


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not hold ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    reason = getattr(error, "reason", None) or error.strerror or "the connection ended"
    return f"it speaks no TLS that we speak ({reason})"


def has_more(connected: socket.socket) -> bool:
    """True when something was received and decrypted that no readiness of the socket will tell of."""
    return isinstance(connected, ssl.SSLSocket) and connected.pending() > 0


def keeps_what_it_was_given(connected: socket.socket) -> bool:
    """True when a part of what was refused just now may be on its way all the same."""
    return isinstance(connected, ssl.SSLSocket)
