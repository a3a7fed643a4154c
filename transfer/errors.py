"""The transfer room's refusals.

Why here: one exception base a room, so that the command lines catch rooms, not classes.
Must not: carry anything of an order but ids and rule texts.
"""

from __future__ import annotations

from keys.errors import RuleError


class TransferError(RuleError):
    """A refusal by the transfer room: a wire format, the spool, or the sync."""
