"""`key-ceremony` verbs about the keystore itself: change-passphrase, discard.

Why here: neither makes or replaces a key; one changes who opens the keystore, the other ends it.
Must not: take a secret on the command line, or destroy what a person has not named.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from keys import console, discard, master_key
from keys.act_record import who_option
from keys.cli_change import DIRECTORY, now, opened, settings_of
from keys.console import ExitCode, keystore_passphrase_option, passphrase_option, say, shared_options
from keys.errors import KeysError
from keys.keystore import claims_rehearsal
from keys.keystore_place import take_lock
from keys.passphrases import Descriptors, on_swap
from keys.private.passphrase import read_passphrase
from keys.record_form import Act
from keys.spoken import ask, compare

_HOLDERS: Final = {"first": 1, "second": 2}


@click.command(
    "change-passphrase",
    epilog="Example: key-ceremony change-passphrase --config offline.toml --holder second",
)
@shared_options
@passphrase_option
@click.option(
    "--new-passphrase-fd",
    type=click.IntRange(min=0),
    metavar="N",
    help="Read the new passphrase from this open file descriptor.",
)
@click.option(
    "--holder",
    type=click.Choice(list(_HOLDERS)),
    help="Whose passphrase; needed where two people hold one each.",
)
def change_passphrase(
    *,
    config: Path,
    as_json: bool,
    passphrase_fd: int | None,
    new_passphrase_fd: int | None,
    holder: str | None,
) -> ExitCode:
    """Give a holder a new passphrase, with the old one. No key changes, nor the other holder's passphrase."""
    settings = settings_of(config, as_json=as_json)
    if not (settings.path / master_key.FIRST_NAME).exists():
        remedy = "correct [keystore] path"
        raise KeysError("KEYSTORE-MISSING", f"there is no keystore at {settings.path}", remedy)
    lock = take_lock(settings.path)
    try:
        if holder is None and master_key.wants(settings.path) > 1:
            raise KeysError(
                "KEYSTORE-PASSPHRASES",
                "two people hold a passphrase of this keystore each",
                "say whose is changed: --holder first, or --holder second",
            )
        number = _HOLDERS[holder or "first"]
        files = (settings.passphrase_file, settings.second_passphrase_file)
        swap = on_swap(settings, rehearsal=claims_rehearsal(settings.path))
        with (
            read_passphrase(
                file=files[number - 1], descriptor=passphrase_fd, prompt="Old passphrase", on_swap=swap
            ) as old,
            read_passphrase(
                descriptor=new_passphrase_fd, prompt="New passphrase", new=True, on_swap=swap
            ) as new,
        ):
            master_key.change_passphrase(settings.path, number, old, new)
    finally:
        os.close(lock)
    if as_json:
        console.print_json({"keystore": settings.path, "holder": number})
        return ExitCode.DONE
    say("The passphrase is changed. No key was changed, and no other passphrase.")
    if files[number - 1] is not None:
        say(f"The file {files[number - 1]} still has the old one: write the new one into it.", style="bold")
    say("Older copies of the disk still open with the old passphrase: destroy them. Seal the new envelope.")
    return ExitCode.DONE


@click.command(
    "discard",
    epilog="Example: key-ceremony discard --config offline.toml --out discard-2031 --who Ada --who Ben",
)
@shared_options
@keystore_passphrase_option
@who_option
@click.option("--fingerprint", "spoken", metavar="F", help="Of the offline identity, from paper.")
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=DIRECTORY,
    help="Where the signed record is written.",
)
@click.option(
    "--lost-orders",
    is_flag=True,
    help="Go on though batch or hold keys live: the cards of orders that wait for them are lost.",
)
def discard_command(
    *,
    config: Path,
    as_json: bool,
    passphrase_fds: Descriptors,
    who: tuple[str, ...],
    spoken: str | None,
    out: Path,
    lost_orders: bool,
) -> ExitCode:
    """Destroy a keystore for good: its files, its secret in the TPM, and the custody copy beside it."""
    settings = settings_of(config, as_json=as_json)
    if discard.is_unfinished(settings.path):
        discard.finish(settings.path)  # its fingerprint was typed and its record written
        if not os.path.lexists(settings.path):
            return _discarded(settings.path, None, as_json=as_json)
        console.warn("An earlier discarding was cut short here; it is ended now.")
    if os.path.lexists(out):
        raise KeysError("CEREMONY-EXISTS", f"{out} exists already", "choose another directory with --out")
    with opened(settings, passphrase_fds, None, who, copy_needed=False) as work:
        discard.refuse_live_keys(work.keystore, lost_orders=lost_orders)
        # A keystore and the one that was recovered from it have one identity: which is meant, must be said.
        which = f"{settings.path}, epoch {work.keystore.epoch}"
        spoken = spoken or ask(f"To destroy {which}: the fingerprint of its offline identity, as on paper")
        compare(work.keystore.identity.public_key, spoken, "the identity of this keystore")
        changed = discard.doomed(work.keystore)
        try:
            work.record(Act.DISCARD, "Keystore destroyed for good", changed, [], out, now())
        except KeysError as error:
            remedy = "make room, or choose another place with --out, and begin again"
            message = "nothing was destroyed, because the record could not be written"
            raise KeysError(error.rule, message, remedy) from error
        discard.put_aside(settings.path)
    discard.finish(settings.path)
    return _discarded(settings.path, out, as_json=as_json)


def _discarded(keystore: Path, out: Path | None, *, as_json: bool) -> ExitCode:
    if as_json:
        console.print_json({"discarded": keystore, "record": out})
        return ExitCode.DONE
    say(
        f"The keystore {keystore} is destroyed: files overwritten, and the TPM's index given back if it had one."
    )
    if out is not None:
        say(f"The signed record of this: {out}")
    say(
        "Custody copies and backups elsewhere still bring its long-lived keys back: destroy them, or the sheets,"
    )
    say(
        "if the keys shall be gone for good. Flash media may keep overwritten bytes: destroy the disk as well."
    )
    return ExitCode.DONE


def register(group: click.Group) -> None:
    """Add these verbs to `key-ceremony`."""
    for command in (change_passphrase, discard_command):
        group.add_command(command)
