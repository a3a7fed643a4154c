"""Exports made ready: whose data, in which files, with which bytes; nothing is recorded or released yet.

Why here: a dry run, the command and the guided day prepare the same thing, and only ``releasing`` lets it out.
Must not: write a file, or log a disclosure.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from offline_processor.exports import carrier, feedback
from offline_processor.exports.people import Reject, Selection, Wish, select
from offline_processor.exports.profiles import Profile
from offline_processor.exports.purposes import PURPOSES, Declared, Field, Purpose
from offline_processor.ledger.disclosures import Disclosed
from offline_processor.ledger.ledger import Ledger

FEEDBACK_SERVICE: Final = "review-service"
_REFERENCE_SIZE: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One file or stack of paper. ``kind``: the ending of its name; ``fields``: what really stands in it."""

    declared: Declared
    recipient: str
    kind: str
    fields: frozenset[Field]
    disclosed: tuple[Disclosed, ...]
    content: bytes = field(repr=False)


@dataclass(slots=True, kw_only=True)
class Ready:
    """What an export would be. ``changed``: rows with transliterated letters; the rest as in ``Selection``."""

    files: list[Prepared] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    waiting: int = 0
    opted_out: int = 0
    erased: int = 0
    changed: int = 0

    @property
    def orders(self) -> int:
        """How many orders are in the files."""
        return sum(len(one.disclosed) for one in self.files)

    def as_document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "orders": self.orders,
            "rejects": [reject.as_document() for reject in self.rejects],
            "waiting": self.waiting,
            "opted_out": self.opted_out,
            "erased": self.erased,
            "transliterated": self.changed,
        }


def carrier_files(ledger: Ledger, profile: Profile, wish: Wish, *, now: int) -> Ready:
    """The carrier's files for everything that is to be sent."""
    declared = PURPOSES[Purpose.CARRIER]
    found = select(ledger, declared, wish, now=now)
    sheets, rejects = carrier.sheets_of(profile, found.people)
    ready = ready_of(found, rejects)
    for sheet in sheets:
        ready.files.append(
            Prepared(
                declared=declared,
                recipient=profile.carrier,
                kind="csv",
                fields=frozenset(sheet.fields),
                disclosed=tuple(
                    Disclosed(number=person.number, order_id=person.order_id) for person in sheet.people
                ),
                content=carrier.sheet_bytes(profile, sheet),
            )
        )
        ready.changed += sheet.changed
    return ready


def feedback_file(ledger: Ledger, wish: Wish, *, now: int) -> Ready:
    """The invitations for everything that was sent, without those who opted out."""
    declared = PURPOSES[Purpose.FEEDBACK]
    found = select(ledger, declared, wish, now=now)
    invited, rejects = feedback.invitations(found.people, lambda: secrets.token_hex(_REFERENCE_SIZE))
    ready = ready_of(found, rejects)
    if invited:
        ready.files.append(
            Prepared(
                declared=declared,
                recipient=FEEDBACK_SERVICE,
                kind="csv",
                fields=frozenset({Field.EMAIL, Field.NAME, Field.REFERENCE}),
                disclosed=tuple(
                    Disclosed(number=person.number, order_id=person.order_id, reference=reference)
                    for person, reference in invited
                ),
                content=feedback.invitation_bytes(invited),
            )
        )
    return ready


def ready_of(found: Selection, rejects: Sequence[Reject]) -> Ready:
    """What selection and writing together could not take."""
    return Ready(
        rejects=[*found.rejects, *rejects],
        waiting=found.waiting,
        opted_out=found.opted_out,
        erased=found.erased,
    )
