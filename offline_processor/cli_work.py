"""`offline-processor` verbs of the daily work: preflight, inspect, receive, run, write-return.

Why here: each is one step of `day`, and a command of its own that can be repeated.
Must not: read clock or environment itself (the station has them), or go on when pre-flight refuses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from keys import console
from keys.console import ExitCode
from keys.passphrases import Descriptors
from offline_processor import on_medium, preflight, reporting, summary
from offline_processor.cli_steps import (
    AtWork,
    at_work,
    confirm_total,
    exit_code,
    receive,
    whole_run,
    write_returns,
)
from offline_processor.control_total import waiting_total
from offline_processor.ledger import operations, reversals
from offline_processor.preflight import Preflight
from offline_processor.station import Station

# What would be done


def foresee(work: AtWork) -> dict[str, Any]:
    """What a run would find and do, in one document; nothing is changed by it."""
    ledger, keystore = work.ledger, work.keystore
    found = on_medium.inspect(work.place())
    outbox = work.settings.processor.state / "returns"
    now = work.station.clock()
    nodes = [node.node for node in keystore.ring.nodes() if node.retired_at is None]
    return {
        "on_medium": found.as_document(),
        "unsettled": list(on_medium.unsettled(ledger)),
        "reversed_first": len(reversals.owed(ledger)),
        "operations_owed": len(operations.pending(ledger)),
        "control_total": str(waiting_total(ledger)),
        "returns_due": [
            node
            for node in nodes
            if reporting.is_due(ledger, keystore, node, now=now) or reporting.is_lost(ledger, outbox, node)
        ],
    }


def show_foreseen(document: dict[str, Any]) -> None:
    """The same for a person."""
    medium = document["on_medium"]
    console.say("Dry run: nothing is changed.", style="bold")
    for bundle in medium["bundles"]:
        console.say(
            f"On the medium: {bundle['node']} bundle {bundle['sequence']}, {bundle['verdict']},"
            f" orders: {bundle['orders']}, already known: {bundle['known_already']} {bundle['rule']}".rstrip()
        )
    for refused in medium["refused"]:
        console.say(f"Would be refused: {refused['rule']}: {refused['message']}")
    for line in document["unsettled"]:
        console.say(f"Waits here: {line}")
    console.say(f"Reversals sent first: {document['reversed_first']}")
    console.say(f"Captures, refunds and voids sent: {document['operations_owed']}")
    console.say(f"Received already, and waiting to be confirmed: {document['control_total']}")
    console.say(f"Returns due: {', '.join(document['returns_due']) or 'none'}")


# The commands

DRY_RUN: Final = click.option("--dry-run", is_flag=True, help="Show what would be done, and change nothing.")
NO_INPUT: Final = click.option(
    "--no-input", is_flag=True, help="Ask nothing; what would have to be asked is refused."
)
CLOCK: Final = click.option(
    "--clock-is-right", is_flag=True, help="Accept a clock far ahead of the newest ledger entry."
)
CONFIRM: Final = click.option(
    "--confirm", metavar="TOTAL", help="The control total, for runs without a person at the terminal."
)


@click.command("preflight", epilog="Example: offline-processor preflight --config offline.toml --whole")
@console.shared_options
@click.option("--whole", is_flag=True, help="Check the whole ledger, however long it takes.")
@console.keystore_passphrase_option
@click.pass_obj
def preflight_command(
    station: Station, *, config: Path, whole: bool, passphrase_fds: Descriptors, as_json: bool
) -> ExitCode:
    """Check that this machine is connected to nothing but its acquirer, and that all is in order for a run.

    Every finding names its rule and how to mend it. `run` and `day` begin with the same checks and open no order
    when one refuses. Changes nothing.
    """
    with at_work(station, config, passphrase_fds, as_json=as_json, charges=False) as work:
        found = work.preflight(whole=whole)
    if as_json:
        console.print_json({"marks": work.marks, **found.as_document()})
    else:
        show_preflight(found)
    if found.refusals:
        return ExitCode.REFUSED
    return ExitCode.NEEDS_PERSON if found.needs_person else ExitCode.DONE


def show_preflight(found: Preflight) -> None:
    """Every check and what it found."""
    console.table("Pre-flight", ("check", "result", "what was seen, and what to do"), preflight.lines(found))
    if found.refusals:
        console.warn("REFUSED: no order is opened on this machine until that is mended.", style="bold red")
    else:
        console.say("Pre-flight passed.")


@click.command("inspect", epilog="Example: offline-processor inspect --config offline.toml")
@console.shared_options
@console.keystore_passphrase_option
@click.pass_obj
def inspect(station: Station, *, config: Path, passphrase_fds: Descriptors, as_json: bool) -> ExitCode:
    """Say what lies on the IN medium: whose it is, which bundles, how many orders, and what was here before.

    Takes nothing in and changes nothing.
    """
    with at_work(station, config, passphrase_fds, as_json=as_json, charges=False) as work:
        found = on_medium.inspect(work.place())
    if as_json:
        console.print_json({"marks": work.marks, **found.as_document()})
    else:
        show_contents(found)
    if found.refused or any(bundle.why for bundle in found.bundles):
        return ExitCode.REFUSED
    return ExitCode.DONE if found.new else ExitCode.NOTHING_TO_DO


def show_contents(found: on_medium.Contents) -> None:
    """What is on the medium, or why it is none."""
    for error in found.refused:
        console.report_error(error, as_json=False)
    for line in found.lines():
        console.say(line)


@click.command("receive", epilog="Example: offline-processor receive --config offline.toml --dry-run")
@console.shared_options
@DRY_RUN
@CLOCK
@console.keystore_passphrase_option
@click.pass_obj
def receive_command(
    station: Station,
    *,
    config: Path,
    dry_run: bool,
    clock_is_right: bool,
    passphrase_fds: Descriptors,
    as_json: bool,
) -> ExitCode:
    """Take in every new bundle, whole or not at all, screen its orders, and show the control total.

    Charges nothing and sends nothing: `run` or `day` do. What was taken in is safe here; the medium may go.
    """
    with at_work(
        station, config, passphrase_fds, as_json=as_json, charges=False, clock_is_right=clock_is_right
    ) as work:
        work.preflight().require()
        if dry_run:
            return dry(work)
        report = receive(work)
        total = waiting_total(work.ledger)
        if as_json:
            document = summary.as_document(report, work.marks)
            console.print_json({**document, "control_total": str(total)})
        else:
            summary.show(report, work.ledger)
            console.say(f"Control total that waits to be charged: {total}")
        return exit_code(report, work.ledger, [])


@click.command(
    "run",
    epilog="Example: offline-processor run --config offline.toml --confirm '40 orders: EUR 812.50, JPY 9800'",
)
@console.shared_options
@CONFIRM
@CLOCK
@DRY_RUN
@NO_INPUT
@console.keystore_passphrase_option
@click.pass_obj
def run(
    station: Station,
    *,
    config: Path,
    confirm: str | None,
    clock_is_right: bool,
    dry_run: bool,
    no_input: bool,
    passphrase_fds: Descriptors,
    as_json: bool,
) -> ExitCode:
    """Receive, verify, open, screen and charge what lies in the drop, and write the returns.

    Begins with the checks of `preflight`. Shows the control total (count and amount by currency) before charging and
    charges nothing unless it is confirmed: typed at the terminal, or given with --confirm. Safe to repeat after a
    crash or a pulled plug; Ctrl-C ends it after the orders that are with the acquirer.
    """
    with at_work(
        station,
        config,
        passphrase_fds,
        as_json=as_json,
        charges=not dry_run,
        clock_is_right=clock_is_right and not dry_run,
    ) as work:
        work.preflight().require()
        if dry_run:
            return dry(work)
        report = whole_run(work, lambda total: confirm_total(total, confirm, asks=not no_input))
        notices = work.notices()
        if as_json:
            console.print_json(summary.as_document(report, work.marks, notices))
        else:
            summary.show(report, work.ledger)
            summary.show_notices(notices)
        return exit_code(report, work.ledger, notices)


@click.command("write-return", epilog="Example: offline-processor write-return --config offline.toml")
@console.shared_options
@DRY_RUN
@console.keystore_passphrase_option
@click.pass_obj
def write_return_command(
    station: Station, *, config: Path, dry_run: bool, passphrase_fds: Descriptors, as_json: bool
) -> ExitCode:
    """Write the newest returns onto the OUT medium, and say when it may be removed. Charges nothing.

    For a medium that was full, wrong or forgotten when the run wrote its returns.
    """
    with at_work(station, config, passphrase_fds, as_json=as_json, charges=False) as work:
        work.preflight().require()
        if dry_run:
            return dry(work)
        report = write_returns(work)
        if as_json:
            console.print_json(summary.as_document(report, work.marks))
        else:
            summary.show(report, work.ledger)
        return exit_code(report, work.ledger, [])


def dry(work: AtWork) -> ExitCode:
    """Print what would be found and done."""
    document = foresee(work)
    if work.as_json:
        console.print_json({"marks": work.marks, "dry_run": True, **document})
    else:
        show_foreseen(document)
    return ExitCode.DONE


COMMANDS: Final = (preflight_command, inspect, receive_command, run, write_return_command)
