"""The privacy page: what is promised, and how each promise is kept.

Why here: the times that it states are those that the software keeps, taken from the same settings.
Must not: promise what no code keeps; a test holds every rule that it names against RULES.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from intake.page.pages import Pages

_PRIVACY = "/privacy"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFor:
    """Days: an address that nobody confirmed, a resolved enquiry, and one that nobody resolved."""

    pending_days: int
    enquiry_days: int
    enquiry_open_days: int


class PrivacyPage:
    """``kept_for``: the times that the page states."""

    def __init__(self, *, pages: Pages, kept_for: KeptFor) -> None:
        self._pages = pages
        self._kept_for = kept_for

    def routes(self) -> list[Route]:
        """The address of this module."""
        return [Route(_PRIVACY, self._show)]

    async def _show(self, request: Request) -> Response:
        return self._pages.show(request, "privacy.html", _PRIVACY, **asdict(self._kept_for))
