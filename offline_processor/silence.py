"""Nodes that were not heard from for too long.

Why here: a lost medium, a dead cron or a stopped node look the same from here: nothing comes; somebody must be told.
Must not: guess why, or count a node that is retired or has never sent anything.
"""

from __future__ import annotations

from collections.abc import Collection

from offline_processor.key_state import DAY, Notice
from offline_processor.ledger.ledger import Ledger


def silent_nodes(ledger: Ledger, *, active: Collection[str] | None, days: int, now: int) -> list[Notice]:
    """NODE-SILENT for each node whose last bundle is older than ``days``. ``active``: enrolled nodes; None: all."""
    rows = ledger.rows("SELECT node, max(accepted_at) FROM bundle GROUP BY node ORDER BY node")
    return [
        Notice(
            rule="NODE-SILENT",
            message=f"nothing was heard from {node} for {(now - last) // DAY} days, and it should be every {days}: "
            "ask whether its medium was lost and whether spool-sync runs there",
            needs_person=True,
        )
        for node, last in rows
        if (active is None or node in active) and now - last > days * DAY
    ]
