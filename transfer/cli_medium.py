"""`spool-sync format-medium`: prepares a medium, once, on either side of the gap.

Why here: it needs no node and no keystore, so that both sides can prepare a medium for the other.
Must not: make a file system, or touch what a medium holds already.
"""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from keys import console
from keys.console import ExitCode, say
from transfer.cli_settings import current_time
from transfer.errors import TransferError
from transfer.sync.medium import Direction, Marker, format_medium
from transfer.wire.ids import check_node_id


def register(commands: click.Group) -> None:
    """Add this verb to ``spool-sync``."""
    commands.add_command(_format)


@click.command(
    "format-medium",
    epilog="Example: spool-sync format-medium /media/stick/in --label S-1 --shop example --node shop-a --direction in",
)
@click.argument("place", type=click.Path(path_type=Path))
@click.option("--label", required=True, help="What is written on the outside, 1 to 40 characters.")
@click.option("--shop", required=True, help="The shop, as [sync] media_of names it: 1 to 32 of a-z 0-9 -.")
@click.option("--node", required=True, help="The intake node that it carries for.")
@click.option("--direction", required=True, type=click.Choice([direction.value for direction in Direction]))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
def _format(*, place: Path, label: str, shop: str, node: str, direction: str, as_json: bool) -> ExitCode:
    """Prepare PLACE, an empty directory on a mounted medium: a marker says whose it is and which way it carries.

    No file system is made, nothing is erased: a directory that holds other files is refused. The same again is
    harmless. One stick may have two such directories, one for each direction.
    """
    check_node_id(node)
    try:
        marker = msgspec.convert(
            {
                "label": label,
                "shop": shop,
                "node": node,
                "direction": direction,
                "prepared_at": current_time(),
                "kind": "medium",
            },
            Marker,
        )
    except msgspec.ValidationError as error:
        raise TransferError(
            "USAGE-MEDIUM", f"this cannot be a medium: {error}", "see spool-sync format-medium --help"
        ) from error
    format_medium(place, marker, own_disk=Path("/"))
    if as_json:
        console.print_json(msgspec.to_builtins(marker) | {"place": str(place)})
        return ExitCode.DONE
    drop = "drop_in" if marker.direction is Direction.IN else "drop_out"
    say(f"Prepared {place} as medium {label}: {shop}, node {node}, {direction.upper()}.", style="bold")
    say(f'In the configuration: {drop} = "{place}" and media_of = "{shop}"')
    return ExitCode.DONE
