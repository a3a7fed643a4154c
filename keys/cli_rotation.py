"""`key-ceremony rotate`: a new order key, node identity or offline identity while the shop goes on.

Why here: each is one act of an operator, with the copy that the custodians must get and what to do next.
Must not: change a key before everything that can be refused was refused, or end without a fresh custody copy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from keys import cli_revocation, console
from keys.act_record import who_option
from keys.ceremony import read_node_key
from keys.cli_change import FILE, copy_option, date, now, opened, say_copies, settings_of, short
from keys.console import ExitCode, keystore_passphrase_option, say, shared_options
from keys.keystore_file import OrderKey
from keys.keystore_index import DAY, OVERLAP
from keys.passphrases import Descriptors
from keys.public.fingerprint import fingerprint, words
from keys.record_form import Act, Change, ChangedKey, Subject
from keys.spoken import ask, compare

_ROTATE_EXAMPLES: Final = """
\b
Examples:
  key-ceremony rotate order-key --config offline.toml --custody-copy /media/a/custody-2.copy
  key-ceremony rotate node --config offline.toml --node shop-a --public-key identity.next.pub
  key-ceremony rotate identity --config offline.toml --custody-copy /media/a/custody-3.copy
"""


@click.group(epilog=_ROTATE_EXAMPLES)
def rotate() -> None:
    """Replace a key by a new one, without a pause for the shop."""


@rotate.command(
    "order-key",
    epilog="Example: key-ceremony rotate order-key --config offline.toml --custody-copy custody-2.copy",
)
@shared_options
@keystore_passphrase_option
@copy_option
@who_option
@click.option(
    "--overlap-days",
    default=OVERLAP // DAY,
    show_default=True,
    metavar="N",
    type=click.IntRange(0, 90),
    help="How long the old order key may still be sealed to.",
)
def rotate_order_key(
    *,
    config: Path,
    as_json: bool,
    passphrase_fds: Descriptors,
    copy_file: Path | None,
    who: tuple[str, ...],
    overlap_days: int,
) -> ExitCode:
    """Make a new order key, in use at once. The old one opens what was sealed to it until its own end."""
    settings = settings_of(config, as_json=as_json)
    with opened(settings, passphrase_fds, copy_file, who) as work:
        keystore = work.keystore
        new = keystore.rotate_order_key(now(), overlap_days * DAY)
        made = _order_key(new)
        copies = work.end(Act.ROTATION, f"Order key {new.number} made", [made])
        older = [key for key in keystore.order_keys[:-1] if key.revoked_at is None]
    report = {
        "order_key": new.number,
        "key_id": new.key.key_id,
        "seal_until": new.seal_until,
        "destroy_at": new.destroy_at,
        **copies,
    }
    if as_json:
        console.print_json(report)
        return ExitCode.DONE
    say(f"Order key {new.number} ({short(new.key.key_id)}) is made; sealed to until {date(new.seal_until)}.")
    for key in older:
        say(
            f"Order key {key.number} is sealed to until {date(key.seal_until)}, "
            f"opens orders until {date(key.destroy_at)}, and is then destroyed by the next run."
        )
    say_copies(copies)
    say("Next: `offline-processor run`; its returns bring the new key to every node.", style="bold")
    return ExitCode.DONE


@rotate.command(
    "node",
    epilog="Example: key-ceremony rotate node --config offline.toml --node shop-a --public-key identity.next.pub",
)
@shared_options
@keystore_passphrase_option
@copy_option
@who_option
@click.option("--node", required=True, metavar="NAME", help="The node whose identity changes.")
@click.option(
    "--public-key",
    required=True,
    metavar="FILE",
    type=FILE,
    help="identity.next.pub, from `spool-sync rotate-identity`.",
)
@click.option("--fingerprint", "spoken", metavar="F", help="As the node's administrator reads it out.")
def rotate_node(
    *,
    config: Path,
    as_json: bool,
    passphrase_fds: Descriptors,
    copy_file: Path | None,
    who: tuple[str, ...],
    node: str,
    public_key: Path,
    spoken: str | None,
) -> ExitCode:
    """Take in a node's new identity by its fingerprint; the old one is believed until a bundle of the new one comes."""
    settings = settings_of(config, as_json=as_json)
    key = read_node_key(public_key)
    spoken = spoken or ask(f"Fingerprint of the new key of {node}, as its administrator reads it out")
    compare(key, spoken, "the key in the file")
    with opened(settings, passphrase_fds, copy_file, who) as work:
        keystore = work.keystore
        before = keystore.ring.enrolled(node).public_key
        keystore.ring.rotate_node(node, key, now())
        changed = [
            _identity(Subject.NODE, Change.REPLACED, bytes.fromhex(before), node),
            _identity(Subject.NODE, Change.ENROLLED, key, node),
        ]
        copies = work.end(Act.ROTATION, f"New identity of node {node}", changed)
    if as_json:
        console.print_json({"node": node, "fingerprint": fingerprint(key), **copies})
        return ExitCode.DONE
    say(f"Node {node} has a new identity: {fingerprint(key)}")
    say(f"  in words: {words(key)}")
    say_copies(copies)
    say("Next, on the node: spool-sync rotate-identity --activate", style="bold")
    return ExitCode.DONE


@rotate.command(
    "identity",
    epilog="Example: key-ceremony rotate identity --config offline.toml --custody-copy custody-3.copy",
)
@shared_options
@keystore_passphrase_option
@copy_option
@who_option
@click.option("--fingerprint", "spoken", metavar="F", help="Of the identity that is replaced, from paper.")
@click.option(
    "--compromised", is_flag=True, help="Others may have the old key: no handover, no more trust in it."
)
def rotate_identity(
    *,
    config: Path,
    as_json: bool,
    passphrase_fds: Descriptors,
    copy_file: Path | None,
    who: tuple[str, ...],
    spoken: str | None,
    compromised: bool,
) -> ExitCode:
    """Make a new offline identity. The old one signs the handover, unless it is compromised."""
    settings = settings_of(config, as_json=as_json)
    spoken = spoken or ask("Fingerprint of the offline identity that is replaced, as on paper")
    with opened(settings, passphrase_fds, copy_file, who) as work:
        keystore = work.keystore
        before = keystore.identity.public_key
        compare(before, spoken, "the identity of this keystore")
        keystore.rotate_identity(now(), compromised=compromised)
        changed = [
            _identity(Subject.IDENTITY, Change.COMPROMISED if compromised else Change.REPLACED, before),
            _identity(Subject.IDENTITY, Change.MADE, keystore.identity.public_key),
        ]
        copies = work.end(Act.ROTATION, "New offline identity", changed)
        public, waiting = keystore.identity.public_key, keystore.handover_waits_for
    if as_json:
        report = {"fingerprint": fingerprint(public), "words": words(public), "handover_waits_for": waiting}
        console.print_json({**report, "compromised": compromised, **copies})
        return ExitCode.DONE
    say(f"The new offline identity: {fingerprint(public)}", style="bold")
    say(f"  in words: {words(public)}")
    say("Write it down with the date, and strike out the old one.")
    say_copies(copies)
    if compromised:
        say(
            "No node trusts this identity yet, and none must trust the old one any longer. For each node, at once:"
        )
        say(
            "  key-ceremony enrol-node (with its present key) writes its files; carry them there, and run there:"
        )
        say("  intake trust DIR --fingerprint F --replace", style="bold")
    else:
        say("Next: `offline-processor run`; its returns carry the handover.", style="bold")
        say(f"The old key is kept until these nodes have confirmed it: {', '.join(waiting) or 'none'}.")
    return ExitCode.DONE


def _order_key(key: OrderKey) -> ChangedKey:
    key_id = key.key.key_id.hex()
    return ChangedKey(subject=Subject.ORDER_KEY, change=Change.MADE, key=key_id, number=key.number)


def _identity(subject: Subject, change: Change, public_key: bytes, node: str | None = None) -> ChangedKey:
    return ChangedKey(subject=subject, change=change, key=fingerprint(public_key), node=node)


def register(group: click.Group) -> None:
    """Add `rotate`, `revoke` and `custody-copy` to `key-ceremony`."""
    for command in (rotate, cli_revocation.revoke, cli_revocation.write_copy):
        group.add_command(command)
