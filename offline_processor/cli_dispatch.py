"""`offline-processor` verbs for what follows a charge: dispatch, cancel, refund, settle-attempt.

Why here: the command line's part of what a person does with a charged order.
Must not: read clock or environment (the station has them), or decide what may be taken or given back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from keys import console
from keys.console import ExitCode
from keys.keystore import Keystore
from keys.passphrases import Descriptors
from offline_processor import dispatch as dispatching
from offline_processor import operations, reversing
from offline_processor.acquirers.drivers import Desk, open_acquirer
from offline_processor.attempts import Till, recover_intents
from offline_processor.cards import CardTable
from offline_processor.control_total import minor_units, money
from offline_processor.epochs import begin_epoch
from offline_processor.errors import ProcessorError
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.operations import WHOLE, Operation, OperationKind, pending
from offline_processor.old_ledger import check_not_behind
from offline_processor.operations import Sent
from offline_processor.progress import Bars
from offline_processor.reconciliation import check_reconciled
from offline_processor.station import Settings, Station, open_station

_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .,'/-]{0,63}")
_ORDER: Final = re.compile(r"[0-9a-f]{32}")
_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_ORDERS_LIMIT: Final = 100_000
Wish = Callable[[Ledger, dispatching.Charge], list[Operation]]
_who = click.option("--who", required=True, metavar="NAME", help="Who decides; kept in the ledger.")
_why = click.option("--why", required=True, metavar="TEXT", help="Why; kept in the ledger.")


@dataclass(slots=True, kw_only=True)
class _Report:
    """What became of the orders that were named."""

    orders: list[str] = field(default_factory=list)
    errors: list[tuple[str, ProcessorError]] = field(default_factory=list)
    sent: Sent = field(default_factory=Sent)
    unreachable: ProcessorError | None = None

    def as_document(self, marks: list[str]) -> dict[str, Any]:
        return {
            "marks": marks,
            "orders": self.orders,
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
        console.say(f"Orders changed: {len(self.orders)}")
        for item in self.sent.done:
            console.say(f"Done: {_words(item)}")
        for item in self.sent.refused:
            console.warn(f"REFUSED by the acquirer: {_words(item)}; phone the acquirer", style="bold red")
        if self.sent.open or self.unreachable is not None:
            console.warn("What the acquirer has not answered is owed: the next run sends it again.")
        for _, error in self.errors:
            console.report_error(error, as_json=False)
        if self.unreachable is not None:
            console.report_error(self.unreachable, as_json=False)

    def exit_code(self) -> ExitCode:
        if self.errors or self.sent.refused or self.sent.open or self.unreachable is not None:
            return ExitCode.NEEDS_PERSON
        return ExitCode.DONE if self.orders or self.sent.done else ExitCode.NOTHING_TO_DO


@click.command(
    "dispatch",
    epilog="\b\nExamples:\n  offline-processor dispatch 9f… --config offline.toml\n"
    "  offline-processor dispatch --file sent-today.txt --config offline.toml\n"
    "  offline-processor dispatch 9f… --amount 'EUR 12.50' --shipment parcel-1 --config offline.toml",
)
@console.shared_options
@click.argument("order_ids", metavar="[ORDER]...", nargs=-1)
@click.option("--file", "listed", type=_FILE, metavar="FILE", help="Order ids, one a line.")
@click.option("--amount", metavar="AMOUNT", help="A part of the order: what this shipment is worth.")
@click.option("--shipment", metavar="NAME", help="Names a part; the same name again changes nothing.")
@click.option("--final", is_flag=True, help="Nothing more will be sent: the rest is released.")
@click.option("--early", is_flag=True, help="The goods of a pre-order are here before their day.")
@console.keystore_passphrase_option
@click.pass_obj
def dispatch(
    station: Station,
    *,
    config: Path,
    order_ids: tuple[str, ...],
    listed: Path | None,
    amount: str | None,
    shipment: str | None,
    final: bool,
    early: bool,
    passphrase_fds: Descriptors,
    as_json: bool,
) -> ExitCode:
    """Say that orders were sent: what was only authorised is captured now, and the shop is told.

    An order that was paid at once is only marked. Safe to repeat: what was sent already stays as it is.
    """
    part = None if amount is None else minor_units(amount)
    if part is not None and (shipment is None or listed is not None or len(order_ids) != 1):
        raise ProcessorError(
            "USAGE-SHIPMENT",
            "a part is of one order, and has a name",
            "give one ORDER, --amount and --shipment",
        )
    named = _checked_word(shipment or WHOLE, "--shipment")

    def wish(ledger: Ledger, charge: dispatching.Charge) -> list[Operation]:
        if part is not None and charge.authorised is not None and charge.authorised.currency != part[1]:
            raise ProcessorError("DISPATCH-AMOUNT", f"order {charge.order_id} is not in {part[1]}")
        worth = None if part is None else part[0]
        return dispatching.ship(
            ledger, charge, shipment=named, amount=worth, final=final, early=early, now=station.clock()
        )

    return _carry_out(
        station, config, passphrase_fds, _orders(order_ids, listed), wish, "dispatched", {}, as_json=as_json
    )


@click.command(
    "cancel",
    epilog="Example: offline-processor cancel 9f… --who 'A. Keeper' --why 'customer asked' --config offline.toml",
)
@console.shared_options
@click.argument("order_id", metavar="ORDER")
@_who
@_why
@console.keystore_passphrase_option
@click.pass_obj
def cancel(
    station: Station,
    *,
    config: Path,
    order_id: str,
    who: str,
    why: str,
    passphrase_fds: Descriptors,
    as_json: bool,
) -> ExitCode:
    """Release an order's authorisation, of which nothing was captured yet; the customer pays nothing."""
    said = {"who": _checked_word(who, "--who"), "why": _checked_word(why, "--why")}

    def wish(ledger: Ledger, charge: dispatching.Charge) -> list[Operation]:
        return dispatching.cancel(ledger, charge, now=station.clock())

    return _carry_out(
        station, config, passphrase_fds, _orders((order_id,), None), wish, "cancelled", said, as_json=as_json
    )


@click.command(
    "refund",
    epilog="Example: offline-processor refund 9f… --amount 'EUR 5.00' --reference R-17 --who 'A. Keeper'"
    " --why 'scratched' --config offline.toml",
)
@console.shared_options
@click.argument("order_id", metavar="ORDER")
@click.option("--amount", metavar="AMOUNT", help="How much of what was captured.")
@click.option("--whole", is_flag=True, help="All that is left of it.")
@click.option(
    "--reference", required=True, metavar="NAME", help="Names it; the same name again changes nothing."
)
@_who
@_why
@console.keystore_passphrase_option
@click.pass_obj
def refund(
    station: Station,
    *,
    config: Path,
    order_id: str,
    amount: str | None,
    whole: bool,
    reference: str,
    who: str,
    why: str,
    passphrase_fds: Descriptors,
    as_json: bool,
) -> ExitCode:
    """Give back what was captured, all or a part, never more; the shop is told when all of it is back."""
    if (amount is None) == (not whole):
        raise ProcessorError("USAGE-AMOUNT", "how much is to be given back?", "give --amount or --whole")
    part = (None, None) if amount is None else minor_units(amount)
    named = _checked_word(reference, "--reference")
    said = {"who": _checked_word(who, "--who"), "why": _checked_word(why, "--why"), "reference": named}

    def wish(ledger: Ledger, charge: dispatching.Charge) -> list[Operation]:
        return dispatching.refund(
            ledger, charge, reference=named, amount=part[0], currency=part[1], now=station.clock()
        )

    return _carry_out(
        station, config, passphrase_fds, _orders((order_id,), None), wish, "refund", said, as_json=as_json
    )


@click.command(
    "settle-attempt",
    epilog="Example: offline-processor settle-attempt 9f… --found reversed --who 'A. Keeper' --why 'Ms B. on the phone'"
    " --config offline.toml",
)
@console.shared_options
@click.argument("order_id", metavar="ORDER")
@click.option(
    "--found",
    required=True,
    type=click.Choice(["approved", "reversed"]),
    help="What the acquirer says: it stands, or it does not.",
)
@_who
@_why
@console.keystore_passphrase_option
@click.pass_obj
def settle_attempt(
    station: Station,
    *,
    config: Path,
    order_id: str,
    found: str,
    who: str,
    why: str,
    passphrase_fds: Descriptors,
    as_json: bool,
) -> ExitCode:
    """Settle an attempt that was left to a person (CHARGE-MANUAL), by what the acquirer says on the phone."""
    said = {"who": _checked_word(who, "--who"), "why": _checked_word(why, "--why"), "found": found}
    (order,) = _orders((order_id,), None)
    with _at_work(station, config, passphrase_fds, as_json=as_json) as (_, _, ledger, marks):
        settled = reversing.settle_manual(
            ledger, order, approved=found == "approved", said=said, now=station.clock()
        )
    if as_json:
        console.print_json({"marks": marks, "order": order, "state": settled.state.value})
    else:
        console.say(f"Order {order} is {settled.state} now; the next run goes on with it.")
    return ExitCode.DONE


def _carry_out(
    station: Station,
    config: Path,
    fds: Descriptors,
    order_ids: Sequence[str],
    wish: Wish,
    entry: str,
    said: dict[str, str],
    *,
    as_json: bool,
) -> ExitCode:
    """Note what is wished for each order, durably, then send what that owes the acquirer."""
    report = _Report()
    with _at_work(station, config, fds, as_json=as_json) as (settings, keystore, ledger, marks):
        made: list[Operation] = []
        owed_before = bool(pending(ledger))
        bars = Bars(shown=console.is_terminal())
        window = settings.processor.window
        try:
            for start in range(0, len(order_ids), window):
                for order_id in order_ids[start : start + window]:
                    made += _note(ledger, report, order_id, wish, entry, said, now=station.clock())
                bars.advance(entry, min(start + window, len(order_ids)), len(order_ids))
        finally:
            bars.stop()
        if made or owed_before:
            _send(station, settings, keystore, ledger, made, report)
    if as_json:
        console.print_json(report.as_document(marks))
    else:
        report.show()
    return report.exit_code()


def _note(
    ledger: Ledger,
    report: _Report,
    order_id: str,
    wish: Wish,
    entry: str,
    said: dict[str, str],
    *,
    now: int,
) -> list[Operation]:
    try:
        with ledger.atomic():
            before = dispatching.find(ledger, order_id)
            made = wish(ledger, before)
            changed = dispatching.find(ledger, order_id) != before
            if changed:
                ledger.append(entry, order_id, now, said)
    except ProcessorError as error:
        report.errors.append((order_id, error))
        return []
    report.orders += [order_id] if changed else []
    return made if changed else []


def _send(
    station: Station,
    settings: Settings,
    keystore: Keystore,
    ledger: Ledger,
    made: Iterable[Operation],
    report: _Report,
) -> None:
    """Reversals first, then what was owed before, then what is new."""
    desk = Desk(
        ledger=ledger,
        rehearsal=keystore.rehearsal,
        clock=station.clock,
        takes_at_once=settings.charging.capture == "sale",
    )
    try:
        acquirer = open_acquirer(settings.acquirer, desk)
    except ProcessorError as error:
        report.unreachable = error
        return
    window = min(settings.processor.window, acquirer.window or settings.processor.window)
    try:
        with CardTable(window) as cards:
            till = Till(
                ledger=ledger,
                acquirer=acquirer,
                vault_key=keystore.vault_key,
                epoch=keystore.epoch,
                charging=settings.charging,
            )
            recover_intents(ledger, now=station.clock())
            reversing.reverse_unknown(till, cards, window=window, now=station.clock())
            new = list(made)
            fresh = {item.id for item in new}
            old = [item for item in pending(ledger) if item.id not in fresh]
            for kind in OperationKind:
                for owed, repeat in ((old, True), (new, False)):
                    of_kind = [item for item in owed if item.kind is kind]
                    for start in range(0, len(of_kind), window):
                        some = of_kind[start : start + window]
                        report.sent.add(
                            operations.send(till, cards, some, repeat=repeat, now=station.clock())
                        )
    finally:
        acquirer.close()


@contextmanager
def _at_work(
    station: Station, config: Path, fds: Descriptors, *, as_json: bool
) -> Iterator[tuple[Settings, Keystore, Ledger, list[str]]]:
    """The station with a ledger that may be worked with: right clock, reconciled, not an old copy."""
    settings = station.settings(config)
    with open_station(settings, fds, as_json=as_json) as (keystore, ledger, marks):
        ledger.check_clock(station.clock())
        begin_epoch(ledger, keystore, now=station.clock())
        check_reconciled(ledger)
        check_not_behind(ledger, keystore.ring)
        yield settings, keystore, ledger, marks


def _orders(given: Sequence[str], listed: Path | None) -> list[str]:
    """The order ids given and listed, each once, in their order; ``USAGE-ORDER``."""
    found = list(given)
    if listed is not None:
        found += [line.strip() for line in listed.read_text("ascii", "replace").splitlines() if line.strip()]
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


def _checked_word(text: str, option: str) -> str:
    if _WORD.fullmatch(text) is None:
        raise ProcessorError(
            "USAGE-WORDS",
            f"{option} is up to 64 letters, digits, blanks and .,'/-",
            "it is kept in the ledger for ever: put no card and no address there",
        )
    return text


def _words(item: Operation) -> str:
    sent = item.original
    what = (
        "release of the rest"
        if item.kind is OperationKind.VOID
        else f"{item.kind} of {money(item.amount, sent.currency)}"
    )
    return f"{what}, order {sent.order_id}"


COMMANDS: Final = (dispatch, cancel, refund, settle_attempt)
