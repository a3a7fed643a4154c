"""`offline-processor report`: what happened on a day, as a page and on paper; it opens no key and names nobody.

Why here: the command line's part of the day report.
Must not: read clock or environment (the station has them).
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Final

import click

from keys import console
from keys.console import ExitCode
from keys.durable import write_durable
from offline_processor.cases import open_cases
from offline_processor.cli_letting_out import mark_of
from offline_processor.day_report.figures import DayFigures, read
from offline_processor.day_report.page import html_of
from offline_processor.day_report.sections import Report, as_document, report_of
from offline_processor.day_report.sheet import pdf_of
from offline_processor.errors import ProcessorError
from offline_processor.station import Settings, Station, ledger_to_read


@click.command(
    "report",
    epilog="\b\nExamples:\n"
    "  offline-processor report --out /srv/reports --config offline.toml\n"
    "  offline-processor report --day 2026-11-27 --json --config offline.toml",
)
@console.shared_options
@click.option("--day", "named", metavar="DATE", help="Of which day (UTC), like 2026-11-27; else of today.")
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the page and the PDF there; those of the same day are replaced.",
)
@click.pass_obj
def report(station: Station, *, config: Path, named: str | None, out: Path | None, as_json: bool) -> ExitCode:
    """Report a day: totals by scheme, currency and outcome, approval rate, orders by hour, open cases, keys destroyed.

    Writes one HTML page that needs nothing else, and a PDF. Needs no passphrase; nothing of a person is in it.
    """
    settings, now = station.settings(config), station.clock()
    day = _day(named, now)
    if out is not None and not out.is_dir():
        raise ProcessorError("USAGE-OUT-PLACE", f"{out} is no directory", "make it; nothing was written")
    figures = figures_of(settings, day, now=now)
    shown = report_of(figures, mark=mark_of(settings))
    written = [] if out is None else write_report(shown, figures, out, settings)
    if as_json:
        console.print_json({**as_document(figures), "files": written, "mark": shown.mark})
        return ExitCode.DONE
    console.say(f"{shown.title} ({shown.subtitle})")
    if shown.mark:
        console.warn(shown.mark, style="bold yellow")
    for name, value in shown.first:
        console.say(f"  {name}: {value}")
    for path in written:
        console.say(f"Written: {path}")
    return ExitCode.DONE


def figures_of(settings: Settings, day: dt.date, *, now: int) -> DayFigures:
    """The figures of a day, with the cases that are open now."""
    ledger, _ = ledger_to_read(settings)
    try:
        cases = open_cases(
            ledger,
            charging=settings.charging,
            acquirer=settings.acquirer,
            hold_seconds=settings.processor.hold_hours * 3600,
            now=now,
        )
        return read(ledger, day, cases, now=now)
    finally:
        ledger.close()


def write_report(report: Report, figures: DayFigures, out: Path, settings: Settings) -> list[Path]:
    """Write the page and the PDF into ``out``, each whole or as it was before."""
    written = []
    pdf = pdf_of(report, paper=settings.exports.paper, fonts=settings.exports.fonts, now=figures.made_at)
    for ending, content in (("html", html_of(report).encode()), ("pdf", pdf)):
        path = out / f"day-{figures.day.isoformat()}.{ending}"
        try:
            write_durable(path, content)
        except OSError as error:
            raise ProcessorError(
                "EXPORT-WRITE",
                f"{path} could not be written: {error.strerror}",
                "free some space, then repeat",
            ) from error
        written.append(path)
    return written


def _day(named: str | None, now: int) -> dt.date:
    if named is None:
        return dt.datetime.fromtimestamp(now, dt.UTC).date()
    try:
        return dt.date.fromisoformat(named)
    except ValueError as error:
        raise ProcessorError(
            "USAGE-TIME", f"{named} is not a day", "for example: --day 2026-11-27"
        ) from error


COMMANDS: Final = (report,)
