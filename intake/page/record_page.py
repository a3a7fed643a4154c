"""One record's page, where advertising and "recently viewed" have their place.

Why here: it is the only page that either of them is on, so that the checkout and an order's page stay free of both.
Must not: read or keep the advertising cookie without a yes.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from intake.catalogue import Catalogue
from intake.consent import advertising
from intake.page.pages import Pages, choices_of

RECORD = "/records/{sku}"


class RecordPages:
    """``is_https``: cookies must not go another way."""

    def __init__(self, *, pages: Pages, catalogue: Catalogue, is_https: bool) -> None:
        self._pages = pages
        self._catalogue = catalogue
        self._is_https = is_https

    def routes(self) -> list[Route]:
        """The addresses of this module."""
        return [Route("/records/{sku:str}", self._show)]

    async def _show(self, request: Request) -> Response:
        record = self._catalogue.records.get(request.path_params["sku"])
        if record is None:
            return self._pages.nothing_here()
        choices = choices_of(request)
        basket = self._pages.basket(request)
        looked_at = request.cookies.get(advertising.COOKIE, "")
        answer = self._pages.show(
            request,
            "record.html",
            RECORD,
            asks_back=f"/records/{record.sku}" if choices.asks else "",
            record=record,
            basket=basket,
            price=self._catalogue.prices[basket.currency][record.sku],
            choices=choices,
            promotion=advertising.promotion(looked_at, record, self._catalogue.records)
            if choices.advertises
            else None,
        )
        if choices.advertises:
            answer.set_cookie(
                advertising.COOKIE,
                record.sku,
                path=advertising.PATH,
                max_age=advertising.DAYS * 86_400,
                secure=self._is_https,
                httponly=True,
                samesite="lax",
            )
        elif looked_at:
            answer.delete_cookie(advertising.COOKIE, path=advertising.PATH)
        return answer
