"""What every request passes before and after the application: limits, other origins, trace, count and log line.

Why here: the application knows orders; who asks, how often, and what is written down about it is decided here.
Must not: read a body, or let anything into a count or a log that the client can choose freely.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, NamedTuple

from starlette.middleware.cors import CORSMiddleware

from intake import asgi
from intake.app import Intake
from intake.clients import Client
from intake.groups import WAITING_MAXIMUM
from intake.limits import AT_ONCE, AT_ONCE_MAXIMUM, AT_ONCE_OF_NETWORK, LETTERS, ORDERS, REQUESTS, TOKENS
from intake.problems import AMBIGUOUS, BUSY, NOT_FOUND, Problem, method_refused, too_many
from intake.request_log import RequestLine
from intake.surroundings import Surroundings
from intake.tallies import METHODS
from intake.traces import FRESH_SIZE, Trace, trace_of

ORDERS_ROUTE = "/orders"
ORDER_ROUTE = "/orders/{order_id}"
METRICS_ROUTE = "/metrics"
_API = (ORDERS_ROUTE, "/keys", "/openapi.json")
_ORDER_PREFIX = "/orders/"
_LETTERS = ("/newsletter", "/enquiries")
_LOOK_SECONDS = 30
_LENGTHS = frozenset({b"content-length", b"transfer-encoding"})
_OLD = ("1.0", "1")  # as ASGI writes HTTP/1.0, and as granian does
_GONE = 499  # the client went away before there was an answer
_SEVERE = 500
_METHODS = frozenset(METHODS)
_JUDGED = "intake.judged"
_UNDER_WAY_MAXIMUM = WAITING_MAXIMUM + 256  # some are still being read or judged


class _Exchange:
    """One request's answer on its way out: its status and note are kept, the trace is added.

    ``counts`` is called before it goes: who has an answer in hand meets every limit that it has brought them nearer to.
    """

    __slots__ = ("_counts", "_send", "note", "status", "trace")

    def __init__(self, send: asgi.Send, trace: Trace, counts: Callable[[_Exchange], None]) -> None:
        self._send = send
        self._counts = counts
        self.trace = trace
        self.status = _GONE
        self.note = ""

    async def send(self, message: asgi.Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.note = message.pop("note", "")
            message["headers"] = [*message["headers"], (b"traceresponse", self.trace.response)]
            self._counts(self)
        await self._send(message)


class Front:
    """Stands before ``application`` in each worker."""

    def __init__(self, application: Intake, surroundings: Surroundings) -> None:
        self.application = application
        self._around = surroundings
        self._under_way: Counter[int] = Counter()
        self._all_under_way = 0
        self._next_look = 0.0
        self._with_cors = CORSMiddleware(
            self._answer,
            allow_origins=tuple(origin.decode("ascii") for origin in surroundings.cors_origins),
            allow_methods=("GET", "POST"),
            allow_headers=(
                "authorization",
                "content-type",
                "idempotency-key",
                "if-none-match",
                "traceparent",
                "tracestate",
            ),
            expose_headers=("etag", "location", "retry-after", "traceresponse"),
        )

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """One ASGI connection: a request, or the server's start and end."""
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            if scope["type"] == "lifespan":
                self._around.log.flush()
                self._around.callers.flush(self._around.outside.now())
            return
        around = self._around
        started = around.outside.ticks()
        head = _head(scope)
        client = around.clients.of(
            (scope.get("client") or ("", 0))[0], head.forwarded_for, head.host, is_old=head.is_old
        )
        path, method = scope["path"], scope["method"]
        is_order = path == ORDERS_ROUTE
        now = around.outside.now()
        exchange = _Exchange(
            send,
            trace_of(head.traceparent, around.outside.random(FRESH_SIZE)),
            lambda answer: self._count(scope, answer, client, now),
        )
        if client.is_unnamed:
            around.proxy_watch.note(now)
        refused = self._beyond(client, method, path, now) or (AMBIGUOUS if head.is_ambiguous else None)
        if is_order:
            refused = refused or self._crowded(client)
            self._enter(client)
        scope[_JUDGED] = client, refused
        try:
            # What is refused is shown to a page of a listed origin too, but for its preflights.
            if (
                head.origin in around.cors_origins
                and (path in _API or path.startswith(_ORDER_PREFIX))
                and not (refused and method == "OPTIONS")
            ):
                await self._with_cors(scope, receive, exchange.send)
            else:
                await self._answer(scope, receive, exchange.send)
        finally:
            if is_order:
                self._leave(client)
            self._write_down(scope, exchange, client, now, around.outside.ticks() - started)

    async def _answer(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        client, refused = scope[_JUDGED]
        if refused:
            await asgi.answer_problem(send, refused)
        elif scope["path"] == METRICS_ROUTE:
            await self._show_metrics(scope, send, client)
        else:
            await self.application(scope, receive, send)

    def _beyond(self, client: Client, method: str, path: str, now: float) -> Problem | None:
        """Why this request is beyond a limit, or None."""
        limits = self._around.limits
        if wait := limits.request(client, now):
            return self._limited(REQUESTS, wait)
        if path == ORDERS_ROUTE:
            wait = limits.wait(client, ORDERS, now) if method == "POST" else 0
            return self._limited(ORDERS, wait) if wait else None
        if path.startswith(_ORDER_PREFIX) and (wait := limits.wait(client, TOKENS, now)):
            return self._limited(TOKENS, wait)
        if path in _LETTERS and method == "POST" and (wait := limits.wait(client, LETTERS, now)):
            return self._limited(LETTERS, wait)
        return None

    def _limited(self, limit: str, wait: int) -> Problem:
        self._around.tallies.limited(limit)
        return too_many(wait)

    def _crowded(self, client: Client) -> Problem | None:
        """Why no more orders fit in just now: who sends many slowly must not keep others out, nor may all together."""
        if not client.is_shop and (
            self._under_way[client.address] >= AT_ONCE_MAXIMUM
            or self._under_way[client.prefix] >= AT_ONCE_OF_NETWORK
        ):
            return self._limited(AT_ONCE, 1)
        return BUSY if self._all_under_way >= _UNDER_WAY_MAXIMUM else None

    def _enter(self, client: Client) -> None:
        self._all_under_way += 1
        if not client.is_shop:
            self._under_way[client.address] += 1
            self._under_way[client.prefix] += 1

    def _leave(self, client: Client) -> None:
        self._all_under_way -= 1
        if client.is_shop:
            return
        for tag in (client.address, client.prefix):
            self._under_way[tag] -= 1
            if not self._under_way[tag]:
                del self._under_way[tag]

    async def _show_metrics(self, scope: asgi.Scope, send: asgi.Send, client: Client) -> None:
        if not client.is_local:  # how much a shop sells is nobody's business
            await asgi.answer_problem(send, NOT_FOUND)
        elif scope["method"] not in ("GET", "HEAD"):
            await asgi.answer_problem(send, method_refused("GET, HEAD"))
        else:
            accept = asgi.single_headers(scope).get(b"accept", b"").decode("latin-1")
            body, media_type = self._around.metrics.document(accept)
            headers = [(b"cache-control", b"no-store")]
            await asgi.answer(send, int(HTTPStatus.OK), body, headers, media_type.encode("ascii"))

    def _remember(self, client: Client, order_id: str, now: float) -> None:
        """A new order: it counts for its network now, and once it is known how it fared."""
        if client.is_shop:
            return
        around = self._around
        around.limits.count(client, ORDERS, now)
        around.callers.note(bytes.fromhex(order_id), client.caller, now)
        if now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            around.callers.flush(now)
            asyncio.get_running_loop().run_in_executor(None, around.suspects.look, now)

    def _count(self, scope: asgi.Scope, answer: _Exchange, client: Client, now: float) -> None:
        """Count what is limited and was done."""
        limits, route, status = self._around.limits, _route(scope), answer.status
        if answer.note.startswith(asgi.NEW):
            self._remember(client, answer.note.removeprefix(asgi.NEW), now)
        elif route == ORDER_ROUTE and status == HTTPStatus.NOT_FOUND:
            limits.count(client, TOKENS, now)
        elif route in _LETTERS and scope["method"] == "POST" and status < HTTPStatus.BAD_REQUEST:
            limits.count(client, LETTERS, now)

    def _write_down(
        self, scope: asgi.Scope, exchange: _Exchange, client: Client, now: float, seconds: float
    ) -> None:
        around, status, trace = self._around, exchange.status, exchange.trace
        route, method = _route(scope), scope["method"] if scope["method"] in _METHODS else METHODS[-1]
        rule = "" if status < HTTPStatus.BAD_REQUEST else exchange.note
        around.tallies.request(route, method, status, seconds)
        if rule:
            around.tallies.refusal(rule)
        around.log.write(
            RequestLine(
                time=round(now, 3),
                level="error" if status >= _SEVERE else "info",
                event="request",
                method=method,
                route=route,
                status=status,
                ms=round(1000 * seconds, 2),
                worker=around.outside.worker,
                client=f"{client.address >> 32:08x}",
                trace=trace.trace_id,
                span=trace.span_id,
                parent=trace.parent_id,
                rule=rule,
            )
        )


class _Head(NamedTuple):
    """What the front reads of a request's headers. ``is_ambiguous``: a proxy may have read another request than we.

    ``forwarded_for``: None without the header. ``is_old``: HTTP/1.0.
    """

    origin: bytes
    forwarded_for: bytes | None
    host: bytes
    is_old: bool
    traceparent: bytes | None
    is_ambiguous: bool


def _head(scope: asgi.Scope) -> _Head:
    """Origin, all of X-Forwarded-For, Host and traceparent; of the last two, one that is repeated counts as none."""
    origin = host = b""
    traceparent: bytes | None = None
    forwarded: list[bytes] = []
    traces = hosts = lengths = 0
    for name, value in scope["headers"]:
        if name == b"host":
            hosts += 1
            host = value
        elif name in _LENGTHS:
            lengths += 1
        elif name == b"traceparent":
            traces += 1
            traceparent = value
        elif name == b"origin":
            origin = value
        elif name == b"x-forwarded-for":
            forwarded.append(value)
    # HTTP/1.0 knows no Host; a server that gets two must not choose one (RFC 9112, 3.2 and 6.1).
    is_old = scope.get("http_version") in _OLD
    return _Head(
        origin=origin,
        forwarded_for=b",".join(forwarded) if forwarded else None,
        host=host if hosts == 1 else b"",
        is_old=is_old,
        traceparent=traceparent if traces == 1 else None,
        is_ambiguous=hosts > 1 or lengths > 1 or (not hosts and not is_old),
    )


def _route(scope: asgi.Scope) -> str:
    """The template of the address that was asked for: one of those that the application has, or other."""
    path: str = scope["path"]
    if path in (ORDERS_ROUTE, METRICS_ROUTE):
        return path
    route: Any = scope.get("route")
    return getattr(route, "path", "other")
