"""What a push did, for whoever shows it.

Why here: the commands, watch and the tests read it; they need nothing of how it is done.
Must not: do anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from keys.errors import RuleError


@dataclass(frozen=True, slots=True, kw_only=True)
class CutBundle:
    """A bundle that was made: ``repeats`` counts second copies of an order that were left out."""

    sequence: int
    orders: int
    size: int
    batch_key: str | None
    repeats: int


@dataclass(slots=True, kw_only=True)
class PushReport:
    """What one push did. ``missing``: orders that were acknowledged, but lay in no group any more.

    ``damaged``: groups that were put aside. ``refused``: what of the medium could not be used; ``unwritten``: bundles
    that it should hold and may not.
    ``safe_to_remove``: its label, once all of it is durable there.
    """

    cut: list[CutBundle] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    already_there: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    damaged: list[RuleError] = field(default_factory=list)
    refused: list[RuleError] = field(default_factory=list)
    unwritten: list[str] = field(default_factory=list)
    safe_to_remove: str = ""

    @property
    def did_something(self) -> bool:
        return bool(self.cut or self.repaired or self.written or self.removed or self.missing or self.damaged)

    @property
    def needs_person(self) -> bool:
        return bool(self.missing or self.damaged)
