"""`offline-processor export`: the carrier's file and the invitations, each person's data logged before it leaves.

Why here: the command line's part of what leaves this machine as a file; it opens no key.
Must not: read clock or environment (the station has them), or print a name or an address.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from keys import console
from keys.console import ExitCode
from offline_processor.cli_letting_out import (
    LIST_LIMIT,
    Asked,
    Outcome,
    checked_orders,
    let_out,
    named_by,
    orders_options,
    shown,
)
from offline_processor.errors import ProcessorError
from offline_processor.exports.making import Ready, carrier_files, feedback_file
from offline_processor.exports.people import Wish
from offline_processor.exports.profiles import SHIPPED, load_profile
from offline_processor.exports.purposes import PURPOSES, Purpose
from offline_processor.exports.releasing import into_directory
from offline_processor.ledger import disclosures, restrictions
from offline_processor.ledger.ledger import Ledger
from offline_processor.station import Settings, Station, ledger_of

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
    asked: Asked,
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
        now = station.clock()

        def prepare(wish: Wish) -> Ready:
            return carrier_files(ledger, profile, wish, now=now)

        outcome = _written(ledger, Purpose.CARRIER, prepare, out, asked, settings=settings, now=now)
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
    asked: Asked,
    out: Path,
    as_json: bool,
) -> ExitCode:
    """Write invitations for every order that was dispatched: email, name, and a random reference, no order number.

    Who opted out is left out; `export opt-out` notes it.
    """
    settings = station.settings(config)
    with ledger_of(station, settings) as ledger:
        now = station.clock()

        def prepare(wish: Wish) -> Ready:
            return feedback_file(ledger, wish, now=now)

        outcome = _written(ledger, Purpose.FEEDBACK, prepare, out, asked, settings=settings, now=now)
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
        lines = listed.read(LIST_LIMIT + 1).splitlines()
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


def _written(
    ledger: Ledger,
    purpose: Purpose,
    prepare: Callable[[Wish], Ready],
    out: Path,
    asked: Asked,
    *,
    settings: Settings,
    now: int,
) -> Outcome:
    put, place = into_directory(out), f"are in {out}"
    return let_out(
        ledger, purpose, prepare, put, asked, settings=settings, directory=out, place=place, now=now
    )


def configured_carrier(settings: Settings, config: Path) -> str:
    """The carrier of the configuration; a file is relative to it."""
    named = settings.exports.carrier
    return named if named in SHIPPED else str(config.resolve().parent / named)


COMMANDS: Final = (export,)
