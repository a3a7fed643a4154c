"""`offline-processor` verbs for decisions about money: refund, settle-attempt, approve.

Why here: the command line's part of what needs a name and a reason, and above a limit a second person.
Must not: read clock or environment (the station has them), or carry out what one person alone may not decide.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click

from keys import console
from keys.console import ExitCode
from keys.passphrases import Descriptors
from offline_processor import decisions
from offline_processor.cli_said import said_options
from offline_processor.cli_wishes import (
    AtWork,
    Noted,
    Wish,
    at_work,
    carry_out,
    end,
    order_ids,
)
from offline_processor.control_total import minor_units
from offline_processor.decisions import Decision, Done, Said, Verb
from offline_processor.errors import ProcessorError
from offline_processor.ledger.ledger import Ledger
from offline_processor.station import Station
from offline_processor.words import checked_word

_REQUEST: Final = re.compile(r"[Rr]([1-9][0-9]{0,9})", re.ASCII)
_APPROVAL: Final = re.compile(r"[0-9A-Z]{0,6}", re.ASCII)


@click.command(
    "refund",
    epilog="Example: offline-processor refund 9f… --amount 'EUR 5.00' --reference R-17 --who 'A. Keeper'"
    " --why 'scratched' --config offline.toml",
)
@console.shared_options
@click.argument("order", metavar="ORDER")
@click.option("--amount", metavar="AMOUNT", help="How much of what was captured.")
@click.option("--whole", is_flag=True, help="All that is left of it.")
@click.option(
    "--reference", required=True, metavar="NAME", help="Names it; the same name again changes nothing."
)
@said_options
@console.keystore_passphrase_option
@click.pass_obj
def refund(
    station: Station,
    *,
    config: Path,
    order: str,
    amount: str | None,
    whole: bool,
    reference: str,
    said: Said,
    passphrase_fds: Descriptors,
    as_json: bool,
) -> ExitCode:
    """Give back what was captured, all or a part, never more; the shop is told when all of it is back.

    Above [charging] second_person_above it waits for another person: offline-processor approve.
    """
    if (amount is None) == (not whole):
        raise ProcessorError("USAGE-AMOUNT", "how much is to be given back?", "give --amount or --whole")
    part = (None, None) if amount is None else minor_units(amount)
    (subject,) = order_ids((order,), None)
    decision = Decision(
        verb=Verb.REFUND,
        subject=subject,
        amount=part[0],
        currency=part[1],
        reference=checked_word(reference, "--reference"),
    )
    return decided(station, config, passphrase_fds, decision, said, as_json=as_json)


@click.command(
    "settle-attempt",
    epilog="Example: offline-processor settle-attempt 9f… --found reversed --who 'A. Keeper' --why 'Ms B. on the phone'"
    " --config offline.toml",
)
@console.shared_options
@click.argument("order", metavar="ORDER")
@click.option(
    "--found",
    required=True,
    type=click.Choice(["approved", "reversed"]),
    help="What the acquirer says: it stands, or it does not.",
)
@click.option("--approval", default="", metavar="CODE", help="The approval code, if the acquirer names one.")
@said_options
@console.keystore_passphrase_option
@click.pass_obj
def settle_attempt(
    station: Station,
    *,
    config: Path,
    order: str,
    found: str,
    approval: str,
    said: Said,
    passphrase_fds: Descriptors,
    as_json: bool,
) -> ExitCode:
    """Settle an attempt that was left to a person, by what the acquirer says on the phone.

    Above [charging] second_person_above it waits for another person: offline-processor approve.
    """
    if _APPROVAL.fullmatch(approval) is None or (approval and found != "approved"):
        raise ProcessorError(
            "USAGE-APPROVAL",
            "an approval code has up to six capitals and digits",
            "give it with --found approved",
        )
    (subject,) = order_ids((order,), None)
    decision = Decision(verb=Verb.SETTLE_ATTEMPT, subject=subject, found=found, approval=approval)
    return decided(station, config, passphrase_fds, decision, said, as_json=as_json)


@click.command(
    "approve",
    epilog="Example: offline-processor approve R3 --who 'B. Witness' --config offline.toml",
)
@console.shared_options
@click.argument("request", metavar="CASE")
@click.option("--who", required=True, metavar="NAME", help="Who confirms; not who has decided.")
@click.option("--refuse", is_flag=True, help="It is not to be done.")
@click.option("--why", default="", metavar="TEXT", help="Why it is refused.")
@console.keystore_passphrase_option
@click.pass_obj
def approve(
    station: Station,
    *,
    config: Path,
    request: str,
    who: str,
    refuse: bool,
    why: str,
    passphrase_fds: Descriptors,
    as_json: bool,
) -> ExitCode:
    """Confirm, as a second person, what another has decided about money: it is carried out now. Or refuse it."""
    found = _REQUEST.fullmatch(request)
    if found is None:
        raise ProcessorError(
            "USAGE-REQUEST", f"{request[:20]!r} is no R and a number", "offline-processor cases shows it"
        )
    second = checked_word(who, "--who")
    if refuse:
        checked_word(why, "--why")
    with at_work(station, config, passphrase_fds, as_json=as_json) as work:
        waiting = decisions.find_request(work.ledger, int(found[1]))

        def wish(ledger: Ledger, _: str) -> Noted:
            if refuse:
                decisions.refuse(ledger, waiting, second, why, now=station.clock())
                return Noted(changed=True)
            return noted(
                decisions.approve(ledger, waiting, second, work.settings.charging, now=station.clock())
            )

        return end(work, carry_out(work, [f"R{waiting.number}"], wish, "approved"), as_json=as_json)


def decided(
    station: Station, config: Path, fds: Descriptors, decision: Decision, said: Said, *, as_json: bool
) -> ExitCode:
    """Decide, and carry it out if one person may."""
    with at_work(station, config, fds, as_json=as_json) as work:
        return end(
            work, carry_out(work, [decision.subject], _wish(work, decision, said), "decided"), as_json=as_json
        )


def _wish(work: AtWork, decision: Decision, said: Said) -> Wish:
    def wish(ledger: Ledger, _: str) -> Noted:
        limits, now = work.settings.charging, work.station.clock()
        return noted(decisions.decide(ledger, decision, said, limits, now=now))

    return wish


def noted(done: Done) -> Noted:
    """A decision as a wish's answer."""
    return Noted(changed=done.changed, made=done.operations, asked=done.asked)


COMMANDS: Final = (refund, settle_attempt, approve)
