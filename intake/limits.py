"""How much one client may ask for: requests, new orders, wrong tokens, letters; by its address and by its network.

Why here: all limits in one table of numbers, applied before a body is read.
Must not: know a card (who tries stolen ones is seen by how many orders come from where), or be switched off.

A refused request is not counted, so that waiting as long as Retry-After says is enough. A program of this machine and
the shop's own software speak for many customers: of them only requests are counted, to a much higher limit.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Annotated

import msgspec
from msgspec import Meta

from intake.clients import Client
from intake.rate_table import Rate, RateTable

_MINUTE, _HOUR = 60, 3600
REQUESTS, ORDERS, TOKENS, LETTERS, AT_ONCE = "requests", "orders", "tokens", "letters", "at-once"
NAMES = (REQUESTS, ORDERS, TOKENS, LETTERS, AT_ONCE)
AT_ONCE_MAXIMUM = 32
"""Orders of one address that one worker reads and stores at the same moment."""
AT_ONCE_OF_NETWORK = 4 * AT_ONCE_MAXIMUM
"""The same of its network: whoever rents one has as many addresses as it likes."""
# Each limit counts under tags of its own, made from the client's.
_MARKS = {
    REQUESTS: 0,
    ORDERS: 0x5A17_0C3D_9B6E_21F4,
    TOKENS: 0x37E2_81BC_44D0_F96B,
    LETTERS: 0x6B94_E3A0_17DF_528C,
}
_LETTERS_FACTOR = 2
"""At most so many times the letters of an address for its network: letters have a limit in all, too (500 in an hour),
and a few networks must not use it up for everybody."""
_OF_PREFIX = 0x2C6F_9E15_D308_7A4B
_OF_SUSPECT = 0x1D53_AA80_7F2C_E694
_SUSPECT = Rate(limit=2, seconds=3600)


class LimitsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[limits]``: what one address (IPv6: one /64) may do; its network (/24, /48) ``network_factor`` times that.

    ``letters_per_hour``: enquiries, and addresses for the newsletter; of a network twice as many at most.
    ``trusted_proxies``: whose X-Forwarded-For says who the client is. ``shop_addresses``: the shop's own software.
    """

    requests_per_minute: Annotated[int, Meta(ge=30, le=100_000)] = 600
    orders_per_hour: Annotated[int, Meta(ge=1, le=10_000)] = 60
    wrong_tokens_per_hour: Annotated[int, Meta(ge=1, le=10_000)] = 60
    letters_per_hour: Annotated[int, Meta(ge=1, le=10_000)] = 20
    network_factor: Annotated[int, Meta(ge=1, le=100)] = 10
    shop_requests_per_minute: Annotated[int, Meta(ge=1_000, le=100_000_000)] = 600_000
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    shop_addresses: tuple[str, ...] = ()


class Limits:
    """The limits of ``config``, counted in ``table``. ``suspects``: callers whose orders were nearly all declined."""

    def __init__(self, config: LimitsConfig, table: RateTable, suspects: Container[int] = ()) -> None:
        self._table = table
        self._suspects = suspects
        one = {
            REQUESTS: Rate(limit=config.requests_per_minute, seconds=_MINUTE),
            ORDERS: Rate(limit=config.orders_per_hour, seconds=_HOUR),
            TOKENS: Rate(limit=config.wrong_tokens_per_hour, seconds=_HOUR),
            LETTERS: Rate(limit=config.letters_per_hour, seconds=_HOUR),
        }
        factors = {LETTERS: min(config.network_factor, _LETTERS_FACTOR)}
        self._of_address = one
        self._of_prefix = {
            name: Rate(limit=rate.limit * factors.get(name, config.network_factor), seconds=rate.seconds)
            for name, rate in one.items()
        }
        self._of_shop = Rate(limit=config.shop_requests_per_minute, seconds=_MINUTE)

    def request(self, client: Client, now: float) -> int:
        """Count one request: 0, or how many seconds to wait."""
        if client.is_shop:
            return self._table.take([(client.address or 1, self._of_shop)], now)
        return self._table.take(self._wanted(client, REQUESTS), now)

    def wait(self, client: Client, name: str, now: float) -> int:
        """How many seconds this client has to wait before it may do what ``name`` limits; nothing is counted."""
        return 0 if client.is_shop else self._table.wait(self._wanted(client, name), now)

    def count(self, client: Client, name: str, now: float) -> None:
        """Count what was done."""
        if not client.is_shop:
            self._table.take(self._wanted(client, name), now)

    def _wanted(self, client: Client, name: str) -> list[tuple[int, Rate]]:
        mark = _MARKS[name]
        wanted = [
            (client.address ^ mark or 1, self._of_address[name]),
            (client.prefix ^ mark ^ _OF_PREFIX or 1, self._of_prefix[name]),
        ]
        if name == ORDERS and client.caller in self._suspects:
            wanted.append((client.address ^ _OF_SUSPECT or 1, _SUSPECT))
        return wanted
