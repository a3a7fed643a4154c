"""`spool-sync`: makes the node identity, pushes bundles to the drop, pulls returns from it, and tells how things stand.

Why here: the only part of this room that reads the clock, the environment and the terminal.
Must not: decide what is cut or taken (the plan does), or take a secret on the command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import click

from keys import console
from keys.console import ExitCode, passphrase_option, say, shared_options, warn
from keys.public.fingerprint import words
from transfer import cli_checks, cli_medium, cli_node, cli_sync, cli_watch
from transfer.cli_settings import current_time, date, read_settings
from transfer.cli_shown import show_notices, show_trust
from transfer.sync import status as overview
from transfer.sync import trust
from transfer.sync.node import Node
from transfer.sync.signing import harden_process, init_node

_EXAMPLES = """
\b
Examples:
  spool-sync init-node --config node.toml
  spool-sync push --config node.toml
  spool-sync pull --config node.toml --json
  spool-sync watch --config node.toml
  spool-sync status --config node.toml
  spool-sync format-medium /media/stick/in --label STICK-1 --shop example --node shop-a --direction in
  spool-sync verify /media/stick/in --config node.toml
  spool-sync rotate-identity --config node.toml
  spool-sync retire --config node.toml
\b
The node identity's passphrase is read from --passphrase-fd, else from the file that [node] passphrase_file
names, else from the terminal:
  spool-sync push --config node.toml --passphrase-fd 3 3< passphrase.txt
"""


@click.group(name="spool-sync", epilog=_EXAMPLES)
def commands() -> None:
    """Carry sealed orders to the offline side and their statuses back, by way of two drop directories."""
    harden_process()


for verbs in (cli_sync, cli_watch, cli_checks, cli_medium, cli_node):
    verbs.register(commands)


@commands.command("init-node", epilog="Example: spool-sync init-node --config node.toml")
@shared_options
@passphrase_option
def init_node_command(*, config: Path, as_json: bool, passphrase_fd: int | None) -> ExitCode:
    """Make the state directory and the identity with which this node signs its bundles."""
    settings, _ = read_settings(config)
    node = Node.of(settings)
    fingerprint = init_node(node.state, passphrase_file=settings.passphrase_file, descriptor=passphrase_fd)
    public = node.state / trust.NODE_IDENTITY_NAME
    spoken = words(trust.node_identity(node.state).public_key)
    if as_json:
        console.print_json(
            {"node": node.node, "fingerprint": fingerprint, "words": spoken, "public_key": public}
        )
        return ExitCode.DONE
    say(f"Node {node.node} has an identity now. Its public key is {public}")
    say(f"Fingerprint: {fingerprint}", style="bold")
    say(f"   in words: {spoken}", style="bold")
    say("Next: carry the public key to the offline side, and read the fingerprint out to its operator:")
    say(
        f"  key-ceremony enrol-node --config offline.toml --node {node.node} --public-key identity.pub --out DIR"
    )
    say("Then bring DIR back, and here run: intake trust DIR")
    return ExitCode.DONE


@commands.command("status", epilog="Example: spool-sync status --config node.toml --json")
@shared_options
def status(*, config: Path, as_json: bool) -> ExitCode:
    """Show keys, trust, orders that wait, bundles on their way and the last return; 3 if a person is needed."""
    settings, _ = read_settings(config)
    node = Node.of(settings)
    trust.node_identity(node.state)
    with node.register() as register:
        seen = overview.look(node, register, now=current_time())
    if as_json:
        console.print_json(overview.document(seen))
    else:
        _show_status(seen)
    return ExitCode.NEEDS_PERSON if seen.needs_person else ExitCode.DONE


def _show_status(seen: overview.Overview) -> None:
    say(f"Node {seen.node}, fingerprint {seen.fingerprint}", style="bold")
    if seen.next_fingerprint:
        say(f"Its next identity waits to be activated: {seen.next_fingerprint}")
    show_trust(seen.trusted)
    say(f"Batch keys left: {seen.keys_left}. Orders waiting for a push: {seen.waiting}.")
    console.table(
        "Spool",
        ("batch key", "groups", "orders", "bytes", "state"),
        [
            (part.batch_key[:8], part.groups, part.orders, part.size, "closed" if part.closed else "open")
            for part in seen.partitions
        ],
    )
    console.table(
        "Bundles without a receipt",
        ("sequence", "orders", "bytes", "cut"),
        [(made.sequence, made.orders, made.size, date(made.cut_at)) for made in seen.in_flight],
    )
    if gone := seen.last_receipted:
        say(f"Last bundle with a receipt: {gone.sequence}, manifest digest {gone.manifest}")
    if seen.last_return:
        say(f"Last return: {seen.last_return}, of {date(seen.last_return_time)}")
    else:
        say("No return was taken in yet.")
    show_notices(seen.notices)
    for finding in seen.findings:
        warn(f"For a person: {finding}")
    for order_id in seen.untold[:20]:
        warn(f"  no word of {order_id}")


def main() -> NoReturn:
    """The entry point of the command."""
    console.run(commands)


if __name__ == "__main__":
    main()
