"""`offline-processor`: the operator's commands.

Why here: the only module of this room that reads the environment, the clock and the terminal.
Must not: take a secret as an argument, or go on when the machine is not isolated.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import click

from keys import console
from keys.console import ExitCode
from keys.keystore import Keystore
from keys.passphrases import Descriptors
from offline_processor import (
    cli_backup,
    cli_batch_file,
    cli_cases,
    cli_custody,
    cli_decisions,
    cli_dispatch,
    cli_export,
    cli_ledger,
    cli_simulator,
    evidence,
    key_state,
    status_report,
    summary,
)
from offline_processor.acquirers.drivers import Desk, open_acquirer
from offline_processor.batch import run as run_batch
from offline_processor.cli_trail import TrailGroup
from offline_processor.control_total import ControlTotal, same
from offline_processor.errors import ProcessorError
from offline_processor.ledger.ledger import Ledger
from offline_processor.progress import Bars
from offline_processor.station import Settings, Station, ledger_to_read, open_station
from offline_processor.status_report import notices_of
from offline_processor.trail import Trail
from offline_processor.workplace import RunReport, Workplace


def _clock() -> int:
    return int(time.time())


@click.group(
    name="offline-processor",
    cls=TrailGroup,
    epilog="Example: offline-processor run --config offline.toml",
)
@click.pass_context
def cli(context: click.Context) -> None:
    """Charge the orders that came over the gap, on the machine that is connected to nothing."""
    nobody = Trail(
        command="", account="", clock=_clock, silent=True
    )  # each command brings its own (cli_trail.py)
    context.obj = Station(environ=os.environ, clock=_clock, trail=nobody)


@cli.command(
    epilog="Example: offline-processor run --config offline.toml --confirm '40 orders: EUR 812.50, JPY 9800'"
)
@console.shared_options
@click.option(
    "--confirm", metavar="TOTAL", help="The control total, for runs without a person at the terminal."
)
@click.option("--clock-is-right", is_flag=True, help="Accept a clock far ahead of the newest ledger entry.")
@console.keystore_passphrase_option
@click.pass_obj
def run(
    station: Station,
    *,
    config: Path,
    confirm: str | None,
    clock_is_right: bool,
    passphrase_fds: Descriptors,
    as_json: bool,
) -> ExitCode:
    """Receive, verify, open, screen and charge what lies in the drop, and write the returns.

    Shows the control total (count and amount by currency) before charging and charges nothing unless it is
    confirmed: typed at the terminal, or given with --confirm. Safe to repeat after a crash or a pulled plug.
    """
    settings = station.settings(config)
    with open_station(settings, passphrase_fds, as_json=as_json) as (keystore, ledger, marks):
        if clock_is_right:
            ledger.confirm_clock(station.clock())
        report = _run(station, settings, keystore, ledger, confirm)
        notices = _look(station, settings, keystore, ledger)
        if as_json:
            console.print_json(summary.as_document(report, marks, notices))
        else:
            summary.show(report, ledger)
            summary.show_notices(notices)
        return _exit_code(report, ledger, notices)


def _look(station: Station, settings: Settings, keystore: Keystore, ledger: Ledger) -> list[key_state.Notice]:
    """Note the state of the keys for `status`; what the operator is warned of."""
    now = station.clock()
    seen = key_state.look(ledger, keystore, hold_seconds=settings.processor.hold_hours * 3600, now=now)
    key_state.note(ledger, seen, now=now)
    return notices_of(settings, ledger, seen, now)


def _run(
    station: Station, settings: Settings, keystore: Keystore, ledger: Ledger, confirm: str | None
) -> RunReport:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, with every file closed
    bars = Bars(shown=console.is_terminal())
    desk = Desk(
        ledger=ledger,
        rehearsal=keystore.rehearsal,
        clock=station.clock,
        takes_at_once=settings.charging.capture == "sale",
        before_screen=bars.stop,
    )
    acquirer = open_acquirer(settings.acquirer, desk)

    def confirmed(total: ControlTotal) -> None:
        bars.stop()
        _confirm(total, confirm)

    try:
        return run_batch(
            Workplace(
                ledger=ledger,
                keystore=keystore,
                acquirer=acquirer,
                state=settings.processor.state,
                drop_in=settings.processor.drop_in,
                drop_out=settings.processor.drop_out,
                media_of=settings.processor.media_of,
                window=settings.processor.window,
                hold_seconds=settings.processor.hold_hours * 3600,
                clock=station.clock,
                confirm=confirmed,
                progress=bars.advance,
                charging=settings.charging,
            )
        )
    except KeyboardInterrupt:
        bars.stop()
        console.warn("Stopped. Everything done so far is recorded: run the same command again to go on.")
        console.warn("What was being sent to the acquirer just now is reversed first, then charged afresh.")
        raise
    finally:
        bars.stop()
        acquirer.close()


@cli.command()
@console.shared_options
@click.pass_obj
def status(station: Station, *, config: Path, as_json: bool) -> ExitCode:
    """Show orders by state, each node's chains and keys, backup and mirror, and what waits. Needs no passphrase.

    Of the keys it shows what the last run saw. Ends with code 3 when something needs a person.
    """
    settings = station.settings(config)
    ledger, no_mirror = ledger_to_read(settings)
    try:
        found = status_report.read(settings, ledger, station.clock(), no_mirror=no_mirror)
    finally:
        ledger.close()
    if as_json:
        console.print_json(found.as_document())
    else:
        found.show()
    return ExitCode.NEEDS_PERSON if found.needs_person else ExitCode.DONE


@cli.command(
    "try-open", epilog="Example: offline-processor try-open --config offline.toml copies/shop-a/b00000001"
)
@console.shared_options
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@console.keystore_passphrase_option
@click.pass_obj
def try_open(
    station: Station, *, config: Path, bundle: Path, passphrase_fds: Descriptors, as_json: bool
) -> ExitCode:
    """Try to open the cards of a bundle's copy with the keys there are: proof that they are gone, or are not yet.

    Tries the batch key that each envelope names, and then every other key of the ring. Shows no card.
    """
    settings = station.settings(config)
    with open_station(settings, passphrase_fds, as_json=as_json) as (keystore, _, marks):
        found = evidence.try_open(bundle, keystore)
    if as_json:
        console.print_json({"marks": marks, **found.as_document()})
    else:
        console.say(found.in_words())
    return ExitCode.DONE


def _confirm(total: ControlTotal, given: str | None) -> None:
    console.warn(f"Control total to be charged: {total}", style="bold")
    typed = given
    if typed is None:
        if not console.is_terminal():
            raise ProcessorError(
                "USAGE-CONFIRM",
                f"nothing was charged: the control total {total} is not confirmed",
                f"repeat with --confirm '{total}'",
            )
        typed = click.prompt("Type the shop's control total to charge them", err=True)
    if not same(total, typed):
        raise ProcessorError(
            "CONTROL-TOTAL",
            f"nothing was charged: the control total is {total}, not {typed}",
            "compare with the shop which orders differ, then repeat the command",
        )


def _exit_code(report: RunReport, ledger: Ledger, notices: list[key_state.Notice]) -> ExitCode:
    if report.refused:
        return ExitCode.REFUSED
    if summary.needs_person(report, ledger) or any(notice.needs_person for notice in notices):
        return ExitCode.NEEDS_PERSON
    return ExitCode.DONE if summary.anything_done(report) else ExitCode.NOTHING_TO_DO


for _command in (
    *cli_backup.COMMANDS,
    *cli_custody.COMMANDS,
    *cli_dispatch.COMMANDS,
    *cli_ledger.COMMANDS,
    *cli_decisions.COMMANDS,
    *cli_cases.COMMANDS,
    *cli_simulator.COMMANDS,
    *cli_batch_file.COMMANDS,
    *cli_export.COMMANDS,
):
    cli.add_command(_command)


def main() -> None:
    """Entry point of the console script."""
    console.run(cli)
