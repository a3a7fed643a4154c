"""The day report: its figures are the ledger's, both its forms show them, and it needs nothing and names nobody."""

from __future__ import annotations

import datetime as dt
import json
import re
import stat
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline_processor.cases import open_cases
from offline_processor.config import AcquirerConfig, ChargingConfig
from offline_processor.day_report.charts import Bar, Series, bars, columns, tick_step
from offline_processor.day_report.figures import DayFigures, Disclosed, Outcome, read
from offline_processor.day_report.page import html_of
from offline_processor.day_report.sections import Report, amount_in_words, rate, report_of
from offline_processor.day_report.sheet import pdf_of
from offline_processor.ledger.ledger import Ledger
from offline_processor.schemes import Scheme, scheme_of
from tests.offline_processor.busy_day import CARDS, Made, busy_day
from tests.offline_processor.commands import configure, processor
from tests.offline_processor.shop import (
    DECLINED_CARD,
    LOST_ANSWER_CARD,
    NOW,
    Shop,
    a_card,
    an_order,
    next_bundle,
    open_shop,
)
from tests.offline_processor.test_dispatch import DISPATCH, run_with

DAY = dt.date(2026, 11, 27)
START = int(dt.datetime(2026, 11, 27, tzinfo=dt.UTC).timestamp())
DAY_LONG = 86_400
OUTCOMES = {"approved": Outcome.APPROVED, "declined": Outcome.DECLINED, "unknown": Outcome.HELD}
Tool = Callable[[str], Path]


@contextmanager
def a_ledger(place: Path) -> Iterator[Ledger]:
    ledger = Ledger(place / "ledger.db")
    try:
        yield ledger
    finally:
        ledger.close()


def figures_of(ledger: Ledger, day: dt.date = DAY, *, now: int = START + DAY_LONG - 1) -> DayFigures:
    cases = open_cases(
        ledger, charging=ChargingConfig(), acquirer=AcquirerConfig(), hold_seconds=72 * 3600, now=now
    )
    return read(ledger, day, cases, now=now)


def folded(made: list[Made]) -> Counter[tuple[Scheme, str, Outcome, int]]:
    """What the figures must be, by the plainest way."""
    return Counter(
        (scheme_of(one.card), one.currency, OUTCOMES[one.state], (one.at - START) // 3600) for one in made
    )


# Figures


@settings(max_examples=15)
@given(orders=st.integers(0, 120), seed=st.integers(0, 2**32), declined=st.floats(0, 1))
def test_figures_are_those_of_the_orders(
    tmp_path_factory: pytest.TempPathFactory, orders: int, seed: int, declined: float
) -> None:
    with a_ledger(tmp_path_factory.mktemp("ledger")) as ledger:
        made = busy_day(ledger, orders, start=START, seed=seed, declined=declined)
        figures = figures_of(ledger)
    assert {
        (part.scheme, part.currency, part.outcome, part.hour): part.orders for part in figures.parts
    } == folded(made)
    amounts: Counter[str] = Counter()
    for part in figures.parts:
        amounts[part.currency] += part.amount
    assert amounts == sum((Counter({one.currency: one.amount}) for one in made), Counter())
    assert figures.asked() == (
        sum(one.state == "approved" for one in made),
        sum(one.state != "unknown" for one in made),
    )


def test_a_day_has_its_own_orders_and_no_others(tmp_path: Path) -> None:
    with a_ledger(tmp_path) as ledger:
        for days in (-1, 0, 1):
            busy_day(ledger, 10 + days, start=START + days * DAY_LONG, seed=days + 5)
        counts = [figures_of(ledger, DAY + dt.timedelta(days)).orders for days in (-2, -1, 0, 1, 2)]
    assert counts == [0, 9, 10, 11, 0]


def test_what_follows_a_charge_is_no_outcome_of_its_own(tmp_path: Path) -> None:
    with a_ledger(tmp_path) as ledger:
        (one,) = busy_day(ledger, 1, start=START, declined=0)
        with ledger.atomic():
            ledger.append("settled", one.order_id, START + DAY_LONG - 9, {"state": "dispatched"})
            ledger.append("attempt", one.order_id, START + DAY_LONG, {"attempt": 1, "state": "voided"})
        assert figures_of(ledger).count(Outcome.APPROVED) == 1
        assert figures_of(ledger, DAY + dt.timedelta(1)).orders == 0


def test_order_counts_once_with_its_last_outcome_of_the_day(tmp_path: Path) -> None:
    with a_ledger(tmp_path) as ledger:
        (one,) = busy_day(ledger, 1, start=START, declined=1)
        with ledger.atomic():
            for state in ("unknown", "reversed", "approved"):
                ledger.append("attempt", one.order_id, START + DAY_LONG - 5, {"attempt": 2, "state": state})
        figures = figures_of(ledger)
    assert [(part.outcome, part.hour, part.orders) for part in figures.parts] == [(Outcome.APPROVED, 23, 1)]


def test_run_of_the_processor_is_reported(shop: Shop) -> None:
    keys = shop.keys_for()
    cards = [a_card(), a_card(DECLINED_CARD), a_card(LOST_ANSWER_CARD), a_card(month=1, year=2020)]
    orders = [an_order(n, amount=900, currency="JPY") for n in range(4)]
    envelopes = [shop.seal(n, keys=keys, card=cards[n], order=orders[n]) for n in range(4)]
    shop.bundle(envelopes, batch_key_id=keys.batch_key_id)
    shop.run()
    day = dt.datetime.fromtimestamp(NOW, dt.UTC).date()
    with shop.ledger() as ledger:
        figures = figures_of(ledger, day, now=NOW + 7200)
        kept = [json.loads(row[0]) for row in ledger.rows("SELECT facts FROM entry WHERE kind = 'attempt'")]
    counted = Counter({outcome: figures.count(outcome) for outcome in Outcome if figures.count(outcome)})
    assert counted == {Outcome.APPROVED: 1, Outcome.DECLINED: 2, Outcome.HELD: 1}
    assert figures.asked() == (1, 2)  # nobody was asked about the card that had expired
    assert [(one.kind, one.currency, one.amount) for one in figures.moved] == [("capture", "JPY", 900)]
    assert {(one.role, one.count) for one in figures.destroyed} == {("batch", 1)}
    assert (figures.bundles, figures.received, figures.returns, len(figures.cases)) == (1, 4, 1, 1)
    assert all({"attempt", "code", "stan", "state"} <= set(facts) for facts in kept)  # as busy_day makes them


def test_case_that_is_decided_by_itself_says_in_what_time(shop: Shop) -> None:
    next_bundle(shop, 0)
    run_with(shop, DISPATCH)
    shop.now += 9 * DAY_LONG - 90_000  # Visa's time is over then
    with shop.ledger() as ledger:
        day = dt.datetime.fromtimestamp(shop.now, dt.UTC).date()
        report = report_of(figures_of(ledger, day, now=shop.now))
    (cases,) = [section for section in report.sections if section.heading == "Open cases"]
    assert cases.columns[-1] == "decided in"
    assert [(*row[:3], row[-1]) for row in cases.rows] == [
        ("authorisation ends", "CHARGE-AUTH-ENDING", "1", "1 d 1 h")
    ]


# Words and plots


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_rate_is_whole_only_when_it_is(part: int, more: int) -> None:
    said = rate(part, part + more)
    assert (said == "100.0 %") == (part > 0 and more == 0)
    assert (said == "0.0 %") == (part == 0 and more > 0)
    assert (said == "none asked") == (part + more == 0)


@pytest.mark.parametrize(
    ("amount", "currency", "written"),
    [(1_234_567, "JPY", "1 234 567"), (1_234_567, "BHD", "1 234.567"), (99, "EUR", "0.99"), (0, "", "")],
)
def test_amounts_have_their_currencys_decimals(amount: int, currency: str, written: str) -> None:
    assert amount_in_words(amount, currency).replace("\N{NARROW NO-BREAK SPACE}", " ") == written


@given(st.integers(0, 10**12))
def test_lines_of_a_plot_are_round_and_few(most: int) -> None:
    step = tick_step(most)
    assert str(step).rstrip("0") in ("1", "2", "5")
    assert most / step <= 4
    assert most == 0 or most / step > 1 or step == 1


numbers = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=24)


@given(numbers, st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20))
def test_plot_shows_every_value_in_its_size_whatever_the_words(
    values: list[tuple[int, int]], word: str
) -> None:
    series = [Series(name=word, colour="#000001"), Series(name="b", colour="#000002")]
    drawn = ET.fromstring(columns(word, series, values, [word] * len(values)))  # noqa: S314  our own
    name = "{http://www.w3.org/2000/svg}"
    boxes = [box for box in drawn.iter(f"{name}rect") if box.find(f"{name}title") is not None]
    assert len(boxes) == sum(value > 0 for column in values for value in column)
    step = tick_step(max(map(sum, values)))
    top = max(step * -(-max(map(sum, values)) // step), step)
    sizes = [134 * value / top for column in values for value in column if value]
    assert [float(box.attrib["height"]) for box in boxes] == pytest.approx(sizes, abs=0.06)
    rows = [Bar(label=word, values=pair, note=word) for pair in values]
    assert ET.fromstring(bars(word, series, rows)).attrib["aria-label"] == word  # noqa: S314


# The page and the paper


class Watch(HTMLParser):
    """What a page would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.loads += [
            f"{tag} {name}"
            for name, _ in attrs
            if name in {"src", "href", "srcset", "data", "action", "background"} or name.startswith("on")
        ]


def a_report(place: Path, orders: int) -> Report:
    with a_ledger(place) as ledger:
        busy_day(ledger, orders, start=START)
        figures = figures_of(ledger)
    hostile = Disclosed(purpose="carrier", recipient="<script>alert(1)</script>&", files=1, orders=2)
    return report_of(replace(figures, disclosed=(hostile,)), mark="REHEARSAL")


@pytest.mark.parametrize("orders", [0, 300])
def test_page_loads_nothing_runs_nothing_and_says_so(tmp_path: Path, orders: int) -> None:
    page = html_of(a_report(tmp_path, orders))
    watch = Watch()
    watch.feed(page)
    assert watch.loads == []
    assert not watch.tags.keys() & {"script", "link", "img", "iframe", "object", "form", "base"}
    assert "default-src 'none'" in page
    assert not re.search(r"@import|url\(|//(?!www\.w3\.org/2000/svg)", page)
    assert (watch.tags["svg"] > 0) == (orders > 0)


@pytest.mark.needs_tool("pdftotext", "fonts-noto")
def test_page_and_paper_show_the_same_figures(tmp_path: Path, tool: Tool) -> None:
    report = a_report(tmp_path, 300)
    page = html_of(report)
    pdf = pdf_of(report, paper="a4", fonts=None, now=START)
    text = subprocess.run(
        [tool("pdftotext"), "-layout", "-", "-"], input=pdf, capture_output=True, check=True
    )
    on_paper = "".join(text.stdout.decode().split())
    for section in report.sections:
        for cell in (
            section.heading,
            section.text,
            *section.columns,
            *(cell for row in section.rows for cell in row),
        ):
            assert cell.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in page.replace(
                "&#x27;", "'"
            )
            assert "".join(cell.split()) in on_paper, cell
    for name in (scheme.value.title() for scheme in map(scheme_of, CARDS[:2])):
        assert name in on_paper  # out of the drawing


@pytest.mark.needs_tool("pdftotext")
def test_machine_without_fonts_makes_the_report_too(tmp_path: Path, tool: Tool) -> None:
    (tmp_path / "no-fonts").mkdir()
    pdf = pdf_of(a_report(tmp_path, 20), paper="letter", fonts=tmp_path / "no-fonts", now=START)
    text = subprocess.run([tool("pdftotext"), "-", "-"], input=pdf, capture_output=True, check=True)
    assert b"Day report 2026-11-27" in text.stdout


# The command


def test_command_writes_page_and_paper_and_names_nobody(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, now=int(time.time()))
    keys = shop.keys_for()
    shop.bundle([shop.seal(n, keys=keys) for n in range(3)], batch_key_id=keys.batch_key_id)
    shop.run()
    config, place = configure(shop), tmp_path / "reports"
    place.mkdir()
    day = dt.datetime.fromtimestamp(shop.now, dt.UTC).date().isoformat()
    ran = processor("report", config, "--day", day, "--out", str(place), "--json")
    assert (ran.code, ran.document["orders"], ran.document["approved"]) == (0, 3, 3)
    written = sorted(place.iterdir())
    assert [path.name for path in written] == [f"day-{day}.html", f"day-{day}.pdf"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}
    page = written[0].read_text()
    assert "REHEARSAL" in page
    assert not any(text in page for text in ("Ölund", "example.org", "Storgatan", "4242"))
    empty = processor("report", config, "--day", "2001-01-01", "--out", str(place))
    assert (empty.code, "orders processed: 0" in empty.out) == (0, True)
    assert processor("report", config, "--day", "yesterday", "--json").document["rule"] == "USAGE-TIME"
