"""`offline-processor` verbs of the daily work: preflight, inspect, receive, run, write-return.

Why here: each is one step of `day`, and a command of its own that can be repeated; both do it by the same code.
Must not: read clock or environment itself (the station has them), or go on when pre-flight refuses.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click

from keys import console
from keys.console import ExitCode
from keys.keystore import Keystore
from keys.passphrases import Descriptors
from offline_processor import batch, key_state, on_medium, preflight, reporting, summary
from offline_processor.acquirers.drivers import Desk, open_acquirer
from offline_processor.acquirers.protocol import Acquirer
from offline_processor.control_total import ControlTotal, same, waiting_total
from offline_processor.errors import ProcessorError
from offline_processor.ledger import operations, reversals
from offline_processor.ledger.ledger import Ledger
from offline_processor.preflight import Preflight
from offline_processor.progress import Bars
from offline_processor.station import Settings, Station, Surroundings, confined, open_station
from offline_processor.status_report import notices_of
from offline_processor.stopping import StopSwitch
from offline_processor.workplace import RunReport, Workplace

_STOPS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOPPING: Final = (
    "Stopping after what is with the acquirer now. Ctrl-C again stops at once, and leaves that unknown."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AtWork:
    """An open station with what its steps share: bars, the switch that stops the work, and its marks."""

    station: Station
    settings: Settings
    keystore: Keystore
    ledger: Ledger
    seen: Surroundings
    marks: list[str]
    as_json: bool
    bars: Bars
    stop: StopSwitch = field(default_factory=StopSwitch)

    def place(self, acquirer: Acquirer | None = None, **changes: Any) -> Workplace:
        """What a step works with."""
        processor = self.settings.processor
        place = Workplace(
            ledger=self.ledger,
            keystore=self.keystore,
            acquirer=acquirer,
            state=processor.state,
            drop_in=processor.drop_in,
            drop_out=processor.drop_out,
            media_of=processor.media_of,
            window=processor.window,
            hold_seconds=processor.hold_hours * 3600,
            clock=self.station.clock,
            confirm=_nothing_to_confirm,
            progress=self.bars.advance,
            charging=self.settings.charging,
            stop=self.stop,
        )
        return replace(place, **changes)

    @contextmanager
    def acquirer(self) -> Iterator[Acquirer]:
        """The configured acquirer, open; signals end the work at a clean point while it is."""
        desk = Desk(
            ledger=self.ledger,
            rehearsal=self.keystore.rehearsal,
            clock=self.station.clock,
            before_screen=self.bars.stop,
        )
        opened = open_acquirer(self.settings.acquirer, desk)
        try:
            yield opened
        except KeyboardInterrupt:
            self.bars.stop()
            console.warn("Stopped. Everything done so far is recorded: run the same command again to go on.")
            console.warn(
                "What was being sent to the acquirer just now is reversed first, then charged afresh."
            )
            raise
        finally:
            self.bars.stop()
            opened.close()

    def preflight(self, *, whole: bool = False) -> Preflight:
        """Look at everything that has to be in order before an order is opened."""
        found = preflight.look(
            preflight.Look(
                settings=self.settings,
                keystore=self.keystore,
                ledger=self.ledger,
                seen=self.seen,
                now=self.station.clock(),
                ticks=time.monotonic,
                whole=whole,
                progress=self.bars.advance,
            )
        )
        self.bars.stop()
        return found

    def notices(self) -> list[key_state.Notice]:
        """Note the state of the keys for `status`; what the operator is warned of."""
        now = self.station.clock()
        hold_seconds = self.settings.processor.hold_hours * 3600
        seen = key_state.look(self.ledger, self.keystore, hold_seconds=hold_seconds, now=now)
        key_state.note(self.ledger, seen, now=now)
        return notices_of(self.settings, self.ledger, seen, now)


def _nothing_to_confirm(total: ControlTotal) -> None:
    raise AssertionError(f"{total} would be charged by a step that does not charge")


@contextmanager
def at_work(
    station: Station,
    config: Path,
    fds: Descriptors,
    *,
    as_json: bool,
    charges: bool,
    clock_is_right: bool = False,
) -> Iterator[AtWork]:
    """The open station of a process that gave up what it does not need; what only looks or moves needs no network."""
    settings = station.settings(config)
    seen = confined(settings, charges=charges)
    with open_station(settings, fds, as_json=as_json, seen=seen) as (keystore, ledger, marks):
        if clock_is_right:
            ledger.confirm_clock(station.clock())
        work = AtWork(
            station=station,
            settings=settings,
            keystore=keystore,
            ledger=ledger,
            seen=seen,
            marks=marks,
            as_json=as_json,
            bars=Bars(shown=console.is_terminal()),
        )
        try:
            with _ends_cleanly(work):
                yield work
        finally:
            work.bars.stop()


@contextmanager
def _ends_cleanly(work: AtWork) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a terminal that hangs up ask the work to stop after the window that is out.

    A second one ends it there and then. What whoever started the command lets it ignore stays ignored.
    """

    def asked(number: int, frame: FrameType | None) -> None:
        del number, frame
        if not work.stop.ask():
            raise KeyboardInterrupt
        with suppress(OSError):  # the terminal may be gone
            work.bars.say(STOPPING)

    wanted = [number for number in _STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, asked) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# The steps


def receive(work: AtWork) -> RunReport:
    """Take in what lies in the drop, and screen it."""
    report = RunReport()
    place = work.place()
    batch.begin(place, report)
    batch.take_in(place, report)
    work.bars.stop()
    return report


def screen(work: AtWork) -> RunReport:
    """Screen what was taken in before; no medium is looked at."""
    report = RunReport()
    place = work.place()
    batch.begin(place, report)
    batch.screen_all(place, report)
    work.bars.stop()
    return report


def write_returns(work: AtWork) -> RunReport:
    """Make the returns that are due, and write them."""
    report = RunReport()
    place = work.place()
    batch.begin(place, report)
    batch.write_returns(place, report)
    return report


def whole_run(work: AtWork, confirm: Callable[[ControlTotal], None]) -> RunReport:
    """All steps from the drop to the return, with one confirmation."""

    def confirmed(total: ControlTotal) -> None:
        work.bars.stop()
        confirm(total)

    with work.acquirer() as acquirer:
        return batch.run(work.place(acquirer, confirm=confirmed))


def charge(work: AtWork, confirm: Callable[[ControlTotal], None]) -> RunReport:
    """Old business, then what was received."""

    def confirmed(total: ControlTotal) -> None:
        work.bars.stop()
        confirm(total)

    report = RunReport()
    with work.acquirer() as acquirer:
        place = work.place(acquirer, confirm=confirmed)
        batch.begin(place, report)
        batch.charge_all(place, report)
    return report


def confirm_total(total: ControlTotal, given: str | None, *, asks: bool) -> None:
    """Have the control total typed, or compare it with the one that was given. ``USAGE-CONFIRM``, ``CONTROL-TOTAL``."""
    console.warn(f"Control total to be charged: {total}", style="bold")
    typed = given
    if typed is None:
        if not asks or not console.is_terminal():
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


def exit_code(report: RunReport, ledger: Ledger, notices: Sequence[key_state.Notice]) -> ExitCode:
    """How a run ended, for scripts."""
    if report.stopped:
        return ExitCode.ERROR  # as Ctrl-C anywhere else: not all that was asked for is done
    if report.refused:
        return ExitCode.REFUSED
    if summary.needs_person(report, ledger) or any(notice.needs_person for notice in notices):
        return ExitCode.NEEDS_PERSON
    return ExitCode.DONE if summary.anything_done(report) else ExitCode.NOTHING_TO_DO


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
