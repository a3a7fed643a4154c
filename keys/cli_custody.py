"""`key-ceremony` verbs for which the custodians come: recover, check-shares, reshare.

Why here: each asks for shares or hands some out.
Must not: take a secret on the command line, or show one outside a private screen.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click
import msgspec

from keys import console, copy_age, custody_copy, recovery
from keys.act_record import who_option
from keys.ceremony_run import REHEARSAL_MARK
from keys.cli_change import DIRECTORY, FILE, now, opened, read_settings, say_copy_states, settings_of
from keys.console import ExitCode, keystore_passphrase_option, say, shared_options, shares_option
from keys.custody import FEWEST, MOST
from keys.errors import KeysError
from keys.keystore import Keystore
from keys.passphrases import Descriptors, keystore_passphrases, new_keystore_passphrases, on_swap
from keys.quorum import ask_quorum
from keys.record_form import Act
from keys.reshare import reshare
from keys.ring_index import RingBackend
from keys.software import installed
from keys.spoken import compare_copy

fingerprint_option = click.option(
    "--fingerprint", "spoken", metavar="F", help="Of the offline identity, from paper: hex or words."
)


@click.command(
    "recover",
    epilog="Example: key-ceremony recover --copy custody.copy --passphrases 2 --config offline.toml --out recovery",
)
@shared_options
@keystore_passphrase_option
@shares_option
@click.option(
    "--copy", "copy_file", required=True, metavar="FILE", type=FILE, help="The newest custody copy."
)
@click.option(
    "--out", required=True, metavar="DIR", type=DIRECTORY, help="Where record and new copy are written."
)
@click.option(
    "--epoch-above",
    default=0,
    metavar="N",
    type=click.IntRange(min=0),
    help="The highest epoch that anyone has seen, if newer than the copy's.",
)
@click.option(
    "--passphrases", required=True, type=click.IntRange(1, 2), help="How many open it; 2 is dual control."
)
@click.option("--ring-secret", default="file", show_default=True, type=click.Choice(["file", "tpm"]))
@click.option("--title", default="Recovery", show_default=True, help="For the record.")
@fingerprint_option
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
    spoken: str | None,
) -> ExitCode:
    """Rebuild the keystore on a new machine from the custodians' shares and a custody copy."""
    settings = read_settings(config)
    recovery.refuse_existing(settings.path, out)
    copy = recovery.read_copy(copy_file)
    # A damaged copy is found before anyone is asked for a share, and a foreign share when it is given.
    looked = custody_copy.look(copy).keystore
    compare_copy(bytes.fromhex(looked.identity), spoken)
    custody = looked.custody
    key = ask_quorum(
        None if custody is None else custody.custody(),
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
            now=now(),
        )
    if as_json:
        console.print_json(msgspec.to_builtins(done, enc_hook=str))
    else:
        _show_recovered(done)
    return ExitCode.DONE


def _show_recovered(done: recovery.Recovered) -> None:
    if done.rehearsal:
        say(REHEARSAL_MARK, style="bold")
    keys = "1 order key" if done.order_keys == 1 else f"{done.order_keys} order keys"
    say(f"Keystore recovered: {done.keystore}, epoch {done.epoch}, {keys}")
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
    say(
        "  2. The ledger: an undamaged one, or its mirror (offline-processor mirror --take), is used as it is."
    )
    say("     If it is lost and there is a backup, move this keystore away:")
    say("     offline-processor restore makes both anew.")
    say(
        "  3. offline-processor reconcile, with the acquirer's report: nothing is charged or answered before."
    )
    say("  4. offline-processor run: its returns carry new batch keys to the nodes.")
    say("The custodians' shares stay as they are.")


@click.command("check-shares", epilog="Example: key-ceremony check-shares --config offline.toml")
@shared_options
@keystore_passphrase_option
@shares_option
@who_option
@click.option(
    "--custody-copy",
    "copy_files",
    multiple=True,
    metavar="FILE",
    type=FILE,
    help="A custody copy that is kept; once for each that there is.",
)
def check_shares(
    *,
    config: Path,
    as_json: bool,
    passphrase_fds: Descriptors,
    shares_fd: int | None,
    who: tuple[str, ...],
    copy_files: tuple[Path, ...],
) -> ExitCode:
    """Prove, once a year, that the custodians' shares still rebuild the custody key. Changes no key.

    The signed record names who came and which custody copies there are; each that is given is opened too.
    """
    settings = settings_of(config, as_json=as_json)
    with opened(settings, passphrase_fds, None, who, copy_needed=False) as work:
        keystore = work.keystore
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
            recovery.prove_copy(keystore, key, now())
            copies = copy_age.states(keystore, copy_files)
            for copy in copies:
                if copy.copied_at is not None:
                    recovery.prove_opens(copy.path, key, now())
        there = [copy.path for copy in copies if copy.copied_at is not None]
        written = work.record(Act.CHECK_SHARES, "Check of the shares", [], there, None, now())
    if as_json:
        found = {"shares": custody.threshold, "of": custody.shares, "set": custody.set_id}
        console.print_json({**found, "custody_copies": [dataclasses.asdict(c) for c in copies], **written})
    else:
        say(
            f"{custody.threshold} of {custody.shares} shares of set {custody.set_id} rebuilt the custody key,"
        )
        say("and it opens a fresh custody copy with the very keys of this keystore. Nothing was changed.")
        say_copy_states(copies)
        say(f"The signed record of this: {written['record_beside']}")
    return ExitCode.DONE


@click.command(
    "reshare",
    epilog="Example: key-ceremony reshare --config offline.toml --threshold 2 --custodian Ada --custodian Ben "
    "--custodian Cleo --out reshare-2027",
)
@shared_options
@keystore_passphrase_option
@click.option(
    "--threshold",
    required=True,
    metavar="M",
    type=click.IntRange(FEWEST, MOST),
    help="Shares that are needed.",
)
@click.option(
    "--custodian", "custodians", required=True, multiple=True, metavar="NAME", help="Once for each share."
)
@click.option(
    "--out", required=True, metavar="DIR", type=DIRECTORY, help="Where record and new copy are written."
)
@click.option("--title", default="New share set", show_default=True, help="For the record.")
def reshare_command(
    *,
    config: Path,
    as_json: bool,
    passphrase_fds: Descriptors,
    threshold: int,
    custodians: tuple[str, ...],
    out: Path,
    title: str,
) -> ExitCode:
    """Make a new custody key and hand out a new share set: a custodian leaves, or a sheet is lost."""
    settings = read_settings(config)
    with (
        keystore_passphrases(settings, passphrase_fds) as passphrases,
        Keystore.open(settings.path, passphrases) as keystore,
    ):
        done = reshare(
            keystore,
            threshold=threshold,
            custodians=custodians,
            output=out,
            title=title,
            passphrases=len(passphrases),
            software=installed(),
            on_swap=on_swap(settings, rehearsal=keystore.rehearsal),
            mark=REHEARSAL_MARK if keystore.rehearsal else "",
            now=now(),
        )
        recovery.refresh_copy(keystore, now())
    if as_json:
        console.print_json(dataclasses.asdict(done))
        return ExitCode.DONE
    if done.rehearsal:
        say(REHEARSAL_MARK, style="bold")
    say(f"Share set {done.set_id}: any {done.threshold} of {done.shares} shares rebuild the custody key.")
    say(f"Custody key in words: {done.custody_words}")
    say(f"Record and new custody copy: {done.output}")
    if done.former_set_id is not None:
        say(
            f"Shares of set {done.former_set_id} still open the copies and backups from before: collect the sheets"
        )
        say("and burn them, witnessed; replace the custody copies, and make a new backup today.")
    return ExitCode.DONE


def register(group: click.Group) -> None:
    """Add these verbs to `key-ceremony`."""
    for command in (recover, check_shares, reshare_command):
        group.add_command(command)
