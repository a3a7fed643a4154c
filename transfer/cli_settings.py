"""What every verb of `spool-sync` reads first: its configuration and the clock.

Why here: the verbs stand in several modules, and only command lines may read the environment and the clock.
Must not: decide anything, or print.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from keys.config import Risk, load
from transfer.config import NodeConfig, SyncConfig
from transfer.sync.signing import accept_unencrypted_swap

wait_option = click.option(
    "--wait",
    metavar="SECONDS",
    default=10,
    show_default=True,
    type=click.IntRange(0, 3600),
    help="How long to wait for another spool-sync of this node, such as a look of watch, to end.",
)


def read_settings(path: Path) -> tuple[NodeConfig, SyncConfig]:
    """``[node]`` and ``[sync]`` of a configuration file."""
    loaded = load(path, {"node": NodeConfig, "sync": SyncConfig}, os.environ)
    node, sync = loaded["node"], loaded["sync"]
    if not isinstance(node, NodeConfig) or not isinstance(sync, SyncConfig):
        raise TypeError("load gives what it is asked for")
    if Risk.UNENCRYPTED_SWAP in node.accept_risk:
        accept_unencrypted_swap()
    return node, sync


def date(seconds: int) -> str:
    """A time as people read it."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def current_time() -> int:
    """Unix seconds."""
    return int(time.time())
