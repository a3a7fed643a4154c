"""One connection to the configured address, with TLS where that is asked for; or why there is none.

Why here: the one place of the offline side that opens a connection.
Must not: look up a name, try again, or go on without the TLS that was asked for.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from offline_processor.acquirers.iso8583.tls import Tls, TlsError, shaken
from offline_processor.errors import ProcessorError


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Where the acquirer is; ``tls`` None: the line is bare."""

    address: IPv4Address | IPv6Address
    port: int
    tls: Tls | None


class NotConnectedError(Exception):
    """No connection, or not signed on; ``args`` are where it failed (connect, tls, sign-on) and why."""


def connect(line: Line, patience: float, *, clock: Callable[[], float]) -> socket.socket:
    """A connected socket that does not block; ``patience`` seconds for TCP and again for TLS. ``NotConnectedError``."""
    made = _connected(line, patience)
    if line.tls is None:
        return made
    try:
        return shaken(line.tls, made, deadline=clock() + patience, clock=clock)
    except TlsError as error:
        raise NotConnectedError("tls", str(error)) from None


def _connected(line: Line, patience: float) -> socket.socket:
    family = socket.AF_INET6 if line.address.version == 6 else socket.AF_INET  # noqa: PLR2004
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fault = made.connect_ex((str(line.address), line.port))
        if fault == errno.EINPROGRESS:
            with selectors.DefaultSelector() as selector:
                selector.register(made, selectors.EVENT_WRITE)
                ready = selector.select(patience)
            fault = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if ready else errno.ETIMEDOUT
    except BaseException:
        made.close()
        raise
    if fault:
        made.close()
        raise NotConnectedError("connect", os.strerror(fault))
    return made


def refused(line: Line, error: NotConnectedError) -> ProcessorError:
    """``ACQUIRER-UNREACHABLE``, ``ACQUIRER-TLS`` or ``ACQUIRER-SIGN-ON``, in words for the operator."""
    stage, reason = map(str, error.args)
    where = f"{line.address} port {line.port}"
    if stage == "connect":
        return ProcessorError(
            "ACQUIRER-UNREACHABLE",
            f"the acquirer at {where} cannot be reached: {reason}",
            "check the circuit and [acquirer] address; nothing was sent",
        )
    if stage == "tls":
        return ProcessorError(
            "ACQUIRER-TLS",
            f"there is no TLS with the acquirer at {where}: {reason}",
            "check [acquirer] tls_authority, tls_name, tls_certificate and tls_key with the acquirer; no order was"
            " sent",
        )
    return ProcessorError(
        "ACQUIRER-SIGN-ON",
        f"the acquirer at {where} did not sign us on: {reason}",
        "check [acquirer] profile, terminal, merchant and mac_key with the acquirer; no order was sent",
    )
