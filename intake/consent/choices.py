"""What a customer chose about advertising and about "recently viewed", as the text of one cookie.

Why here: every page that may ask, or may advertise, reads the choice in one way; no cookie means no.
Must not: take silence, a damaged cookie or an older question's answer for a yes, or a yes against Sec-GPC.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

COOKIE = "choices"
DAYS = 180
"""So long a yes or a no holds; then it is asked again."""

# The first part is the number of the question: when its words change, it is asked anew.
_FORM = re.compile(r"1\.ads-(yes|no|open)\.recent-(yes|no)", re.ASCII)


class Answer(StrEnum):
    """To the question about advertising. OPEN: nobody answered yet, which counts as no."""

    YES = "yes"
    NO = "no"
    OPEN = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """``advertising`` as answered; ``remembers``: "recently viewed" is switched on; ``gpc``: the browser's Sec-GPC."""

    advertising: Answer = Answer.OPEN
    remembers: bool = False
    gpc: bool = False

    @property
    def advertises(self) -> bool:
        """True when advertising may be shown and its cookie kept."""
        return self.advertising is Answer.YES and not self.gpc

    @property
    def asks(self) -> bool:
        """True when pages may ask: nobody answered, and the browser did not answer for its owner."""
        return self.advertising is Answer.OPEN and not self.gpc


def read(cookie: str, sec_gpc: str = "") -> Choices:
    """From the cookie's text and the ``Sec-GPC`` header (``1`` is the only value that it has)."""
    gpc = sec_gpc.strip() == "1"
    form = _FORM.fullmatch(cookie)
    if form is None:
        return Choices(gpc=gpc)
    return Choices(advertising=Answer(form[1]), remembers=form[2] == "yes", gpc=gpc)


def write(choices: Choices) -> str:
    """The cookie's value: ``1.ads-no.recent-yes``."""
    return f"1.ads-{choices.advertising}.recent-{'yes' if choices.remembers else 'no'}"


def changed(choices: Choices, form: Mapping[str, str]) -> Choices | None:
    """The choices after one of our forms, or None when it is none of them."""
    match form.get("advertising", ""), form.get("recent", ""):
        case ("yes" | "no") as answer, "":
            return replace(choices, advertising=Answer(answer))
        case "", ("yes" | "no") as answer:
            return replace(choices, remembers=answer == "yes")
        case _:
            return None
