"""One thing that pre-flight found, with its rule and its remedy.

Why here: the checks make findings, and the pre-flight, its screens and its document read them.
Must not: decide anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """REFUSED: no order is opened until it is mended. PERSON: it will not go away by itself."""

    REFUSED = "refused"
    PERSON = "person"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found, and how to mend it."""

    rule: str
    severity: Severity
    message: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One thing that was looked at: what was seen when all is well, or what is not."""

    what: str
    seen: str
    findings: tuple[Finding, ...] = ()
