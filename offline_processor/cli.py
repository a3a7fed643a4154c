"""`offline-processor`: the operator's commands.

Why here: the only module of this room that reads the environment, the clock and the terminal.
Must not: take a secret as an argument, or go on when the machine is not isolated.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from keys import console
from keys.console import ExitCode
from keys.passphrases import Descriptors
from offline_processor import (
    cli_backup,
    cli_batch_file,
    cli_cases,
    cli_custody,
    cli_day,
    cli_decisions,
    cli_dispatch,
    cli_export,
    cli_ledger,
    cli_print,
    cli_reconcile,
    cli_report,
    cli_retention,
    cli_simulator,
    cli_subject,
    cli_work,
    evidence,
    status_report,
)
from offline_processor.cli_trail import TrailGroup
from offline_processor.station import Station, ledger_to_read, open_station
from offline_processor.trail import Trail


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


for _command in (
    *cli_day.COMMANDS,
    *cli_work.COMMANDS,
    *cli_backup.COMMANDS,
    *cli_custody.COMMANDS,
    *cli_dispatch.COMMANDS,
    *cli_ledger.COMMANDS,
    *cli_decisions.COMMANDS,
    *cli_cases.COMMANDS,
    *cli_retention.COMMANDS,
    *cli_subject.COMMANDS,
    *cli_reconcile.COMMANDS,
    *cli_simulator.COMMANDS,
    *cli_batch_file.COMMANDS,
    *cli_export.COMMANDS,
    *cli_print.COMMANDS,
    *cli_report.COMMANDS,
):
    cli.add_command(_command)


def main() -> None:
    """Entry point of the console script."""
    console.run(cli)
