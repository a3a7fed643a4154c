"""The report's sections: what a person looks at first, drawn and in exact figures; page and paper are set from them.

Why here: two forms of one report cannot differ.
Must not: know how either is laid out.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any, Final

from offline_processor.control_total import money
from offline_processor.day_report.charts import Bar, Series, bars, columns, grouped
from offline_processor.day_report.figures import HOURS, DayFigures, Moved, Outcome
from offline_processor.schemes import Scheme

_DAY: Final = 86_400
# Okabe and Ito's palette: told apart by every kind of eyes, and in grey.
_COLOURS: Final = {
    Outcome.APPROVED: "#0072b2",
    Outcome.DECLINED: "#e69f00",
    Outcome.HELD: "#cc79a7",
    Outcome.QUARANTINED: "#d55e00",
    Outcome.ORDER_AGAIN: "#999999",
}
_AGES: Final = (
    (1, "under 1 day"),
    (2, "1 to 2 days"),
    (3, "2 to 3 days"),
    (7, "3 to 7 days"),
    (10**6, "over 7 days"),
)
_NAMES: Final = {
    Scheme.VISA: "Visa",
    Scheme.MASTERCARD: "Mastercard",
    Scheme.AMEX: "American Express",
    Scheme.DISCOVER: "Discover",
    Scheme.DINERS: "Diners Club",
    Scheme.JCB: "JCB",
    Scheme.UNIONPAY: "UnionPay",
    Scheme.MAESTRO: "Maestro",
    Scheme.OTHER: "unknown or none",
}
_ALL: Final = "all"
_MOVED: Final = {"capture": "taken", "refund": "given back", "void": "released"}
_BACKENDS: Final = {"tpm": "assured by the TPM", "file": "erasure not assured by hardware"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One subject. ``chart``: SVG, or ""; the first ``words`` columns of the rows are words, the others figures."""

    heading: str
    text: str = ""
    chart: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    words: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A day in words: the title, what it is of, a mark or "", the figures to see first, and the sections."""

    title: str
    subtitle: str
    mark: str
    first: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]


def report_of(figures: DayFigures, *, mark: str = "") -> Report:
    """The whole report."""
    made = dt.datetime.fromtimestamp(figures.made_at, dt.UTC)
    approved, asked = figures.asked()
    needing = sum(case.needs_person for case in figures.cases)
    return Report(
        title=f"Day report {figures.day.isoformat()}",
        subtitle=f"00:00 to 24:00 UTC; cases as of {made:%Y-%m-%d %H:%M} UTC",
        mark=mark,
        first=(
            ("orders processed", grouped(figures.orders)),
            ("approved", grouped(figures.count(Outcome.APPROVED))),
            ("approval rate", rate(approved, asked)),
            ("open cases", grouped(len(figures.cases))),
            ("for a person", grouped(needing)),
            ("keys destroyed", grouped(sum(one.count for one in figures.destroyed))),
        ),
        sections=(
            _hours(figures),
            _schemes(figures),
            _totals(figures),
            _money(figures),
            _cases(figures),
            _keys(figures),
            _media(figures),
        ),
    )


def rate(part: int, whole: int) -> str:
    """A share in per cent: one decimal, and never "100 %" or "0 %" for what only nearly is."""
    if whole == 0:
        return "none asked"
    tenths = round(1000 * part / whole)
    if part < whole:
        tenths = min(tenths, 999)
    if part:
        tenths = max(tenths, 1)
    return f"{tenths // 10}.{tenths % 10} %"


def amount_in_words(amount: int, currency: str) -> str:
    """An amount with its thousands apart: "1 234.50"; "" for one without a currency."""
    if not currency:
        return ""
    whole, point, part = money(amount, currency).partition(" ")[2].partition(".")
    return f"{grouped(int(whole))}{point}{part}"


def _hours(figures: DayFigures) -> Section:
    if not figures.orders:
        return Section(heading="Orders by hour", text="No order was processed on this day.")
    shown = [outcome for outcome in Outcome if figures.count(outcome)]
    values = [[figures.count(outcome, hour=hour) for outcome in shown] for hour in range(HOURS)]
    labels = [f"{hour:02d}" if hour % 3 == 0 else "" for hour in range(HOURS)]
    series = [Series(name=outcome.value, colour=_COLOURS[outcome]) for outcome in shown]
    return Section(
        heading="Orders by hour",
        text="By the hour (UTC) in which each order had its last outcome of the day.",
        chart=columns("Orders by hour and outcome", series, values, labels),
    )


def _schemes(figures: DayFigures) -> Section:
    answered = sorted(
        ((figures.asked(scheme), scheme) for scheme in Scheme if figures.asked(scheme)[1]),
        key=lambda one: (-one[0][1], one[1]),
    )
    if not answered:
        return Section(
            heading="Approval rate", text="The acquirer was asked about no order, or has answered none."
        )
    rows = [
        Bar(
            label=_NAMES[scheme],
            values=(approved, asked - approved),
            note=f"{rate(approved, asked)} of {grouped(asked)}",
        )
        for (approved, asked), scheme in answered
    ]
    series = [
        Series(name=outcome.value, colour=_COLOURS[outcome])
        for outcome in (Outcome.APPROVED, Outcome.DECLINED)
    ]
    return Section(
        heading="Approval rate",
        text="Of the orders to which the payer's bank said yes or no, by card scheme.",
        chart=bars("Approved and declined by card scheme", series, rows),
    )


def _totals(figures: DayFigures) -> Section:
    heading = "Totals by scheme, currency and outcome"
    if not figures.parts:
        return Section(heading=heading, text="Nothing was to be charged.")
    shown = [outcome for outcome in Outcome if figures.count(outcome)]
    totals: dict[tuple[str, str, Outcome], list[int]] = defaultdict(lambda: [0, 0])
    for part in figures.parts:
        for scheme in (_ALL, _NAMES[part.scheme]):
            kept = totals[part.currency, scheme, part.outcome]
            kept[0] += part.orders
            kept[1] += part.amount
    lines = sorted(
        {(currency, scheme) for currency, scheme, _ in totals},
        key=lambda line: (line[0], line[1] != _ALL, line[1]),
    )
    rows = tuple(
        (
            currency or "unreadable",
            scheme,
            *(_cell(totals.get((currency, scheme, outcome)), currency) for outcome in shown),
        )
        for currency, scheme in lines
    )
    return Section(
        heading=heading,
        text="Amounts, and in brackets how many orders.",
        columns=("currency", "scheme", *(outcome.value for outcome in shown)),
        rows=rows,
        words=2,
    )


def _cell(total: list[int] | None, currency: str) -> str:
    if total is None:
        return "-"
    orders, amount = total
    return f"{amount_in_words(amount, currency)} ({grouped(orders)})".strip()


def _money(figures: DayFigures) -> Section:
    def amount(one: Moved) -> str:
        return "" if one.kind == "void" else amount_in_words(one.amount, one.currency)

    rows = tuple(
        (_MOVED.get(one.kind, one.kind), one.currency, grouped(one.count), amount(one))
        for one in figures.moved
    )
    return Section(
        heading="Money that moved",
        text="What the acquirer confirmed on this day, also of orders of earlier days."
        if rows
        else "No capture, refund or release was confirmed on this day.",
        columns=("what", "currency", "times", "amount") if rows else (),
        rows=rows,
        words=2,
    )


def _cases(figures: DayFigures) -> Section:
    if not figures.cases:
        return Section(heading="Open cases", text="None is open.")
    ages = Counter(_age(figures.made_at - case.since) for case in figures.cases)
    person = Counter(_age(figures.made_at - case.since) for case in figures.cases if case.needs_person)
    rows = [
        Bar(
            label=words,
            values=(person[words], ages[words] - person[words]),
            note=grouped(ages[words]),
        )
        for _, words in _AGES
    ]
    series = [
        Series(name="for a person", colour="#d55e00"),
        Series(name="the next run goes on", colour="#56b4e9"),
    ]
    kinds = Counter((case.kind.value, case.rule) for case in figures.cases)
    oldest: dict[tuple[str, str], int] = {}
    soonest: dict[tuple[str, str], int] = {}
    for case in figures.cases:
        key = (case.kind.value, case.rule)
        oldest[key] = max(oldest.get(key, 0), figures.made_at - case.since)
        if case.deadline:
            soonest[key] = min(soonest.get(key, case.deadline), case.deadline)
    return Section(
        heading="Open cases",
        text="How long they have been open; offline-processor cases lists them.",
        chart=bars("Open cases by age", series, rows),
        columns=("case", "rule", "open", "oldest", "decided in"),
        rows=tuple(
            (
                *key,
                grouped(count),
                _time(oldest[key]),
                _time(soonest[key] - figures.made_at) if key in soonest else "",
            )
            for key, count in sorted(kinds.items(), key=lambda one: (-one[1], one[0]))
        ),
        words=2,
    )


def _age(seconds: int) -> str:
    return next(words for days, words in _AGES if seconds < days * _DAY)


def _time(seconds: int) -> str:
    days, rest = divmod(max(seconds, 0), _DAY)
    return f"{days} d {rest // 3600} h" if days else f"{rest // 3600} h {rest % 3600 // 60} min"


def _keys(figures: DayFigures) -> Section:
    if not figures.destroyed:
        return Section(heading="Keys destroyed", text="No key was destroyed on this day.")
    rows = [
        Bar(
            label=f"{one.role} key, {one.reason}" if one.reason else f"{one.role} key",
            values=(one.count,),
            note=note,
        )
        for one in figures.destroyed
        for note in (f"{grouped(one.count)}, {_BACKENDS.get(one.backend, one.backend)}",)
    ]
    return Section(
        heading="Keys destroyed",
        text="What was sealed to them can be opened by nobody any more.",
        chart=bars("Keys destroyed by role and reason", [Series(name="keys", colour="#009e73")], rows),
    )


def _media(figures: DayFigures) -> Section:
    rows: list[tuple[str, ...]] = [
        ("bundles taken in", "", grouped(figures.bundles), grouped(figures.received)),
        ("bundles refused", "", grouped(figures.refused), ""),
        ("returns written", "", grouped(figures.returns), ""),
    ]
    rows += [
        (f"exported: {one.purpose}", one.recipient, grouped(one.files), grouped(one.orders))
        for one in figures.disclosed
    ]
    return Section(
        heading="In and out",
        columns=("what", "to", "times", "orders"),
        rows=tuple(rows),
        words=2,
    )


def as_document(figures: DayFigures) -> dict[str, Any]:
    """For ``--json``: amounts in minor units."""
    approved, asked = figures.asked()
    return {
        "day": figures.day.isoformat(),
        "made_at": figures.made_at,
        "orders": figures.orders,
        "approved": approved,
        "asked": asked,
        "totals": [
            {
                "scheme": part.scheme.value,
                "currency": part.currency,
                "outcome": part.outcome.value,
                "hour": part.hour,
                "orders": part.orders,
                "amount": part.amount,
            }
            for part in figures.parts
        ],
        "moved": [_plain(one, "kind", "currency", "count", "amount") for one in figures.moved],
        "keys_destroyed": [_plain(one, "role", "reason", "backend", "count") for one in figures.destroyed],
        "disclosed": [_plain(one, "purpose", "recipient", "files", "orders") for one in figures.disclosed],
        "open_cases": [
            {
                "id": case.id,
                "kind": case.kind.value,
                "rule": case.rule,
                "since": case.since,
                "deadline": case.deadline,
            }
            for case in figures.cases
        ],
        "bundles": figures.bundles,
        "refused": figures.refused,
        "returns": figures.returns,
    }


def _plain(thing: object, *names: str) -> dict[str, Any]:
    return {name: getattr(thing, name) for name in names}
