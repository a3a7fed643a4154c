"""What `export` and `print` have in common: the orders that were named, and what became of them, told.

Why here: people's data leaves this machine by one path, whatever it leaves as; the command line's part of that path.
Must not: read clock or environment, or print a name or an address.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from keys import console, master_key
from keys.console import ExitCode
from keys.errors import RuleError
from offline_processor.errors import ProcessorError
from offline_processor.exports.making import Ready
from offline_processor.exports.people import Wish
from offline_processor.exports.purposes import Purpose
from offline_processor.exports.releasing import release, settle_unfinished
from offline_processor.ledger import disclosures
from offline_processor.ledger.disclosures import Export
from offline_processor.ledger.ledger import Ledger
from offline_processor.station import Settings
from offline_processor.words import checked_word

LIST_LIMIT: Final = 16 * 1024 * 1024
_ORDER: Final = re.compile(r"[0-9a-f]{32}")
_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_SHOWN: Final = 20
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a person typed: which orders, whether again, whether only to look, and who they are."""

    order_ids: tuple[str, ...]
    listed: Path | None
    of_export: int | None
    again: bool
    dry_run: bool
    who: str


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What one export command did, or would do (``dry``). ``unsettled``: exports that an earlier crash cut short."""

    ready: Ready
    dry: bool = False
    made: list[Export] = field(default_factory=list)
    unsettled: list[tuple[Export, bool]] = field(default_factory=list)
    place: str = ""
    mark: str = ""

    def as_document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "dry_run": self.dry,
            "mark": self.mark,
            **self.ready.as_document(),
            "exports": [export.as_document() for export in self.made],
            "cut_short": [
                {"export": export.id, "name": export.name, "out": out} for export, out in self.unsettled
            ],
        }

    def show(self) -> None:
        """In words."""
        if self.mark:
            console.warn(self.mark, style="bold yellow")
        for export, out in self.unsettled:
            found = (
                "it is whole and counts" if out else "its orders are exported again; remove it if you find it"
            )
            console.warn(f"An earlier {export.name} was cut short by a crash: {found}.", style="bold yellow")
        for export in self.made:
            console.say(
                f"{export.name}: {', '.join(export.fields)} to {export.recipient}, logged as export {export.id}"
            )
        orders = f"{self.ready.orders} orders"
        if self.dry:
            console.say(f"Nothing was written (dry run): {orders} in {len(self.ready.files)} files")
        elif self.made:
            console.say(f"{orders} {self.place}")
        else:
            console.say("Nothing to do: no order is due.")
        for count, words in (
            (self.ready.changed, "written in Roman letters, one by one: look at them"),
            (self.ready.waiting, "wait for the release of their goods"),
            (self.ready.opted_out, "left out: their people do not want this"),
            (self.ready.erased, "left out: their people's data was erased"),
        ):
            if count:
                console.say(f"  {count} {words}")
        for reject in self.ready.rejects[:_SHOWN]:
            console.warn(f"  NOT IN IT: order {reject.order_id}: {reject.why} ({reject.rule})")
        if len(self.ready.rejects) > _SHOWN:
            console.warn(f"  … and {len(self.ready.rejects) - _SHOWN} more; --json lists all")

    def exit_code(self) -> ExitCode:
        """DONE, or NEEDS_PERSON when an order is not in it that should be."""
        if self.ready.rejects or any(not out for _, out in self.unsettled):
            return ExitCode.NEEDS_PERSON
        return ExitCode.DONE if self.ready.orders else ExitCode.NOTHING_TO_DO


def orders_options(function: F) -> F:
    """Add ``[ORDER]...``, ``--file``, ``--of``, ``--again``, ``--dry-run`` and ``--who``, passed as one ``asked``."""

    @functools.wraps(function)
    def command(
        *rest: Any,
        order_ids: tuple[str, ...],
        listed: Path | None,
        of_export: int | None,
        again: bool,
        dry_run: bool,
        who: str,
        **others: Any,
    ) -> Any:
        asked = Asked(
            order_ids=order_ids, listed=listed, of_export=of_export, again=again, dry_run=dry_run, who=who
        )
        return function(*rest, asked=asked, **others)

    options = (
        click.argument("order_ids", metavar="[ORDER]...", nargs=-1),
        click.option("--file", "listed", type=_FILE, metavar="FILE", help="Order ids, one a line."),
        click.option(
            "--of",
            "of_export",
            type=click.IntRange(min=1),
            metavar="EXPORT",
            help="The orders of that export.",
        ),
        click.option("--again", is_flag=True, help="Also orders that were exported for this purpose before."),
        click.option("--dry-run", is_flag=True, help="Show what would be done; write and log nothing."),
        click.option("--who", default="", metavar="NAME", help="Who does it; else the name in [operator]."),
    )
    for option in reversed(options):
        command = option(command)
    return command  # type: ignore[return-value]


def let_out(
    ledger: Ledger,
    purpose: Purpose,
    prepare: Callable[[Wish], Ready],
    put: Callable[[str, bytes], None],
    asked: Asked,
    *,
    settings: Settings,
    directory: Path | None,
    place: str,
    now: int,
) -> Outcome:
    """``put`` what ``prepare`` makes ready of the orders that were asked for, each file logged first.

    A dry run writes and logs nothing. What an earlier crash cut short in ``directory`` is settled before: its orders
    are exported again unless its file is whole there.
    """
    who, mark = named_by(settings, asked.who), mark_of(settings)
    wish = wish_of(ledger, asked)
    unsettled = [] if asked.dry_run else settle_unfinished(ledger, purpose, directory, now=now)
    outcome = Outcome(ready=prepare(wish), dry=asked.dry_run, unsettled=unsettled, place=place, mark=mark)
    if not asked.dry_run:
        for prepared in outcome.ready.files:
            outcome.made.append(release(ledger, prepared, put, who=who, now=now, rehearsal=bool(mark)))
    return outcome


def mark_of(settings: Settings) -> str:
    """What stands on everything that a rehearsal makes; "" with real keys. Needs no passphrase."""
    try:
        rehearsal = master_key.claims_rehearsal(settings.keystore.path)
    except (RuleError, OSError):
        rehearsal = settings.acquirer.driver == "simulator"
    return "REHEARSAL: nobody was charged" if rehearsal else ""


def shown(outcome: Outcome, *, as_json: bool) -> ExitCode:
    """Print it, and the exit code."""
    if as_json:
        console.print_json(outcome.as_document())
    else:
        outcome.show()
    return outcome.exit_code()


def wish_of(ledger: Ledger, asked: Asked) -> Wish:
    """Which orders a person named; ``USAGE-ORDER``, ``USAGE-AGAIN``."""
    lines: list[str] = []
    if asked.listed is not None:
        with asked.listed.open("rb") as file:
            lines = file.read(LIST_LIMIT).decode("ascii", "replace").split()
    orders = checked_orders((*asked.order_ids, *lines))
    if asked.of_export is not None:
        orders += [one.order_id for one in disclosures.orders_in(ledger, asked.of_export)]
    if asked.again and not orders:
        raise ProcessorError(
            "USAGE-AGAIN",
            "which orders are to be exported again?",
            "name them, or an earlier export with --of; nothing was exported",
        )
    if not orders and (asked.listed is not None or asked.of_export is not None):
        raise ProcessorError("USAGE-ORDER", "no order was named", "see: offline-processor export log")
    return Wish(orders=tuple(orders), again=asked.again)


def checked_orders(named: Sequence[str]) -> list[str]:
    """The order ids; ``USAGE-ORDER``."""
    orders = [order.lower() for order in named]
    wrong = next((place for place, order in enumerate(orders, 1) if _ORDER.fullmatch(order) is None), None)
    if wrong is not None:
        raise ProcessorError(
            "USAGE-ORDER",
            f"order number {wrong} of those named is none",
            "an order id has 32 hexadecimal digits",
        )
    return orders


def named_by(settings: Settings, who: str) -> str:
    """The name that the ledger keeps: the one given, or the configuration's; ``USAGE-WHO``, ``USAGE-WORDS``."""
    name = who or settings.operator.name
    if not name:
        raise ProcessorError(
            "USAGE-WHO",
            "nobody was named who does this",
            "give --who, or a name in [operator]; it is kept in the ledger for ever",
        )
    return checked_word(name, "--who")
