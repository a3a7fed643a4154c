"""What a customer's click does to the basket: reading the form that a page of ours sent.

Why here: it is the only form of the pages that is ever sent, and it holds nothing but SKUs and numbers.
Must not: obey a form of another site, or show anything of a request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from intake.asgi import read_body
from intake.catalogue import Catalogue
from intake.page import basket as baskets
from intake.page.basket import Basket
from intake.problems import Problem

_FORM = "application/x-www-form-urlencoded"
_FIELDS_MAXIMUM = 10


def changed(basket: Basket, form: Mapping[str, str], catalogue: Catalogue) -> Basket:
    """The basket after ``form``; what it asks for and cannot be done leaves the basket as it is."""
    currency = form.get("currency", basket.currency)
    if currency in catalogue.prices:
        basket = Basket(currency=currency, quantities=basket.quantities)
    match form.get("do", ""):
        case "empty":
            return Basket(currency=basket.currency)
        case "replace":
            return baskets.read(form.get("basket", ""), catalogue, currency=basket.currency)
        case wish if form.get("sku", "") in catalogue.records:
            return _with_record(basket, wish, form["sku"], form.get("quantity", ""))
        case _:
            return basket


def _with_record(basket: Basket, wish: str, sku: str, quantity: str) -> Basket:
    match wish:
        case "add":
            return basket.with_added(sku)
        case "remove":
            return basket.with_quantity(sku, 0)
        case "set":
            typed = quantity.strip()
            is_number = typed.isascii() and typed.isdigit() and len(typed) < len("1000")
            return basket.with_quantity(sku, int(typed)) if is_number else basket
        case _:
            return basket


def is_from_here(request: Request) -> bool:
    """Whether a form was sent by a page of this shop; browsers say so, programs need not."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


Answer = Callable[[Request], Awaitable[Response]]


def form_route(path: str, *, show: Answer, take: Answer) -> Route:
    """One address for a page and for what its form sends, so that a refusal of another method names all that it has."""

    async def answer(request: Request) -> Response:
        return await (take if request.method == "POST" else show)(request)

    return Route(path, answer, methods=["GET", "POST"])


def is_form(request: Request) -> bool:
    """Whether a page's form is sent, and not a document."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM


async def read_form(request: Request) -> dict[str, str] | None:
    """The fields of a form; None when it is none, or too large or too slow."""
    if not is_form(request):
        return None
    body = await read_body(request.receive)
    if isinstance(body, Problem):
        return None
    try:
        fields = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            max_num_fields=_FIELDS_MAXIMUM,
            strict_parsing=True,
        )
    except ValueError:
        return None
    return dict(fields) or None
