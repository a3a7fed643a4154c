"""Where the acquirer listens: an address and a port, and the interface that leads there.

Why here: the link connects to it, and the isolation check allows this circuit and no other.
Must not: resolve a name, or do I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from offline_processor.config import AcquirerConfig
from offline_processor.errors import ProcessorError

_LARGEST_PORT: Final = 0xFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """The one way out that is allowed: through ``interface``, to ``address``."""

    interface: str
    address: IPv4Address | IPv6Address


def endpoint(text: str) -> tuple[IPv4Address | IPv6Address, int]:
    """Address and port of ``192.0.2.7:5000`` or ``[2001:db8::7]:5000``; ``CONFIG-ISO8583`` for a name."""
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address, number = ip_address(bare), int(port) if port.isascii() and port.isdecimal() else 0
    except ValueError:
        address, number = None, 0
    if address is None or (address.version == 6) is (bare == host) or not 0 < number <= _LARGEST_PORT:  # noqa: PLR2004
        raise ProcessorError(
            "CONFIG-ISO8583",
            f"[acquirer] address is no address with a port: {text[:60]!r}",
            "write it in digits, as 192.0.2.7:5000 or [2001:db8::7]:5000; names are not looked up",
        )
    return address, number


def circuit_of(config: AcquirerConfig) -> Circuit | None:
    """The circuit that is allowed; None where nothing is: no line, or one on this machine. ``CONFIG-ISO8583``."""
    if config.driver != "iso8583":
        return None
    address, _ = endpoint(config.address)
    if address.is_loopback or not config.interface:
        return None
    return Circuit(interface=config.interface, address=address)
