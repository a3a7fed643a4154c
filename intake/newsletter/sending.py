"""Sending: an issue to everybody who is owed it, and the confirmations that were asked for.

Why here: the two promises differ. An issue goes out at most once an address: when nobody can know whether it was taken
(a kill, a broken line in the middle of a message) it is not sent again. A confirmation may come twice: none is worse.
Must not: write to an address that is not confirmed, but for its confirmation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from intake.mail.line import Fate, MailLine
from intake.mail.message import Letter
from intake.newsletter.agreement import agreement
from intake.newsletter.deliveries import Deliveries, State
from intake.newsletter.issue import Issue
from intake.newsletter.subscribers import PENDING_DAYS, Subscriber, Subscribers
from intake.newsletter.tokens import LinkKey, Purpose

Clock = Callable[[], int]
PUT_OFF_MAXIMUM = 50
"""So many "later" one after another mean the server, not the addresses: the run ends, and is given again later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """How many messages: taken by the mail server, refused for good, to be tried again, and nobody knows."""

    taken: int = 0
    refused: int = 0
    later: int = 0
    unknown: int = 0

    def plus(self, fate: Fate) -> Sent:
        """One more."""
        return replace(self, **{fate.value: getattr(self, fate.value) + 1})

    @property
    def needs_person(self) -> bool:
        """True when some did not simply get it."""
        return bool(self.refused or self.later or self.unknown)


def send_issue(
    issue: Issue,
    subscribers: Subscribers,
    line: MailLine,
    *,
    shop: str,
    shop_url: str,
    now: Clock,
    progress: Callable[[], None],
) -> Sent:
    """To everybody who has no mark for it. What the mail line raises stops it where it is; it can be given again."""
    deliveries = Deliveries(subscribers.file)
    deliveries.begin(issue, now=now())
    sent, put_off = Sent(), 0
    for subscriber in deliveries.owed(issue.name):
        letter = issue_letter(issue, subscriber, subscribers.key, shop=shop, shop_url=shop_url)
        fate = _send_one(issue, subscriber, letter, deliveries, line, now)
        if fate is not None:
            sent = sent.plus(fate)
        put_off = put_off + 1 if fate is Fate.LATER else 0
        if put_off >= PUT_OFF_MAXIMUM:
            break
        progress()
    return sent


def _send_one(
    issue: Issue,
    subscriber: Subscriber,
    letter: Letter,
    deliveries: Deliveries,
    line: MailLine,
    now: Clock,
) -> Fate | None:
    """One message; None when it was not wanted any more at the last moment."""
    claimed: bool | None = None

    def claim() -> bool:
        nonlocal claimed
        claimed = deliveries.claim(issue.name, subscriber, now=now())
        return claimed

    fate = line.send(letter, now=now(), before=claim)
    if claimed is False:
        return None
    match fate:
        case Fate.TAKEN:
            deliveries.settle(issue.name, subscriber, State.SENT, now=now())
        case Fate.REFUSED:
            deliveries.settle(issue.name, subscriber, State.REFUSED, now=now())
        case Fate.LATER if claimed:  # without a claim of ours the mark is another run's
            deliveries.give_back(issue.name, subscriber)
        case Fate.LATER | Fate.UNKNOWN:
            pass  # the mark, if there is one, stays as it is
    return fate


def issue_letter(issue: Issue, subscriber: Subscriber, key: LinkKey, *, shop: str, shop_url: str) -> Letter:
    """The issue as one subscriber gets it."""
    leave = f"{shop_url}/newsletter/unsubscribe?token={key.token(Purpose.UNSUBSCRIBE, subscriber.id)}"
    foot = f"-- \n{shop}, {shop_url}\nYou asked for this newsletter. Leave it, and have your address erased:\n{leave}\n"
    return Letter(
        to=subscriber.address,
        subject=issue.subject,
        text=f"{issue.text}\n{foot}",
        identity=key.message_id(issue.name, subscriber.mark),
        unsubscribe=leave,
        list_id=f"<newsletter.{shop_url.partition('://')[2].partition(':')[0].partition('/')[0]}>",
    )


def send_confirmations(
    subscribers: Subscribers, line: MailLine, *, shop: str, shop_url: str, now: Clock
) -> Sent:
    """One message to each address that was typed in and may be written to."""
    sent = Sent()
    for subscriber in subscribers.to_confirm(now=now()):
        letter = confirmation(subscriber, subscribers.key, shop=shop, shop_url=shop_url, now=now())
        is_gone = False

        def is_wanted(identity: bytes = subscriber.id) -> bool:
            nonlocal is_gone
            is_gone = not subscribers.is_to_confirm(identity)
            return not is_gone

        fate = line.send(letter, now=now(), before=is_wanted)
        if is_gone:  # it left, or said yes, since the list was made
            continue
        match fate:
            case Fate.TAKEN | Fate.UNKNOWN:
                subscribers.was_mailed(subscriber.id, now=now())
            case Fate.REFUSED:
                subscribers.drop(subscriber.id)
            case Fate.LATER:
                subscribers.was_put_off(subscriber.id, now=now())
        sent = sent.plus(fate)
    return sent


def confirmation(subscriber: Subscriber, key: LinkKey, *, shop: str, shop_url: str, now: int) -> Letter:
    """The message that asks the address's owner."""
    link = f"{shop_url}/newsletter/confirm?token={key.token(Purpose.CONFIRM, subscriber.id)}"
    text = (
        f"Somebody, probably you, asked for the newsletter of {shop} with this address.\n\n"
        f"If it was you, say yes here within {PENDING_DAYS} days:\n{link}\n\n"
        f"You then agree to this: {agreement(shop)}\n\n"
        f"If it was not you, do nothing: no newsletter is sent, and your address is erased after {PENDING_DAYS} days.\n"
    )
    return Letter(
        to=subscriber.address,
        subject=f"Your yes to the newsletter of {shop}?",
        text=text,
        identity=key.message_id(f"confirm {now}", subscriber.mark),
    )
