"""The purposes for which a person's data may leave the ledger, each with its fields, recipient and legal ground.

Why here: the one table that the code obeys and the disclosure log quotes; what is not in it is not exported.
Must not: grow a field because a carrier's file has a column for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from offline_processor.stages import OrderState


class Purpose(StrEnum):
    """What an export is for."""

    CARRIER = "carrier"
    FEEDBACK = "feedback"
    SLIPS = "slips"
    LABELS = "labels"


class Field(StrEnum):
    """What of an order may be disclosed. VALUE is its total, for customs; GOODS are SKUs and quantities."""

    ORDER = "order"
    REFERENCE = "reference"
    NAME = "name"
    EMAIL = "email"
    LINES = "lines"
    CITY = "city"
    REGION = "region"
    POSTCODE = "postcode"
    COUNTRY = "country"
    GOODS = "goods"
    VALUE = "value"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One purpose. ``states``: only orders in one of them; ``by_choice``: a person may opt out of this one alone."""

    purpose: Purpose
    fields: frozenset[Field]
    recipient: str
    format: str
    ground: str
    states: frozenset[OrderState]
    by_choice: bool = False

    def as_document(self) -> dict[str, Any]:
        """For ``--json`` and people's questions."""
        return {
            "purpose": self.purpose.value,
            "fields": sorted(self.fields),
            "recipient": self.recipient,
            "format": self.format,
            "legal_ground": self.ground,
            "states": sorted(self.states),
            "by_choice": self.by_choice,
        }


_ADDRESS: Final = frozenset(
    {Field.NAME, Field.LINES, Field.CITY, Field.REGION, Field.POSTCODE, Field.COUNTRY}
)
_TO_SEND: Final = frozenset({OrderState.PAID, OrderState.AUTHORISED})
_CONTRACT: Final = "performance of the contract of sale (GDPR, Article 6(1)(b))"

PURPOSES: Final[dict[Purpose, Declared]] = {
    declared.purpose: declared
    for declared in (
        Declared(
            purpose=Purpose.CARRIER,
            fields=_ADDRESS | {Field.ORDER, Field.VALUE},
            recipient="the carrier that brings the parcel, and the customs beyond it",
            format="the carrier's own CSV",
            ground=_CONTRACT,
            states=_TO_SEND,
        ),
        Declared(
            purpose=Purpose.FEEDBACK,
            fields=frozenset({Field.EMAIL, Field.NAME, Field.REFERENCE}),
            recipient="the review service that sends the invitations",
            format="CSV",
            ground="legitimate interest in reviews, with the right to object (GDPR, Article 6(1)(f) and 21)",
            states=frozenset({OrderState.DISPATCHED}),
            by_choice=True,
        ),
        Declared(
            purpose=Purpose.SLIPS,
            fields=_ADDRESS | {Field.ORDER, Field.GOODS},
            recipient="the shop's packers, and the customer in the parcel",
            format="PDF",
            ground=_CONTRACT,
            states=_TO_SEND,
        ),
        Declared(
            purpose=Purpose.LABELS,
            fields=_ADDRESS | {Field.ORDER},
            recipient="whoever carries the parcel",
            format="PDF",
            ground=_CONTRACT,
            states=_TO_SEND,
        ),
    )
}
