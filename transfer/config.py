"""`[node]` and `[sync]` of an online host's configuration.

Why here: intake and spool-sync read the same state directory, so they must read the same settings.
Must not: offer a setting that switches a check off; the limits here only ever cut a bundle earlier.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from keys.config import Risk

# Half of what FORMAT.md allows a bundle, so that groups which several workers add at the same moment still fit.
_MOST_ORDERS = 500_000
_MOST_BYTES = 2 * 1024**3
_FEWEST_BYTES = 64 * 1024

ShopName = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\Z")]
"""Whose media they are: 1 to 32 of a-z 0-9 -, on both sides of the gap the same."""
Days = Annotated[int, msgspec.Meta(ge=1, le=90)]


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[node]``: who this host is, where its state lies, and how much one bundle takes.

    A batch key that has ``max_orders`` orders or ``max_bytes`` bytes takes no more; the next key is used.
    ``accept_risk`` names dangers of this host that are accepted (keys/config.py lists them).
    ``expect_return_days``: after so long without an answer from the offline side, this node says so.
    """

    node: str
    state: Path
    passphrase_file: Path | None = None
    max_orders: Annotated[int, msgspec.Meta(ge=1, le=_MOST_ORDERS)] = 10_000
    max_bytes: Annotated[int, msgspec.Meta(ge=_FEWEST_BYTES, le=_MOST_BYTES)] = 64 * 1024 * 1024
    expect_return_days: Days = 7
    accept_risk: tuple[Risk, ...] = ()


class SyncConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[sync]``: the drop directories. IN is towards the offline side, OUT comes from it.

    ``media_of``: the drops are media of this shop, prepared with ``format-medium``; without it they are plain
    directories (what lies in them is checked alike). ``cut_minutes``: how long ``watch`` lets an order wait for others
    before it cuts a bundle; the more bundles are on their way, the longer it waits, so that batch keys last.
    ``watch_seconds``: between two looks of ``watch``.
    """

    drop_in: Path
    drop_out: Path
    media_of: ShopName | None = None
    cut_minutes: Annotated[int, msgspec.Meta(ge=0, le=24 * 60)] = 60
    watch_seconds: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 60
