"""The newsletter's two JSON documents.

Why here: the OpenAPI document is made from them.
Must not: ask for anything but an address, or tell whether it is known.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from intake.forms import EMAIL_MAXIMUM


class NewsletterForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that the newsletter needs."""

    email: Annotated[
        str,
        Meta(
            min_length=3,
            max_length=EMAIL_MAXIMUM,
            examples=["zoe.mueller@example.com"],
            extra_json_schema={"format": "email"},
        ),
    ]


class NewsletterAsked(msgspec.Struct, frozen=True, kw_only=True):
    """A confirmation is on its way to the address, unless it is known already: nobody is told which."""

    status: Literal["confirmation-sent"] = "confirmation-sent"
