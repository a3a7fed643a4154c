"""The headers of every page: what a browser may load, run, send and show because of it.

Why here: pages, the inventory and `intake check-page` must agree on them.
Must not: allow another host, inline code, or (on the checkout) the sending of a form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_FIXED = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-resource-policy": "same-origin",
    "integrity-policy": "blocked-destinations=(script)",
    "strict-transport-security": "max-age=31536000; includeSubDomains",
    "permissions-policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def policy(scripts: Sequence[str] = (), *, forms: bool) -> str:
    """The Content-Security-Policy. ``scripts``: the integrity values (sha384-…) of those that may run.

    ``forms``: whether a form may be sent, and then to this shop only.
    """
    sources = " ".join(f"'{integrity}'" for integrity in scripts) or "'none'"
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {sources}",
            "style-src 'self'",
            "img-src 'self'",
            "connect-src 'self'" if scripts else "connect-src 'none'",
            "form-action 'self'" if forms else "form-action 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def page_headers(scripts: Sequence[str] = (), *, forms: bool) -> Mapping[str, str]:
    """All headers of a page but its type, length and caching."""
    return {"content-security-policy": policy(scripts, forms=forms), **_FIXED}


def file_headers() -> Mapping[str, str]:
    """Those of a file that pages load (script, style, cover); its address changes with its content, or it is ours."""
    return {
        "x-content-type-options": "nosniff",
        "cross-origin-resource-policy": "same-origin",
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    }
