"""`key-ceremony`: the command of the people who make and keep the keys.

Why here: the only part of this room that reads the clock, the environment and the terminal.
Must not: take a secret on the command line, or show one.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final, NoReturn

import click

from keys import (
    ceremony,
    cli_ceremony,
    cli_custody,
    cli_enrol,
    cli_evidence,
    cli_keystore,
    cli_rotation,
    console,
    copy_age,
)
from keys.cli_change import FILE, banner, date, now, read_settings, say_copy_states, settings_of
from keys.console import ExitCode, keystore_passphrase_option, say, shared_options
from keys.errors import KeysError
from keys.keystore import Keystore
from keys.keystore_place import refuse_existing
from keys.passphrases import Descriptors, keystore_passphrases, new_keystore_passphrases
from keys.private.locked import harden_process

_EXAMPLES: Final = """
\b
Examples:
  key-ceremony run CEREMONY.toml --check
  key-ceremony run CEREMONY.toml
  key-ceremony init --config offline.toml --rehearsal
  key-ceremony enrol-node --config offline.toml --node shop-a --public-key identity.pub --out for-shop-a
  key-ceremony status --config offline.toml --json
\b
A passphrase is read from --passphrase-fd, else from the file that [keystore] passphrase_file names,
else from the terminal (--second-passphrase-fd, second_passphrase_file where two people open the keystore):
  key-ceremony status --config offline.toml --passphrase-fd 3 3< passphrase.txt
"""


@click.group(name="key-ceremony", epilog=_EXAMPLES)
def commands() -> None:
    """Make the keys of the offline side, enrol intake nodes, and see what keys there are."""
    harden_process()


@commands.command("init", epilog="Example: key-ceremony init --config offline.toml --rehearsal")
@shared_options
@keystore_passphrase_option
@click.option("--rehearsal", is_flag=True, help="Throwaway keys; every screen says so, and no real acquirer.")
def init(*, config: Path, as_json: bool, passphrase_fds: Descriptors, rehearsal: bool) -> ExitCode:
    """Make a rehearsal keystore: throwaway keys without custodians, for trying things out.

    Real keys come from `key-ceremony run CEREMONY.toml` only.
    """
    settings = read_settings(config)
    if not rehearsal:
        raise KeysError(
            "CEREMONY-NEEDED",
            "real keys are made in a ceremony, with custodians and a signed record",
            "hold one: key-ceremony run CEREMONY.toml (keys/CEREMONY.md shows how); or add --rehearsal",
        )
    refuse_existing(settings.path)  # before anyone is asked for a passphrase
    banner(as_json=as_json, rehearsal=rehearsal)
    with (
        new_keystore_passphrases(settings, passphrase_fds, count=1, rehearsal=rehearsal) as passphrases,
        Keystore.create(settings.path, passphrases, rehearsal=rehearsal, now=now()) as keystore,
    ):
        report = ceremony.status(keystore, now())
    if as_json:
        console.print_json({"keystore": settings.path, **dataclasses.asdict(report)})
        return ExitCode.DONE
    say(f"Keystore made: {settings.path}")
    say(f"Fingerprint of the offline identity: {report.identity_fingerprint}", style="bold")
    say(f"  in words: {report.identity_words}")
    say(f"Order key 1 is sealed to until {date(report.order_keys[0].seal_until)}.")
    say("Write the fingerprint down. Next, for each intake node: key-ceremony enrol-node")
    return ExitCode.DONE


@commands.command("status", epilog="Example: key-ceremony status --config offline.toml")
@shared_options
@keystore_passphrase_option
@click.option(
    "--custody-copy",
    "copy_files",
    multiple=True,
    metavar="FILE",
    type=FILE,
    help="Judge this custody copy too: is it as new as the keys?",
)
def status(
    *, config: Path, as_json: bool, passphrase_fds: Descriptors, copy_files: tuple[Path, ...]
) -> ExitCode:
    """Show which keys there are, until when, and how many batch keys each node has left."""
    settings = settings_of(config, as_json=as_json)
    with (
        keystore_passphrases(settings, passphrase_fds) as passphrases,
        Keystore.open(settings.path, passphrases) as keystore,
    ):
        report = ceremony.status(keystore, now())
        copies = copy_age.states(keystore, copy_files)
    if as_json:
        listed = [dataclasses.asdict(copy) for copy in copies]
        console.print_json({**dataclasses.asdict(report), "custody_copies": listed})
    else:
        _show(report)
        say_copy_states(copies)
    return ExitCode.DONE


cli_ceremony.register(commands)
cli_enrol.register(commands)
cli_keystore.register(commands)
cli_custody.register(commands)
cli_rotation.register(commands)
cli_evidence.register(commands)


def _show(report: ceremony.KeystoreStatus) -> None:
    say(f"Offline identity {report.identity_fingerprint}, epoch {report.epoch}", style="bold")
    say(f"  in words: {report.identity_words}")
    if report.custody is None:
        say("No custodians: what is lost with this machine is lost.")
    else:
        say(
            f"Custody key {report.custody.fingerprint}, any {report.custody.threshold} of {report.custody.shares}"
        )
        say(f"  in words: {report.custody.words}")
    console.table(
        "Order keys",
        ("number", "key id", "sealed to until", "destroyed at", "state"),
        [
            (key.number, key.key_id[:8], date(key.seal_until), date(key.destroy_at), key.state)
            for key in report.order_keys
        ],
    )
    console.table(
        "Intake nodes",
        ("node", "fingerprint", "key roll", "batch keys unused", "opened", "destroyed"),
        [
            (
                node.node,
                f"{node.fingerprint} {node.words}",
                node.roll_number,
                node.unused,
                node.opened,
                node.destroyed,
            )
            for node in report.nodes
        ],
    )
    say(f"Hold keys: {report.hold_keys}. Destroyed so far: {report.destroyed}.")
    say(f"Ring secret: {report.ring_secret}.")
    if report.swap is not None:
        say(report.swap, style="bold")
    if report.overdue:
        say(f"{report.overdue} keys are overdue: the next `offline-processor run` destroys them.")


def main() -> NoReturn:
    """The entry point of the command."""
    console.run(commands)


if __name__ == "__main__":
    main()
