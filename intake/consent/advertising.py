"""Advertising: one line about a record that somebody may like, chosen by the record looked at before.

Why here: it is all the advertising there is, ours and from our own server, and it works on one cookie.
Must not: be asked, or keep its cookie, without a yes (choices.py); be shown but where its cookie is sent: on record
pages. Its path keeps it away from the checkout and from an order's page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, islice

from intake.catalogue import Record

COOKIE = "interest"
PATH = "/records"
"""Browsers send the cookie to addresses below this one only."""
DAYS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """``record`` is advertised, because ``looked_at`` was looked at."""

    record: Record
    looked_at: Record


def promotion(cookie: str, shown: Record, records: Mapping[str, Record]) -> Promotion | None:
    """What to advertise on the page of ``shown``; ``cookie`` is the SKU looked at before. None: nothing fits."""
    looked_at = records.get(cookie)
    if looked_at is None:
        return None
    skus = list(records)
    place = skus.index(looked_at.sku)
    # The next of the same kind, going round: each record that was looked at brings another one to light.
    after = chain(islice(skus, place + 1, None), islice(skus, place))
    alike = (records[sku] for sku in after if _kind(records[sku]) == _kind(looked_at))
    found = next((record for record in alike if record.sku not in {shown.sku, looked_at.sku}), None)
    return None if found is None else Promotion(record=found, looked_at=looked_at)


def _kind(record: Record) -> str:
    """``LP`` of ``LP, 180 g``."""
    return record.medium.partition(",")[0].strip()
