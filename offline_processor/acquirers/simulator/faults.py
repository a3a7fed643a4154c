"""What the simulated acquirer does wrong on demand: by the order's amount, its card, or a rule of whoever started it.

Why here: every way in which an outcome can be lost or be other than it looks has a name, for tests and rehearsals.
Must not: decide what is booked; the host does.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from offline_processor.acquirers.simulator.books import Kind
from offline_processor.errors import ProcessorError


class Fault(StrEnum):
    """What may go wrong with one message. Those from PARTIAL on are answered well, and mean something else."""

    NONE = ""
    LOST_BEFORE = "lost-before"
    """The message is lost before it is booked; no answer."""
    LOST_AFTER = "lost-after"
    """Booked; no answer."""
    LATE = "late"
    """Booked; the answer comes after its time."""
    CUT = "cut"
    """Booked; the connection ends in the middle of the answer's frame."""
    HANG_UP = "hang-up"
    """Booked; the connection ends before the answer."""
    DUPLICATE = "duplicate"
    """The answer comes twice."""
    OTHER_STAN = "other-stan"
    """An answer with another trace number comes first, then the right one."""
    ONLY_OTHER_STAN = "only-other-stan"
    """Booked; the only answer has another trace number."""
    GARBAGE = "garbage"
    """Booked; in place of the answer come bytes that are no message."""
    TRUNCATED = "truncated"
    """Booked; the answer's message is cut short inside a whole frame."""
    OVERSIZE = "oversize"
    """Booked; the answer's length says more than any message has."""
    IN_PROGRESS = "in-progress"
    """Answered 09 (request in progress), and 00 after it."""
    HOST_ECHO = "host-echo"
    """An echo test of the host's own comes before the answer."""
    WRONG_MAC = "wrong-mac"
    """Booked; the answer's MAC is not right. Only where the profile has one."""
    PARTIAL = "partial"
    """Approved for half of the amount (code 10)."""
    WRONG_CODE_APPROVED = "cvv-mismatch"
    """Approved, and the security code did not match."""
    OTHER_AMOUNT = "other-amount"
    """Approved; the answer echoes another amount."""
    OTHER_CURRENCY = "other-currency"
    """Approved; the answer echoes another currency."""
    OUT_OF_BALANCE = "out-of-balance"
    """Totals are said to differ."""


WIRE_FAULTS: Final = tuple(Fault)[1:14]
"""Those that concern the line only: whatever was decided is booked, or nothing is. ``WRONG_MAC`` with a MAC too."""

UNANSWERED: Final = frozenset(
    {
        Fault.LOST_BEFORE,
        Fault.LOST_AFTER,
        Fault.CUT,
        Fault.HANG_UP,
        Fault.ONLY_OTHER_STAN,
        Fault.GARBAGE,
        Fault.TRUNCATED,
        Fault.OVERSIZE,
        Fault.WRONG_MAC,
    }
)
"""After these no answer can be had that counts."""

BY_LAST_FOUR: Final = {
    "0002": "05",  # do not honour
    "9995": "51",  # insufficient funds
    "0069": "54",  # expired card, says the issuer
    "0127": "82",  # security code does not match
    "0119": "91",  # issuer not available
    "0259": "01",  # refer to issuer
    "0028": "03",  # invalid merchant: our fault
    "9979": "43",  # stolen card, pick up
}
FIRST_ANSWER_LOST: Final = "0341"
"""Last four of a card whose first authorisation is booked, but its answer is lost."""

NO_ANSWER_AMOUNT: Final = 9_968
"""Amounts ending so (minor units): every authorisation is booked and no answer is given; reversals are answered."""

SILENT_AMOUNT: Final = 9_969
"""Amounts ending so: nothing about them is ever answered."""

AMOUNT_ENDING: Final = 10_000
_CODES = "01 03 04 05 07 12 13 14 30 41 43 51 54 57 58 82 91 96"
AMOUNT_CODES: Final = {9_900 + int(code): code for code in _CODES.split()}
"""Amounts that end in 99 and a response code are declined with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """What an amount's ending does to messages of a kind; ``first``: to the first of them only."""

    kinds: frozenset[Kind]
    fault: Fault = Fault.NONE
    code: str = ""
    first: bool = False


_AUTHORISATIONS = frozenset({Kind.AUTHORISATION})
_EVERYTHING = frozenset(Kind)
AMOUNT_TRIGGERS: Final[dict[int, tuple[Trigger, ...]]] = {
    9_960: (Trigger(kinds=_AUTHORISATIONS, fault=Fault.LOST_BEFORE),),
    9_961: (Trigger(kinds=_AUTHORISATIONS, fault=Fault.LATE),),
    9_962: (Trigger(kinds=_AUTHORISATIONS, fault=Fault.CUT),),
    9_963: (Trigger(kinds=_AUTHORISATIONS, fault=Fault.DUPLICATE),),
    9_964: (Trigger(kinds=_AUTHORISATIONS, fault=Fault.OTHER_STAN),),
    9_965: (Trigger(kinds=_AUTHORISATIONS, fault=Fault.GARBAGE),),
    9_966: (Trigger(kinds=_AUTHORISATIONS, fault=Fault.TRUNCATED),),
    9_967: (Trigger(kinds=_AUTHORISATIONS, fault=Fault.OVERSIZE),),
    NO_ANSWER_AMOUNT: (Trigger(kinds=_AUTHORISATIONS, fault=Fault.LOST_AFTER),),
    SILENT_AMOUNT: (Trigger(kinds=_EVERYTHING, fault=Fault.LOST_AFTER),),
    9_970: (Trigger(kinds=_AUTHORISATIONS, fault=Fault.IN_PROGRESS),),
    9_971: (
        Trigger(kinds=_AUTHORISATIONS, fault=Fault.LOST_AFTER),
        Trigger(kinds=frozenset({Kind.REVERSAL}), fault=Fault.LOST_AFTER, first=True),
    ),
    9_972: (Trigger(kinds=_AUTHORISATIONS, fault=Fault.PARTIAL),),
    9_973: (Trigger(kinds=_AUTHORISATIONS, fault=Fault.WRONG_CODE_APPROVED),),
    9_974: (Trigger(kinds=_AUTHORISATIONS, fault=Fault.OTHER_AMOUNT),),
    9_975: (Trigger(kinds=_AUTHORISATIONS, fault=Fault.OTHER_CURRENCY),),
    9_976: (Trigger(kinds=frozenset({Kind.CAPTURE}), fault=Fault.LOST_AFTER, first=True),),
    9_977: (Trigger(kinds=frozenset({Kind.CAPTURE}), code="13"),),
    9_978: (Trigger(kinds=frozenset({Kind.REFUND}), fault=Fault.LOST_AFTER, first=True),),
    9_979: (Trigger(kinds=frozenset({Kind.REFUND}), code="13"),),
}
"""By the last four digits of the authorised amount (minor units); it holds for all that follows that authorisation."""

_RULE: Final = re.compile(
    r"(?:code-(?P<code>[0-9A-Z]{2})|(?P<fault>[a-z-]+))"
    r"(?:@(?P<kind>[a-z]+))?(?:/(?P<every>[1-9][0-9]{0,5}))?(?::(?P<times>[1-9][0-9]{0,5}))?"
)
_MIXED: Final = "mixed"


@dataclass(slots=True, kw_only=True)
class Rule:
    """One rule of whoever started the simulator; ``fault`` None: any wire fault, drawn anew each time."""

    fault: Fault | None
    code: str
    kind: Kind | None
    every: int
    times: int | None
    _seen: int = field(default=0, init=False)
    _done: int = field(default=0, init=False)

    def strikes(self, kind: Kind) -> bool:
        """True when it strikes this message."""
        if self.kind is not None and kind is not self.kind:
            return False
        self._seen += 1
        if self._seen % self.every or (self.times is not None and self._done >= self.times):
            return False
        self._done += 1
        return True


def parse_rule(text: str) -> Rule:
    """``FAULT[@KIND][/N][:M]``: at every Nth message of the kind, at most M times. ``SIMULATOR-FAULT``."""
    found = _RULE.fullmatch(text)
    name = found["fault"] if found else None
    kind = found["kind"] if found else None
    if (
        found is None
        or (name is not None and name != _MIXED and name not in set(Fault))
        or (kind is not None and kind not in set(Kind))
    ):
        raise ProcessorError(
            "SIMULATOR-FAULT",
            f"this is no fault that the simulator knows: {text[:60]!r}",
            f"write FAULT[@KIND][/N][:M]; faults: code-XX, {_MIXED}, {', '.join(fault for fault in Fault if fault)};"
            f" kinds: {', '.join(Kind)}",
        )
    return Rule(
        fault=None if name == _MIXED else Fault(name or ""),
        code=found["code"] or "",
        kind=None if kind is None else Kind(kind),
        every=int(found["every"] or 1),
        times=None if found["times"] is None else int(found["times"]),
    )


class Faults:
    """The rules in force: those given, and those of a control file, which is read again whenever it changes."""

    def __init__(
        self, rules: Iterable[str] = (), *, control: Path | None = None, seed: int = 0, has_mac: bool = False
    ) -> None:
        self._has_mac = has_mac
        self._given = [self._rule(text) for text in rules]
        self._control = control
        self._mark: tuple[int, int, int] | None = None
        self._added: list[Rule] = []
        self._chance = random.Random(seed)  # noqa: S311  a rehearsal that can be had again

    def strike(self, kind: Kind) -> tuple[Fault, str]:
        """(fault, code) for this message by the rules; the first rule that strikes counts."""
        self._read_control()
        for rule in (*self._given, *self._added):
            if rule.strikes(kind):
                fault = self._chance.choice(self._drawn()) if rule.fault is None else rule.fault
                return fault, rule.code
        return Fault.NONE, ""

    def _drawn(self) -> Sequence[Fault]:
        return (*WIRE_FAULTS, Fault.WRONG_MAC) if self._has_mac else WIRE_FAULTS

    def _rule(self, text: str) -> Rule:
        rule = parse_rule(text)
        if rule.fault is Fault.WRONG_MAC and not self._has_mac:
            raise ProcessorError(
                "SIMULATOR-FAULT",
                "a wrong MAC needs a profile that has one",
                "give --profile with mac = true, and --mac-key",
            )
        return rule

    def _read_control(self) -> None:
        if self._control is None:
            return
        try:
            found = self._control.stat()
        except FileNotFoundError:
            self._added, self._mark = [], None
            return
        mark = (found.st_ino, found.st_size, found.st_mtime_ns)
        if mark != self._mark:
            self._added, self._mark = [self._rule(line) for line in _lines(self._control)], mark


def _lines(path: Path) -> Sequence[str]:
    return [line.strip() for line in path.read_text("ascii").splitlines() if line.strip()]
