"""`offline-processor retention` and `legal-hold`: what is over is erased; what a court or a dispute needs stays.

Why here: the command line's part of the retention schedule; it opens no key.
Must not: read clock or environment (the station has them), or offer another time than the schedule's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from keys import console
from keys.console import ExitCode
from offline_processor import retention as retaining
from offline_processor.acquirers.report import in_words
from offline_processor.cli_said import said_options
from offline_processor.decisions import Said
from offline_processor.errors import ProcessorError
from offline_processor.ledger import erasure
from offline_processor.ledger.ledger import Ledger
from offline_processor.station import Station, ledger_of
from offline_processor.words import checked_word
from transfer.retention import SCHEDULE

_ORDER: Final = re.compile(r"[0-9a-f]{32}")


@click.group("retention")
def retention() -> None:
    """How long what is kept of whom, and its end."""


@retention.command(
    "run", epilog="Example: offline-processor retention run --who 'A. Keeper' --config offline.toml"
)
@console.shared_options
@click.option("--who", required=True, metavar="NAME", help="Who does this; kept in the ledger.")
@click.option("--dry-run", is_flag=True, help="Show what would be erased; change nothing.")
@click.pass_obj
def run(station: Station, *, config: Path, who: str, dry_run: bool, as_json: bool) -> ExitCode:
    """Erase what the schedule says is over, and erasures that waited; the ledger's files are searched before and after.

    Names, addresses and salts go; entries stay, which name nobody. What is open, owed or held by law stays too.
    """
    named = checked_word(who, "--who")
    with ledger_of(station, station.settings(config)) as ledger:
        report = retaining.run(ledger, who=named, now=station.clock(), dry=dry_run)
    if as_json:
        console.print_json(report.as_document())
    else:
        for kind, count in sorted(report.erased.items()):
            console.say(f"{'Would be erased' if dry_run else 'Erased'}: {count} ({kind})")
        for reason, count in sorted(report.kept.items()):
            console.say(f"Over, but kept: {count} ({reason})")
        if report.requests:
            console.say(f"Requests answered: {report.requests}; the next return tells of it")
        if report.proof is not None:
            console.say(report.proof.in_words())
    if report.proof is not None and not report.proof.holds:
        console.warn(
            "The search still finds what was erased: keep this disk, and look into it", style="bold red"
        )
        return ExitCode.NEEDS_PERSON
    return ExitCode.DONE if report.anything() else ExitCode.NOTHING_TO_DO


@retention.command(
    "schedule", epilog="Example: offline-processor retention schedule --config offline.toml --json"
)
@console.shared_options
@click.pass_obj
def schedule(station: Station, *, config: Path, as_json: bool) -> ExitCode:
    """Show the schedule: what is kept, where, how long, on what ground."""
    station.settings(config)
    if as_json:
        console.print_json({"schedule": [rule.as_document() for rule in SCHEDULE]})
    else:
        rows = [(rule.what, rule.side, rule.kept, rule.ended_by) for rule in SCHEDULE]
        console.table("Retention", ("what", "side", "kept", "ended by"), rows)
    return ExitCode.DONE


@click.group("legal-hold")
def legal_hold() -> None:
    """Keep a person's data of an order although its time is over, while a dispute or a court needs it."""


@legal_hold.command(
    "add",
    epilog="Example: offline-processor legal-hold add 9f… --who 'A. Keeper' --why 'dispute 17' --config offline.toml",
)
@console.shared_options
@click.argument("order_ids", metavar="ORDER...", nargs=-1, required=True)
@said_options
@click.pass_obj
def add(station: Station, *, config: Path, order_ids: tuple[str, ...], said: Said, as_json: bool) -> ExitCode:
    """Hold these orders' persons: no erasure and no retention run takes them, the database itself refuses."""
    with ledger_of(station, station.settings(config)) as ledger, ledger.atomic():
        changed = erasure.add_hold(
            ledger, _numbers(ledger, order_ids), who=said.who, why=said.why, now=station.clock()
        )
    return _shown("held", changed, as_json=as_json)


@legal_hold.command(
    "remove",
    epilog="Example: offline-processor legal-hold remove 9f… --who 'A. Keeper' --why 'settled' --config offline.toml",
)
@console.shared_options
@click.argument("order_ids", metavar="ORDER...", nargs=-1, required=True)
@said_options
@click.pass_obj
def remove(
    station: Station, *, config: Path, order_ids: tuple[str, ...], said: Said, as_json: bool
) -> ExitCode:
    """End these holds. What is over by then goes with the next retention run."""
    with ledger_of(station, station.settings(config)) as ledger, ledger.atomic():
        changed = erasure.remove_hold(
            ledger, _numbers(ledger, order_ids), who=said.who, why=said.why, now=station.clock()
        )
    return _shown("released", changed, as_json=as_json)


@legal_hold.command("list", epilog="Example: offline-processor legal-hold list --config offline.toml --json")
@console.shared_options
@click.pass_obj
def list_holds(station: Station, *, config: Path, as_json: bool) -> ExitCode:
    """Show the holds: since when, by whom and why."""
    with ledger_of(station, station.settings(config)) as ledger:
        found = erasure.holds(ledger)
    rows = [(hold.order_id, in_words(hold.at), hold.who, hold.why) for hold in found]
    if as_json:
        names = ("order", "since", "who", "why")
        console.print_json({"holds": [dict(zip(names, row, strict=True)) for row in rows]})
    else:
        console.table("Legal holds", ("order", "since", "who", "why"), rows)
    return ExitCode.DONE if found else ExitCode.NOTHING_TO_DO


def _numbers(ledger: Ledger, order_ids: Sequence[str]) -> list[tuple[int, str]]:
    found = []
    for order in dict.fromkeys(order.lower() for order in order_ids):
        if _ORDER.fullmatch(order) is None:
            raise ProcessorError(
                "USAGE-ORDER", "this is no order id", "an order id has 32 hexadecimal digits"
            )
        found.append((erasure.number_of(ledger, order), order))
    return found


def _shown(what: str, changed: int, *, as_json: bool) -> ExitCode:
    if as_json:
        console.print_json({what: changed})
    else:
        console.say(f"Orders {what}: {changed}")
    return ExitCode.DONE if changed else ExitCode.NOTHING_TO_DO


COMMANDS: Final = (retention, legal_hold)
