"""`offline-processor`: the operator's commands.

Why here: the only module of this room that reads the environment, the clock and the terminal.
Must not: take a secret as an argument, or go on when the machine is not isolated.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from keys import config as configuration
from keys import console
from keys.config import KeystoreConfig
from keys.console import ExitCode
from keys.durable import make_directory
from keys.keystore import Keystore
from keys.passphrases import Descriptors, keystore_passphrases
from keys.private.locked import harden_process
from offline_processor import evidence, summary
from offline_processor.acquirers.simulator import SimulatedAcquirer
from offline_processor.batch import run as run_batch
from offline_processor.config import AcquirerConfig, ProcessorConfig
from offline_processor.control_total import ControlTotal, same
from offline_processor.errors import ProcessorError
from offline_processor.isolation import ways_out
from offline_processor.ledger.ledger import Ledger
from offline_processor.progress import Bars
from offline_processor.workplace import RunReport, Workplace

REHEARSAL = "REHEARSAL: throwaway keys and a simulated acquirer; nobody is charged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The offline configuration file."""

    keystore: KeystoreConfig
    processor: ProcessorConfig
    acquirer: AcquirerConfig


def _settings(path: Path) -> Settings:
    sections = configuration.load(
        path,
        {"keystore": KeystoreConfig, "processor": ProcessorConfig, "acquirer": AcquirerConfig},
        os.environ,
    )
    return Settings(**sections)


def _clock() -> int:
    return int(time.time())


@click.group(
    name="offline-processor",
    epilog="Example: offline-processor run --config offline.toml",
)
def cli() -> None:
    """Charge the orders that came over the gap, on the machine that is connected to nothing."""


@cli.command(
    epilog="Example: offline-processor run --config offline.toml --confirm '40 orders: EUR 812.50, JPY 9800'"
)
@console.shared_options
@click.option(
    "--confirm", metavar="TOTAL", help="The control total, for runs without a person at the terminal."
)
@click.option("--clock-is-right", is_flag=True, help="Accept a clock far ahead of the newest ledger entry.")
@console.keystore_passphrase_option
def run(
    *, config: Path, confirm: str | None, clock_is_right: bool, passphrase_fds: Descriptors, as_json: bool
) -> ExitCode:
    """Receive, verify, open, screen and charge what lies in the drop, and write the returns.

    Shows the control total (count and amount by currency) before charging and charges nothing unless it is
    confirmed: typed at the terminal, or given with --confirm. Safe to repeat after a crash or a pulled plug.
    """
    settings = _settings(config)
    with _opened(settings, passphrase_fds) as (keystore, ledger, marks):
        if clock_is_right:
            ledger.confirm_clock(_clock())
        for mark in [] if as_json else marks:
            console.warn(mark, style="bold yellow")
        report = _run(settings, keystore, ledger, confirm)
        if as_json:
            console.print_json(summary.as_document(report, marks))
        else:
            summary.show(report, ledger)
        return _exit_code(report, ledger)


def _run(settings: Settings, keystore: Keystore, ledger: Ledger, confirm: str | None) -> RunReport:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, with every file closed
    bars = Bars(shown=console.is_terminal())
    acquirer = SimulatedAcquirer(settings.acquirer.books)

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
                window=settings.processor.window,
                hold_seconds=settings.processor.hold_hours * 3600,
                clock=_clock,
                confirm=confirmed,
                progress=bars.advance,
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
def status(*, config: Path, as_json: bool) -> ExitCode:
    """Show the ledger's orders by state, each node's chains, and what waits. Needs no passphrase."""
    settings = _settings(config)
    ledger = _existing_ledger(settings)
    try:
        orders: dict[str, int] = dict(
            ledger.rows("SELECT state, count(*) FROM orders GROUP BY state ORDER BY state")
        )
        nodes = list(
            ledger.rows("SELECT node, last_sequence, return_number, confirmed_return FROM node ORDER BY node")
        )
    finally:
        ledger.close()
    if as_json:
        names = ("node", "last_sequence", "return_number", "confirmed_return")
        console.print_json({"orders": orders, "nodes": [dict(zip(names, row, strict=True)) for row in nodes]})
    else:
        console.table("Orders", ("state", "orders"), orders.items())
        console.table("Nodes", ("node", "last bundle", "last return", "confirmed return"), nodes)
    return ExitCode.DONE


@cli.command("verify-ledger")
@console.shared_options
def verify_ledger(*, config: Path, as_json: bool) -> ExitCode:
    """Recompute the chain of all ledger entries; any altered, removed or reordered entry is found."""
    ledger = _existing_ledger(_settings(config))
    try:
        entries = ledger.verify_chain()
    finally:
        ledger.close()
    if as_json:
        console.print_json({"entries": entries, "chain": "intact"})
    else:
        console.say(f"{entries} entries, chain intact")
    return ExitCode.DONE


@cli.command(
    "try-open", epilog="Example: offline-processor try-open --config offline.toml copies/shop-a/b00000001"
)
@console.shared_options
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@console.keystore_passphrase_option
def try_open(*, config: Path, bundle: Path, passphrase_fds: Descriptors, as_json: bool) -> ExitCode:
    """Try to open the cards of a bundle's copy with the keys there are: proof that they are gone, or are not yet.

    Tries the batch key that each envelope names, and then every other key of the ring. Shows no card.
    """
    settings = _settings(config)
    with _opened(settings, passphrase_fds) as (keystore, _, marks):
        found = evidence.try_open(bundle, keystore)
    if as_json:
        console.print_json({"marks": marks, **found.as_document()})
    else:
        console.say(found.in_words())
    return ExitCode.DONE


@contextmanager
def _opened(settings: Settings, passphrase_fds: Descriptors) -> Iterator[tuple[Keystore, Ledger, list[str]]]:
    """An open keystore and ledger on a machine that was checked, with the marks that every screen must show."""
    harden_process()
    found = ways_out()
    with keystore_passphrases(settings.keystore, passphrase_fds) as passphrases:
        keystore = Keystore.open(settings.keystore.path, passphrases)
    with keystore:
        marks = [REHEARSAL] if keystore.rehearsal else []
        if found and not keystore.rehearsal:
            raise ProcessorError(
                "RUN-NOT-ISOLATED",
                f"this machine is connected to something: {'; '.join(found)}",
                "pull the cable, or start it in a network namespace of its own: unshare -rn offline-processor …",
            )
        if found:
            marks.append(f"NOT ISOLATED: {'; '.join(found)}")
        if not keystore.rehearsal and settings.acquirer.driver == "simulator":
            raise ProcessorError(
                "RUN-SIMULATOR",
                "the simulated acquirer charges nobody, and this keystore is a real one",
                "use a rehearsal keystore (key-ceremony init --rehearsal) with the simulator",
            )
        ledger = _ledger(settings)
        try:
            yield keystore, ledger, marks
        finally:
            ledger.close()


def _ledger(settings: Settings) -> Ledger:
    make_directory(settings.processor.state)
    return Ledger(settings.processor.state / "ledger.db")


def _existing_ledger(settings: Settings) -> Ledger:
    if not (settings.processor.state / "ledger.db").is_file():
        raise ProcessorError(
            "LEDGER-MISSING",
            f"there is no ledger in {settings.processor.state}",
            "correct [processor] state; a first `offline-processor run` makes the ledger",
        )
    return _ledger(settings)


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


def _exit_code(report: RunReport, ledger: Ledger) -> ExitCode:
    if report.refused:
        return ExitCode.REFUSED
    if summary.needs_person(report, ledger):
        return ExitCode.NEEDS_PERSON
    return ExitCode.DONE if summary.anything_done(report) else ExitCode.NOTHING_TO_DO


def main() -> None:
    """Entry point of the console script."""
    console.run(cli)
