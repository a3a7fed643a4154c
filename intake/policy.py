"""The policy's online half, put together: record pages, consent, privacy page.

Why here: the server adds these to its table of addresses, its tasks and its status with one line each.
Must not: hold a rule of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from starlette.routing import Route

from intake.catalogue import Catalogue
from intake.config import IntakeConfig
from intake.consent.web import ConsentPages
from intake.enquiries.desk import EnquiryDesk, enquiries_are_there
from intake.enquiries.web import EnquiryPages
from intake.newsletter.place import newsletter_is_there, open_subscribers
from intake.newsletter.subscribers import PENDING_DAYS, Subscribers
from intake.newsletter.web import NewsletterPages
from intake.page.pages import Pages
from intake.page.privacy import KeptFor, PrivacyPage
from intake.page.record_page import RecordPages
from transfer.sync.notices import Notice

UNSENT_SECONDS = 3600
_ANSWER_DAYS = 3


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


def policy_notices(state: Path, *, now: int, random: Callable[[int], bytes]) -> list[Notice]:
    """What of the letters needs a person: confirmations that nobody sends, and enquiries that nobody answers."""
    found = []
    if newsletter_is_there(state):
        subscribers = open_subscribers(state, random=random)
        waiting = subscribers.counts()
        subscribers.file.close()
        if waiting.to_write_since and waiting.to_write_since < now - UNSENT_SECONDS:
            found.append(
                Notice(
                    rule="NEWSLETTER-UNSENT",
                    message=f"{waiting.to_write} confirmations of the newsletter wait for more than an hour",
                    remedy="see whether intake newsletter deliver --follow runs",
                )
            )
    if enquiries_are_there(state):
        desk = EnquiryDesk(state, random=random)
        asked = [enquiry.changed_at for enquiry in desk.open()]
        desk.close()
        if asked and min(asked) < now - _ANSWER_DAYS * 86_400:
            found.append(
                Notice(
                    rule="ENQUIRY-WAITING",
                    message=f"{len(asked)} enquiries are open, one for more than {_ANSWER_DAYS} days",
                    remedy="see intake enquiries list, then answer or close them",
                )
            )
    return found
