"""What every acquirer driver offers to the charging.

Why here: the batch knows this protocol and no driver.
Must not: offer a way to send an authorisation a second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from offline_processor.charging import Answer, Reference
from transfer.wire.card import CardView


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorisation:
    """One sale to authorise and capture at once. ``card`` views locked memory and is wiped after the exchange."""

    reference: Reference
    card: CardView = field(repr=False)


class Acquirer(Protocol):
    """A link to an acquirer. ``None`` stands for no answer; the caller then reverses and never resends."""

    def authorise(self, window: Sequence[Authorisation]) -> Sequence[Answer | None]:
        """Send a window of authorisations and return an answer or None for each, in the same order."""
        ...

    def reverse(self, window: Sequence[Reference]) -> Sequence[Answer | None]:
        """Reverse authorisations whose outcome is not known; safe to repeat until answered."""
        ...

    def close(self) -> None:
        """Release what the driver holds."""
        ...
