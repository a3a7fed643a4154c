"""The policy's online half, put together: record pages, consent, privacy page.

Why here: the server adds these to its table of addresses with one line, and tests see them as customers do.
Must not: hold a rule of its own.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.routing import Route

from intake.catalogue import Catalogue
from intake.config import IntakeConfig
from intake.consent.web import ConsentPages
from intake.enquiries.desk import EnquiryDesk
from intake.enquiries.web import EnquiryPages
from intake.newsletter.subscribers import PENDING_DAYS, Subscribers
from intake.newsletter.web import NewsletterPages
from intake.page.pages import Pages
from intake.page.privacy import KeptFor, PrivacyPage
from intake.page.record_page import RecordPages


def policy_routes(
    intake: IntakeConfig,
    pages: Pages,
    catalogue: Catalogue,
    *,
    subscribers: Subscribers,
    desk: EnquiryDesk,
    now: Callable[[], int],
) -> list[Route]:
    """The addresses of the policy's pages."""
    kept_for = KeptFor(
        pending_days=PENDING_DAYS,
        enquiry_days=intake.enquiry_days,
        enquiry_open_days=intake.enquiry_open_days,
    )
    return [
        *RecordPages(pages=pages, catalogue=catalogue, is_https=intake.is_https).routes(),
        *ConsentPages(pages=pages, is_https=intake.is_https).routes(),
        *NewsletterPages(pages=pages, subscribers=subscribers, shop=intake.shop, now=now).routes(),
        *EnquiryPages(pages=pages, desk=desk, kept_days=intake.enquiry_days, now=now).routes(),
        *PrivacyPage(pages=pages, kept_for=kept_for).routes(),
    ]


def policy_tasks(
    intake: IntakeConfig, *, subscribers: Subscribers, desk: EnquiryDesk, now: Callable[[], int]
) -> list[Callable[[], object]]:
    """What is to be erased again and again without anybody's asking."""
    return [
        lambda: subscribers.erase_unconfirmed(now=now()),
        lambda: desk.erase_old(
            closed_days=intake.enquiry_days, open_days=intake.enquiry_open_days, now=now()
        ),
    ]
