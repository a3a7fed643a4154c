"""The intake room's refusals.

Why here: one exception base a room, so that the command line catches rooms, not classes.
Must not: carry anything that a client sent; a text of ours and a rule id are all it has.
"""

from __future__ import annotations

from keys.errors import RuleError


class IntakeError(RuleError):
    """A refusal by the intake room: its configuration, its catalogue, or the answers of a server it asked."""
