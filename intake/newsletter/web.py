"""The newsletter's pages: asking for it, saying yes to the mailed link, and leaving it with one click (RFC 8058).

Why here: pages and JSON go the same way, and everybody gets the same answer, known or not.
Must not: change anything for a GET (mail scanners follow links), ask for more than an address, or answer with one.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from intake import words
from intake.asgi import read_body, read_json, single_headers
from intake.errors import IntakeError
from intake.newsletter.agreement import agreement
from intake.newsletter.form import NewsletterAsked
from intake.newsletter.subscribers import PENDING_DAYS, Subscribers
from intake.newsletter.tokens import Purpose
from intake.page.changes import form_route, is_form, is_from_here, read_form
from intake.page.pages import Pages
from intake.problems import NOT_JSON, Fault, Problem, faulty_letter, too_many
from intake.refusals import problem_response
from intake.texts import clean, email_address, is_harmful

_NEWSLETTER, _CONFIRM, _UNSUBSCRIBE = "/newsletter", "/newsletter/confirm", "/newsletter/unsubscribe"
_TOKEN_LIMIT = 64
_SHOWN_LIMIT = 300
_WAIT_SECONDS = 3600
_FIELD = "email"


class NewsletterPages:
    """``subscribers`` is the file that the commands use too; ``shop`` the shop's name."""

    def __init__(self, *, pages: Pages, subscribers: Subscribers, shop: str, now: Callable[[], int]) -> None:
        self._pages = pages
        self._subscribers = subscribers
        self._now = now
        self._words = agreement(shop)

    def routes(self) -> list[Route]:
        """The addresses of this room."""
        return [
            form_route(_NEWSLETTER, show=self._show, take=self._ask),
            form_route(_CONFIRM, show=self._show_confirm, take=self._confirm),
            form_route(_UNSUBSCRIBE, show=self._show_unsubscribe, take=self._unsubscribe),
        ]

    async def _show(self, request: Request) -> Response:
        return self._page(request)

    async def _ask(self, request: Request) -> Response:
        if is_form(request):
            return await self._ask_by_form(request)
        document = await read_json(single_headers(request.scope), request.receive)
        if isinstance(document, Problem):
            return problem_response(document)
        if not isinstance(document, dict):
            return problem_response(NOT_JSON)
        given = document.get(_FIELD)
        address = email_address(clean(given)) if isinstance(given, str) else None
        faults = [Fault(pointer=f"/{_FIELD}", detail=_fault(given))] if address is None else []
        # A field that nobody needs is refused, not dropped: the newsletter wants an email address and nothing else.
        if set(document) - {_FIELD}:
            faults.append(Fault(pointer="", detail="must have the field email and no other"))
        if address is None or faults:
            return problem_response(faulty_letter(faults))
        if not await run_in_threadpool(self._subscribers.ask, address, words="", now=self._now()):
            return problem_response(too_many(_WAIT_SECONDS))
        return Response(
            msgspec.json.encode(NewsletterAsked()),
            status_code=HTTPStatus.ACCEPTED,
            media_type="application/json",
            headers={"cache-control": "no-store"},
        )

    async def _ask_by_form(self, request: Request) -> Response:
        if not is_from_here(request):
            return self._pages.refusal(
                HTTPStatus.FORBIDDEN, "That came from another site, so nothing was changed."
            )
        form = await read_form(request)
        if form is None:
            return self._pages.refusal(
                HTTPStatus.BAD_REQUEST, "That was not one of our forms, so nothing was changed."
            )
        given = form.get(_FIELD, "")
        address = email_address(clean(given))
        if address is None:
            shown = "" if is_harmful(given) else given[:_SHOWN_LIMIT]
            return self._page(request, given=shown, fault=_fault(given or None))
        if not await run_in_threadpool(self._subscribers.ask, address, words=self._words, now=self._now()):
            return self._pages.refusal(
                HTTPStatus.TOO_MANY_REQUESTS, "Too many people ask at once. Please try again later."
            )
        return self._said(
            request,
            "Look into your mailbox",
            "We have sent a message to the address that you gave, unless it gets our newsletter already. "
            f"Follow the link in it within {PENDING_DAYS} days. Until then we send nothing else.",
        )

    def _page(self, request: Request, *, given: str = "", fault: str = "") -> Response:
        return self._pages.show(
            request,
            "newsletter.html",
            _NEWSLETTER,
            status=HTTPStatus.UNPROCESSABLE_ENTITY if fault else HTTPStatus.OK,
            given=given,
            fault=fault,
            words=self._words,
        )

    async def _show_confirm(self, request: Request) -> Response:
        token = _token(request)
        try:
            identity = self._subscribers.key.read(Purpose.CONFIRM, token)
        except IntakeError:
            return self._no_such_link(request)
        if not await run_in_threadpool(self._subscribers.is_waiting, identity, now=self._now()):
            return self._too_late(request)
        return self._pages.show(
            request,
            "newsletter_step.html",
            _CONFIRM,
            heading="Get our newsletter?",
            text=self._words,
            action=f"{_CONFIRM}?token={token}",
            button="Yes, send me the newsletter",
        )

    async def _confirm(self, request: Request) -> Response:
        try:
            identity = self._subscribers.key.read(Purpose.CONFIRM, _token(request))
        except IntakeError:
            return self._no_such_link(request)
        if not await run_in_threadpool(
            self._subscribers.confirm, identity, words=self._words, now=self._now()
        ):
            return self._too_late(request)
        return self._said(
            request,
            "You get our newsletter",
            "Every newsletter has a link that ends it with one click. Your address is then erased.",
        )

    async def _show_unsubscribe(self, request: Request) -> Response:
        token = _token(request)
        try:
            self._subscribers.key.read(Purpose.UNSUBSCRIBE, token)
        except IntakeError:
            return self._no_such_link(request)
        return self._pages.show(
            request,
            "newsletter_step.html",
            _UNSUBSCRIBE,
            heading="Leave our newsletter?",
            text="You get no more newsletters, and your address is erased.",
            action=f"{_UNSUBSCRIBE}?token={token}",
            button="Leave and erase my address",
        )

    async def _unsubscribe(self, request: Request) -> Response:
        """The button of our page, and a mail program's one click: no cookie, no redirect, no further question."""
        # What is in the body does not matter (List-Unsubscribe=One-Click, in either of two codings); the token does.
        await read_body(request.receive)
        try:
            identity = self._subscribers.key.read(Purpose.UNSUBSCRIBE, _token(request))
        except IntakeError:
            return self._no_such_link(request)
        await run_in_threadpool(self._subscribers.leave, identity, now=self._now())
        return self._said(
            request, "You have left our newsletter", "You get no more of it, and your address is erased."
        )

    def _said(self, request: Request, heading: str, text: str) -> Response:
        return self._pages.show(request, "note.html", _NEWSLETTER, heading=heading, text=text)

    def _too_late(self, request: Request) -> Response:
        return self._pages.show(
            request,
            "note.html",
            _CONFIRM,
            status=HTTPStatus.GONE,
            heading="This link is no longer good",
            text=f"It holds for {PENDING_DAYS} days, or the newsletter was left meanwhile. You can ask for it again.",
        )

    def _no_such_link(self, request: Request) -> Response:
        return self._pages.show(
            request,
            "note.html",
            _CONFIRM,
            status=HTTPStatus.NOT_FOUND,
            heading="This link does not work",
            text="It is not complete, or not of this shop. Use the whole link of the message.",
        )


def _token(request: Request) -> str:
    return request.query_params.get("token", "")[:_TOKEN_LIMIT]


def _fault(given: object) -> str:
    return words.MISSING if given is None else words.EMAIL
