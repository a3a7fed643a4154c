"""The base of every refusal in the system, and the key room's own.

Why here: the lowest room, so that all four share one shape: rule id, what happened, what to do next.
Must not: carry card data, key bytes or passphrases in any text.
"""

from __future__ import annotations


class RuleError(Exception):
    """A refusal by a named rule. ``rule`` is listed in offline_processor/RULES.md; ``remedy`` says what to do next."""

    def __init__(self, rule: str, message: str, remedy: str = "") -> None:
        super().__init__(rule, message, remedy)
        self.rule = rule
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"


class KeysError(RuleError):
    """A refusal by the key room."""
