"""`intake trust` and `intake status`: whom this host believes, and how it stands.

Why here: both are for the administrator; the other verbs take and list orders.
Must not: pin an identity that nobody compared, or replace one without saying what changes.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import cast

import click

from intake.config import IntakeConfig
from intake.errors import IntakeError
from intake.health import Health
from intake.limits import LimitsConfig
from intake.live_keys import LiveKeys
from intake.policy import policy_notices
from intake.proxy_watch import ProxyWatch
from intake.server import open_spool, register_path
from keys import console
from keys.config import load
from keys.console import ExitCode, say, shared_options, warn
from keys.public.fingerprint import fingerprint as fingerprint_of
from keys.public.fingerprint import words
from transfer import listing
from transfer.cli_shown import show_notices, show_trust
from transfer.config import NodeConfig
from transfer.register import Register
from transfer.sync import trust
from transfer.sync.node import Node
from transfer.sync.silence import Heard, heard, silence_of
from transfer.sync.status import of_trust, trust_status

_TRUST = """
\b
Examples:
  intake trust for-shop-a --config node.toml
  intake trust for-shop-a --config node.toml --fingerprint "1a2b-…" --json
\b
The fingerprint is compared by voice: the offline side's operator reads it out, as groups of hexadecimal digits or as
twelve words, and it is typed here. What the directory itself says proves nothing: it came on the same medium.
\b
--replace is for one case only: the offline side made a new identity because the old one was compromised or lost.
A planned rotation needs nothing here: the offline side hands over in a return, signed by both identities.
"""


def register(commands: click.Group) -> None:
    """Add these verbs to ``intake``."""
    commands.add_command(_trust)
    commands.add_command(_status)


@click.command("trust", epilog=_TRUST)
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--fingerprint",
    metavar="F",
    help="The offline identity's fingerprint, hex or words, as its operator reads it out.",
)
@click.option(
    "--replace",
    is_flag=True,
    help="Trust this identity in place of the pinned one, which was compromised or lost.",
)
@shared_options
def _trust(
    *, directory: Path, fingerprint: str | None, replace: bool, config: Path, as_json: bool
) -> ExitCode:
    """Pin the offline identity and install the key roll from DIRECTORY, which the offline side wrote."""
    settings, _ = read_settings(config)
    node = Node.of(settings)
    offered = trust.offered_identity(directory)
    replaced = trust.check_pin(node.state, offered, replace=replace)
    if replaced is not None:
        _say_what_changes(fingerprint_of(replaced.public_key), fingerprint_of(offered.public_key))
    spoken = fingerprint if fingerprint is not None else _ask(directory, offered.public_key)
    if replaced is not None:
        with node.alone():  # no return of the old identity is taken in meanwhile
            pinned = trust.pin(node.state, directory, node=node.node, spoken=spoken, replace=True)
    else:
        pinned = trust.pin(node.state, directory, node=node.node, spoken=spoken, replace=replace)
    report = {
        "fingerprint": pinned.fingerprint,
        "words": words(pinned.identity.public_key),
        "node": node.node,
        "roll": pinned.roll.number,
        "batch_keys": len(pinned.roll.batch_keys),
        "replaced": fingerprint_of(replaced.public_key) if replaced else None,
    }
    if as_json:
        console.print_json(report)
    else:
        say(f"Node {node.node} trusts {pinned.fingerprint}.", style="green")
        say(f"Key roll {pinned.roll.number} is in use: {len(pinned.roll.batch_keys)} batch keys.")
    return ExitCode.DONE


@click.command("status", epilog="Example: intake status --config node.toml")
@shared_options
def _status(*, config: Path, as_json: bool) -> ExitCode:
    """Show keys, trust and how many orders are in each state, and whatever needs the administrator."""
    settings, _ = read_settings(config)
    health = health_of(settings).report()
    node = Node.of(settings)
    trusted = trust_status(node)
    letters = policy_notices(settings.state, now=int(time.time()), random=os.urandom)
    notices = [*health.notices, *of_trust(node), *letters]
    path = register_path(settings)
    orders = listing.counts(path) if path.exists() else {}
    code = ExitCode.NEEDS_PERSON if notices or health.reasons else ExitCode.DONE
    if as_json:
        console.print_json(
            {
                "node": settings.node,
                "ready": not health.reasons,
                "keys_left": health.keys_left,
                "trusted": asdict(trusted),
                "reasons": health.reasons,
                "warnings": [notice.text for notice in notices if not notice.stops],
                "notices": [asdict(notice) for notice in notices],
                "orders": orders,
            }
        )
        return code
    ready = "NOT READY" if health.reasons else "ready"
    say(f"Node {settings.node}: {ready}, {health.keys_left} batch keys left")
    show_trust(trusted)
    show_notices(notices)
    console.table("Orders", ("state", "orders"), orders.items())
    return code


def health_of(node: NodeConfig) -> Health:
    """The health of a node by this machine's clock, without a server."""

    def seconds() -> int:
        return int(time.time())

    def known() -> Heard:
        path = register_path(node)
        if not path.exists():
            return Heard(returned_at=0, unanswered_since=0, waiting_since=0)
        register_ = Register(path)
        try:
            return heard(register_)
        finally:
            register_.close()

    return Health(
        keys=LiveKeys(node=node.node, state=node.state),
        spool=open_spool(node),
        now=seconds,
        returned_at=lambda: known().returned_at,
        silence=silence_of(known, days=node.expect_return_days),
        proxy=ProxyWatch(node.state).notices,
    )


def read_settings(config: Path) -> tuple[NodeConfig, IntakeConfig]:
    """``[node]`` and ``[intake]`` of a configuration file."""
    sections = load(config, {"node": NodeConfig, "intake": IntakeConfig}, os.environ)
    return cast("NodeConfig", sections["node"]), cast("IntakeConfig", sections["intake"])


def read_limits(config: Path) -> LimitsConfig:
    """``[limits]`` of a configuration file."""
    return cast("LimitsConfig", load(config, {"limits": LimitsConfig}, os.environ)["limits"])


def _ask(directory: Path, offered: bytes) -> str:
    warn(f"The offline identity in {directory} has the fingerprint\n")
    warn(f"    {fingerprint_of(offered)}")
    warn(f"    {words(offered)}\n")
    warn("Have the offline side's operator read it out from its own screen, and type what you hear,")
    try:
        return str(click.prompt("the digits or the words", err=True))
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise IntakeError(
            "USAGE-FINGERPRINT",
            "nobody is there to type the fingerprint, so nobody is trusted",
            "give it as --fingerprint F, as the offline side's operator reads it out",
        ) from None


def _say_what_changes(old: str, new: str) -> None:
    warn(f"This node trusts {old} now, and is told to trust {new} in its place. What changes:")
    warn("  - no return, key roll or handover of the old identity is believed any more;")
    warn("  - the key roll of the new one is used from now on, and the numbers of its returns begin anew;")
    warn("  - orders, bundles and revoked keys stay as they are.")
