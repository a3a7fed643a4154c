"""Our books against the acquirer's: every transaction by its key, and the sums by scheme, currency and kind. Pure.

Why here: what agrees and what does not is one table of rules, tried on any two books.
Must not: do I/O, or let anything that stands on one side only pass for agreement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from offline_processor.acquirers.report import ReportKind, ReportLine, ReportOutcome

MISSING: Final = "RECONCILE-MISSING"
UNKNOWN: Final = "RECONCILE-UNKNOWN"
DIFFERS: Final = "RECONCILE-DIFFERS"
TWICE: Final = "RECONCILE-TWICE"
OUTCOME: Final = "RECONCILE-OUTCOME"
TOTALS: Final = "RECONCILE-TOTALS"
Key = tuple[ReportKind, str, int]


class Ours(StrEnum):
    """What became of a transaction by our ledger. OPEN: it is not known yet, and nothing is said against it."""

    APPROVED = "approved"
    DECLINED = "declined"
    REVERSED = "reversed"
    OPEN = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One transaction of ours, named as a report's line is. ``at`` Unix seconds; ``amount`` minor units."""

    order_id: str
    kind: ReportKind
    rrn: str
    stan: int
    at: int
    amount: int
    currency: str
    scheme: str
    state: Ours

    @property
    def key(self) -> Key:
        return self.kind, self.rrn, 0 if self.kind is ReportKind.AUTHORISATION else self.stan


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that does not agree. ``key`` names it in every report.

    ``ours`` and ``theirs`` are minor units, -1 for none.
    """

    key: str
    rule: str
    what: str
    order_id: str
    rrn: str
    stan: int
    ours: int
    theirs: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """How many and how much, minor units."""

    count: int = 0
    amount: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The sums of one scheme, currency and kind, in both books."""

    scheme: str
    currency: str
    kind: ReportKind
    ours: Sum
    theirs: Sum


@dataclass(slots=True, kw_only=True)
class Comparison:
    """What does not agree, what agrees, and the sums. ``agreed``: the keys of transactions without a fault."""

    findings: list[Finding] = field(default_factory=list)
    agreed: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    still_open: int = 0


def compare(ours: Sequence[Entry], theirs: Sequence[ReportLine], *, start: int, until: int) -> Comparison:
    """Compare what is ours with their report of ``start`` to ``until`` (Unix seconds).

    ``ours`` also has what the report names of other times. Only what is ours in that time must be in the report.
    """
    done = Comparison()
    booked: dict[Key, list[ReportLine]] = {}
    for line in theirs:
        booked.setdefault(line.key, []).append(line)
    known = {entry.key: entry for entry in ours}
    for key, entry in known.items():
        lines = booked.get(key, [])
        rule = _fault(entry, lines, within=start <= entry.at <= until)
        if entry.state is Ours.OPEN:
            done.still_open += 1
        if rule:
            done.findings.append(_finding(rule, entry, _foremost(lines)))
        else:
            done.agreed.append(_name(key))
    for key, lines in booked.items():
        if key not in known:
            done.findings.append(_finding(UNKNOWN, None, _foremost(lines)))
        if sum(line.outcome is ReportOutcome.APPROVED for line in lines) > 1:
            done.findings.append(_finding(TWICE, known.get(key), _foremost(lines)))
    done.findings += _charged_twice(booked.values())
    done.rows = _rows(
        [entry for entry in ours if start <= entry.at <= until],
        [line for line in theirs if start <= line.at <= until],
    )
    return done


def _fault(entry: Entry, lines: Sequence[ReportLine], *, within: bool) -> str:
    """The rule that a transaction of ours breaks; "" for none."""
    line = _foremost(lines)
    if line is None:
        return MISSING if within and entry.state is Ours.APPROVED else ""
    if (line.amount, line.currency) != (entry.amount, entry.currency):
        return DIFFERS
    if entry.state is Ours.OPEN:
        return ""
    # Declined there and reversed here is a decline whose answer was lost: nobody is charged in either book.
    same = (line.outcome is ReportOutcome.APPROVED) == (entry.state is Ours.APPROVED)
    return "" if same else OUTCOME


def _foremost(lines: Sequence[ReportLine]) -> ReportLine | None:
    """The line that counts: one that stands, else the last."""
    standing = [line for line in lines if line.outcome is ReportOutcome.APPROVED]
    return standing[0] if standing else lines[-1] if lines else None


def _charged_twice(booked: Iterable[Sequence[ReportLine]]) -> list[Finding]:
    """Orders of which more than one authorisation stands."""
    standing: dict[str, list[ReportLine]] = {}
    for lines in booked:
        line = _foremost(lines)
        charged = line is not None and line.outcome is ReportOutcome.APPROVED
        if line is not None and charged and line.kind is ReportKind.AUTHORISATION:
            standing.setdefault(line.order_id, []).append(line)
    return [
        _finding(TWICE, None, line, extra="second ")
        for lines in standing.values()
        for line in sorted(lines, key=lambda line: (line.at, line.rrn))[1:]
    ]


def _finding(rule: str, entry: Entry | None, line: ReportLine | None, *, extra: str = "") -> Finding:
    named = entry or line
    assert named is not None  # noqa: S101  a finding is about something
    what = f"{extra}{named.kind.value}"
    if entry is not None and line is not None and rule == OUTCOME:
        what = f"{what} that is {entry.state.value} here, {line.outcome.value} there"
    return Finding(
        key=f"{rule} {extra}{_name(named.key)}",
        rule=rule,
        what=what,
        order_id=named.order_id,
        rrn=named.rrn,
        stan=named.stan,
        ours=-1 if entry is None else entry.amount,
        theirs=-1 if line is None else line.amount,
        currency=named.currency,
    )


def _name(key: Key) -> str:
    kind, rrn, stan = key
    return f"{kind.value} {rrn} {stan}"


def keys_explained(done: Comparison) -> frozenset[str]:
    """The keys of findings that this report has explained: what was missing is there now, and agrees."""
    rules = (MISSING, UNKNOWN, DIFFERS, OUTCOME)
    return frozenset(f"{rule} {name}" for name in done.agreed for rule in rules)


def _rows(ours: Iterable[Entry], theirs: Iterable[ReportLine]) -> list[Row]:
    mine, others = _sums(ours), _sums(theirs)
    return [
        Row(
            scheme=scheme,
            currency=currency,
            kind=kind,
            ours=mine.get((scheme, currency, kind), Sum()),
            theirs=others.get((scheme, currency, kind), Sum()),
        )
        for scheme, currency, kind in sorted({*mine, *others})
    ]


def _sums(found: Iterable[Entry | ReportLine]) -> Mapping[tuple[str, str, ReportKind], Sum]:
    counts: Counter[tuple[str, str, ReportKind]] = Counter()
    amounts: Counter[tuple[str, str, ReportKind]] = Counter()
    for item in found:
        state = item.state if isinstance(item, Entry) else item.outcome
        if state.value == Ours.APPROVED.value:
            group = (item.scheme, item.currency, item.kind)
            counts[group] += 1
            amounts[group] += item.amount
    return {group: Sum(count=counts[group], amount=amounts[group]) for group in counts}


def by_currency(rows: Iterable[Row]) -> dict[tuple[str, ReportKind], tuple[Sum, Sum]]:
    """Captures and refunds of all schemes together, as totals name them: ours and theirs."""
    found: dict[tuple[str, ReportKind], tuple[Sum, Sum]] = {}
    for row in rows:
        if row.kind is not ReportKind.AUTHORISATION:
            ours, theirs = found.get((row.currency, row.kind), (Sum(), Sum()))
            found[row.currency, row.kind] = (_plus(ours, row.ours), _plus(theirs, row.theirs))
    return found


def _plus(one: Sum, other: Sum) -> Sum:
    return Sum(count=one.count + other.count, amount=one.amount + other.amount)
