"""The pages: shop front, basket, checkout, thanks and status, rendered on the server.

Why here: people and programs meet the same catalogue, keys, limits and words at the same addresses.
Must not: receive a card or an address (no page of ours can send one in clear), or log a request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from intake.catalogue import Catalogue
from intake.consent import choices as consent
from intake.consent.choices import Choices
from intake.forms import Keys
from intake.money import money
from intake.page import basket as baskets
from intake.page import told
from intake.page.address import countries
from intake.page.assets import assets
from intake.page.basket import Basket
from intake.page.changes import changed, form_route, is_from_here, read_form
from intake.page.covers import ICON, cover
from intake.page.guard import file_headers
from intake.page.inventory import headers_of, inventory, scripts_of
from intake.page.script_data import country_document, rules_document
from intake.problems import KEYS_OUT, RETIRED, Problem

_HTML = "text/html"
_JSON = "application/json"
_SVG = "image/svg+xml"
BASKET_DAYS = 30
_FOR_EVER = "public, max-age=31536000, immutable"
_A_DAY = "public, max-age=86400"
_NO_STORE = "no-store"
# Of the currencies that a catalogue may have, the country that the form begins with.
_COUNTRY_OF = {"GBP": "GB", "USD": "US", "JPY": "JP", "KWD": "KW", "BHD": "BH", "EUR": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """What pages say about the shop. ``carried_every_hours``: how often orders are carried to the offline server.

    ``sent_within_days``: how soon after the payment records are sent, as a rule.
    """

    name: str
    carried_every_hours: int
    sent_within_days: int = 3
    is_https: bool


class Pages:
    """``keys`` are those to seal to now, ``identities`` (32 bytes each) whose signature they must have."""

    def __init__(
        self,
        *,
        shop: Shop,
        catalogue: Catalogue,
        keys: Callable[[], Keys | None],
        identities: Callable[[], tuple[bytes, ...]],
        is_retired: Callable[[], bool],
        month: Callable[[], tuple[int, int]],
    ) -> None:
        self._shop = shop
        self._catalogue = catalogue
        self._keys = keys
        self._identities = identities
        self._is_retired = is_retired
        self._month = month
        self._currency = "EUR" if "EUR" in catalogue.prices else next(iter(catalogue.prices))
        self._covers = {sku: cover(record) for sku, record in catalogue.records.items()}
        self._inventory = inventory()
        self._templates = Environment(
            loader=PackageLoader("intake.page"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            auto_reload=False,
        )
        self._templates.globals |= {
            "shop": shop.name,
            "money": money,
            "style": assets()["shop.css"],
            "asks_back": "",  # where a page's question about advertising leads back to; it asks when there is one
        }
        self._files = {asset.address: asset for asset in assets().values()}

    def routes(self) -> list[Route]:
        """Every address but ``/orders/{order_id}``, which programs use too."""
        return [
            Route("/", self._show_shop),
            form_route("/basket", show=self._show_basket, take=self._change_basket),
            Route("/checkout", self._show_checkout),
            Route("/thanks", self._show_thanks),
            Route("/scripts", self._show_scripts),
            Route("/.well-known/page-inventory.json", self._show_inventory),
            Route("/address/{country:str}.json", self._show_address_rules),
            Route("/covers/{sku:str}.svg", self._show_cover),
            Route("/static/{name:str}", self._show_file),
        ]

    def order_page(self, order_id: str) -> Response:
        """The status page: the same for everybody, since only the script in it knows whose order is meant."""
        return self._status_page("/orders/{order_id}", order_id=order_id, is_new=False)

    def nothing_here(self) -> Response:
        """For people who follow a wrong address."""
        text = "There is no page at this address."
        return self._page(
            "note.html",
            "/scripts",
            status=HTTPStatus.NOT_FOUND,
            pieces=0,
            heading="Nothing is here",
            text=text,
        )

    def refusal(self, status: HTTPStatus, text: str) -> Response:
        """A form was not obeyed; ``text`` says why."""
        return self._page(
            "note.html", "/scripts", status=status, pieces=0, heading="That did not work", text=text
        )

    def basket(self, request: Request) -> Basket:
        """What the customer has chosen so far."""
        return baskets.read(request.cookies.get(baskets.COOKIE, ""), self._catalogue, currency=self._currency)

    def show(
        self,
        request: Request,
        template: str,
        path: str,
        *,
        status: HTTPStatus = HTTPStatus.OK,
        **more: object,
    ) -> Response:
        """A page of another module: ``path`` as the inventory has it, ``more`` for its template."""
        return self._page(
            template, path, status=status, shown={"pieces": self.basket(request).pieces, **more}
        )

    async def _show_shop(self, request: Request) -> Response:
        basket = self.basket(request)
        return self._page(
            "shop.html",
            "/",
            asks_back="/" if choices_of(request).asks else "",
            basket=basket,
            pieces=basket.pieces,
            currencies=list(self._catalogue.prices),
            records=list(self._catalogue.records.values()),
            prices=self._catalogue.prices[basket.currency],
        )

    async def _show_basket(self, request: Request) -> Response:
        basket = self.basket(request)
        if _JSON in request.headers.get("accept", ""):
            return Response(self._order_data(basket), media_type=_JSON, headers=_no_store())
        asks_back = "/basket" if choices_of(request).asks else ""
        return self._page("basket.html", "/basket", shown=self._filled(basket), asks_back=asks_back)

    async def _change_basket(self, request: Request) -> Response:
        if not is_from_here(request):
            return self.refusal(HTTPStatus.FORBIDDEN, "That came from another site, so nothing was changed.")
        form = await read_form(request)
        if form is None:
            return self.refusal(
                HTTPStatus.BAD_REQUEST, "That was not one of our forms, so nothing was changed."
            )
        basket = self.basket(request)
        target = "/" if form.get("do") == "currency" else "/basket"
        answer = RedirectResponse(target, status_code=HTTPStatus.SEE_OTHER, headers=_no_store())
        answer.set_cookie(
            baskets.COOKIE,
            baskets.write(changed(basket, form, self._catalogue)),
            max_age=BASKET_DAYS * 86_400,
            secure=self._shop.is_https,
            httponly=True,
            samesite="lax",
        )
        return answer

    async def _show_checkout(self, request: Request) -> Response:
        basket = self.basket(request)
        refused = self._why_not()
        year, month = self._month()
        return self._page(
            "checkout.html",
            "/checkout",
            status=HTTPStatus.SERVICE_UNAVAILABLE if refused else HTTPStatus.OK,
            refused=refused,
            headers=dict(refused.headers) if refused else {},
            order_data=self._order_data(basket).decode(),
            rules_data=rules_document(year=year, month=month),
            countries=countries(),
            country=_COUNTRY_OF.get(basket.currency, ""),
            shown=self._filled(basket),
        )

    async def _show_thanks(self, request: Request) -> Response:
        del request
        return self._status_page("/thanks", order_id="", is_new=True)

    async def _show_scripts(self, request: Request) -> Response:
        return self._page(
            "scripts.html", "/scripts", pieces=self.basket(request).pieces, inventory=self._inventory
        )

    async def _show_inventory(self, request: Request) -> Response:
        del request
        document = msgspec.json.format(msgspec.json.encode(self._inventory), indent=2)
        return Response(document, media_type=_JSON, headers={**file_headers(), "cache-control": "no-cache"})

    async def _show_address_rules(self, request: Request) -> Response:
        return self._file(country_document(request.path_params["country"]), _JSON, _A_DAY)

    async def _show_cover(self, request: Request) -> Response:
        return self._file(self._covers.get(request.path_params["sku"]), _SVG, _A_DAY)

    async def _show_file(self, request: Request) -> Response:
        if request.path_params["name"] == "icon.svg":
            return self._file(ICON, _SVG, _A_DAY)
        asset = self._files.get(request.url.path)
        if asset is None:
            return self.nothing_here()
        is_packed = "gzip" in request.headers.get("accept-encoding", "")
        answer = self._file(asset.packed if is_packed else asset.content, asset.media_type, _FOR_EVER)
        answer.headers["vary"] = "accept-encoding"
        if is_packed:
            answer.headers["content-encoding"] = "gzip"
        return answer

    def _file(self, content: bytes | None, media_type: str, caching: str) -> Response:
        if content is None:
            return self.nothing_here()
        return Response(content, media_type=media_type, headers={**file_headers(), "cache-control": caching})

    def _status_page(self, path: str, *, order_id: str, is_new: bool) -> Response:
        return self._page(
            "status.html",
            path,
            pieces=0,
            order_id=order_id,
            is_new=is_new,
            steps=told.STEPS,
            states=list(told.told(self._shop.carried_every_hours, self._shop.sent_within_days).items()),
            reasons=list(told.REASONS.items()),
        )

    def _page(
        self,
        template: str,
        path: str,
        *,
        status: HTTPStatus = HTTPStatus.OK,
        headers: Mapping[str, str] | None = None,
        shown: Mapping[str, object] | None = None,
        **more: object,
    ) -> Response:
        values = {"scripts": scripts_of(path), **(shown or {}), **more}
        text = self._templates.get_template(template).render(values)
        guarded = {**headers_of(path), **_no_store(), "vary": "accept, cookie, sec-gpc", **(headers or {})}
        return Response(text, status_code=status, media_type=_HTML, headers=guarded)

    def _filled(self, basket: Basket) -> dict[str, object]:
        return {
            "basket": basket,
            "pieces": basket.pieces,
            "lines": basket.lines(self._catalogue),
            "total": basket.total(self._catalogue),
        }

    def _order_data(self, basket: Basket) -> bytes:
        """What the script seals of the basket, and whose signatures it accepts."""
        keys = self._keys()
        document = {
            "items": [
                {"sku": line.record.sku, "quantity": line.quantity, "price": line.price}
                for line in basket.lines(self._catalogue)
            ],
            "total": {"amount": basket.total(self._catalogue), "currency": basket.currency},
            "node": keys.node if keys else "",
            "identities": [identity.hex() for identity in self._identities()],
        }
        return msgspec.json.encode(document)

    def _why_not(self) -> Problem | None:
        if self._keys() is not None:
            return None
        return RETIRED if self._is_retired() else KEYS_OUT


def wants_page(request: Request) -> bool:
    """True for a browser's navigation: it names text/html, which programs do not."""
    return _HTML in request.headers.get("accept", "")


def choices_of(request: Request) -> Choices:
    """What the customer chose about advertising and "recently viewed", and the browser's Sec-GPC."""
    return consent.read(request.cookies.get(consent.COOKIE, ""), request.headers.get("sec-gpc", ""))


def _no_store() -> dict[str, str]:
    # A basket or an order must not come back out of a browser's memory when somebody else sits there.
    return {"cache-control": _NO_STORE}
