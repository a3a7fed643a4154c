"""The verbs of `spool-sync` that change a node's life: a new identity, and its end.

Why here: they are rare and cannot be undone, so they stand apart from the daily ones.
Must not: act without saying what was done and what a person has to do next.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from keys import console
from keys.console import ExitCode, passphrase_option, say, shared_options, warn
from keys.public.fingerprint import fingerprint, words
from transfer.cli_settings import current_time, read_settings
from transfer.sync.identities import NODE_IDENTITY_NAME
from transfer.sync.node import Node
from transfer.sync.own import NEXT_IDENTITY_NAME
from transfer.sync.retired import RetireReport, retire
from transfer.sync.signing import activate_identity, next_identity

_SHOWN = 20
_ROTATION = """
\b
The three steps:
  1. here:            spool-sync rotate-identity --config node.toml
                      makes identity.next.pub and shows its fingerprint; the present identity goes on signing
  2. offline:         key-ceremony rotate node --node NODE --public-key identity.next.pub --fingerprint F
  3. here, after it:  spool-sync rotate-identity --activate --config node.toml
                      the old private key is overwritten and removed; bundles that are signed keep their bytes
"""
_RETIREMENT = """
\b
Examples:
  spool-sync retire --config node.toml
  spool-sync retire --lost --config node.toml --json
\b
Before it: stop intake, push, carry the medium over. It is refused while acknowledged orders wait in the spool.
Afterwards: offline-processor retire NODE, and enrol the new node under a new node id. Pull still takes receipts in.
"""


def register(commands: click.Group) -> None:
    """Add these verbs to ``spool-sync``."""
    commands.add_command(_rotate_identity)
    commands.add_command(_retire)


@click.command("rotate-identity", epilog=_ROTATION)
@shared_options
@passphrase_option
@click.option(
    "--activate", is_flag=True, help="Sign with the next identity from now on; the old key is destroyed."
)
def _rotate_identity(*, config: Path, as_json: bool, passphrase_fd: int | None, activate: bool) -> ExitCode:
    """Give this node a new identity: first make it, then, once the offline side knows it, activate it."""
    settings, _ = read_settings(config)
    node = Node.of(settings)
    step = activate_identity if activate else next_identity
    with node.alone():
        identity = step(node.state, passphrase_file=settings.passphrase_file, descriptor=passphrase_fd)
    shown, spoken = fingerprint(identity.public_key), words(identity.public_key)
    public = node.state / (NODE_IDENTITY_NAME if activate else NEXT_IDENTITY_NAME)
    if as_json:
        console.print_json(
            {
                "node": node.node,
                "active": activate,
                "fingerprint": shown,
                "words": spoken,
                "public_key": public,
            }
        )
        return ExitCode.DONE
    if activate:
        say(f"Node {node.node} signs with its new identity from now on. The old private key is destroyed.")
    else:
        say(
            f"The next identity of node {node.node} is made; the present one goes on signing. Public key: {public}"
        )
    say(f"Fingerprint: {shown}", style="bold")
    say(f"   in words: {spoken}", style="bold")
    if not activate:
        say("Next: carry the public key to the offline side, and read the fingerprint out to its operator:")
        say(f"  key-ceremony rotate node --node {node.node} --public-key {public.name} --fingerprint F")
        say("Then here: spool-sync rotate-identity --activate. Not before: its bundles would be refused.")
    return ExitCode.DONE


@click.command("retire", epilog=_RETIREMENT)
@shared_options
@click.option(
    "--lost",
    is_flag=True,
    help="This state is an old copy, or the offline side has retired the node: what is not cut stays uncut.",
)
def _retire(*, config: Path, as_json: bool, lost: bool) -> ExitCode:
    """Close this node for ever, and name every acknowledged order that has no receipt; 3 if there is one."""
    settings, _ = read_settings(config)
    node = Node.of(settings)
    with node.alone(), node.register() as register_:
        report = retire(node, register_, now=current_time(), lost=lost)
    if as_json:
        console.print_json(dataclasses.asdict(report) | {"open_orders": report.open_orders})
    else:
        _show(report)
    return ExitCode.NEEDS_PERSON if report.open_orders else ExitCode.DONE


def _show(report: RetireReport) -> None:
    say(f"Node {report.node} is retired: it takes no more orders.", style="bold")
    if not report.open_orders:
        say("Every order that it acknowledged has its receipt.")
    for bundle in report.bundles:
        warn(f"Bundle {bundle.sequence} has no receipt; it carries {len(bundle.orders)} orders:")
        _name(bundle.orders)
    if report.bundles:
        warn(
            "  What to do: push writes these bundles again, for as long as the offline side takes this node's bundles."
        )
    if report.uncut:
        warn(f"{len(report.uncut)} acknowledged orders are in no bundle:")
        _name(report.uncut)
        remedy = (
            "ask these customers to order again" if report.lost else "push once more: it still delivers them"
        )
        warn(f"  What to do: {remedy}.")
    if report.missing:
        warn(f"{len(report.missing)} acknowledged orders are missing from the spool:")
        _name(report.missing)
        warn("  What to do: ask these customers to order again.")


def _name(orders: list[str]) -> None:
    for order_id in orders[:_SHOWN]:
        warn(f"  {order_id}")
    if len(orders) > _SHOWN:
        warn(f"  and {len(orders) - _SHOWN} more: --json names all")
