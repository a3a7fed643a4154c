"""The guided day: its seven steps, what the person is told and asked at each, and what was done so far.

Why here: who works alone in a locked room must never wonder what happened, nor which command comes next.
Must not: do anything that the single commands do not do, call a medium safe before it is, or go on over a refusal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from keys import console
from keys.console import ExitCode
from keys.errors import RuleError
from offline_processor import cli_steps, on_medium, reporting, summary
from offline_processor.case_form import Case
from offline_processor.cli_cases import cases_of, in_words
from offline_processor.cli_export import export_carrier
from offline_processor.cli_print import print_labels, print_slips
from offline_processor.cli_report import report as day_report
from offline_processor.cli_steps import AtWork, exit_code
from offline_processor.control_total import ControlTotal, same, waiting_total
from offline_processor.errors import ProcessorError
from offline_processor.key_state import Notice
from offline_processor.on_medium import Contents
from offline_processor.preflight import Preflight
from offline_processor.workplace import RunReport
from transfer.errors import TransferError
from transfer.sync.medium import Medium

_NONE, _LATER, _STOP = "none", "later", "stop"
_PAPER: Final = "Directory for the carrier's file, packing slips, labels and day report (Enter: none today)"
_TRIES: Final = 3
_CASES_SHOWN: Final = 5
_STEPS: Final = ("Pre-flight", "Medium in", "Control total", "Charging", "Return", "Cases", "Paper")


@dataclass(slots=True, kw_only=True)
class GuidedDay:
    """One day at the workstation: what it works with, and what it found and did so far."""

    work: AtWork
    config: Path
    asks: bool
    given: str | None
    done: list[str] = field(default_factory=list)
    preflight: Preflight | None = None
    contents: list[Contents] = field(default_factory=list)
    received: RunReport = field(default_factory=RunReport)
    charged: RunReport = field(default_factory=RunReport)
    returned: RunReport = field(default_factory=RunReport)
    confirmed: str = ""
    unfinished: list[RuleError] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    paper_is_missing: bool = False

    # What the person sees and says

    def say(self, text: str, style: str = "") -> None:
        if not self.work.as_json:
            console.say(text, style=style)

    def title(self, step: int) -> None:
        self.say(f"\n{step} of {len(_STEPS)}: {_STEPS[step - 1]}", style="bold")

    def refuse(self, error: RuleError) -> None:
        if not self.work.as_json:
            console.report_error(error, as_json=False)

    def answer(self, question: str) -> str:
        """What a person typed; "" for Enter alone."""
        self.work.bars.stop()
        return str(click.prompt(question, default="", show_default=False, err=True)).strip()

    def says(self, question: str, word: str) -> bool:
        """True when the answer was this word."""
        return self.answer(question).casefold() == word

    # The steps

    def look_around(self) -> None:
        """Pre-flight; nothing more happens when it refuses."""
        self.title(1)
        self.preflight = found = self.work.preflight()
        for check in found.checks:
            for finding in check.findings:
                self.say(f"{finding.severity}: {finding.rule}: {finding.message}. {finding.remedy}", "yellow")
        found.require()
        self.say(f"In order: {', '.join(check.what for check in found.checks if not check.findings)}.")
        self.done.append("pre-flight passed")

    def take_in(self) -> None:
        """The IN medium: named, looked at, and taken in when it is the right one."""
        self.title(2)
        for line in on_medium.unsettled(self.work.ledger):
            self.say(f"Left from before: {line}")
        for line in on_medium.newest_taken_in(self.work.ledger):
            self.say(f"Expected: {line}")
        drop = self.work.settings.processor.drop_in
        question = f"Put the shop's IN medium into {drop} and press Enter ({_NONE!r}: there is none today)"
        problems: list[RuleError] = []
        while True:
            if self.asks and self.says(question, _NONE):
                if not self.contents:
                    self.say("No medium came in.")
                break
            problems = self._take_in_one()
            if not self.asks:
                break
            nodes = [node for node in self.work.keystore.ring.nodes() if node.retired_at is None]
            if not problems and self.contents[-1].new and len(nodes) == 1:
                break
            question = f"Another IN medium: put it into {drop} and press Enter ({_NONE!r}: that was all)"
        self.unfinished += problems  # of the last medium: those before it were exchanged
        self._screen_what_is_left()

    def _take_in_one(self) -> list[RuleError]:
        """Look at what is in the drop and take in what is new; what is wrong with it."""
        found = on_medium.inspect(self.work.place())
        self.contents.append(found)
        for error in found.refused:
            self.refuse(error)
        for line in found.lines():
            self.say(line)
        if found.medium is None:
            return found.refused
        report = cli_steps.receive(self.work)
        shown = [(error.rule, error.message) for error in found.refused]
        for error in report.refused:
            if (error.rule, error.message) not in shown:
                self.refuse(error)
        self.received.include(report)
        self._say_received(report)
        self._say_in_is_free(found.medium)
        return report.refused

    def _say_received(self, report: RunReport) -> None:
        for name in report.received:
            self.done.append(f"taken in: {name}")
            self.say(f"Taken in, verified, and safe on this machine's disk: {name}")
        if report.received and self.asks:
            self.say(f"To capture one otherwise: {_STOP!r} at the total, then offline-processor capture-when")
        if report.known_already:
            self.say(f"Known already, and not charged again: {report.known_already}")
        for rule, count in sorted(report.rules.items()):
            self.say(f"Not charged, {rule}: {count}", "yellow")
        if report.strays:
            self.say(
                f"Put aside, because their id cannot be read or is another order's: {report.strays}", "yellow"
            )

    def _say_in_is_free(self, medium: Medium) -> None:
        """The medium is still the one that was looked at, and nothing is on its way to it."""
        try:
            label = medium.settle()
        except TransferError as error:
            self.refuse(error)
            return
        if label:
            self.say(f"Safe to remove: {label}", "bold")

    def _screen_what_is_left(self) -> None:
        """What an earlier day took in and did not screen, also when no medium came today."""
        if not self.received.received:
            self.received.include(cli_steps.screen(self.work))
        if self.received.interrupted:
            self.say(
                f"Attempts that were cut short before: {self.received.interrupted}. Whether they were charged is not"
                " known: they are reversed before anything else is charged.",
                "yellow",
            )

    def confirm(self) -> None:
        """The control total, typed from the shop's own books before ours is shown."""
        self.title(3)
        total = waiting_total(self.work.ledger)
        if not total.orders:
            self.say("Nothing new is to be confirmed; what was confirmed before goes on.")
            return
        if self.given is not None or not self.asks:
            cli_steps.confirm_total(total, self.given, asks=False)
        else:
            self._have_it_typed(total)
        self.confirmed = str(total)
        self.say(f"Confirmed: {total}")
        self.done.append(f"control total confirmed: {total}")

    def _have_it_typed(self, total: ControlTotal) -> None:
        question = (
            'Type the control total from the shop\'s own books, as in "40 orders: EUR 812.50, JPY 9800"'
        )
        for _ in range(_TRIES):
            typed = self.answer(question)
            if same(total, typed):
                return
            if typed.casefold() == _STOP:
                break
            self.say(
                f"That is not what was taken in. Typed: {typed or 'nothing'}. Taken in: {total}",
                "bold yellow",
            )
            question = (
                f"Compare with the shop which orders differ, and type it again ({_STOP!r}: charge nothing)"
            )
        raise ProcessorError(
            "CONTROL-TOTAL",
            f"nothing was charged: the control total is {total}, and nobody confirmed it",
            "compare with the shop which orders differ, then repeat the command; what was taken in is kept",
        )

    def charge(self) -> None:
        """Old business, then today's orders; Ctrl-C ends it between two windows."""
        self.title(4)
        self.say("Ctrl-C stops after the orders that are with the acquirer then; nothing is left half-done.")
        while True:
            try:
                self.charged = cli_steps.charge(self.work, self._still_confirmed)
            except ProcessorError as error:
                if error.rule not in ("ACQUIRER-UNREACHABLE", "ACQUIRER-SIGN-ON"):
                    raise
                self.refuse(error)
                again = f"Enter: try again ({_LATER!r}: charge another time)"
                if self.asks and not self.says(again, _LATER):
                    continue
                self.unfinished.append(error)
                return
            break
        paid, others = self.charged.outcomes["paid"], self.charged.outcomes.total()
        self.done.append(f"charged: {paid} paid of {others} settled or held")
        if not self.work.as_json:
            summary.show(self.charged, self.work.ledger)

    def _still_confirmed(self, total: ControlTotal) -> None:
        if str(total) != self.confirmed:
            raise ProcessorError(
                "CONTROL-TOTAL",
                f"nothing was charged: {total} waits, and {self.confirmed or 'nothing'} was confirmed",
                "repeat the command",
            )

    def answer_shop(self) -> None:
        """Returns onto the OUT media, and when each may be removed."""
        self.title(5)
        due, unconfirmed = self._due()
        left = [*due, *unconfirmed]
        if not left:
            self.say("No return is due.")
        for node in unconfirmed:
            self.say(
                f"{node} has not confirmed its newest return yet: it is written again if it is not there."
            )
        drop = self.work.settings.processor.drop_out
        while left:
            medium = f"Put the OUT medium for {', '.join(left)} into {drop} and press Enter"
            if self.asks and self.says(f"{medium} ({_LATER!r}: not now)", _LATER):
                break
            report = self._write_once()
            left = [node for node in left if node not in report.answered]
            if not self.asks:
                self.unfinished += report.refused
                break
        waits = [node for node in left if node in due]
        if waits:
            self._say_return_waits(waits)

    def _write_once(self) -> RunReport:
        """Write what the medium that is in takes."""
        report = cli_steps.write_returns(self.work)
        for error in report.refused:
            self.refuse(error)
        for made in report.returns:
            self.say(f"Return written and read back: {made.node}/{made.name}, records: {made.records}")
            self.done.append(f"return written: {made.node}/{made.name}")
        if report.safe_to_remove:
            self.say(f"Safe to remove: {report.safe_to_remove}", "bold")
        elif report.answered and not report.refused:
            self.say(f"The return is durable in {self.work.settings.processor.drop_out}")
        self.returned.include(report)
        return report

    def _say_return_waits(self, nodes: list[str]) -> None:
        waits = ProcessorError(
            "RETURN-WAITS",
            f"the return for {', '.join(nodes)} is on no medium yet; it is kept here",
            f"offline-processor write-return --config {self.config}, with the right OUT medium in",
        )
        self.refuse(waits)
        self.unfinished.append(waits)

    def _due(self) -> tuple[list[str], list[str]]:
        """The nodes that must have a return, and those that have one and did not confirm it."""
        ledger, keystore = self.work.ledger, self.work.keystore
        outbox, now = self.work.settings.processor.state / "returns", self.work.station.clock()
        due, unconfirmed = [], []
        for node in [node.node for node in keystore.ring.nodes() if node.retired_at is None]:
            if reporting.is_due(ledger, keystore, node, now=now) or reporting.is_lost(ledger, outbox, node):
                due.append(node)
            elif reporting.is_unconfirmed(ledger, node):
                unconfirmed.append(node)
        return due, unconfirmed

    def name_cases(self) -> None:
        """What waits for a person, and what they should know."""
        self.title(6)
        self.cases = cases_of(self.work.settings, self.work.ledger, now=self.work.station.clock())
        for line in in_words(self.cases, config=self.config, limit=_CASES_SHOWN):
            self.say(line)
        self.notices = self.work.notices()
        for notice in self.notices:
            self.say(f"{notice.rule}: {notice.message}", "yellow")

    def put_on_paper(self, context: click.Context, directory: Path | None, printer: str | None) -> None:
        """The carrier's file, slips, labels and the day report, by their own commands, with every key closed again."""
        self.title(7)
        if directory is None and printer is None and self.asks:
            typed = click.prompt(_PAPER, default="", show_default=False, err=True).strip()
            directory = Path(typed) if typed else None
        if directory is None and printer is None:
            self.say(
                "None today. Any time: offline-processor export carrier, print slips, print labels, report."
            )
            return
        for command, takes_printer in (
            (export_carrier, False),
            (print_slips, True),
            (print_labels, True),
            (day_report, False),
        ):
            where = ["--printer", printer] if takes_printer and printer else ["--out", str(directory)]
            if "None" not in where:
                self._run(context, command, ["--config", str(self.config), *where])

    def _run(self, context: click.Context, command: click.Command, words: list[str]) -> None:
        """A command as if it were typed; what it refuses does not take the day with it."""
        try:
            with command.make_context(command.name, words, parent=context) as inner:
                code = command.invoke(inner)
        except (RuleError, click.ClickException) as error:
            if isinstance(error, RuleError):
                self.refuse(error)
            else:
                error.show()
            self.paper_is_missing = True
            return
        self.paper_is_missing |= code not in (ExitCode.DONE, ExitCode.NOTHING_TO_DO)
        if code is ExitCode.DONE:
            self.done.append(f"on paper or in files: {command.name}")

    def end(self, code: ExitCode) -> ExitCode:
        """The last lines, and how it ended."""
        if self.paper_is_missing and code in (ExitCode.DONE, ExitCode.NOTHING_TO_DO):
            code = ExitCode.NEEDS_PERSON
        if self.work.as_json:
            console.print_json(self._document())
            return code
        self.say("\nDone today", style="bold")
        for line in self.done:
            self.say(f"  {line}")
        words = {
            ExitCode.NEEDS_PERSON: "The day's work is done. Some orders need a person: offline-processor cases",
            ExitCode.REFUSED: "NOT ALL IS DONE: see what was refused above; the same command goes on from here.",
            ExitCode.ERROR: "Stopped. The same command goes on from here.",
        }
        self.say(words.get(code, "The day's work is done."), style="bold")
        return code

    def code(self) -> ExitCode:
        """How the work with orders ended."""
        if self.unfinished:
            return ExitCode.REFUSED
        whole = RunReport()
        for report in (self.received, self.charged, self.returned):
            whole.include(report)
        whole.refused = []  # a wrong medium that was exchanged for the right one is over
        code = exit_code(whole, self.work.ledger, self.notices)
        return ExitCode.NEEDS_PERSON if code is ExitCode.DONE and self._somebody_is_needed() else code

    def _somebody_is_needed(self) -> bool:
        return any(case.needs_person for case in self.cases)

    def _document(self) -> dict[str, Any]:
        return {
            "marks": self.work.marks,
            "preflight": self.preflight.as_document() if self.preflight else None,
            "on_medium": [found.as_document() for found in self.contents],
            "received": summary.as_document(self.received, self.work.marks),
            "control_total": self.confirmed,
            "charged": summary.as_document(self.charged, self.work.marks),
            "returned": summary.as_document(self.returned, self.work.marks),
            "unfinished": [
                {"rule": error.rule, "message": error.message, "remedy": error.remedy}
                for error in self.unfinished
            ],
            "cases": [case.as_document() for case in self.cases],
            "notices": summary.notices_as_document(self.notices),
        }
