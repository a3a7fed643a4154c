"""Comparing live pages with the shipped inventory: scripts, headers, and markup that could do without either.

Why here: PCI DSS 11.6.1 asks for a regular look at the payment page as a customer's browser receives it.
Must not: believe the live server about what should be there; expectations come from this installation.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http import HTTPStatus

import msgspec

from intake.page.assets import assets
from intake.page.basket import COOKIE
from intake.page.inventory import Inventory, PageEntry
from keys.public.fingerprint import fingerprint, matches

# What loads, sends, reports or remembers something beside the page; ours sends none of them with a page.
_UNWANTED_HEADERS = (
    "content-security-policy-report-only",
    "link",
    "nel",
    "refresh",
    "report-to",
    "reporting-endpoints",
    "service-worker-allowed",
    "set-cookie",
    "sourcemap",
    "speculation-rules",
)
_UNWANTED_TAGS = frozenset(
    {"applet", "base", "embed", "frame", "iframe", "math", "object", "portal", "style"}
)
_ADDRESSES = frozenset({"action", "data", "formaction", "href", "poster", "src", "srcset", "xlink:href"})
_KEY_SIZE = 64
_CHECKOUT = "/checkout"
_NO_FORMS = "form-action 'none'"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One difference. ``found`` may hold what the live server sent."""

    page: str
    what: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """An answer of the live server; header names in lower case, repeated ones joined by a comma."""

    status: int
    headers: Mapping[str, str]
    content: bytes


Fetch = Callable[[str, str], Fetched]


@dataclass(slots=True, kw_only=True)
class _Markup(HTMLParser):
    """What of a page can run, load or send something."""

    scripts: list[tuple[str, str]] = field(default_factory=list)
    styles: list[tuple[str, str]] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    named: list[str] = field(default_factory=list)
    order: str = ""
    sku: str = ""

    def __post_init__(self) -> None:
        HTMLParser.__init__(self)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if len(given) != len(attrs):
            self.odd.append(f"<{tag}> with an attribute twice")
        match tag:
            case "script":
                self.scripts.append((given.get("src", "(inline)"), given.get("integrity", "")))
            case "link":
                self._link(given)
            case "meta" if "http-equiv" in given:
                self.odd.append(f"<meta http-equiv={given['http-equiv']}>")
            case "input" | "select" | "textarea" | "button" if "name" in given:
                self.named.append(given["name"])
                if given["name"] == "sku":
                    self.sku = given.get("value", "")
            case "form" if "data-order" in given:
                self.order = given["data-order"]
            case _ if tag in _UNWANTED_TAGS:
                self.odd.append(f"<{tag}>")
        self._attributes(tag, given)

    def _link(self, given: Mapping[str, str]) -> None:
        if given.get("rel") == "stylesheet":
            self.styles.append((given.get("href", ""), given.get("integrity", "")))
        elif given.get("rel") != "icon":
            self.odd.append(f"<link rel={given.get('rel', '')}>")

    def _attributes(self, tag: str, given: Mapping[str, str]) -> None:
        for name, value in given.items():
            if name.startswith("on") or name == "style":
                self.odd.append(f"<{tag} {name}>")
            if name in _ADDRESSES and not _is_ours(value):
                self.odd.append(f"<{tag} {name}={value}>")


def _is_ours(address: str) -> bool:
    """An address of this shop: from the root, or a place on the page."""
    return address.startswith("#") or (address.startswith("/") and not address.startswith(("//", "/\\")))


def changes(inventory: Inventory, fetch: Fetch, *, spoken: str | None) -> Iterator[Change]:
    """Every difference between the live pages and ``inventory``. ``fetch`` takes a path from the root and a cookie.

    ``spoken``: the fingerprint of the offline identity that the checkout must name, None when nobody gave one.
    """
    sku = _read(fetch("/", "")).sku
    cookie = _basket(sku)
    for page in inventory.pages:
        fetched = fetch(page.path.replace("{order_id}", "0" * 32).replace("{sku}", sku), cookie)
        yield from _of_headers(page, fetched)
        markup = _read(fetched)
        yield from _of_markup(page, inventory, markup)
        is_closed = fetched.status == HTTPStatus.SERVICE_UNAVAILABLE and not markup.order
        if page.path == _CHECKOUT and spoken is not None and not is_closed:
            yield from _of_identity(markup.order, spoken)
    for script in inventory.scripts:
        yield from _of_file(script.address, script.integrity, fetch)
    style = assets()["shop.css"]
    yield from _of_file(style.address, style.integrity, fetch)


def identities_of(fetch: Fetch) -> Sequence[bytes]:
    """The offline identities that the live checkout tells its script to trust."""
    return _identities(_read(fetch(_CHECKOUT, _basket(_read(fetch("/", "")).sku))).order)


def _basket(sku: str) -> str:
    """The cookie of a customer who put the shop's last record into the basket: only then is there a form."""
    return f"{COOKIE}=:{sku}*1"


def _read(fetched: Fetched) -> _Markup:
    markup = _Markup()
    markup.feed(fetched.content.decode("utf-8", "replace"))
    return markup


def _of_headers(page: PageEntry, fetched: Fetched) -> Iterator[Change]:
    for name, expected in page.headers.items():
        found = fetched.headers.get(name, "")
        if found != expected:
            yield Change(page=page.path, what=f"header {name}", expected=expected, found=found)
    for name in _UNWANTED_HEADERS:
        if name in fetched.headers:
            yield Change(page=page.path, what=f"header {name}", expected="", found=fetched.headers[name])


def _of_markup(page: PageEntry, inventory: Inventory, markup: _Markup) -> Iterator[Change]:
    integrity = {script.address: script.integrity for script in inventory.scripts}
    wanted = [(address, integrity[address]) for address in page.scripts]
    for script in markup.scripts:
        if script not in wanted:
            yield Change(page=page.path, what="script", expected="", found=" ".join(script))
    for script in wanted:
        if markup.scripts.count(script) != 1:
            yield Change(page=page.path, what="script", expected=" ".join(script), found="")
    style = assets()["shop.css"]
    if markup.styles != [(style.address, style.integrity)]:
        expected = f"{style.address} {style.integrity}"
        found = ", ".join(" ".join(one) for one in markup.styles)
        yield Change(page=page.path, what="style", expected=expected, found=found)
    for odd in markup.odd:
        yield Change(page=page.path, what="markup", expected="", found=odd)
    if _NO_FORMS in page.headers["content-security-policy"]:  # then there is no field that a form could send
        for name in markup.named:
            yield Change(page=page.path, what="field with a name", expected="", found=name)


def _of_identity(order: str, spoken: str) -> Iterator[Change]:
    found = _identities(order)
    for identity in found:
        if not matches(identity, spoken):
            what = "offline identity"
            yield Change(page=_CHECKOUT, what=what, expected=spoken, found=fingerprint(identity))
    if not found:
        yield Change(page=_CHECKOUT, what="offline identity", expected=spoken, found="")


def _identities(order: str) -> list[bytes]:
    try:
        named = msgspec.json.decode(order.encode(), type=dict[str, msgspec.Raw]).get(
            "identities", msgspec.Raw(b"[]")
        )
        texts = msgspec.json.decode(named, type=list[str])
        return [bytes.fromhex(text) for text in texts if len(text) == _KEY_SIZE]
    except (msgspec.MsgspecError, ValueError):
        return []


def _of_file(address: str, integrity: str, fetch: Fetch) -> Iterator[Change]:
    content = fetch(address, "").content
    found = f"sha384-{base64.b64encode(hashlib.sha384(content).digest()).decode('ascii')}"
    if found != integrity:
        yield Change(page=address, what="content", expected=integrity, found=found)
