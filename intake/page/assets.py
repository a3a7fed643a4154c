"""The files that pages load: each under an address that holds its digest, and with its integrity value.

Why here: a page, its policy and the inventory name the same bytes.
Must not: serve a file that is not listed here.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).with_name("static")
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
_NAME_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One file: ``address`` from the root, ``integrity`` as SRI writes it, ``packed`` the content by gzip."""

    name: str
    address: str
    integrity: str
    media_type: str
    content: bytes = field(repr=False)
    packed: bytes = field(repr=False)


@cache
def assets() -> Mapping[str, Asset]:
    """Every file of the pages by its plain name, such as ``checkout.js``."""
    return {path.name: _asset(path) for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES}


def _asset(path: Path) -> Asset:
    content = path.read_bytes()
    digest = hashlib.sha384(content).digest()
    return Asset(
        name=path.name,
        address=f"/static/{path.stem}.{digest.hex()[:_NAME_DIGITS]}{path.suffix}",
        integrity=f"sha384-{base64.b64encode(digest).decode('ascii')}",
        media_type=_TYPES[path.suffix],
        content=content,
        packed=gzip.compress(content, mtime=0),
    )
