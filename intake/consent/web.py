"""The cookie page and what its buttons do; and the file that says that this shop obeys Sec-GPC.

Why here: one form, with and without JavaScript, on this page and wherever a page asks.
Must not: make a no cost more clicks than a yes, or obey another site's form.
"""

from __future__ import annotations

import re
from http import HTTPStatus

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from intake.consent import advertising, choices
from intake.page import basket
from intake.page.changes import form_route, is_from_here, read_form
from intake.page.guard import file_headers
from intake.page.pages import BASKET_DAYS, Pages, choices_of

_COOKIES = "/cookies"
_RECENT_MOST = 8  # source/recent.js
# Where a form may send the browser back to: the pages that ask, and nothing that another could have written.
_BACK = re.compile(r"/(?:basket|cookies|records/[A-Za-z0-9._-]{1,64})?", re.ASCII)
_GPC = {"gpc": True, "lastUpdate": "2026-11-27"}
"""https://www.w3.org/TR/gpc/#gpc-support-resource; the day on which this code came to obey the signal."""


class ConsentPages:
    """``is_https``: cookies must not go another way."""

    def __init__(self, *, pages: Pages, is_https: bool) -> None:
        self._pages = pages
        self._is_https = is_https

    def routes(self) -> list[Route]:
        """The addresses of this room."""
        return [
            form_route(_COOKIES, show=self._show, take=self._choose),
            Route("/.well-known/gpc.json", self._show_gpc),
        ]

    async def _show(self, request: Request) -> Response:
        return self._pages.show(
            request,
            "cookies.html",
            _COOKIES,
            choices=choices_of(request),
            advertising_cookie=advertising.COOKIE,
            advertising_days=advertising.DAYS,
            basket_cookie=basket.COOKIE,
            basket_days=BASKET_DAYS,
            choices_cookie=choices.COOKIE,
            choices_days=choices.DAYS,
            recent_most=_RECENT_MOST,
        )

    async def _choose(self, request: Request) -> Response:
        if not is_from_here(request):
            return self._pages.refusal(
                HTTPStatus.FORBIDDEN, "That came from another site, so nothing was changed."
            )
        form = await read_form(request)
        chosen = None if form is None else choices.changed(choices_of(request), form)
        if form is None or chosen is None:
            return self._pages.refusal(
                HTTPStatus.BAD_REQUEST, "That was not one of our forms, so nothing was changed."
            )
        back = form.get("back", "")
        target = back if _BACK.fullmatch(back) else _COOKIES
        answer = RedirectResponse(
            target, status_code=HTTPStatus.SEE_OTHER, headers={"cache-control": "no-store"}
        )
        answer.set_cookie(
            choices.COOKIE,
            choices.write(chosen),
            max_age=choices.DAYS * 86_400,
            secure=self._is_https,
            httponly=True,
            samesite="lax",
        )
        if not chosen.advertises:
            # Browsers do not send that cookie here, so nobody knows whether there is one.
            answer.delete_cookie(advertising.COOKIE, path=advertising.PATH)
        return answer

    async def _show_gpc(self, request: Request) -> Response:
        del request
        return Response(
            msgspec.json.encode(_GPC),
            media_type="application/json",
            headers={**file_headers(), "cache-control": "public, max-age=86400"},
        )
