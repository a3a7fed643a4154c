"""`key-ceremony enrol-node`: an intake node is taken in, by the fingerprint of its key.

Why here: one act of an operator, with a record and a custody copy like every other.
Must not: believe a key whose fingerprint nobody gave.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

import click

from keys import ceremony, console
from keys.act_record import who_option
from keys.cli_change import DIRECTORY, FILE, copy_option, now, opened, say_copies, settings_of
from keys.console import ExitCode, keystore_passphrase_option, say, shared_options
from keys.passphrases import Descriptors
from keys.record_form import Act, Change, ChangedKey, Subject
from keys.spoken import ask

_ENROL_EXAMPLE: Final = """
\b
Example:
  key-ceremony enrol-node --config offline.toml --node shop-a --public-key identity.pub --out for-shop-a
"""


@click.command("enrol-node", epilog=_ENROL_EXAMPLE)
@shared_options
@keystore_passphrase_option
@copy_option
@who_option
@click.option("--node", required=True, metavar="NAME", help="Node id: a-z, 0-9 and '-'.")
@click.option(
    "--public-key",
    required=True,
    metavar="FILE",
    type=FILE,
    help="The node's identity.pub, from `spool-sync init-node`.",
)
@click.option("--fingerprint", "spoken", metavar="F", help="As the node's administrator reads it out.")
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=DIRECTORY,
    help="Where the files for the node are written.",
)
@click.option(
    "--batch-keys",
    default=ceremony.DEFAULT_BATCH_KEYS,
    show_default=True,
    metavar="N",
    type=click.IntRange(min=1, max=1000),
    help="One is used up by every bundle.",
)
def enrol_node(
    *,
    config: Path,
    as_json: bool,
    passphrase_fds: Descriptors,
    copy_file: Path | None,
    who: tuple[str, ...],
    node: str,
    public_key: Path,
    spoken: str | None,
    out: Path,
    batch_keys: int,
) -> ExitCode:
    """Take in an intake node by the fingerprint of its key, and issue its first key roll."""
    settings = settings_of(config, as_json=as_json)
    key = ceremony.read_node_key(public_key)
    if spoken is None:
        spoken = ask(f"Fingerprint of {node}, as its administrator reads it out")
    with opened(settings, passphrase_fds, copy_file, who, copy_needed=False) as work:
        done = ceremony.enrol_node(
            work.keystore,
            node=node,
            public_key=key,
            spoken=spoken,
            out=out,
            batch_keys=batch_keys,
            now=now(),
        )
        enrolled = ChangedKey(
            subject=Subject.NODE, change=Change.ENROLLED, key=done.node_fingerprint, node=node
        )
        copies = work.end(Act.ENROLMENT, f"Node {node} enrolled", [enrolled])
    if as_json:
        console.print_json(
            {"custody_copy": copies.get("custody_copy_beside"), **copies, **dataclasses.asdict(done)}
        )
        return ExitCode.DONE
    say(f"Node {done.node} is enrolled. Its fingerprint matches: {done.node_fingerprint}")
    say(f"  in words: {done.node_words}")
    say(f"Key roll {done.roll_number} with {done.batch_keys} batch keys is in {done.out}")
    say(f"Fingerprint of the offline identity: {done.identity_fingerprint}", style="bold")
    say(f"  in words: {done.identity_words}")
    say_copies(copies)
    say(
        "Next: carry the directory to the node, and there run `intake trust` with this fingerprint, "
        "read out by voice."
    )
    return ExitCode.DONE


def register(group: click.Group) -> None:
    """Add this verb to `key-ceremony`."""
    group.add_command(enrol_node)
