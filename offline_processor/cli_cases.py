"""`offline-processor cases` and `case`: what waits for a person, and the commands that end it with a name and a reason.

Why here: the command line's part of cases.
Must not: read clock or environment (the station has them), or end a case silently.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import click

from keys import console
from keys.console import ExitCode
from keys.passphrases import Descriptors
from offline_processor.acquirers.report import in_words as time_in_words
from offline_processor.case_form import Case, Phone
from offline_processor.cases import open_cases
from offline_processor.cli_decisions import decided
from offline_processor.cli_said import said_options
from offline_processor.cli_wishes import order_ids
from offline_processor.control_total import money
from offline_processor.decisions import Decision, Said, Verb
from offline_processor.errors import ProcessorError
from offline_processor.ledger.ledger import Ledger
from offline_processor.station import Settings, Station, ledger_to_read

_SHOWN: Final = 20
_CASE_LIMIT: Final = 64


@click.command("cases", epilog="Example: offline-processor cases --config offline.toml")
@console.shared_options
@click.option("--all", "show_all", is_flag=True, help=f"More than the first {_SHOWN} of each kind.")
@click.pass_obj
def cases(station: Station, *, config: Path, show_all: bool, as_json: bool) -> ExitCode:
    """Everything that waits: why, what may be done, by which command, until when. Needs no passphrase.

    Ends with code 3 when something needs a person; what the next run goes on with by itself is listed last.
    """
    settings = station.settings(config)
    ledger, no_mirror = ledger_to_read(settings)
    with closing(ledger):
        found = cases_of(settings, ledger, now=station.clock())
    if as_json:
        document = {
            "cases": [case.as_document() for case in found],
            "mirror": None if no_mirror is None else no_mirror.rule,
        }
        console.print_json(document)
    else:
        for line in in_words(found, config=config, limit=None if show_all else _SHOWN):
            console.say(line)
        if no_mirror is not None:
            console.report_error(no_mirror, as_json=False)
    return ExitCode.NEEDS_PERSON if any(case.needs_person for case in found) else ExitCode.DONE


def cases_of(settings: Settings, ledger: Ledger, *, now: int) -> list[Case]:
    """The open cases of this workstation."""
    return open_cases(
        ledger,
        charging=settings.charging,
        acquirer=settings.acquirer,
        hold_seconds=settings.processor.hold_hours * 3600,
        now=now,
    )


def in_words(found: Sequence[Case], *, config: Path, limit: int | None) -> Iterator[str]:
    """Cases for a person, at most ``limit`` of each kind."""
    if not found:
        yield "No case: nothing waits for a person, and nothing is held."
    shown: Counter[str] = Counter()
    counts = Counter(case.kind for case in found)
    for case in found:
        shown[case.kind] += 1
        if shown[case.kind] == 1:
            yield f"{case.kind.upper()} ({counts[case.kind]})"
        if limit is None or shown[case.kind] <= limit:
            yield from _one(case, config)
        elif shown[case.kind] == limit + 1:
            yield f"  … and {counts[case.kind] - limit} more: --all, or --json"


def _one(case: Case, config: Path) -> Iterator[str]:
    worth = f", {money(case.amount, case.currency)}" if case.currency else ""
    order = f"order {case.order_id}" if case.order_id else "no order"
    name = order if case.id == case.order_id else f"{case.id}: {order}"
    yield f"  {name}{worth} [{case.rule}]"
    yield f"    why: {case.why}"
    if case.since:
        yield f"    since {time_in_words(case.since)}" + (
            f", decided by itself at {time_in_words(case.deadline)}" if case.deadline else ""
        )
    if case.phone is not None:
        yield from (f"    {line}" for line in _to_say(case.phone))
    for command in case.may:
        yield f"    may: {command} --config {config}"


def _to_say(phone: Phone) -> Iterator[str]:
    """What the acquirer asks on the phone."""
    yield (
        f"to say on the phone: merchant {phone.merchant or '?'}, terminal {phone.terminal or '?'},"
        f" card {phone.card or '?'}"
    )
    yield (
        f"  {money(phone.amount, phone.currency)}, sent {time_in_words(phone.sent_at)}, RRN {phone.rrn},"
        f" STAN {phone.stan:06d}, code {phone.code or 'none'}, approval {phone.approval or 'none'}"
    )
    if phone.reversal_at:
        yield (
            f"  reversal: STAN {phone.reversal_stan:06d}, first sent {time_in_words(phone.reversal_at)},"
            f" {phone.tries} times"
        )


@click.group("case")
def case() -> None:
    """End one case, with a name and a reason that stay in the ledger."""


@case.command(
    "order-again",
    epilog="Example: offline-processor case order-again 9f… --who 'A. Keeper' --why 'total differs'"
    " --config offline.toml",
)
@console.shared_options
@click.argument("order", metavar="ORDER")
@click.option("--given-back", is_flag=True, help="The acquirer has given back what it charged.")
@said_options
@console.keystore_passphrase_option
@click.pass_obj
def order_again(
    station: Station,
    *,
    config: Path,
    order: str,
    given_back: bool,
    said: Said,
    passphrase_fds: Descriptors,
    as_json: bool,
) -> ExitCode:
    """End an order that waits and cannot be charged any more: its customer is told to order again.

    There is no command that charges a quarantined order: its parts do not agree, and nobody's word makes them.
    """
    (subject,) = order_ids((order,), None)
    decision = Decision(verb=Verb.ORDER_AGAIN, subject=subject, given_back=given_back)
    return decided(station, config, passphrase_fds, decision, said, as_json=as_json)


@case.command(
    "again",
    epilog="Example: offline-processor case again 41… --who 'A. Keeper' --why 'limit was raised' --config offline.toml",
)
@console.shared_options
@click.argument("name", metavar="CASE")
@said_options
@console.keystore_passphrase_option
@click.pass_obj
def again(
    station: Station,
    *,
    config: Path,
    name: str,
    said: Said,
    passphrase_fds: Descriptors,
    as_json: bool,
) -> ExitCode:
    """Send a capture, refund or release once more that the acquirer has refused."""
    decision = Decision(verb=Verb.AGAIN, subject=_checked(name))
    return decided(station, config, passphrase_fds, decision, said, as_json=as_json)


@case.command(
    "close",
    epilog="Example: offline-processor case close X4 --who 'A. Keeper' --why 'by cheque' --config offline.toml",
)
@console.shared_options
@click.argument("name", metavar="CASE")
@said_options
@console.keystore_passphrase_option
@click.pass_obj
def close(
    station: Station,
    *,
    config: Path,
    name: str,
    said: Said,
    passphrase_fds: Descriptors,
    as_json: bool,
) -> ExitCode:
    """Say that a case was looked into and is settled otherwise. Nothing is sent."""
    decision = Decision(verb=Verb.CLOSE, subject=_checked(name))
    return decided(station, config, passphrase_fds, decision, said, as_json=as_json)


def _checked(name: str) -> str:
    if not 0 < len(name) <= _CASE_LIMIT or not name.isascii() or not name.isprintable():
        raise ProcessorError("USAGE-CASE", "this is no id of a case", "offline-processor cases shows them")
    return name


COMMANDS: Final = (cases, case)
