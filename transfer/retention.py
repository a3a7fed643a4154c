"""The retention schedule: what is kept of whom, where, how long, on what ground, and what ends it.

Why here: both sides of the gap keep what came over it, and code, documents and answers to customers read one table.
Must not: do anything; whoever keeps the data enforces it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_CONTRACT: Final = "performance of the contract (GDPR, Article 6(1)(b))"
_LAW: Final = "what the law asks of a seller, and legal claims (GDPR, Article 6(1)(c) and 17(3)(e))"
_CONSENT: Final = "the person's consent (GDPR, Article 6(1)(a))"
_INTEREST: Final = "the shop's interest in running safely (GDPR, Article 6(1)(f))"


class Kept(StrEnum):
    """Kinds of data, by which code asks for its time."""

    CVV = "cvv"
    CARD = "card"
    PERSON = "person"
    PERSON_UNSOLD = "person-unsold"
    RECORD = "record"
    DISCLOSURE = "disclosure"
    BUNDLE = "bundle"
    SUBJECT = "subject"
    SEALED_SUBJECT = "sealed-subject"
    ENQUIRY = "enquiry"
    NEWSLETTER = "newsletter"
    CALLER = "caller"
    LOG = "log"
    BACKUP = "backup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line. ``days`` after ``since``; None where an event ends it, and no time. ``ended_by``: what erases it."""

    kind: Kept
    what: str
    side: str
    days: int | None
    since: str
    ground: str
    ended_by: str

    @property
    def kept(self) -> str:
        """How long, in words."""
        return self.since if self.days is None else f"{self.days} days after {self.since}"

    @property
    def seconds(self) -> int:
        """The time of a rule that has one."""
        if self.days is None:
            raise ValueError(f"{self.kind} is ended by an event, not by time")
        return self.days * 86_400

    def as_document(self) -> dict[str, str]:
        """For ``--json``, and for a person who asks."""
        return {
            "kind": self.kind.value,
            "what": self.what,
            "side": self.side,
            "kept": self.kept,
            "ground": self.ground,
        }


SCHEDULE: Final = (
    Rule(
        kind=Kept.CVV,
        what="security code of a card",
        side="both",
        days=None,
        since="never kept; sealed until the charge is answered, 72 hours at most",
        ground=_CONTRACT,
        ended_by="offline-processor run",
    ),
    Rule(
        kind=Kept.CARD,
        what="card number and expiry, sealed",
        side="offline",
        days=None,
        since="until no reversal, capture or retry can need them; BIN and last four stay with the order",
        ground=_CONTRACT,
        ended_by="offline-processor run",
    ),
    Rule(
        kind=Kept.PERSON,
        what="name, email, address and goods of an order that was paid",
        side="offline",
        days=730,
        since="the order's last change",
        ground=_LAW,
        ended_by="offline-processor retention run",
    ),
    Rule(
        kind=Kept.PERSON_UNSOLD,
        what="the same of an order that was declined, or was to be ordered again",
        side="offline",
        days=90,
        since="the order's last change",
        ground=_LAW,
        ended_by="offline-processor retention run",
    ),
    Rule(
        kind=Kept.RECORD,
        what="order ids, amounts, states and salted digests (the chain of entries; nobody's name)",
        side="offline",
        days=None,
        since="for ever: they prove that nothing was charged twice",
        ground=_LAW,
        ended_by="nothing",
    ),
    Rule(
        kind=Kept.DISCLOSURE,
        what="which orders' data was given to whom",
        side="offline",
        days=1095,
        since="the export",
        ground=_LAW,
        ended_by="offline-processor retention run",
    ),
    Rule(
        kind=Kept.BUNDLE,
        what="copies of sealed orders",
        side="both",
        days=None,
        since="offline until the bundle is settled, online until its receipt; on a medium until the next push",
        ground=_CONTRACT,
        ended_by="offline-processor run, spool-sync pull and push",
    ),
    Rule(
        kind=Kept.SUBJECT,
        what="email address in a request about one's data",
        side="offline",
        days=None,
        since="until the request is answered",
        ground=_LAW,
        ended_by="offline-processor subject",
    ),
    Rule(
        kind=Kept.SEALED_SUBJECT,
        what="the same request, sealed, so that it can be sent again after a restore",
        side="online",
        days=90,
        since="its answer",
        ground=_LAW,
        ended_by="intake retention run",
    ),
    Rule(
        kind=Kept.ENQUIRY,
        what="enquiries",
        side="online",
        days=30,
        since="they are resolved",
        ground=_CONTRACT,
        ended_by="intake retention run",
    ),
    Rule(
        kind=Kept.NEWSLETTER,
        what="email address for the newsletter",
        side="online",
        days=None,
        since="until unsubscribed; one that nobody confirmed 7 days",
        ground=_CONSENT,
        ended_by="the person's own click, intake retention run",
    ),
    Rule(
        kind=Kept.CALLER,
        what="from which network an order came, as a digest with a secret key",
        side="online",
        days=7,
        since="the order came",
        ground=_INTEREST,
        ended_by="intake, intake retention run",
    ),
    Rule(
        kind=Kept.LOG,
        what="log lines: times, rules and counts, nobody's name, address or card",
        side="both",
        days=30,
        since="they are written",
        ground=_INTEREST,
        ended_by="the host's journal (MaxRetentionSec=30day)",
    ),
    Rule(
        kind=Kept.BACKUP,
        what="backups of the ledger, sealed to the custodians, and what was erased since they were made",
        side="offline",
        days=90,
        since="they are made",
        ground=_LAW,
        ended_by="whoever keeps the media destroys them; after a restore, erasures are asked for again",
    ),
)

RULES: Final = {rule.kind: rule for rule in SCHEDULE}
