"""`offline-processor` verbs for decisions about nodes: set-sequence, retire.

Why here: the command line's part of what needs custodians, or ends a node.
Must not: read clock or environment (the station has them), or take a secret as an argument.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Final

import click

from keys import console, recovery
from keys.console import ExitCode
from keys.keystore import Keystore
from keys.passphrases import Descriptors, on_swap
from keys.private.unseal import SealingKey
from keys.quorum import ask_quorum
from offline_processor import retirement, sequences
from offline_processor.epochs import begin_epoch
from offline_processor.errors import ProcessorError
from offline_processor.station import Settings, Station, open_station

_FILE: Final = click.Path(path_type=Path)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@click.command(
    "set-sequence",
    epilog="Example: offline-processor set-sequence --config offline.toml --node shop-a --sequence 17 --digest 9f…",
)
@console.shared_options
@click.option("--node", required=True, metavar="NAME")
@click.option(
    "--sequence", required=True, metavar="S", type=click.IntRange(1, 99_999_999), help="The last one gone."
)
@click.option("--digest", required=True, metavar="HEX", help="Digest of that bundle's manifest.")
@console.shares_option
@console.keystore_passphrase_option
@click.pass_obj
def set_sequence(
    station: Station,
    *,
    config: Path,
    node: str,
    sequence: int,
    digest: str,
    shares_fd: int | None,
    passphrase_fds: Descriptors,
    as_json: bool,
) -> ExitCode:
    """Go on behind bundles that a lost ledger had accepted and the node will not send again. Needs a quorum.

    The node's next bundle must name this digest as the one before it: `spool-sync status` there shows it.
    """
    settings = station.settings(config)
    if _DIGEST.fullmatch(digest) is None:
        raise ProcessorError(
            "USAGE-DIGEST", "--digest is 64 hexadecimal digits", "read it off the node's status again"
        )
    with open_station(settings, passphrase_fds, as_json=as_json) as (keystore, ledger, marks):
        ledger.check_clock(station.clock())
        begin_epoch(ledger, keystore, now=station.clock())
        if keystore.ring.node(node) is None:
            raise ProcessorError(
                "USAGE-NODE", f"no node {node} is enrolled", "`key-ceremony status` lists the nodes"
            )
        _check_quorum(settings, keystore, shares_fd, f"Setting the last sequence of {node} to {sequence}")
        done = sequences.set_sequence(
            ledger,
            settings.processor.state / "spool" / node,
            node=node,
            sequence=sequence,
            manifest=digest,
            now=station.clock(),
        )
    if as_json:
        console.print_json({"marks": marks, **dataclasses.asdict(done)})
    else:
        for line in sequences.in_words(done):
            console.say(line)
    return ExitCode.NEEDS_PERSON


@click.command("retire", epilog="Example: offline-processor retire shop-a --config offline.toml")
@console.shared_options
@click.argument("node")
@console.keystore_passphrase_option
@click.pass_obj
def retire(
    station: Station, *, config: Path, node: str, passphrase_fds: Descriptors, as_json: bool
) -> ExitCode:
    """End an intake node for ever: its keys are destroyed, later bundles refused, what is open of it named."""
    settings = station.settings(config)
    with open_station(settings, passphrase_fds, as_json=as_json) as (keystore, ledger, marks):
        ledger.check_clock(station.clock())
        begin_epoch(ledger, keystore, now=station.clock())
        done = retirement.retire(ledger, keystore, node, now=station.clock())
        recovery.refresh_copy(keystore, station.clock())
    if as_json:
        console.print_json({"marks": marks, **dataclasses.asdict(done)})
    else:
        for line in retirement.in_words(done):
            console.say(line)
    return ExitCode.NEEDS_PERSON if done.unsettled or done.waiting else ExitCode.DONE


def _check_quorum(settings: Settings, keystore: Keystore, shares_fd: int | None, purpose: str) -> None:
    """Enough custodians are here: their shares rebuild the custody key of this keystore. ``CUSTODY-NONE``."""
    custody = keystore.custody
    if custody is None:
        raise ProcessorError(
            "CUSTODY-NONE",
            "this keystore has no custodians, so nobody can allow this",
            "a rehearsal with custodians is held with key-ceremony run",
        )
    key: SealingKey = ask_quorum(
        custody,
        shares_fd=shares_fd,
        on_swap=on_swap(settings.keystore, rehearsal=keystore.rehearsal),
        purpose=purpose,
    )
    key.close()


COMMANDS: Final = (set_sequence, retire)
