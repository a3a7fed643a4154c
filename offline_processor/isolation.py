"""Is this machine really connected to nothing? Read from the kernel's own tables, without a socket.

Why here: "not connected to the Internet" is checked before every command, not assumed; the one circuit that may be
there is the acquirer's.
Must not: change the network, or be switched off; only a rehearsal keystore may go on, marked NOT ISOLATED.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Final

from offline_processor.circuit import Circuit

PROC_NET: Final = Path("/proc/self/net")
"""This process's own namespace; ``/sys/class/net`` would show the one it was mounted in."""
RESOLV_CONF: Final = Path("/etc/resolv.conf")

_WIDEST_IPV4, _WIDEST_IPV6 = 24, 64  # bits of a network that the circuit may lead to: never the Internet

_LOOPBACK = "lo"
_TABLES = ("route", "fib_trie", "dev")  # a kernel without IPv6 has none of the others
_LOCAL_ADDRESS = re.compile(r"\|-- (\S+)\n\s+/32 host LOCAL")
_OTHER_TABLE = re.compile(r"^Id (\d+):\n((?:[ \t].*\n?)*)", re.MULTILINE)
_LEADS_OUT = re.compile(r"^\s+/\d+ \S+ (?:UNICAST|MULTICAST|NAT|XRESOLVE)\b", re.MULTILINE)
_INTERFACE_UP = re.compile(r"^\d+\s+(\S+?)\s*:", re.MULTILINE)
_LINK_LOCAL, _MULTICAST = IPv6Network("fe80::/10"), IPv6Network("ff00::/8")
_REJECTED = 0x0200  # RTF_REJECT: such a route is a wall
_IPV4_COLUMNS, _IPV6_COLUMNS, _ADDRESS_COLUMNS = 8, 10, 6
_NAME_SERVER_PORT = "0035"
_SIZE_LIMIT = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    """``network`` is None where the row could not be read: it may lead anywhere. ``gateway`` None: on the link."""

    version: int
    interface: str
    network: IPv4Network | IPv6Network | None
    gateway: IPv4Address | IPv6Address | None

    def __str__(self) -> str:
        where = f"route to {self.network}" if self.network is not None else "route"
        return f"IPv{self.version} {where} through {self.interface}"


def ways_out(
    circuit: Circuit | None = None, *, proc_net: Path = PROC_NET, resolv_conf: Path = RESOLV_CONF
) -> list[str]:
    """Everything of this network namespace that is neither loopback's nor ``circuit``'s, in words; empty when isolated.

    An interface that is up, an address, a route, a name server that answers or can be reached. Of the circuit are
    allowed: its interface, that interface's link, and routes that lead to the acquirer's address and little else.
    """
    routes = [*_ipv4_routes(proc_net), *_ipv6_routes(proc_net)]
    allowed = [] if circuit is None else _of_circuit(circuit, routes)
    on_link = [route.network for route in allowed if route.gateway is None and route.network is not None]
    found = {str(route) for route in routes if route not in allowed}
    found |= {f"IPv4 routes in table {table}" for table in _other_tables(proc_net)}
    found |= {f"interface {name} is up" for name in _interfaces_up(proc_net) if not _is_of(circuit, name)}
    found |= {
        f"IPv4 address {address}"
        for address in _LOCAL_ADDRESS.findall(_text(proc_net / "fib_trie"))
        if not address.startswith("127.") and not _is_in(address, on_link)
    }
    found |= {
        f"IPv6 address on {name}"
        for name, address in _ipv6_addresses(proc_net)
        if not (_is_of(circuit, name) and _is_in(address, [*on_link, _LINK_LOCAL]))
    }
    found |= set(_name_servers(proc_net, resolv_conf, routes))
    # What cannot be read may hide anything.
    found |= {f"unknown: {table} cannot be read" for table in _TABLES if not (proc_net / table).is_file()}
    return sorted(found)


def leads_to(circuit: Circuit, *, proc_net: Path = PROC_NET) -> bool:
    """True when a route through the circuit's interface leads to its address."""
    routes = [*_ipv4_routes(proc_net), *_ipv6_routes(proc_net)]
    return any(_contains(route, circuit.address) for route in _of_circuit(circuit, routes))


def radios(sys_class: Path = Path("/sys/class")) -> list[str]:
    """The wireless radios of this machine that are not switched off, in words."""
    names = {radio.name for radio in _entries(sys_class / "ieee80211")}
    names |= {radio.name for radio in _entries(sys_class / "bluetooth") if ":" not in radio.name}
    off = set()
    for switch in _entries(sys_class / "rfkill"):
        name = _text(switch / "name").strip() or switch.name
        names.add(name)
        if "1" in (_text(switch / "soft").strip(), _text(switch / "hard").strip()):
            off.add(name)
    return [f"wireless radio {name} is switched on" for name in sorted(names - off)]


def _of_circuit(circuit: Circuit, routes: Sequence[_Route]) -> list[_Route]:
    """The routes that the circuit may have: to the acquirer, to the link that leads there, and IPv6's own of a link."""
    mine = [route for route in routes if route.interface == circuit.interface and route.network is not None]
    to_acquirer = [route for route in mine if _contains(route, circuit.address) and _is_narrow(route.network)]
    next_hops = [route.gateway for route in to_acquirer if route.gateway is not None]
    links = [
        route
        for route in mine
        if route.gateway is None
        and _is_narrow(route.network)
        and any(_contains(route, hop) for hop in next_hops)
    ]
    reachable = [route.network for route in (*to_acquirer, *links) if route.gateway is None]
    own = [
        route
        for route in mine
        if isinstance(route.network, IPv6Network)
        and route.gateway is None
        and any(
            isinstance(network, IPv6Network) and route.network.subnet_of(network)
            for network in (*reachable, _LINK_LOCAL, _MULTICAST)
        )
    ]
    return [*to_acquirer, *links, *own]


def _is_narrow(network: IPv4Network | IPv6Network | None) -> bool:
    if network is None:
        return False
    return network.prefixlen >= (_WIDEST_IPV4 if isinstance(network, IPv4Network) else _WIDEST_IPV6)


def _contains(route: _Route, address: IPv4Address | IPv6Address) -> bool:
    return route.network is not None and route.version == address.version and address in route.network


def _is_of(circuit: Circuit | None, interface: str) -> bool:
    return circuit is not None and interface == circuit.interface


def _is_in(address: str, networks: Iterable[IPv4Network | IPv6Network | None]) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(
        network is not None and network.version == parsed.version and parsed in network
        for network in networks
    )


def _ipv4_routes(proc_net: Path) -> Iterator[_Route]:
    for row in _table(proc_net / "route")[1:]:
        if row[0] == _LOOPBACK:
            continue
        try:
            if len(row) < _IPV4_COLUMNS:
                raise ValueError  # noqa: TRY301  as any other row that cannot be read
            if int(row[3], 16) & _REJECTED:
                continue
            destination, gateway, mask = (_swapped(row[column]) for column in (1, 2, 7))
            network = IPv4Network(f"{destination}/{mask}")
        except ValueError:
            yield _Route(version=4, interface=row[0], network=None, gateway=None)
            continue
        yield _Route(version=4, interface=row[0], network=network, gateway=gateway if int(gateway) else None)


def _swapped(text: str) -> IPv4Address:
    """The kernel writes an IPv4 address as a number of its own byte order."""
    return IPv4Address(bytes.fromhex(text)[::-1])


def _ipv6_routes(proc_net: Path) -> Iterator[_Route]:
    for row in _table(proc_net / "ipv6_route"):
        if row[-1] == _LOOPBACK:
            continue
        try:
            if len(row) < _IPV6_COLUMNS:
                raise ValueError  # noqa: TRY301  as any other row that cannot be read
            if int(row[8], 16) & _REJECTED:
                continue
            network = IPv6Network((bytes.fromhex(row[0]), int(row[1], 16)))
            gateway = IPv6Address(bytes.fromhex(row[4]))
        except ValueError:
            yield _Route(version=6, interface=row[-1], network=None, gateway=None)
            continue
        yield _Route(version=6, interface=row[-1], network=network, gateway=gateway if int(gateway) else None)


def _other_tables(proc_net: Path) -> Iterator[str]:
    """The numbers of routing tables besides main and local that lead anywhere; only ``fib_trie`` shows them."""
    for number, content in _OTHER_TABLE.findall(_text(proc_net / "fib_trie")):
        if _LEADS_OUT.search(content):
            yield number


def _interfaces_up(proc_net: Path) -> Iterator[str]:
    """Every interface that is up is in the group of all hosts, whatever addresses it has.

    A kernel without such groups does not say which are up: there every one counts.
    """
    if (proc_net / "igmp").is_file():
        names = _INTERFACE_UP.findall(_text(proc_net / "igmp"))
    else:
        names = [row[0].partition(":")[0] for row in _table(proc_net / "dev")[2:]]
    yield from (name for name in names if name != _LOOPBACK)


def _ipv6_addresses(proc_net: Path) -> Iterator[tuple[str, str]]:
    for row in _table(proc_net / "if_inet6"):
        if row[-1] != _LOOPBACK:
            whole = len(row) >= _ADDRESS_COLUMNS and len(row[0]) == 32  # noqa: PLR2004  hexadecimal digits
            yield row[-1], ":".join(row[0][at : at + 4] for at in range(0, 32, 4)) if whole else ""


def _name_servers(proc_net: Path, resolv_conf: Path, routes: Sequence[_Route]) -> Iterator[str]:
    """Name servers that answer: one that listens here, or one of the configuration to which a route leads."""
    for table in ("udp", "udp6"):
        for row in _table(proc_net / table)[1:]:
            if len(row) > 1 and row[1].rpartition(":")[2] == _NAME_SERVER_PORT:
                yield "a name server listens on this machine (UDP port 53)"
    for line in _text(resolv_conf).splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            for route in routes:
                if route.network is not None and _is_in(words[1].partition("%")[0], [route.network]):
                    yield f"name server {words[1]} can be reached through {route.interface}"


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _text(table: Path) -> str:
    try:
        with table.open(encoding="utf-8", errors="replace") as file:
            return file.read(_SIZE_LIMIT)
    except OSError:
        return ""


def _table(table: Path) -> list[list[str]]:
    return [line.split() for line in _text(table).splitlines() if line.strip()]
