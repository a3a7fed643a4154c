"""The offline room's refusals.

Why here: one exception base a room; a declined card or a quarantined order is a value, never one of these.
Must not: carry card data or anything that a customer wrote.
"""

from __future__ import annotations

from keys.errors import RuleError


class ProcessorError(RuleError):
    """A refusal by the offline processor that stops a bundle or the run."""
