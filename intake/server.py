"""Building the application from the configuration, and running it on granian.

Why here: the one place that ties web, keys, spool and register together.
Must not: read the clock or the environment (it is given both), or log requests.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from time import gmtime

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels

from intake.app import Intake
from intake.catalogue import load_catalogue
from intake.config import IntakeConfig, address
from intake.enquiries.desk import EnquiryDesk
from intake.errors import IntakeError
from intake.forms import OrderStatus, Status
from intake.front import METRICS_ROUTE, Front
from intake.groups import WAITING_MAXIMUM, GroupCommit
from intake.health import Health
from intake.housekeeping import Housekeeping
from intake.limits import LimitsConfig
from intake.live_keys import LiveKeys
from intake.newsletter.place import open_subscribers
from intake.openapi import openapi_document
from intake.page.pages import Pages, Shop
from intake.policy import policy_routes, policy_tasks
from intake.proxy_watch import ProxyWatch
from intake.request_log import JsonLines
from intake.surroundings import Outside, Shared, check_settings, surround
from intake.taking import OrderDesk
from intake.tokens import TOKEN_KEY_SIZE
from keys.durable import create_durable, make_directory
from transfer.config import NodeConfig
from transfer.register import Register
from transfer.spool import Spool
from transfer.sync.node import LAST_RETURN
from transfer.sync.silence import heard, silence_of
from transfer.wire.records import Reason

_PR_SET_PDEATHSIG = 1
_TOKEN_FILE = "token.key"  # noqa: S105  a file name
_REGISTER = "register.db"
_SPOOL = "spool"
_STOP = (signal.SIGINT, signal.SIGTERM)
_STOP_SECONDS = 10
"""A worker that has not ended by then is killed: what it acknowledged is durable, the rest is asked for again."""
_UNDER_WAY_SECONDS = 0.05
_HEAD_MILLISECONDS, _HEAD_SIZE = 10_000, 64 * 1024
"""A request's head that takes longer or more is given up."""
_CONNECTIONS_MAXIMUM = 4 * WAITING_MAXIMUM
"""Of one worker; idle ones count. Above it clients wait at the door, below it who is one too many is told so (503)."""

_LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"lines": {"()": JsonLines}},
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "lines", "stream": "ext://sys.stderr"}
    },
    "loggers": {
        "_granian": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "intake": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
    },
}


def open_spool(node: NodeConfig) -> Spool:
    """The node's spool, with its limits."""
    return Spool(node.state / _SPOOL, max_orders=node.max_orders, max_bytes=node.max_bytes)


def register_path(node: NodeConfig) -> Path:
    """Where the node's register lies."""
    return node.state / _REGISTER


def prepare(
    node: NodeConfig, intake: IntakeConfig, limits: LimitsConfig, *, random: Callable[[int], bytes]
) -> None:
    """What one process does before the workers start: check the settings and make what is missing."""
    _check_port_is_free(*address(intake.bind))
    check_settings(limits, intake.cors_origins)
    load_catalogue(intake.catalogue)
    make_directory(node.state)
    if not (node.state / _TOKEN_FILE).exists():
        create_durable(node.state / _TOKEN_FILE, random(TOKEN_KEY_SIZE))
    _token_key(node.state / _TOKEN_FILE)
    open_spool(node)
    Register(register_path(node)).close()
    open_subscribers(node.state, random=random).file.close()
    EnquiryDesk(node.state, random=random).close()


def build(
    node: NodeConfig, intake: IntakeConfig, limits: LimitsConfig, *, shared: Shared, outside: Outside
) -> Front:
    """One worker's application, and what stands before it."""
    now = outside.now

    def seconds() -> int:
        return int(now())

    def month() -> tuple[int, int]:
        today = gmtime(now())
        return today.tm_year, today.tm_mon

    spool, register = open_spool(node), Register(register_path(node))
    subscribers = open_subscribers(node.state, random=outside.random)
    desk = EnquiryDesk(node.state, random=outside.random)
    housekeeping = Housekeeping(policy_tasks(intake, subscribers=subscribers, desk=desk, now=seconds))
    # Before its first order a worker must know those that a killed one stored but did not register.
    register.reindex(spool, seconds())
    keys = LiveKeys(node=node.node, state=node.state)
    token_key = _token_key(node.state / _TOKEN_FILE)
    commit = GroupCommit(spool=spool, register=register, keys=keys, now=seconds)

    def status(order_id: str) -> Status | None:
        return status_of(register, order_id)

    def returned_at() -> int:
        return time_of_last_return(register)

    def started() -> None:
        housekeeping.start()
        _take_signals_once_serving()

    def close() -> None:
        commit.close()
        register.close()
        housekeeping.stop()
        subscribers.file.close()
        desk.close()

    catalogue = load_catalogue(intake.catalogue)
    health = Health(
        keys=keys,
        spool=spool,
        now=seconds,
        returned_at=returned_at,
        silence=silence_of(lambda: heard(register), days=node.expect_return_days),
        proxy=ProxyWatch(node.state).notices,
    )
    pages = Pages(
        shop=Shop(
            name=intake.shop,
            carried_every_hours=intake.carried_every_hours,
            sent_within_days=intake.sent_within_days,
            is_https=intake.is_https,
        ),
        catalogue=catalogue,
        keys=health.keys,
        identities=lambda: keys.identities,
        is_retired=lambda: health.is_retired,
        month=month,
    )
    application = Intake(
        desk=OrderDesk(commit=commit, keys=keys, register=register, token_key=token_key, now=seconds),
        catalogue=catalogue,
        status=status,
        health=health,
        pages=pages,
        more_routes=policy_routes(intake, pages, catalogue, subscribers=subscribers, desk=desk, now=seconds),
        token_key=token_key,
        month=month,
        openapi=openapi_document(),
        started=started,
        close=close,
    )
    front = Front(
        application,
        surround(
            shared,
            limits,
            intake.cors_origins,
            routes=[*application.routes, METRICS_ROUTE],
            health=health,
            register=register,
            token_key=token_key,
            state=node.state,
            bind=intake.bind,
            outside=outside,
        ),
    )
    gc.collect()
    gc.freeze()  # what is there now stays, so it need not be looked through again
    return front


def time_of_last_return(register: Register) -> int:
    """When the offline side signed the newest return, by its clock; 0 for none."""
    last = register.fact(LAST_RETURN) or {}
    return int(last.get("time", 0))


def status_of(register: Register, order_id: str) -> Status | None:
    """What the register says about one order (32 hex digits)."""
    known = register.lookup(order_id)
    if known is None:
        return None
    changed_at = known.changed_at or known.received_at
    return Status(
        order_id=order_id,
        status=OrderStatus(known.status),
        reason=Reason(known.reason),
        changed_at=changed_at,
    )


def enter_worker(parent: int) -> None:
    """What a worker process does first: no core file, which could hold an order in clear, and no life of its own.

    ``parent`` is the process that started it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(now, min(most, 2 * _CONNECTIONS_MAXIMUM)), most))
    # A worker whose parent was killed would go on taking orders on a port that nobody watches any more. It is killed,
    # not asked: a request to stop that comes while the server starts can be lost, and a kill loses no answered order.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above, and nothing will tell us
        os.kill(os.getpid(), signal.SIGKILL)


def _let_signals_end_workers() -> None:
    """A worker is forked with the parent's handlers, which only set a flag of the parent's.

    A signal to stop that comes before the worker's server runs would be lost, and the parent would wait for that
    worker in vain. So signals wait from before the fork until then (``_take_signals_once_serving``).
    """

    def in_worker() -> None:
        for number in _STOP:
            signal.signal(number, signal.SIG_DFL)

    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, _STOP),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP),
        after_in_child=in_worker,
    )


def _take_signals_once_serving() -> None:
    """Called at the application's start, in a loop that then stops and runs again only under the server."""
    loop = asyncio.get_running_loop()
    loop.call_later(_UNDER_WAY_SECONDS, signal.pthread_sigmask, signal.SIG_UNBLOCK, _STOP)


def serve(intake: IntakeConfig, load: Callable[[], Front]) -> None:
    """Run until a signal ends it; ``load`` makes the application in each worker process."""
    host, port = address(intake.bind)
    server = Granian(
        "intake",
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        workers=intake.workers,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=_HEAD_MILLISECONDS, max_buffer_size=_HEAD_SIZE),
        websockets=False,
        log_level=LogLevels.warning,
        log_dictconfig=_LOGGING,
        log_access=False,
        backpressure=_CONNECTIONS_MAXIMUM,
        respawn_failed_workers=True,
        workers_kill_timeout=_STOP_SECONDS,
    )
    _let_signals_end_workers()
    server.serve(target_loader=load, wrap_loader=False)


def _check_port_is_free(host: str, port: int) -> None:
    """Workers share their port, and the system would let another intake share it too: two shops in one."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        remedy = "stop what uses it, or choose another [intake] bind"
        raise IntakeError(
            "CONFIG-BIND", f"cannot listen on {host} port {port}: {error.strerror}", remedy
        ) from error


def _token_key(path: Path) -> bytes:
    key = path.read_bytes()
    if len(key) != TOKEN_KEY_SIZE:
        raise IntakeError(
            "INTAKE-TOKEN-KEY", f"{path} is damaged", "restore it: without it no customer sees a status"
        )
    return key
