"""`[node]` and `[sync]` of an online host's configuration.

Why here: intake and spool-sync read the same state directory, so they must read the same settings.
Must not: offer a setting that switches a check off; the limits here only ever cut a bundle earlier.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

# Half of what FORMAT.md allows a bundle, so that groups which several workers add at the same moment still fit.
_MOST_ORDERS = 500_000
_MOST_BYTES = 2 * 1024**3
_FEWEST_BYTES = 64 * 1024


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[node]``: who this host is, where its state lies, and how much one bundle takes.

    A batch key that has ``max_orders`` orders or ``max_bytes`` bytes takes no more; the next key is used.
    """

    node: str
    state: Path
    passphrase_file: Path | None = None
    max_orders: Annotated[int, msgspec.Meta(ge=1, le=_MOST_ORDERS)] = 10_000
    max_bytes: Annotated[int, msgspec.Meta(ge=_FEWEST_BYTES, le=_MOST_BYTES)] = 64 * 1024 * 1024


class SyncConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[sync]``: the drop directories. IN is towards the offline side, OUT comes from it."""

    drop_in: Path
    drop_out: Path
