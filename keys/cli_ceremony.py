"""`key-ceremony` verbs of a ceremony and its record: run, verify-record, software.

Why here: they need a ceremony file or a record, and no configuration.
Must not: take a secret on the command line, or show one outside a private screen.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import click
import msgspec

from keys import console
from keys.ceremony_file import read_plan
from keys.ceremony_run import REHEARSAL_MARK, hold
from keys.ceremony_steps import steps_of
from keys.cli_change import DIRECTORY, FILE, now
from keys.console import ExitCode, say
from keys.errors import KeysError
from keys.public.fingerprint import is_form
from keys.record import verify_record
from keys.software import installed


@click.command("run", epilog="Example: key-ceremony run CEREMONY.toml --check")
@click.argument("plan_file", metavar="CEREMONY.toml", type=FILE)
@click.option("--check", is_flag=True, help="Only judge the file and list the steps; no key is touched.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
def run(*, plan_file: Path, check: bool, as_json: bool) -> ExitCode:
    """Hold a key ceremony as CEREMONY.toml says, step by step, with a signed record at the end."""
    plan, raw = read_plan(plan_file)
    if plan.rehearsal and not as_json:
        say(REHEARSAL_MARK, style="bold")
    if check:
        steps = steps_of(plan)
        headings = [step.heading(number, len(steps)) for number, step in enumerate(steps, 1)]
        if as_json:
            console.print_json({"title": plan.title, "rehearsal": plan.rehearsal, "steps": headings})
            return ExitCode.DONE
        for heading, step in zip(headings, steps, strict=True):
            say(heading, style="bold")
            say(f"    {step.what}")
        say("The file is good. Nothing was made.")
        return ExitCode.DONE
    held = hold(plan, raw, software=installed(), clock=now)
    if as_json:
        console.print_json(dataclasses.asdict(held))
        return ExitCode.DONE
    say(f"Keystore made: {held.keystore}")
    say(f"Fingerprint of the offline identity: {held.fingerprint}", style="bold")
    say(f"  in words: {held.words}")
    say(f"Custody key in words: {held.custody_words}")
    say(f"Record, custody copy and files for the nodes: {held.output}")
    say(f"Write on the paper of the ceremony, record.json (b2sum -l 256): {held.record_digest}")
    say(
        "Next: copy the directory to two media, carry each node its files, switch this machine off and on again."
    )
    if held.rehearsal:
        say(REHEARSAL_MARK, style="bold")
    return ExitCode.DONE


@click.command(
    "verify-record", epilog="Example: key-ceremony verify-record ceremony-2026 --fingerprint 'WORDS'"
)
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@click.option(
    "--fingerprint", "spoken", metavar="F", help="Of the offline identity, from paper: hex or words."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
def verify(*, directory: Path, spoken: str | None, as_json: bool) -> ExitCode:
    """Check a record: its signature, its fields, the files beside it, and the software that made it."""
    if spoken is not None and not is_form(spoken):
        raise KeysError(
            "USAGE-FINGERPRINT",
            "what was given is not a fingerprint",
            "a fingerprint is 32 hexadecimal digits or twelve words: read it off the paper again",
        )
    checked = verify_record(directory, spoken=spoken, software=installed())
    record = checked.record
    if as_json:
        console.print_json({"same_version": checked.same_version, **msgspec.to_builtins(record)})
        return ExitCode.DONE
    if record.rehearsal:
        say(REHEARSAL_MARK, style="bold")
    say(f"The record is good: {record.act} '{record.title}', epoch {record.epoch}, signed by")
    say(f"  {record.identity.fingerprint}", style="bold")
    say(f"  {record.identity.words}")
    if spoken is None:
        say("Compare this fingerprint with the paper: the record is only as good as it.")
    for person in record.people:
        say(f"{', '.join(person.roles)}: {person.name}")
    for changed in record.changed:
        say(changed.line())
    for copy in record.custody_copies:
        say(f"custody copy {copy.name}: {copy.digest}")
    for step in record.steps:
        say(f"{time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(step.ended))}  {step.heading}")
    if checked.same_version:
        say(f"Made with the software that is installed here, version {record.software.version}.")
    else:
        say(
            f"Made with version {record.software.version}, which is not installed here: to compare its digest,"
        )
        say("install that version and run this again.")
    return ExitCode.DONE


@click.command("software", epilog="Example: key-ceremony software")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
def software(*, as_json: bool) -> ExitCode:
    """Print the version and the digest of the installed source files, as a record states them."""
    found = installed()
    if as_json:
        console.print_json(msgspec.to_builtins(found))
    else:
        say(f"version {found.version}")
        say(f"digest  {found.digest}")
    return ExitCode.DONE


def register(group: click.Group) -> None:
    """Add these verbs to `key-ceremony`."""
    for command in (run, verify, software):
        group.add_command(command)
