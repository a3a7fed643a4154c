"""`key-ceremony` verbs that people hold together: run, recover, check-shares, verify-record, software.

Why here: the command line's other half; these verbs need custodians, a plan or a record.
Must not: take a secret on the command line, or show one outside a private screen.
"""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import Final

import click
import msgspec

from keys import console, recovery
from keys.ceremony_file import read_plan
from keys.ceremony_run import REHEARSAL_MARK, hold
from keys.ceremony_steps import steps_of
from keys.config import KeystoreConfig, load
from keys.console import ExitCode, keystore_passphrase_option, say, shared_options
from keys.errors import KeysError
from keys.keystore import Keystore, claims_rehearsal
from keys.passphrases import Descriptors, keystore_passphrases, new_keystore_passphrases, on_swap
from keys.quorum import ask_quorum
from keys.record import verify_record
from keys.ring_index import RingBackend
from keys.software import installed

_DIRECTORY: Final = click.Path(path_type=Path, file_okay=False)
_FILE: Final = click.Path(path_type=Path, dir_okay=False)

shares_option = click.option(
    "--shares-fd",
    type=click.IntRange(min=0),
    metavar="N",
    help="Read the custodians' shares, one a line, from this open file descriptor.",
)


@click.command("run", epilog="Example: key-ceremony run CEREMONY.toml --check")
@click.argument("plan_file", metavar="CEREMONY.toml", type=_FILE)
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
    held = hold(plan, raw, software=installed(), clock=_now)
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
    "recover",
    epilog="Example: key-ceremony recover --copy custody.copy --config offline.toml --out recovery-2026",
)
@shared_options
@keystore_passphrase_option
@shares_option
@click.option(
    "--copy", "copy_file", required=True, metavar="FILE", type=_FILE, help="The newest custody copy."
)
@click.option(
    "--out", required=True, metavar="DIR", type=_DIRECTORY, help="Where record and new copy are written."
)
@click.option(
    "--epoch-above",
    default=0,
    metavar="N",
    type=click.IntRange(min=0),
    help="The highest epoch that anyone has seen, if newer than the copy's.",
)
@click.option(
    "--passphrases", default=1, show_default=True, type=click.IntRange(1, 2), help="Dual control: 2."
)
@click.option("--ring-secret", default="file", show_default=True, type=click.Choice(["file", "tpm"]))
@click.option("--title", default="Recovery", show_default=True, help="For the record.")
def recover(
    *,
    config: Path,
    as_json: bool,
    passphrase_fds: Descriptors,
    shares_fd: int | None,
    copy_file: Path,
    out: Path,
    epoch_above: int,
    passphrases: int,
    ring_secret: str,
    title: str,
) -> ExitCode:
    """Rebuild the keystore on a new machine from the custodians' shares and a custody copy."""
    settings = _settings(config)
    recovery.refuse_existing(settings.path, out)
    copy = recovery.read_copy(copy_file)
    key = ask_quorum(
        None,
        shares_fd=shares_fd,
        on_swap=on_swap(settings, rehearsal=False),
        purpose="Recovery of the offline keys",
    )
    with (
        key.private,
        new_keystore_passphrases(settings, passphrase_fds, count=passphrases, rehearsal=False) as chosen,
    ):
        done = recovery.recover(
            copy,
            key,
            chosen,
            keystore_path=settings.path,
            output=out,
            epoch_above=epoch_above,
            ring_backend=RingBackend(ring_secret),
            software=installed(),
            title=title,
            now=_now(),
        )
    if as_json:
        console.print_json(msgspec.to_builtins(done, enc_hook=str))
    else:
        _show_recovered(done)
    return ExitCode.DONE


def _show_recovered(done: recovery.Recovered) -> None:
    if done.rehearsal:
        say(REHEARSAL_MARK, style="bold")
    say(f"Keystore recovered: {done.keystore}, epoch {done.epoch}, {done.order_keys} order keys")
    say(f"Fingerprint of the offline identity: {done.fingerprint}", style="bold")
    say(f"  in words: {done.words}")
    say("Gone for good: every batch key and every hold key.")
    for lost in done.lost:
        numbers = ", ".join(map(str, lost.numbers))
        say(f"  node {lost.node}: batch keys {numbers}, and any that were issued after the copy was written")
    say(
        "A bundle that was cut under such a key and is not processed yet cannot be charged: the next run takes"
    )
    say('it, and its orders are answered "please order again". Bundles that were processed are not affected.')
    say("Next:", style="bold")
    say(f"  1. Copy {done.output} to two media: it holds the new custody copy and the signed record.")
    say("  2. offline-processor restore: bring the ledger back from the newest backup, and reconcile it.")
    say("  3. offline-processor run: its returns carry new batch keys to the nodes.")
    say("The custodians' shares stay as they are.")


@click.command("check-shares", epilog="Example: key-ceremony check-shares --config offline.toml")
@shared_options
@keystore_passphrase_option
@shares_option
def check_shares(
    *, config: Path, as_json: bool, passphrase_fds: Descriptors, shares_fd: int | None
) -> ExitCode:
    """Prove, once a year, that the custodians' shares still rebuild the custody key. Changes nothing."""
    settings = _settings(config)
    rehearsal = claims_rehearsal(settings.path)
    if rehearsal:
        console.warn(REHEARSAL_MARK, style="bold")
    with (
        keystore_passphrases(settings, passphrase_fds) as passphrases,
        Keystore.open(settings.path, passphrases) as keystore,
    ):
        custody = keystore.custody
        if custody is None:
            raise KeysError(
                "CUSTODY-NONE", "this keystore has no custodians", "it was made by init --rehearsal"
            )
        key = ask_quorum(
            custody,
            shares_fd=shares_fd,
            on_swap=on_swap(settings, rehearsal=keystore.rehearsal),
            purpose="Yearly check of the shares: nothing is changed",
            mark=REHEARSAL_MARK if keystore.rehearsal else "",
        )
        with key.private:
            recovery.prove_copy(keystore, key, _now())
    if as_json:
        console.print_json({"shares": custody.threshold, "of": custody.shares, "set": custody.set_id})
    else:
        say(
            f"{custody.threshold} of {custody.shares} shares of set {custody.set_id} rebuilt the custody key,"
        )
        say("and it opens a fresh custody copy with the very keys of this keystore. Nothing was changed.")
    return ExitCode.DONE


@click.command(
    "verify-record", epilog="Example: key-ceremony verify-record ceremony-2026 --fingerprint 'WORDS'"
)
@click.argument("directory", metavar="DIR", type=_DIRECTORY)
@click.option(
    "--fingerprint", "spoken", metavar="F", help="Of the offline identity, from paper: hex or words."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
def verify(*, directory: Path, spoken: str | None, as_json: bool) -> ExitCode:
    """Check a record: its signature, its fields, the files beside it, and the software that made it."""
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
    for command in (run, recover, check_shares, verify, software):
        group.add_command(command)


def _settings(path: Path) -> KeystoreConfig:
    loaded = load(path, {"keystore": KeystoreConfig}, os.environ)["keystore"]
    if not isinstance(loaded, KeystoreConfig):
        raise TypeError("load gives what it is asked for")
    return loaded


def _now() -> int:
    return int(time.time())
