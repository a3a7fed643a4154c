"""The inventory of the pages' scripts, each with its reason to be there (PCI DSS 6.4.3), and of the pages' headers.

Why here: what is shipped, what the shop shows and what `intake check-page` expects are made by the same code.
Must not: list a script without a justification; one that no page names stops the server.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from intake.errors import IntakeError
from intake.page.assets import Asset, assets
from intake.page.guard import page_headers

JUSTIFICATIONS: Mapping[str, str] = {
    "checkout.js": "Judges the form, verifies the keys' signatures and encrypts card and address in the browser, so "
    "that neither is ever sent in clear. The checkout cannot work without it.",
    "recent.js": "Shows the records looked at before, once the customer has switched that on. It keeps them in the "
    "browser's own storage, sends nothing, and erases them when it is switched off.",
    "status.js": "Fetches the order's status with the order's own token, which stands in the part of the address that "
    "browsers never send, and shows the text that fits.",
}


class ScriptEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One script; ``integrity`` as Subresource Integrity writes it."""

    name: str
    address: str
    integrity: str
    justification: str
    pages: list[str]


class PageEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One page: the scripts that may run there, and every header that guards it."""

    path: str
    scripts: list[str]
    headers: dict[str, str]


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """All scripts of all pages."""

    format: int = 1
    scripts: list[ScriptEntry]
    pages: list[PageEntry]


# Path: its scripts, and whether it may send a form.
PAGES: Mapping[str, tuple[tuple[str, ...], bool]] = {
    "/": ((), True),
    "/basket": ((), True),
    "/checkout": (("checkout.js",), False),
    "/thanks": (("status.js",), False),
    "/orders/{order_id}": (("status.js",), False),
    "/scripts": ((), False),
    "/records/{sku}": (("recent.js",), True),
    "/cookies": (("recent.js",), True),
    "/privacy": ((), False),
    "/newsletter": ((), True),
    "/newsletter/confirm": ((), True),
    "/newsletter/unsubscribe": ((), True),
    "/enquiries": ((), True),
}


def scripts_of(path: str) -> list[Asset]:
    """The scripts of a page, by its path in ``PAGES``."""
    return [assets()[name] for name in PAGES[path][0]]


def headers_of(path: str) -> Mapping[str, str]:
    """The guarding headers of a page, by its path in ``PAGES``."""
    return page_headers([script.integrity for script in scripts_of(path)], forms=PAGES[path][1])


def inventory() -> Inventory:
    """What is shipped; ``PAGE-INVENTORY`` when a script has no justification or runs nowhere."""
    scripts = []
    for name, asset in assets().items():
        if not name.endswith(".js"):
            continue
        pages = [path for path, (used, _) in PAGES.items() if name in used]
        if not pages or name not in JUSTIFICATIONS:
            raise IntakeError(
                "PAGE-INVENTORY",
                f"{name} is shipped, but has no justification or is on no page",
                "write why it is there, or take it away",
            )
        scripts.append(
            ScriptEntry(
                name=name,
                address=asset.address,
                integrity=asset.integrity,
                justification=JUSTIFICATIONS[name],
                pages=pages,
            )
        )
    return Inventory(
        scripts=scripts,
        pages=[
            PageEntry(
                path=path,
                scripts=[script.address for script in scripts_of(path)],
                headers=dict(headers_of(path)),
            )
            for path in PAGES
        ],
    )
