"""What stands around the application in each worker: limits, counters, metrics and the log, made from the settings.

Why here: the server builds the application; this builds what every request passes on its way there and back.
Must not: read the clock or the environment (it is given both).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from intake import problems
from intake.clients import Clients, Network, networks
from intake.declines import Callers, Suspects
from intake.errors import IntakeError
from intake.health import Health
from intake.limits import NAMES, Limits, LimitsConfig
from intake.metrics import Metrics
from intake.problems import Problem, faulty_fields, method_refused
from intake.proxy_watch import ProxyWatch
from intake.rate_table import KEY_SIZE, RateTable, make_table
from intake.request_log import RequestLog
from intake.tallies import Tallies, layout_of, make_tallies
from transfer.register import Register
from transfer.sync.node import LAST_RETURN


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What a process brings. ``now``: Unix seconds; ``ticks``: a clock that only goes on; ``log_to``: a descriptor."""

    now: Callable[[], float]
    ticks: Callable[[], float]
    random: Callable[[int], bytes]
    worker: int
    log_to: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the front needs of one worker. ``cors_origins``: whose pages may read the API's answers."""

    clients: Clients
    limits: Limits
    callers: Callers
    suspects: Suspects
    proxy_watch: ProxyWatch
    tallies: Tallies
    metrics: Metrics
    log: RequestLog
    cors_origins: frozenset[bytes]
    outside: Outside


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Memory (descriptors) that the workers inherit, so that they count together."""

    rates: int
    tallies: int


def share(*, random: Callable[[int], bytes]) -> Shared:
    """What one process makes before the workers start. All counts begin anew with it, and no disk ever sees them."""
    return Shared(rates=make_table(random(KEY_SIZE)), tallies=make_tallies())


def check_settings(limits: LimitsConfig, cors_origins: Sequence[str]) -> None:
    """Refuse what ``surround`` would refuse."""
    _networks(limits)
    _origins(cors_origins)


def surround(
    shared: Shared,
    limits: LimitsConfig,
    cors_origins: Sequence[str],
    *,
    routes: Sequence[str],
    health: Health,
    register: Register,
    token_key: bytes,
    state: Path,
    bind: str,
    outside: Outside,
) -> Surroundings:
    """One worker's. ``routes``: the templates of all addresses that the application has."""
    table = RateTable(shared.rates)
    callers = Callers(state, outside.worker)
    suspects = Suspects(
        callers,
        news=lambda: str((register.fact(LAST_RETURN) or {}).get("name", "")),
        statuses=register.statuses_of,
    )
    caller_key = hashlib.blake2b(token_key, digest_size=KEY_SIZE, person=b"callers").digest()
    proxies, shop = _networks(limits)
    tallies = Tallies(shared.tallies, layout_of(routes=routes, rules=_rules(), limits=NAMES))
    return Surroundings(
        clients=Clients(
            trusted_proxies=proxies,
            shop_addresses=shop,
            key=table.key,
            caller_key=caller_key,
            bind=bind,
        ),
        limits=Limits(limits, table, suspects),
        callers=callers,
        suspects=suspects,
        proxy_watch=ProxyWatch(state),
        tallies=tallies,
        metrics=Metrics(tallies=tallies, health=health, webhooks=register.changes_waiting),
        log=RequestLog(outside.log_to),
        cors_origins=_origins(cors_origins),
        outside=outside,
    )


def _networks(limits: LimitsConfig) -> tuple[list[Network], list[Network]]:
    return (
        networks("[limits] trusted_proxies", limits.trusted_proxies),
        networks("[limits] shop_addresses", limits.shop_addresses),
    )


def _origins(named: Sequence[str]) -> frozenset[bytes]:
    """Origins in the one form that browsers send; ``CONFIG-VALUE`` for anything else, a wildcard above all."""
    for origin in named:
        parts = urlsplit(origin)
        if (
            not origin.isascii()
            or origin != origin.lower()
            or parts.scheme not in ("http", "https")
            or f"{parts.scheme}://{parts.netloc}" != origin
            or not parts.hostname
            or "@" in parts.netloc
            or "*" in origin
        ):
            raise IntakeError(
                "CONFIG-VALUE",
                f"[intake] cors_origins: {origin} is not an origin",
                "for example https://shop.example",
            )
    return frozenset(origin.encode("ascii") for origin in named)


def _rules() -> list[str]:
    """Every rule by which the API refuses."""
    constant = [value.rule for value in vars(problems).values() if isinstance(value, Problem)]
    return [*constant, faulty_fields(()).rule, method_refused("").rule]
