"""`offline-processor` verbs for the end of a day: close-day, and reconcile with the acquirer's report.

Why here: the command line's part of comparing our books with the acquirer's, on every day and after a restore.
Must not: read clock or environment (the station has them), or call a day clean of which something is not known.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

import click

from keys import console
from keys.console import ExitCode
from keys.passphrases import Descriptors
from offline_processor import daily, operations, reconciliation
from offline_processor.acquirers.report import in_seconds, in_words, read_report
from offline_processor.cli_wishes import at_work, open_till
from offline_processor.closing import close_batches
from offline_processor.comparing import Sum
from offline_processor.control_total import money
from offline_processor.epochs import begin_epoch
from offline_processor.errors import ProcessorError
from offline_processor.ledger import closes
from offline_processor.ledger.closes import ClosedBatch, CloseState, OpenMatters
from offline_processor.station import Station, open_station
from offline_processor.words import checked_word

_FILE: Final = click.Path(path_type=Path)
_SHOWN: Final = 20


@click.command(
    "reconcile",
    epilog="\b\nExamples:\n  offline-processor reconcile report.csv --who 'A. Keeper' --config offline.toml\n"
    "  offline-processor reconcile report.csv --from 2026-11-01T00:00:00Z --until 2026-11-22T21:00:00Z"
    " --who 'A. Keeper' --config offline.toml",
)
@console.shared_options
@click.argument("report_file", metavar="REPORT", type=_FILE)
@click.option(
    "--from",
    "start",
    metavar="TIME",
    help="From when the report reaches; else since the last reconciliation.",
)
@click.option(
    "--until", metavar="TIME", help="Until when, by your own knowledge; else until the newest close of day."
)
@click.option("--who", required=True, metavar="NAME", help="Who states this; kept in the ledger.")
@console.keystore_passphrase_option
@click.pass_obj
def reconcile(
    station: Station,
    *,
    config: Path,
    report_file: Path,
    start: str | None,
    until: str | None,
    who: str,
    passphrase_fds: Descriptors,
    as_json: bool,
) -> ExitCode:
    """Compare our ledger, the acquirer's report and the batch totals; list what does not agree (code 3 while any is).

    REPORT is CSV: order_reference,rrn,stan,time,amount,currency,outcome,kind,scheme. After a restore the same command
    brings what the acquirer charged since the backup into the ledger, so that work can go on.
    """
    settings = station.settings(config)
    checked_word(who, "--who")
    begins, ends = (None if text is None else _seconds(text) for text in (start, until))
    with open_station(settings, passphrase_fds, as_json=as_json) as (keystore, ledger, marks):
        now = station.clock()
        ledger.check_clock(now)
        begin_epoch(ledger, keystore, now=now)
        if not reconciliation.is_required(ledger):
            times = daily.period(ledger, begins, ends)
            found = daily.reconcile_day(
                ledger,
                read_report(report_file, repeated=True),
                start=times[0],
                until=times[1],
                who=who,
                now=now,
            )
            if as_json:
                console.print_json({"marks": marks, **found.as_document()})
            else:
                _show(found)
            return ExitCode.NEEDS_PERSON if found.exceptions else ExitCode.DONE
        if begins is None or ends is None:
            raise ProcessorError(
                "USAGE-TIME",
                "after a restore the time that the report covers has to be stated",
                "give --from and --until, as 2026-11-22T21:19:10Z",
            )
        done = reconciliation.reconcile(
            ledger,
            read_report(report_file),
            start=begins,
            until=ends,
            who=who,
            epoch=keystore.epoch,
            capture=settings.charging.capture,
            now=now,
        )
    if as_json:
        console.print_json({"marks": marks, **dataclasses.asdict(done)})
    else:
        for line in reconciliation.in_words(done):
            console.say(line)
    return ExitCode.NEEDS_PERSON if done.needs_person() else ExitCode.DONE


def _show(found: daily.Reconciled) -> None:
    console.say(f"{in_words(found.start)} to {in_words(found.until)}: {found.lines} lines in the report.")
    console.say(
        f"{found.agreed} transactions agree; of {found.still_open} the outcome is not known here yet."
    )
    rows = [(row.scheme, row.kind.value, *_cells(row.currency, row.ours, row.theirs)) for row in found.rows]
    console.table("By scheme", ("scheme", "kind", "here", "amount", "there", "amount"), rows)
    totals = [
        (row.kind.value, *_cells(row.currency, row.ours, row.theirs, row.closed)) for row in found.totals
    ]
    console.table(
        "By currency",
        ("kind", "here", "amount", "there", "amount", "closes of day", "amount"),
        totals,
    )
    for item in found.findings[:_SHOWN]:
        console.warn(f"{item.rule}: {item.what}, order {item.order_id or '-'}, RRN {item.rrn or '-'}")
    if len(found.findings) > _SHOWN:
        console.warn(f"… and {len(found.findings) - _SHOWN} more: --json")
    if found.exceptions:
        console.warn(f"Open exceptions: {found.exceptions}; offline-processor cases says what may be done.")
    else:
        console.say("No exception is open.")


def _cells(currency: str, *sums: Sum) -> list[str]:
    return [text for one in sums for text in (str(one.count), money(one.amount, currency))]


@click.command(
    "close-day", epilog="Example: offline-processor close-day --who 'A. Keeper' --config offline.toml"
)
@console.shared_options
@click.option("--who", required=True, metavar="NAME", help="Who closes; kept in the ledger.")
@click.option(
    "--open",
    "known_open",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="How many matters you know to be open.",
)
@console.keystore_passphrase_option
@click.pass_obj
def close_day(
    station: Station,
    *,
    config: Path,
    who: str,
    known_open: int,
    passphrase_fds: Descriptors,
    as_json: bool,
) -> ExitCode:
    """Close the acquirer's batch: compare what was taken and given back since the last close, by currency.

    Everything owed is sent first. While an outcome is not known nothing is closed, unless --open says how many such
    matters there are; they are named all the same, and the day is not called clean (code 3).
    """
    checked_word(who, "--who")
    with at_work(station, config, passphrase_fds, as_json=as_json) as work:
        with open_till(work) as (till, cards, window):
            operations.send_owed(till, cards, window=window, now=station.clock())
            matters = closes.open_matters(work.ledger)
            hidden = matters.total != known_open
            batches = (
                []
                if hidden
                else close_batches(work.ledger, till.acquirer, who=who, matters=matters, now=station.clock())
            )
        out = [item for item in batches if item.state not in (CloseState.IN_BALANCE, CloseState.NOT_COMPARED)]
        if as_json:
            console.print_json(_document(work.marks, batches, matters, hidden=hidden))
        else:
            _say(batches, matters, hidden=hidden)
    if hidden or matters.total or out:
        return ExitCode.NEEDS_PERSON
    return ExitCode.DONE if batches else ExitCode.NOTHING_TO_DO


def _document(
    marks: list[str], batches: list[ClosedBatch], matters: OpenMatters, *, hidden: bool
) -> dict[str, object]:
    return {
        "marks": marks,
        "closed": not hidden,
        "open_attempts": matters.attempts,
        "open_operations": matters.operations,
        "batches": [
            {
                "close": item.close,
                "currency": item.totals.currency,
                "captures": item.totals.captures,
                "captured": item.totals.captured,
                "refunds": item.totals.refunds,
                "refunded": item.totals.refunded,
                "answer": item.state.value,
            }
            for item in batches
        ],
    }


def _say(batches: list[ClosedBatch], matters: OpenMatters, *, hidden: bool) -> None:
    for item in batches:
        told = item.totals
        line = (
            f"Close {item.close}: {told.captures} captures of {money(told.captured, told.currency)},"
            f" {told.refunds} refunds of {money(told.refunded, told.currency)}: {item.state}"
        )
        if item.state is CloseState.PENDING:
            console.warn(f"{line}; not answered: close again, the same totals are asked", style="bold yellow")
        elif item.state is CloseState.OUT_OF_BALANCE:
            console.warn(f"{line}; reconcile with the acquirer's report", style="bold red")
        else:
            console.say(line)
    if matters.total:
        console.warn(
            f"NOT CLEAN: {matters.attempts} attempts of unknown outcome, {matters.operations} captures, refunds or"
            " releases without an answer; offline-processor cases names each",
            style="bold red",
        )
    if hidden:
        console.warn(
            "Nothing was closed. "
            + (
                f"To close the day all the same, say that you know of them: --open {matters.total}"
                if matters.total
                else "Nothing is open: leave --open out."
            )
        )
    elif not batches:
        console.say("Nothing was taken or given back since the last close.")


def _seconds(text: str) -> int:
    try:
        return in_seconds(text)
    except ValueError as error:
        raise ProcessorError(
            "USAGE-TIME", f"{text[:40]!r} is not a time", "write it as 2026-11-22T21:19:10Z"
        ) from error


COMMANDS: Final = (reconcile, close_day)
