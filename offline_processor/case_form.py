"""What a case is: its kind, why it waits, the commands that settle it, and what the acquirer asks on the phone.

Why here: whoever shows cases or counts them needs their form, and nothing of how they are found.
Must not: look into the ledger, name a customer, or show more of a card than BIN and last four.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class CaseKind(StrEnum):
    """What kind of case it is."""

    MANUAL = "phone the acquirer"
    SECOND_PERSON = "second person"
    MISMATCH = "does not agree"
    REFUSED = "refused"
    UNANSWERED = "not answered"
    ENDING = "authorisation ends"
    QUARANTINED = "quarantined"
    REFER = "refer to issuer"
    OUR_FAULT = "our fault"
    CHARGED_UNSEEN = "charged, not here"
    BATCH_FILE = "answer file"
    STRAY = "put aside"
    UNKNOWN = "unknown outcome"
    HELD = "held"


GOES_ON: Final = frozenset({CaseKind.UNKNOWN, CaseKind.HELD})
"""What the next run goes on with by itself; every other kind needs a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phone:
    """What the acquirer asks on the phone. Amount in minor units; times in Unix seconds, 0 for never.

    ``card`` is BIN and last four; ``code`` the newest response code, "" for none; ``reversal_stan`` and
    ``reversal_at`` name the newest reversal, which was sent ``tries`` times.
    """

    merchant: str
    terminal: str
    rrn: str
    stan: int
    sent_at: int
    amount: int
    currency: str
    card: str
    approval: str
    code: str
    reversal_stan: int
    reversal_at: int
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case. ``may``: the exact commands, without --config; ``since`` and ``deadline`` Unix seconds, 0 for none.

    ``deadline`` is when the matter is decided without a person. ``amount`` minor units of ``currency`` ("" for none).
    """

    id: str
    kind: CaseKind
    order_id: str
    rule: str
    why: str
    may: tuple[str, ...]
    amount: int
    currency: str
    since: int
    deadline: int = 0
    phone: Phone | None = None

    @property
    def needs_person(self) -> bool:
        """False for what the next run goes on with by itself."""
        return self.kind not in GOES_ON

    def as_document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**dataclasses.asdict(self), "needs_person": self.needs_person}
