"""How the commands about charged orders work: the ledger at work, wishes noted, owed operations sent.

Why here: dispatch, refunds, approvals and the close of day go the same way from a typed wish to the acquirer.
Must not: decide what may be taken or given back, or send what is not durable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from keys import console
from keys.console import ExitCode
from keys.keystore import Keystore
from keys.passphrases import Descriptors
from offline_processor import operations, reversing
from offline_processor.acquirers.drivers import Desk, open_acquirer
from offline_processor.attempts import Till, recover_intents
from offline_processor.cards import CardTable
from offline_processor.control_total import money
from offline_processor.epochs import begin_epoch
from offline_processor.errors import ProcessorError
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.operations import Operation, OperationKind, pending
from offline_processor.old_ledger import check_not_behind
from offline_processor.operations import Sent
from offline_processor.progress import Bars
from offline_processor.reconciliation import check_reconciled
from offline_processor.station import Settings, Station, open_station

_ORDER: Final = re.compile(r"[0-9a-f]{32}")
_ORDERS_LIMIT: Final = 100_000
_SHOWN: Final = 20
_NEVER_WELL: Final = ("CHARGE-TRANSITION", "LEDGER-")
"""A bug or a broken ledger is no acquirer that cannot be reached."""
_FILE_LIMIT: Final = _ORDERS_LIMIT * 40


@dataclass(frozen=True, slots=True, kw_only=True)
class AtWork:
    """An open workstation whose ledger may be worked with, and the marks of its screen."""

    station: Station
    settings: Settings
    keystore: Keystore
    ledger: Ledger
    marks: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """What a wish made of one order: ``changed``, with the operations now owed, or waiting as request ``asked``."""

    changed: bool
    made: Sequence[Operation] = ()
    asked: int = 0


Wish = Callable[[Ledger, str], Noted]
"""What is wished for the order or case of this id, in the caller's transaction."""


@dataclass(slots=True, kw_only=True)
class Report:
    """What became of the orders that were named."""

    orders: list[str] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    errors: list[tuple[str, ProcessorError]] = field(default_factory=list)
    sent: Sent = field(default_factory=Sent)
    unreachable: ProcessorError | None = None

    def add(self, subject: str, noted: Noted) -> Sequence[Operation]:
        """Count what a wish made of an order; returns what is to be sent now."""
        self.asked += [noted.asked] if noted.asked else []
        self.orders += [subject] if noted.changed and not noted.asked else []
        return noted.made if noted.changed else []

    def as_document(self, marks: list[str]) -> dict[str, Any]:
        return {
            "marks": marks,
            "orders": self.orders,
            "second_person": [f"R{number}" for number in self.asked],
            "done": [item.id for item in self.sent.done],
            "refused": [
                {"operation": item.id, "order": item.original.order_id} for item in self.sent.refused
            ],
            "open": len(self.sent.open),
            "errors": [
                {"order": order, "rule": error.rule, "message": error.message} for order, error in self.errors
            ],
            "acquirer": None if self.unreachable is None else self.unreachable.rule,
        }

    def show(self) -> None:
        """For a person."""
        console.say(f"Orders changed: {len(self.orders)}")
        for number in self.asked:
            console.warn(
                f"Nothing was done yet: another person has to confirm it:"
                f" offline-processor approve R{number} --who NAME",
                style="bold yellow",
            )
        for item in self.sent.done[:_SHOWN]:
            console.say(f"Done: {in_words(item)}")
        if len(self.sent.done) > _SHOWN:
            console.say(f"… and {len(self.sent.done) - _SHOWN} more: --json lists all")
        for item in self.sent.refused:
            console.warn(
                f"REFUSED by the acquirer: {in_words(item)}; see offline-processor cases", style="bold red"
            )
        if self.sent.open or self.unreachable is not None:
            console.warn("What the acquirer has not answered is owed: the next run sends it again.")
        for _, error in self.errors:
            console.report_error(error, as_json=False)
        if self.unreachable is not None:
            console.report_error(self.unreachable, as_json=False)

    def exit_code(self) -> ExitCode:
        """3 when anything was refused, is open, or waits for a person."""
        if self.errors or self.asked or self.sent.refused or self.sent.open or self.unreachable is not None:
            return ExitCode.NEEDS_PERSON
        return ExitCode.DONE if self.orders or self.sent.done else ExitCode.NOTHING_TO_DO


@contextmanager
def at_work(station: Station, config: Path, fds: Descriptors, *, as_json: bool) -> Iterator[AtWork]:
    """The station with a ledger that may be worked with: right clock, reconciled, not an old copy."""
    settings = station.settings(config)
    with open_station(settings, fds, as_json=as_json) as (keystore, ledger, marks):
        ledger.check_clock(station.clock())
        begin_epoch(ledger, keystore, now=station.clock())
        check_reconciled(ledger)
        check_not_behind(ledger, keystore.ring)
        yield AtWork(station=station, settings=settings, keystore=keystore, ledger=ledger, marks=marks)


def carry_out(
    work: AtWork, subjects: Sequence[str], wish: Wish, what: str, *, together: bool = False
) -> Report:
    """Note what is wished for each order, durably, then send what that owes the acquirer, a window at a time.

    ``together``: a window's wishes are one transaction; each refuses, if it does, before it has changed anything.
    """
    report = Report()
    owed_before = bool(pending(work.ledger))
    bars = Bars(shown=console.is_terminal())
    step = work.settings.processor.window
    with ExitStack() as stack:
        stack.callback(bars.stop)
        link: _Link | None = None
        for start in range(0, len(subjects), step):
            some = subjects[start : start + step]
            made = (
                note_together(work, report, some, wish) if together else _note_each(work, report, some, wish)
            )
            try:
                if link is None and report.unreachable is None and (made or owed_before):
                    link = _Link(work, *stack.enter_context(open_till(work, before_screen=bars.stop)))
                    link.send_again(report, but={item.id for item in made})
                if link is not None and report.unreachable is None:
                    link.send(report, made, repeat=False)
            except ProcessorError as error:
                if error.rule.startswith(_NEVER_WELL):
                    raise
                report.unreachable = error
            bars.advance(what, min(start + step, len(subjects)), len(subjects))
    return report


def end(work: AtWork, report: Report, *, as_json: bool) -> ExitCode:
    """Say what became of it."""
    if as_json:
        console.print_json(report.as_document(work.marks))
    else:
        report.show()
    return report.exit_code()


def _note_each(work: AtWork, report: Report, subjects: Sequence[str], wish: Wish) -> list[Operation]:
    made: list[Operation] = []
    for subject in subjects:
        try:
            with work.ledger.atomic():
                noted = wish(work.ledger, subject)
        except ProcessorError as error:
            report.errors.append((subject, error))
        else:
            made += report.add(subject, noted)
    return made


def note_together(work: AtWork, report: Report, subjects: Sequence[str], wish: Wish) -> list[Operation]:
    """Note what is wished for all of them in one transaction, but for those that refuse; what is to be sent now."""
    done: list[tuple[str, Noted]] = []
    refused: list[tuple[str, ProcessorError]] = []
    with work.ledger.atomic():
        for subject in subjects:
            try:
                done.append((subject, wish(work.ledger, subject)))
            except ProcessorError as error:
                refused.append((subject, error))
    report.errors += refused
    return [item for subject, noted in done for item in report.add(subject, noted)]


class _Link:
    """An open link and what is sent over it, kind by kind: captures first, releases last."""

    def __init__(self, work: AtWork, till: Till, cards: CardTable, window: int) -> None:
        self._work, self._till, self._cards, self._window = work, till, cards, window

    def send_again(self, report: Report, *, but: Collection[str]) -> None:
        """What was owed before."""
        self.send(report, [item for item in pending(self._work.ledger) if item.id not in but], repeat=True)

    def send(self, report: Report, owed: Sequence[Operation], *, repeat: bool) -> None:
        for kind in OperationKind:
            of_kind = [item for item in owed if item.kind is kind]
            for start in range(0, len(of_kind), self._window):
                some = of_kind[start : start + self._window]
                now = self._work.station.clock()
                report.sent.add(operations.send(self._till, self._cards, some, repeat=repeat, now=now))


@contextmanager
def open_till(
    work: AtWork, *, before_screen: Callable[[], None] = lambda: None
) -> Iterator[tuple[Till, CardTable, int]]:
    """The link to the acquirer with every reversal sent that is owed; cards and window for what follows.

    ``before_screen`` is called before an operator is shown another screen.
    """
    settings, clock = work.settings, work.station.clock
    desk = Desk(
        ledger=work.ledger,
        rehearsal=work.keystore.rehearsal,
        clock=clock,
        before_screen=before_screen,
    )
    acquirer = open_acquirer(settings.acquirer, desk)
    window = min(settings.processor.window, acquirer.window or settings.processor.window)
    try:
        with CardTable(window) as cards:
            till = Till(
                ledger=work.ledger,
                acquirer=acquirer,
                vault_key=work.keystore.vault_key,
                epoch=work.keystore.epoch,
                charging=settings.charging,
            )
            recover_intents(work.ledger, now=clock())
            reversing.reverse_unknown(till, cards, window=window, now=clock())
            yield till, cards, window
    finally:
        acquirer.close()


def order_ids(given: Sequence[str], listed: Path | None) -> list[str]:
    """The order ids given and listed, each once, in their order; ``USAGE-ORDER``."""
    found = list(given)
    if listed is not None:
        with listed.open("rb") as file:
            text = file.read(_FILE_LIMIT + 1).decode("ascii", "replace")
        found += [line.strip() for line in text.splitlines() if line.strip()]
    found = list(dict.fromkeys(order.lower() for order in found))
    wrong = next((place for place, order in enumerate(found, 1) if _ORDER.fullmatch(order) is None), None)
    if wrong is not None or not 0 < len(found) <= _ORDERS_LIMIT:
        raise ProcessorError(
            "USAGE-ORDER",
            "no order was named"
            if not found
            else f"order number {wrong or _ORDERS_LIMIT} of those named is none",
            "an order id has 32 hexadecimal digits; a file has one a line, 100,000 at most. Nothing was changed",
        )
    return found


def in_words(item: Operation) -> str:
    """An operation for a person."""
    sent = item.original
    what = (
        "release of the rest"
        if item.kind is OperationKind.VOID
        else f"{item.kind} of {money(item.amount, sent.currency)}"
    )
    return f"{what}, order {sent.order_id}"
