"""The ASGI application: addresses, answers, and a last line of defence that shows nothing of a request.

Why here: the pages and the API share this one table of addresses.
Must not: read the clock or the environment, or log more of a failure than its class and place in the code.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Protocol

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from intake import asgi
from intake.catalogue import Catalogue
from intake.forms import Accepted, Keys, Live, NoticeForm, Ready, Status
from intake.health import Health
from intake.page.pages import Pages, wants_page
from intake.problems import (
    KEYS_OUT,
    MEDIA_TYPE,
    NOT_FOUND,
    ORDER_UNKNOWN,
    RETIRED,
    UNEXPECTED,
    Problem,
    encode_problem,
    method_refused,
    not_ready,
)
from intake.status import entity_tag, is_pending, matches
from intake.taking import Entered, OrderDesk, Taken
from intake.tokens import token_is_good
from intake.validation import CheckedForm, check_form

_JSON = "application/json"
_POLL_SECONDS = "60"
_PACKED_FROM = 1000
_ORDERS = "/orders"
_ACCEPTED = int(HTTPStatus.ACCEPTED)
_log = logging.getLogger("intake")
_encoder = msgspec.json.Encoder()


class StatusSource(Protocol):
    """Where an order's status is read; None when there is no such order."""

    def __call__(self, order_id: str, /) -> Status | None: ...


class Intake:
    """The application. ``month`` gives year and month of now; ``close`` ends what it was built of."""

    def __init__(
        self,
        *,
        desk: OrderDesk,
        catalogue: Catalogue,
        status: StatusSource,
        health: Health,
        pages: Pages,
        more_routes: Sequence[Route],
        token_key: bytes,
        month: Callable[[], tuple[int, int]],
        openapi: bytes,
        started: Callable[[], None],
        close: Callable[[], None],
    ) -> None:
        self._desk = desk
        self._catalogue = catalogue
        self._status = status
        self._health = health
        self._pages = pages
        self._token_key = token_key
        self._month = month
        self._openapi = openapi
        self._started = started
        self._close = close
        # The exact address or none: a redirect would repeat the Host that the client claims.
        self._rest = Starlette(
            routes=[
                *pages.routes(),
                *more_routes,
                Route("/orders/{order_id}", self._show_order),
                Route("/keys", self._show_keys),
                Route("/livez", self._live),
                Route("/readyz", self._ready),
                Route("/openapi.json", self._show_openapi),
            ],
            exception_handlers={HTTPException: self._refused, Exception: _failed},
            # Pages hold no secret beside what a request says, so their packed size tells nobody anything.
            middleware=[Middleware(GZipMiddleware, minimum_size=_PACKED_FROM, compresslevel=6)],
        )
        self._rest.router.redirect_slashes = False

    @property
    def routes(self) -> list[str]:
        """The templates of all addresses."""
        return [_ORDERS, *(route.path for route in self._rest.routes if isinstance(route, Route))]

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """One ASGI connection: a request, or the server's start and end."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        started = False

        async def send_once(message: asgi.Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            if scope["path"] == _ORDERS:
                await self._orders(scope, receive, send_once)
            else:
                await self._rest(scope, receive, send_once)
        except Exception as error:  # noqa: BLE001  the last line of defence: no traceback, whose message may quote a request
            _log.error("unexpected %s at %s", type(error).__name__, _place(error))
            if not started:
                await asgi.answer_problem(send, UNEXPECTED)

    async def _lifespan(self, receive: asgi.Receive, send: asgi.Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._started()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                self._close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _orders(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        if scope["method"] != "POST":
            await asgi.answer_problem(send, method_refused("POST"))
            return
        headers = asgi.single_headers(scope)
        key = asgi.read_idempotency_key(headers)
        if isinstance(key, Problem):
            await asgi.answer_problem(send, key)
            return
        form = self._judge(await asgi.read_json(headers, receive))
        entered = form if isinstance(form, Problem) else self._desk.enter(key, form)
        del form, key  # the card ends here
        taken = await self._desk.result(entered) if isinstance(entered, Entered) else entered
        if isinstance(taken, Problem):
            await asgi.answer_problem(send, taken)
            return
        await _accepted(send, taken)

    def _judge(self, document: object) -> CheckedForm | Problem:
        if isinstance(document, Problem):
            return document
        year, month = self._month()
        return check_form(document, catalogue=self._catalogue, year=year, month=month)

    async def _show_order(self, request: Request) -> Response:
        order_id = request.path_params["order_id"]
        if wants_page(request):
            return self._pages.order_page(order_id)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            identity = bytes.fromhex(order_id)
        except ValueError:
            identity = b""
        # Nothing is looked up before the token is good, so that an answer's time says nothing about an id.
        is_good = token_is_good(self._token_key, identity, token.strip())
        status = self._status(order_id) if is_good and scheme.lower() == "bearer" else None
        if status is None:
            return _problem(ORDER_UNKNOWN)
        tag = entity_tag(status)
        headers = {"etag": tag, "cache-control": "private, no-cache", "vary": "accept, authorization"}
        if is_pending(status):
            headers["retry-after"] = _POLL_SECONDS
        if matches(request.headers.get("if-none-match", ""), tag):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(_encoder.encode(status), headers=headers, media_type=_JSON)

    async def _show_keys(self, request: Request) -> Response:
        del request
        keys: Keys | None = self._health.keys()
        if keys is None:
            return _problem(RETIRED if self._health.is_retired else KEYS_OUT)
        return _json(keys)

    async def _live(self, request: Request) -> Response:
        del request
        return _json(Live())

    async def _ready(self, request: Request) -> Response:
        del request
        report = self._health.report()
        notices = [
            NoticeForm(rule=notice.rule, message=notice.message, remedy=notice.remedy)
            for notice in report.notices
        ]
        if (
            report.reasons
        ):  # 503 exactly when a notice stops orders; every other is a warning of a server at work
            return _problem(not_ready(report.reasons, notices))
        return _json(Ready(keys_left=report.keys_left, warnings=report.warnings, notices=notices))

    async def _show_openapi(self, request: Request) -> Response:
        del request
        return Response(self._openapi, media_type=_JSON)

    async def _refused(self, request: Request, error: Exception) -> Response:
        """Starlette's own refusals, in our form."""
        if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            return _problem(method_refused((error.headers or {}).get("Allow", "GET")))
        return self._pages.nothing_here() if wants_page(request) else _problem(NOT_FOUND)


async def _accepted(send: asgi.Send, taken: Taken) -> None:
    body = _encoder.encode(
        Accepted(order_id=taken.order_id, status="received", access_token=taken.access_token)
    )
    headers = [
        (b"location", b"/orders/" + taken.order_id.encode("ascii")),
        (b"retry-after", _POLL_SECONDS.encode("ascii")),
        (b"cache-control", b"no-store"),
    ]
    await asgi.answer(
        send,
        _ACCEPTED,
        body,
        headers,
        _JSON.encode("ascii"),
        asgi.NEW + taken.order_id if taken.is_new else "",
    )


def _json(document: msgspec.Struct) -> Response:
    return Response(_encoder.encode(document), headers={"cache-control": "no-store"}, media_type=_JSON)


def _problem(problem: Problem) -> Response:
    headers = {"cache-control": "no-store"} | dict(problem.headers)
    return Response(
        encode_problem(problem), status_code=problem.status, headers=headers, media_type=MEDIA_TYPE
    )


async def _failed(request: Request, error: Exception) -> Response:
    """The answer to a failure; Starlette raises it again, so that it is logged like any other."""
    del request, error
    return _problem(UNEXPECTED)


def _place(error: BaseException) -> str:
    """Where it was raised: file and line of the innermost frames, without a message or a local."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
