"""The verbs of `spool-sync` that look and compare: verify a drop, and the doctor.

Why here: both are asked when something seems wrong, and neither may make it worse.
Must not: change a drop, or repair what a person has to decide.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from keys import console
from keys.console import ExitCode, say, shared_options, warn
from transfer.cli_settings import current_time, read_settings, wait_option
from transfer.cli_shown import error_document
from transfer.sync import trust
from transfer.sync.checking import verify_drop
from transfer.sync.doctor import Doctor
from transfer.sync.medium import inspect
from transfer.sync.node import Node


def register(commands: click.Group) -> None:
    """Add these verbs to ``spool-sync``."""
    commands.add_command(_verify)
    commands.add_command(_doctor)


@click.command("verify", epilog="Example: spool-sync verify /media/stick/in --config node.toml")
@shared_options
@click.argument("drop", type=click.Path(path_type=Path))
def _verify(*, config: Path, as_json: bool, drop: Path) -> ExitCode:
    """Check everything of this node on a drop: own bundles whole and as they were signed, returns genuine.

    Changes nothing, and needs no passphrase. What only the offline side can judge is left to it.
    """
    settings, sync = read_settings(config)
    node = Node.of(settings)
    trust.node_identity(node.state)
    medium = inspect(drop, shop=sync.media_of, node=node.node)
    with node.register() as register:
        found = list(verify_drop(node, register, medium))
    refused = [checked for checked in found if checked.error is not None]
    if as_json:
        console.print_json(
            {
                "drop": drop,
                "medium": medium.marker.label if medium.marker else None,
                "checked": [
                    {
                        "name": checked.name,
                        "what": checked.what,
                        "refused": error_document(checked.error) if checked.error else None,
                    }
                    for checked in found
                ],
            }
        )
    else:
        for checked in found:
            if checked.error is None:
                say(f"good  {checked.name}  {checked.what}")
        for checked in refused:
            if checked.error is not None:
                console.report_error(checked.error, as_json=False)
        say(f"{len(found) - len(refused)} good, {len(refused)} refused.", style="bold")
    if refused:
        return ExitCode.REFUSED
    return ExitCode.DONE if found else ExitCode.NOTHING_TO_DO


@click.command("doctor", epilog="Example: spool-sync doctor --repair --config node.toml")
@shared_options
@wait_option
@click.option(
    "--repair", is_flag=True, help="Do what is safe: make again what is derived, delete what is settled."
)
def _doctor(*, config: Path, as_json: bool, wait: int, repair: bool) -> ExitCode:
    """Compare spool, bundles, receipts and status board, and say what is missing and what to do about it."""
    settings, _ = read_settings(config)
    node = Node.of(settings)
    trust.node_identity(node.state)
    with node.alone(patience=wait), node.register() as register:
        found = Doctor(node=node, register=register, now=current_time(), repair=repair).look()
    if as_json:
        console.print_json({"findings": [dataclasses.asdict(finding) for finding in found]})
    else:
        for finding in found:
            if finding.repaired:
                say(f"Repaired: {finding.rule}: {finding.message}")
            else:
                warn(f"{finding.rule}: {finding.message}")
                warn(f"  What to do: {finding.remedy}")
        if not found:
            say("Spool, bundles, receipts and status board agree.")
    return ExitCode.DONE if all(finding.repaired for finding in found) else ExitCode.NEEDS_PERSON
