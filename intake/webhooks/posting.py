"""One POST to an address that somebody configured, such that it cannot be turned against this machine's own network.

Why here: all that makes calling out safe stands in one place.
Must not: call an address that is not public (unless listed), look a name up twice, follow a redirect, use a proxy, wait
longer than its limits, or keep a byte of the answer but its status and Retry-After.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from intake.clients import Address, Network
from intake.webhooks.message import Message
from intake.webhooks.settings import Endpoint

CONNECT_SECONDS = 5.0
WHOLE_SECONDS = 20.0
_RETRY_AFTER_MAXIMUM = 86_400
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # all of IPv6 that was ever given out
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_USER_AGENT = "sealed-orders-webhooks/1"
Resolve = Callable[[str, int], Sequence[str]]
Connect = Callable[[str, int], socket.socket]


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """How it went. ``rule`` is empty when the receiver took it; ``retry_after``: seconds it asks to be left alone."""

    rule: str
    detail: str = ""
    is_gone: bool = False
    retry_after: int = 0


class _Pinned(http.client.HTTPSConnection):
    """Speaks over a socket that is connected already, to the address that was judged."""

    def __init__(self, endpoint: Endpoint, opened: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(endpoint.host, endpoint.port, timeout=CONNECT_SECONDS, context=context)
        self.sock = context.wrap_socket(opened, server_hostname=endpoint.host)

    def connect(self) -> None:
        raise ConnectionError("a connection is not opened twice")


def resolve(host: str, port: int) -> Sequence[str]:
    """Every address of a name."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def connect(address: str, port: int) -> socket.socket:
    """A connection to an address that is written as numbers."""
    return socket.create_connection((address, port), timeout=CONNECT_SECONDS)


def post(
    endpoint: Endpoint,
    message: Message,
    headers: Mapping[str, str],
    *,
    resolve: Resolve = resolve,
    connect: Connect = connect,
) -> Posted:
    """Send one message; whatever goes wrong is an answer, not an exception."""
    try:
        address = _address_of(endpoint, resolve(endpoint.host, endpoint.port))
        if address is None:
            return Posted(rule="WEBHOOK-ADDRESS", detail="its address is not a public one")
        return _send(endpoint, message, headers, connect(address, endpoint.port))
    except (OSError, ValueError, http.client.HTTPException) as error:  # ssl's errors are of OSError
        return Posted(rule="WEBHOOK-UNREACHABLE", detail=type(error).__name__)


def _send(endpoint: Endpoint, message: Message, headers: Mapping[str, str], opened: socket.socket) -> Posted:
    # A peer that sends a byte now and then would hold a connection for ever: this ends it, whatever it waits for.
    # On a descriptor of its own, since TLS takes the other one over.
    held = opened.dup()
    deadline = threading.Timer(WHOLE_SECONDS, _end, [held])
    deadline.daemon = True
    deadline.start()
    try:
        context = ssl.create_default_context(cafile=endpoint.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        connection = _Pinned(endpoint, opened, context)
        with contextlib.closing(connection):
            fixed = {
                "content-type": "application/json",
                "user-agent": _USER_AGENT,
                "accept": "*/*",
                "connection": "close",
            }
            connection.request("POST", endpoint.target, body=message.body, headers={**fixed, **headers})
            answer = connection.getresponse()
            status, wait = answer.status, answer.headers.get("retry-after", "")
    finally:
        deadline.cancel()
        held.close()
        opened.close()
    if http.client.OK <= status < http.client.MULTIPLE_CHOICES:
        return Posted(rule="")
    seconds = int(wait) if wait.isascii() and wait.isdigit() and len(wait) < len("1000000") else 0
    return Posted(
        rule="WEBHOOK-REFUSED",
        detail=f"answered {status}",
        is_gone=status == http.client.GONE,
        retry_after=min(seconds, _RETRY_AFTER_MAXIMUM),
    )


def _end(opened: socket.socket) -> None:
    with contextlib.suppress(OSError):
        opened.shutdown(socket.SHUT_RDWR)


def _address_of(endpoint: Endpoint, found: Sequence[str]) -> str | None:
    """The first address, if every one of them may be called: a name that also names an inner one is a trap."""
    for text in found:
        address = ipaddress.ip_address(text.partition("%")[0])
        if not _may_call(address, endpoint.allowed):
            return None
    return found[0] if found else None


def _may_call(address: Address, allowed: Sequence[Network]) -> bool:
    inner = _inner(address)
    if any(inner.version == network.version and inner in network for network in allowed):
        return True
    if inner.version == _GLOBAL_UNICAST.version and inner not in _GLOBAL_UNICAST:
        return False
    return inner.is_global and not inner.is_multicast and not inner.is_reserved


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, if it does: what is called in the end."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        carried = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if carried is not None:
            return carried
    return address
