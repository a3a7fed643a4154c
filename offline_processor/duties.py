"""What is owed to people and will not be done by itself: goods, requests that wait, and data whose time is over.

Why here: every status, and every run, has to say it; a promise with a deadline is forgotten otherwise.
Must not: do any of it, or name anybody.
"""

from __future__ import annotations

from typing import Final

from offline_processor import authorisations, retention
from offline_processor.acquirers.report import in_words
from offline_processor.config import ChargingConfig
from offline_processor.key_state import Notice
from offline_processor.ledger import subject_requests
from offline_processor.ledger.ledger import Ledger
from offline_processor.outcomes import AUTHORISATION_ENDING

_DAY: Final = 86_400
_LEGAL_DAYS: Final = 30
"""An answer is due within a month of the request (GDPR, Article 12(3))."""


def notices(ledger: Ledger, charging: ChargingConfig, *, now: int) -> list[Notice]:
    """What has a date first."""
    found = []
    if ends := authorisations.ending(ledger, charging, now=now):
        first = in_words(min(item.until for item in ends))
        found.append(
            Notice(
                rule=AUTHORISATION_ENDING,
                message=f"{len(ends)} orders are authorised, and not sent; the first authorisation ends at {first}:"
                " offline-processor cases",
                needs_person=True,
            )
        )
    asked, oldest = subject_requests.tally(ledger)
    if asked:
        left = _LEGAL_DAYS - (now - oldest) // _DAY
        due = f"the first is due in {left} days" if left > 0 else f"the first is OVERDUE by {-left} days"
        found.append(
            Notice(
                rule="SUBJECT-WAITING",
                message=f"{asked} people asked about their data, {due}: offline-processor subject list",
                needs_person=True,
            )
        )
    if retention.is_due(ledger, now=now):
        found.append(
            Notice(
                rule="RETENTION-DUE",
                message="data of people is kept beyond its time: offline-processor retention run",
                needs_person=True,
            )
        )
    return found
