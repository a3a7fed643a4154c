"""`offline-processor export`: the carrier's file and the invitations, each person's data logged before it leaves.

Why here: the command line's part of what leaves this machine as a file; it opens no key.
Must not: read clock or environment (the station has them), or print a name or an address.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from keys import console, master_key
from keys.console import ExitCode
from keys.errors import RuleError
from offline_processor.errors import ProcessorError
from offline_processor.exports.making import Ready, carrier_files, feedback_file
from offline_processor.exports.people import Wish
from offline_processor.exports.profiles import SHIPPED, load_profile
from offline_processor.exports.purposes import PURPOSES, Purpose
from offline_processor.exports.releasing import into_directory, release, settle_unfinished
from offline_processor.ledger import disclosures, restrictions
from offline_processor.ledger.disclosures import Export
from offline_processor.ledger.ledger import Ledger
from offline_processor.station import Settings, Station, existing_ledger
from offline_processor.words import checked_word

_ORDER: Final = re.compile(r"[0-9a-f]{32}")
_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_LIST_LIMIT: Final = 16 * 1024 * 1024
_SHOWN: Final = 20
F = TypeVar("F", bound=Callable[..., Any])


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
    """Add ``[ORDER]...``, ``--file``, ``--of``, ``--again``, ``--dry-run`` and ``--who``."""
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
        function = option(function)
    return function


_out = click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="An existing directory; files in it are new, and for you alone.",
)


@click.group("export")
def export() -> None:
    """Write files for the carrier or the review service: declared fields only, each person logged, each order once."""


@export.command(
    "carrier",
    epilog="\b\nExamples:\n"
    "  offline-processor export carrier --out /media/usb --who 'A. Keeper' --config offline.toml\n"
    "  offline-processor export carrier --carrier dpd --dry-run --out . --who 'A. Keeper' --config offline.toml",
)
@console.shared_options
@orders_options
@_out
@click.option(
    "--carrier", "named", metavar="NAME|FILE", help=f"{', '.join(SHIPPED)}, or a TOML file of your own."
)
@click.pass_obj
def export_carrier(
    station: Station,
    *,
    config: Path,
    order_ids: tuple[str, ...],
    listed: Path | None,
    of_export: int | None,
    again: bool,
    dry_run: bool,
    who: str,
    out: Path,
    named: str | None,
    as_json: bool,
) -> ExitCode:
    """Write what the carrier needs for every order that is paid, in the carrier's own columns and letters.

    An order goes into one file once. What cannot be written is named with its reason, stays due, and ends with code 3.
    """
    settings = station.settings(config)
    profile = load_profile(named or configured_carrier(settings, config))
    with ledger_of(station, settings) as ledger:
        wish = wish_of(ledger, order_ids, listed, of_export, again=again)
        now = station.clock()
        outcome = let_out(
            ledger,
            Purpose.CARRIER,
            lambda: carrier_files(ledger, profile, wish, now=now),
            out,
            who=named_by(settings, who),
            now=now,
            dry=dry_run,
            mark=mark_of(settings),
        )
    return shown(outcome, as_json=as_json)


@export.command(
    "feedback",
    epilog="Example: offline-processor export feedback --out /media/usb --who 'A. Keeper' --config offline.toml",
)
@console.shared_options
@orders_options
@_out
@click.pass_obj
def export_feedback(
    station: Station,
    *,
    config: Path,
    order_ids: tuple[str, ...],
    listed: Path | None,
    of_export: int | None,
    again: bool,
    dry_run: bool,
    who: str,
    out: Path,
    as_json: bool,
) -> ExitCode:
    """Write invitations for every order that was dispatched: email, name, and a random reference, no order number.

    Who opted out is left out; `export opt-out` notes it.
    """
    settings = station.settings(config)
    with ledger_of(station, settings) as ledger:
        wish = wish_of(ledger, order_ids, listed, of_export, again=again)
        now = station.clock()
        outcome = let_out(
            ledger,
            Purpose.FEEDBACK,
            lambda: feedback_file(ledger, wish, now=now),
            out,
            who=named_by(settings, who),
            now=now,
            dry=dry_run,
            mark=mark_of(settings),
        )
    return shown(outcome, as_json=as_json)


@export.command(
    "opt-out",
    epilog="Example: offline-processor export opt-out --file unsubscribed.txt --who 'A. Keeper' --config offline.toml",
)
@console.shared_options
@click.option(
    "--file",
    "listed",
    required=True,
    metavar="FILE",
    type=click.File("r", encoding="utf-8"),
    help="Email addresses, one a line; - for standard input.",
)
@click.option("--take-back", is_flag=True, help="They want to be invited again.")
@click.option("--who", default="", metavar="NAME", help="Who notes it; else the name in [operator].")
@click.pass_obj
def opt_out(
    station: Station, *, config: Path, listed: Any, take_back: bool, who: str, as_json: bool
) -> ExitCode:
    """Note who does not want to be invited to give feedback. Kept as digests, also after a person is erased."""
    settings = station.settings(config)
    named = named_by(settings, who)
    try:
        lines = listed.read(_LIST_LIMIT + 1).splitlines()
    except UnicodeDecodeError as error:
        raise ProcessorError(
            "USAGE-EMAILS", "this is no list of addresses", "one a line, in UTF-8"
        ) from error
    emails = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    wrong = next(
        (place for place, email in enumerate(emails, 1) if email.count("@") != 1 or " " in email), None
    )
    if wrong is not None or not emails:
        raise ProcessorError(
            "USAGE-EMAILS",
            "no address was given" if not emails else f"address number {wrong} is none",
            "one a line; nothing was changed",
        )
    change = restrictions.lift if take_back else restrictions.restrict
    with ledger_of(station, settings) as ledger, ledger.atomic():
        purpose, now = Purpose.FEEDBACK.value, station.clock()
        changed = sum(change(ledger, email, purpose, who=named, now=now) for email in emails)
    if as_json:
        console.print_json({"addresses": len(emails), "changed": changed, "purpose": purpose})
    else:
        console.say(f"{changed} of {len(emails)} addresses changed")
    return ExitCode.DONE if changed else ExitCode.NOTHING_TO_DO


@export.command("log", epilog="Example: offline-processor export log --config offline.toml --json")
@console.shared_options
@click.option("--order", "order_id", metavar="ORDER", help="Only what was disclosed of this order.")
@click.pass_obj
def export_log(station: Station, *, config: Path, order_id: str | None, as_json: bool) -> ExitCode:
    """Show the disclosure log: what of whom went to whom, when, by whom, and the table of what is allowed at all."""
    settings = station.settings(config)
    with ledger_of(station, settings) as ledger:
        if order_id is None:
            found = [(made, "") for made in disclosures.exports(ledger)]
        else:
            (order,) = checked_orders((order_id,))
            row = ledger.row("SELECT number FROM orders WHERE order_id = ?", (order,))
            found = [] if row is None else disclosures.of_order(ledger, row[0])
        counts = {made.id: len(disclosures.orders_in(ledger, made.id)) for made, _ in found}
    if as_json:
        console.print_json(
            {
                "purposes": [declared.as_document() for declared in PURPOSES.values()],
                "exports": [{**made.as_document(), "orders": counts[made.id]} for made, _ in found],
            }
        )
    else:
        console.table(
            "Exports",
            ("export", "state", "purpose", "to", "fields", "orders", "who"),
            [
                (
                    made.id,
                    made.state,
                    made.purpose,
                    made.recipient,
                    ", ".join(made.fields),
                    counts[made.id],
                    made.who,
                )
                for made, _ in found
            ],
        )
    return ExitCode.DONE if found else ExitCode.NOTHING_TO_DO


@contextmanager
def ledger_of(station: Station, settings: Settings) -> Iterator[Ledger]:
    """The ledger, at a time that is not before its newest entry; no key is opened."""
    ledger = existing_ledger(settings)
    try:
        ledger.check_clock(station.clock())
        yield ledger
    finally:
        ledger.close()


def let_out(
    ledger: Ledger,
    purpose: Purpose,
    prepare: Callable[[], Ready],
    directory: Path,
    *,
    who: str,
    now: int,
    dry: bool,
    mark: str,
) -> Outcome:
    """Write what ``prepare`` makes ready into ``directory``, each file logged first; ``dry``: write and log nothing.

    What an earlier crash cut short is settled before: its orders are exported again unless its file is whole there.
    """
    put = into_directory(directory)
    unsettled = [] if dry else settle_unfinished(ledger, purpose, directory, now=now)
    outcome = Outcome(ready=prepare(), dry=dry, unsettled=unsettled, place=f"are in {directory}", mark=mark)
    if not dry:
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


def configured_carrier(settings: Settings, config: Path) -> str:
    """The carrier of the configuration; a file is relative to it."""
    named = settings.exports.carrier
    return named if named in SHIPPED else str(config.resolve().parent / named)


def wish_of(
    ledger: Ledger, order_ids: Sequence[str], listed: Path | None, of_export: int | None, *, again: bool
) -> Wish:
    """Which orders a person named; ``USAGE-ORDER``, ``USAGE-AGAIN``."""
    lines: list[str] = []
    if listed is not None:
        with listed.open("rb") as file:
            lines = file.read(_LIST_LIMIT).decode("ascii", "replace").split()
    orders = checked_orders((*order_ids, *lines))
    if of_export is not None:
        orders += [one.order_id for one in disclosures.orders_in(ledger, of_export)]
    if again and not orders:
        raise ProcessorError(
            "USAGE-AGAIN",
            "which orders are to be exported again?",
            "name them, or an earlier export with --of; nothing was exported",
        )
    if not orders and (listed is not None or of_export is not None):
        raise ProcessorError("USAGE-ORDER", "no order was named", "see: offline-processor export log")
    return Wish(orders=tuple(orders), again=again)


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


COMMANDS: Final = (export,)
