"""Packing slips, labels and the carrier's file for 10,000 orders, and the day report for 100,000: time and memory.

Each is made by a process of its own, from a ledger that another one has built. What typesetting takes is in children;
the memory is the larger of the two.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from offline_processor.cases import open_cases
from offline_processor.config import AcquirerConfig, ChargingConfig
from offline_processor.day_report.figures import read
from offline_processor.day_report.page import html_of
from offline_processor.day_report.sections import report_of
from offline_processor.day_report.sheet import pdf_of
from offline_processor.exports import making, paper
from offline_processor.exports.fonts import FontBook
from offline_processor.exports.paper import Paper
from offline_processor.exports.people import Wish
from offline_processor.exports.profiles import load_profile
from offline_processor.exports.releasing import into_directory, release
from offline_processor.ledger.ledger import Ledger
from tests.offline_processor.busy_day import busy_day
from tests.offline_processor.test_day_report import DAY, DAY_LONG, START

PARCELS, REPORTED = 10_000, 100_000
_NOW = START + DAY_LONG - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One kind of output: seconds in all, CPU seconds, peak memory in MiB, and what was written in bytes."""

    what: str
    orders: int
    seconds: float
    cpu_s: float
    peak_mib: float
    bytes: int


def run(*, quick: bool = False) -> list[Figure]:
    """Build the ledgers and make everything; a tenth of it when ``quick``."""
    figures = []
    parcels, reported = (count // 10 if quick else count for count in (PARCELS, REPORTED))
    for steps, orders in ((("slips", "labels", "carrier"), parcels), (("report",), reported)):
        with tempfile.TemporaryDirectory(prefix="bench-") as root:
            _child("build", root, orders)
            figures += [
                Figure(what=step, orders=orders, **json.loads(_child(step, root, orders))) for step in steps
            ]
    return figures


def _child(step: str, root: str, orders: int) -> str:
    command = [sys.executable, "-m", "tests.bench.paper", step, root, str(orders)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _build(ledger: Ledger, out: Path, orders: int) -> int:
    busy_day(ledger, orders, start=START, people=orders <= PARCELS, declined=0.06 if orders > PARCELS else 0)
    return 0


def _let_out(ready: making.Ready, ledger: Ledger, out: Path) -> int:
    for prepared in ready.files:
        release(ledger, prepared, into_directory(out), who="bench", now=_NOW)
    return sum(len(prepared.content) for prepared in ready.files)


def _slips(ledger: Ledger, out: Path, orders: int) -> int:
    return _let_out(paper.slips(ledger, Paper(), FontBook(), Wish(), now=_NOW), ledger, out)


def _labels(ledger: Ledger, out: Path, orders: int) -> int:
    return _let_out(paper.labels(ledger, Paper(), FontBook(), Wish(), now=_NOW), ledger, out)


def _carrier(ledger: Ledger, out: Path, orders: int) -> int:
    return _let_out(making.carrier_files(ledger, load_profile("royal-mail"), Wish(), now=_NOW), ledger, out)


def _report(ledger: Ledger, out: Path, orders: int) -> int:
    cases = open_cases(
        ledger, charging=ChargingConfig(), acquirer=AcquirerConfig(), hold_seconds=72 * 3600, now=_NOW
    )
    figures = read(ledger, DAY, cases, now=_NOW)
    if figures.orders != orders:
        sys.exit(f"the report has {figures.orders} of {orders} orders")
    report = report_of(figures)
    page, pdf = html_of(report).encode(), pdf_of(report, paper="a4", fonts=None, now=_NOW)
    (out / "day.html").write_bytes(page)
    (out / "day.pdf").write_bytes(pdf)
    return len(page) + len(pdf)


STEPS: dict[str, Callable[[Ledger, Path, int], int]] = {
    "build": _build,
    "slips": _slips,
    "labels": _labels,
    "carrier": _carrier,
    "report": _report,
}


def _main(step: str, root: Path, orders: int) -> None:
    ledger = Ledger(root / "ledger.db")
    start = time.perf_counter()
    written = STEPS[step](ledger, root, orders)
    seconds = time.perf_counter() - start
    ledger.close()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    found = {
        "seconds": seconds,
        "cpu_s": sum(one.ru_utime + one.ru_stime for one in used),
        "peak_mib": max(one.ru_maxrss for one in used) / 1024,
        "bytes": written,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
