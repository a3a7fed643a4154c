"""Sending: an issue to everybody who is owed it, and the confirmations that were asked for.

Why here: the two promises differ. An issue goes out at most once an address: when nobody can know whether it was taken
(a kill, a broken line in the middle of a message) it is not sent again. A confirmation may come twice: none is worse.
Must not: write to an address that is not confirmed, but for its confirmation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from intake.mail.line import Fate, MailLine
from intake.mail.message import Letter
from intake.newsletter.agreement import agreement
from intake.newsletter.deliveries import Deliveries, State
from intake.newsletter.issue import Issue
from intake.newsletter.subscribers import PENDING_DAYS, Subscriber, Subscribers
from intake.newsletter.tokens import LinkKey, Purpose

Clock = Callable[[], int]
PUT_OFF_MAXIMUM = 50
"""So many "later" or "no" one after another mean the server, not the addresses: the run ends, and is given again."""


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


@dataclass(slots=True, kw_only=True)
class _Run:
    """What one run has seen of the server, which may refuse some addresses, or everybody (no relaying, a blocklist).

    ``refuse`` makes a refusal final. It waits until the server has taken a message to somebody else: a server that
    takes none says nothing about an address, and who was refused meanwhile counts as put off.
    """

    refuse: Callable[[Subscriber], None]
    sent: Sent = field(default_factory=Sent)
    held: list[Subscriber] = field(default_factory=list)
    streak: int = 0

    def count(self, fate: Fate) -> None:
        """What became of one message."""
        self.sent = self.sent.plus(fate)
        self.streak = self.streak + 1 if fate in {Fate.LATER, Fate.REFUSED} else 0
        if fate is Fate.TAKEN:
            self._refuse_held()

    def hold(self, subscriber: Subscriber) -> None:
        """Refused before there was a message: surely nothing was sent."""
        self.held.append(subscriber)
        self.streak += 1

    @property
    def is_over(self) -> bool:
        """True when the server takes nothing, or nothing any more."""
        return self.streak >= PUT_OFF_MAXIMUM

    def end(self) -> Sent:
        """The sum."""
        if self.sent.taken and not self.is_over:
            self._refuse_held()
        return replace(self.sent, later=self.sent.later + len(self.held))

    def _refuse_held(self) -> None:
        for subscriber in self.held:
            self.refuse(subscriber)
            self.sent = self.sent.plus(Fate.REFUSED)
        self.held.clear()


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
    run = _Run(refuse=lambda refused: deliveries.refuse(issue.name, refused, now=now()))
    for subscriber in deliveries.owed(issue.name):
        letter = issue_letter(issue, subscriber, subscribers.key, shop=shop, shop_url=shop_url)
        _send_one(issue, subscriber, letter, deliveries, line, now, run)
        if run.is_over:
            break
        progress()
    return run.end()


def _send_one(
    issue: Issue,
    subscriber: Subscriber,
    letter: Letter,
    deliveries: Deliveries,
    line: MailLine,
    now: Clock,
    run: _Run,
) -> None:
    """One message, unless it is not wanted any more at the last moment."""
    claimed: bool | None = None

    def claim() -> bool:
        nonlocal claimed
        claimed = deliveries.claim(issue.name, subscriber, now=now())
        return claimed

    fate = line.send(letter, now=now(), before=claim)
    if claimed is False:
        return
    if fate is Fate.REFUSED and not claimed:
        run.hold(subscriber)
        return
    match fate:
        case Fate.TAKEN:
            deliveries.settle(issue.name, subscriber, State.SENT, now=now())
        case Fate.REFUSED:
            deliveries.settle(issue.name, subscriber, State.REFUSED, now=now())
        case Fate.LATER if claimed:  # without a claim of ours the mark is another run's
            deliveries.give_back(issue.name, subscriber)
        case Fate.LATER | Fate.UNKNOWN:
            pass  # the mark, if there is one, stays as it is
    run.count(fate)


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
    run = _Run(refuse=lambda refused: subscribers.drop(refused.id))
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
        if fate in {Fate.TAKEN, Fate.UNKNOWN}:
            subscribers.was_mailed(subscriber.id, now=now())
        else:
            subscribers.was_put_off(subscriber.id, now=now())
        if fate is Fate.REFUSED:
            run.hold(subscriber)
        else:
            run.count(fate)
        if run.is_over:
            break
    return run.end()


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
