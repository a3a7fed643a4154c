"""TLS on the acquirer's line: one pinned authority, one name, our own certificate where asked, no way around them.

Why here: the only part of the offline side that imports ssl, so that what is trusted stands on one page.
Must not: trust the system's authorities, go on without TLS, or wait longer than it was told.

OpenSSL encrypts what is sent in a buffer of its own, over the copy of it there; what it has decrypted is wiped once it
was read (SSL_OP_CLEANSE_PLAINTEXT).
"""

from __future__ import annotations

import os
import selectors
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

from offline_processor.acquirers.iso8583.private_file import open_private
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """One of ours, and its private key, as PEM files; nobody but us may read the key's."""

    certificate: Path
    key: Path


def pinned(authority: Path, name: str, ours: Certificate | None = None) -> Tls:
    """TLS 1.2 or newer with a server that this authority (PEM) certified under this name. ``CONFIG-TLS``.

    ``ours`` is shown to a server that asks who we are.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT)  # it checks certificate and name
    try:
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=name)
    except ValueError:
        raise ProcessorError(
            "CONFIG-TLS",
            f"{name!r} is no name that a certificate can have",
            "set [acquirer] tls_name to the name in the acquirer's certificate, or its address",
        ) from None
    _trust(context, authority)
    if ours is not None:
        _show(context, ours)
    return Tls(context=context, name=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingTls:
    """TLS at a host's end."""

    context: ssl.SSLContext = field(repr=False)

    def accepted(self, connected: socket.socket) -> ssl.SSLSocket:
        """A connection that came, and does not block, before its handshake (``shake``)."""
        return self.context.wrap_socket(connected, server_side=True, do_handshake_on_connect=False)


def serving(ours: Certificate, authority: Path | None) -> ServingTls:
    """It shows ``ours``, and asks for a certificate of ``authority`` when that is named. ``CONFIG-TLS``."""
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    _show(context, ours)
    if authority is not None:
        _trust(context, authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return ServingTls(context=context)


def _context(role: int) -> ssl.SSLContext:
    context = ssl.SSLContext(role)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if ssl.OPENSSL_VERSION_INFO >= (3, 0):
        context.options |= _CLEANSE_PLAINTEXT
    return context


def _trust(context: ssl.SSLContext, authority: Path) -> None:
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
            f"the authority {authority} of the other end's certificate cannot be read: {reason}",
            "name the PEM file of the authority that certifies the other end ([acquirer] tls_authority)",
        ) from None


def _show(context: ssl.SSLContext, ours: Certificate) -> None:
    try:
        os.close(open_private(ours.key, _SIZE_LIMIT))
        if not ours.certificate.is_file() or ours.certificate.stat().st_size > _SIZE_LIMIT:
            raise ValueError("the certificate is no plain file, or too large")  # noqa: TRY301
        context.load_cert_chain(ours.certificate, ours.key, password=_no_password)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise ProcessorError(
            "CONFIG-TLS",
            f"the certificate {ours.certificate} with the key {ours.key} cannot be used: {reason}",
            "name two PEM files that belong together; the key's is not encrypted, yours, and of mode 0600",
        ) from None


def _no_password() -> NoReturn:
    raise ValueError("the key is encrypted, and nobody is asked for its password here")


def shake(connected: socket.socket) -> bool:
    """Go on with the handshake of what came to a host; False when it must wait. ``OSError`` when it has failed."""
    if isinstance(connected, ssl.SSLSocket):
        try:
            connected.do_handshake()
        except BLOCKED:
            return False
    return True


def shaken(
    tls: Tls, connected: socket.socket, *, deadline: float, clock: Callable[[], float]
) -> ssl.SSLSocket:
    """The connection with TLS on it; ``TlsError``, and then it is closed."""
    try:
        wrapped = tls.context.wrap_socket(connected, server_hostname=tls.name, do_handshake_on_connect=False)
    except OSError as error:  # the other end has hung up already
        connected.close()
        raise TlsError(_reason(error)) from None
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


def refusal(error: OSError) -> str:
    """Why the other end has ended TLS with us, if that is what happened; else ""."""
    reason = getattr(error, "reason", None) or ""
    if not isinstance(error, ssl.SSLError) or "_ALERT_" not in reason:
        return ""
    return f"it does not accept us: our certificate, that we show none, or TLS as we speak it ({reason})"


def _reason(error: OSError) -> str:
    if told := refusal(error):
        return told
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
