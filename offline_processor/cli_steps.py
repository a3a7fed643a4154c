"""The steps of the daily work over one open station: receive, screen, charge, write returns, and how they end.

Why here: `day` and the commands of `cli_work.py` do each step by the same code.
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
from offline_processor import batch, key_state, preflight, summary
from offline_processor.acquirers.drivers import Desk, open_acquirer
from offline_processor.acquirers.protocol import Acquirer
from offline_processor.control_total import ControlTotal, same
from offline_processor.errors import ProcessorError
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
    return _done(work, work.place(), batch.take_in)


def screen(work: AtWork) -> RunReport:
    """Screen what was taken in before; no medium is looked at."""
    return _done(work, work.place(), batch.screen_all)


def write_returns(work: AtWork) -> RunReport:
    """Make the returns that are due, and write them."""
    return _done(work, work.place(), batch.write_returns)


def whole_run(work: AtWork, confirm: Callable[[ControlTotal], None]) -> RunReport:
    """All steps from the drop to the return, with one confirmation."""
    with work.acquirer() as acquirer:
        return batch.run(work.place(acquirer, confirm=_after_the_bars(work, confirm)))


def charge(work: AtWork, confirm: Callable[[ControlTotal], None]) -> RunReport:
    """Old business, then what was received."""
    with work.acquirer() as acquirer:
        place = work.place(acquirer, confirm=_after_the_bars(work, confirm))
        return _done(work, place, batch.charge_all)


def _done(work: AtWork, place: Workplace, step: Callable[[Workplace, RunReport], None]) -> RunReport:
    report = RunReport()
    batch.begin(place, report)
    step(place, report)
    work.bars.stop()
    return report


def _after_the_bars(work: AtWork, confirm: Callable[[ControlTotal], None]) -> Callable[[ControlTotal], None]:
    """Nothing may be drawn over a question."""

    def confirmed(total: ControlTotal) -> None:
        work.bars.stop()
        confirm(total)

    return confirmed


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
