"""Who is at the other end: the client's network addresses, also behind the shop's own proxy, and its nameless tags.

Why here: rate limits and logs need the same answer, and only the configuration says whom to believe about it.
Must not: believe a header of a proxy that the configuration does not name, or let an address into a log or a file.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from intake.errors import IntakeError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_TAG_SIZE = 8
_REMEMBERED = 4096
_HEADER_LIMIT = 2048
_HOPS_MAXIMUM = 32
_NARROW = {4: 32, 6: 64}  # what one customer has: an IPv6 household gets 2**64 addresses and may use them all
_WIDE = {4: 24, 6: 48}  # what one customer can rent
_HOST_LIMIT = 64  # longer than any address with a port
_HOST = re.compile(rb"(?P<name>localhost|[0-9.]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """``address`` and ``prefix`` are keyed digests (64 bits) of the narrow and the wide network that it is in.

    ``caller`` is one of the narrow network too, by a key that outlives the server's start: under it is remembered how
    orders fared.
    ``is_shop``: the shop's own software, which speaks for many customers. ``is_local``: a program of this machine, with
    no proxy in between. ``is_unnamed``: brought by a program of this machine that asks as proxies do, or for another
    name than this machine's own, and does not say for whom: a proxy that should set X-Forwarded-For.
    """

    address: int
    prefix: int
    caller: int
    is_shop: bool
    is_local: bool
    is_unnamed: bool


class _Peer(NamedTuple):
    """The other end of a connection."""

    address: Address | None
    is_proxy: bool
    is_loopback: bool


class _Asked(NamedTuple):
    """All of a request that says who asks. ``is_own``: it asks for this machine; None when it names none."""

    peer: str
    forwarded_for: bytes
    is_forwarded: bool
    is_own: bool | None


class Clients:
    """``trusted_proxies``: who may say in X-Forwarded-For for whom it asks. ``key``: 32 bytes, of this start only.

    ``caller_key``: 32 bytes, of this node. ``bind``: the server's HOST:PORT, by which programs here may call it too.
    """

    def __init__(
        self,
        *,
        trusted_proxies: Sequence[Network],
        shop_addresses: Sequence[Network],
        key: bytes,
        caller_key: bytes,
        bind: str = "",
    ) -> None:
        self._proxies = tuple(trusted_proxies)
        self._shop = tuple(shop_addresses)
        self._key = key
        self._caller_key = caller_key
        self._bind = bind.lower().encode()
        self._peers: dict[str, _Peer] = {}
        self._known: dict[_Asked, Client] = {}

    def of(
        self, peer: str, forwarded_for: bytes | None, host: bytes = b"", *, is_old: bool = False
    ) -> Client:
        """The client behind ``peer``.

        It sent ``forwarded_for`` (all X-Forwarded-For lines, joined by commas; None when there is none) and ``host``
        (empty when there is none). ``is_old``: by HTTP/1.0, which only proxies still speak.
        """
        end = self._peers.get(peer)
        if end is None:
            if len(self._peers) >= _REMEMBERED:
                self._peers.clear()
            end = self._peers[peer] = self._end(peer)
        # Nothing is remembered of what is not believed, and no more of the rest than is read: this comes before limits.
        asked = _Asked(
            peer=peer,
            forwarded_for=forwarded_for[-_HEADER_LIMIT:] if forwarded_for and end.is_proxy else b"",
            is_forwarded=forwarded_for is not None,
            is_own=(not is_old and self._is_own(host)) if host and end.is_loopback else None,
        )
        known = self._known.get(asked)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[asked] = self._look(asked, end)
        return known

    def _end(self, peer: str) -> _Peer:
        address = _address(peer)
        return _Peer(
            address=address,
            is_proxy=address is not None and _is_in(address, self._proxies),
            is_loopback=address is not None and _is_in(address, _LOOPBACK),
        )

    def _is_own(self, host: bytes) -> bool:
        """Whether a Host is this machine's for itself. A proxy hands on its customers', which is the shop's name."""
        if len(host) > _HOST_LIMIT:
            return False
        name = host.lower()
        if name == self._bind:
            return True
        found = _HOST.fullmatch(name)
        if found is None:
            return False
        if found["name"] == b"localhost":
            return True
        address = _address(found["name"].decode("ascii"))
        return address is not None and _is_in(address, _LOOPBACK)

    def _look(self, asked: _Asked, end: _Peer) -> Client:
        client = None if end.address is None else self._behind(end.address, asked.forwarded_for)
        # With the header it is a proxy's request, also if the proxy is not named as one: then all that it brings is one
        # client with a customer's limits, which is noticed, and not the shop, which would not be. The same without the
        # header, when it asks for a name that is not this machine's own.
        is_local = end.is_loopback and not asked.is_forwarded and asked.is_own is True
        narrow = b"?" if client is None else _network(client, _NARROW)
        wide = b"??" if client is None else _network(client, _WIDE)
        return Client(
            address=_tag(narrow, self._key),
            prefix=_tag(wide, self._key),
            caller=_tag(narrow, self._caller_key),
            is_shop=is_local or (client is not None and _is_in(client, self._shop)),
            is_local=is_local,
            is_unnamed=end.is_loopback and not asked.is_forwarded and asked.is_own is False,
        )

    def _behind(self, address: Address, forwarded_for: bytes) -> Address:
        """From the right, each proxy that is trusted says who asked it; the first that is not trusted is the client."""
        hops = forwarded_for.decode("latin-1").split(",")[-_HOPS_MAXIMUM:]
        for hop in reversed(hops):
            if not _is_in(address, self._proxies):
                break
            before = _address(hop.strip(" \t"))
            if before is None:
                break
            address = before
        return address


def networks(setting: str, named: Iterable[str]) -> list[Network]:
    """The networks or single addresses of a setting; ``CONFIG-VALUE`` when one is not a network."""
    found = []
    for text in named:
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError:
            raise IntakeError(
                "CONFIG-VALUE",
                f"{setting}: {text} is not a network",
                "for example 192.0.2.7 or 2001:db8::/48",
            ) from None
    return found


def _tag(network: bytes, key: bytes) -> int:
    digest = hashlib.blake2b(network, key=key, digest_size=_TAG_SIZE, person=b"client").digest()
    return int.from_bytes(digest, "big")


def _address(text: str) -> Address | None:
    """An address, also with a port or in brackets, as proxies write it."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        return ipaddress.IPv6Address(int(address))  # without a zone, which a client could vary at will
    return address


def _is_in(address: Address, of: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in of)


def _network(address: Address, lengths: dict[int, int]) -> bytes:
    kept = lengths[address.version]
    shift = address.max_prefixlen - kept
    return b"%d/%d/%x" % (address.version, kept, int(address) >> shift)
