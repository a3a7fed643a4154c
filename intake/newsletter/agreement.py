"""The words that somebody agrees to who asks for the newsletter.

Why here: the page, the mailed question and the consent record must have the very same ones.
Must not: change without notice: each version that was ever agreed to is kept beside the consent.
"""

from __future__ import annotations


def agreement(shop: str) -> str:
    """``shop``: its name on the pages."""
    return (
        f"{shop} may send me a newsletter about new records by email. My address is used for nothing else. "
        "I can leave with one click in every newsletter; my address is then erased."
    )
