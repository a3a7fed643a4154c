"""What `offline-processor status` shows, read from the ledger alone.

Why here: one document for people and programs, put together without a key.
Must not: change anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from keys import console
from offline_processor import duties, reconciliation, summary
from offline_processor.acquirers.report import in_words
from offline_processor.backup import LAST_BACKUP
from offline_processor.errors import ProcessorError
from offline_processor.key_state import KeyState, Notice, last_seen, warnings
from offline_processor.ledger import reports
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.mirror import same_disk
from offline_processor.silence import silent_nodes
from offline_processor.station import Settings

_CHAINS = ("node", "last_sequence", "return_number", "confirmed_return")


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """Orders by state, chains by node, what the last run saw of the keys, backup, mirror, and notices."""

    orders: dict[str, int]
    nodes: list[tuple[Any, ...]]
    epoch: int
    unreconciled: bool
    charged_to_come: list[str]
    keys: KeyState | None
    keys_seen_at: int
    last_backup: int
    mirror: str | None
    notices: list[Notice]

    @property
    def needs_person(self) -> bool:
        return any(notice.needs_person for notice in self.notices)

    def as_document(self) -> dict[str, Any]:
        return {
            "orders": self.orders,
            "nodes": [dict(zip(_CHAINS, row, strict=True)) for row in self.nodes],
            "epoch": self.epoch,
            "unreconciled": self.unreconciled,
            "charged_to_come": self.charged_to_come,
            "keys": None
            if self.keys is None
            else {"seen_at": self.keys_seen_at, **msgspec.to_builtins(self.keys)},
            "last_backup": self.last_backup or None,
            "mirror": self.mirror,
            "notices": summary.notices_as_document(self.notices),
        }

    def show(self) -> None:
        """For a person."""
        console.table("Orders", ("state", "orders"), self.orders.items())
        console.table("Nodes", ("node", "last bundle", "last return", "confirmed return"), self.nodes)
        if self.keys is not None:
            _show_keys(self.keys, self.keys_seen_at)
        console.say(f"Epoch: {self.epoch}")
        console.say(f"Last good backup: {in_words(self.last_backup) if self.last_backup else 'none'}")
        console.say(
            f"Mirror: {self.mirror or 'none: the loss of this disk loses what is newer than the backup'}"
        )
        for order_id in self.charged_to_come:
            console.say(f"Charged, says the acquirer, and not here yet: {order_id}")
        summary.show_notices(self.notices)


def read(
    settings: Settings, ledger: Ledger, now: int, *, no_mirror: ProcessorError | None = None
) -> StatusReport:
    """Read it all; ``no_mirror`` is why the configured mirror cannot be had."""
    orders: dict[str, int] = dict(
        ledger.rows("SELECT state, count(*) FROM orders GROUP BY state ORDER BY state")
    )
    seen_at, keys = last_seen(ledger) or (0, None)
    mirror = settings.processor.mirror
    return StatusReport(
        orders=orders,
        nodes=list(
            ledger.rows("SELECT node, last_sequence, return_number, confirmed_return FROM node ORDER BY node")
        ),
        epoch=ledger.counter("epoch"),
        unreconciled=reconciliation.is_required(ledger),
        charged_to_come=reports.unknown_orders(ledger),
        keys=keys,
        keys_seen_at=seen_at,
        last_backup=ledger.counter(LAST_BACKUP),
        mirror=None if mirror is None else str(mirror),
        notices=notices_of(settings, ledger, keys, now, no_mirror=no_mirror),
    )


def notices_of(
    settings: Settings,
    ledger: Ledger,
    keys: KeyState | None,
    now: int,
    *,
    no_mirror: ProcessorError | None = None,
) -> list[Notice]:
    """What a person is warned of."""
    mirror = settings.processor.mirror
    found = warnings(
        ledger,
        keys,
        mirror_on_same_disk=mirror is not None and no_mirror is None and same_disk(settings.ledger, mirror),
        backup_days=settings.processor.backup_days,
        now=now,
    )
    active = None if keys is None else [node.node for node in keys.nodes]
    days = settings.processor.expect_bundle_days
    if no_mirror is not None:
        message = f"{no_mirror.message}. {no_mirror.remedy}"
        found.append(Notice(rule=no_mirror.rule, message=message, needs_person=True))
    found += silent_nodes(ledger, active=active, days=days, now=now)
    return found + duties.notices(ledger, settings.charging, now=now)


def _show_keys(keys: KeyState, seen_at: int) -> None:
    console.table(
        f"Keys, as the run of {in_words(seen_at)} saw them",
        ("node", "batch keys unused", "may be sealed to", "not confirmed"),
        [(node.node, node.unused, node.usable, len(node.unconfirmed)) for node in keys.nodes],
    )
    for key in keys.order_keys:
        console.say(
            f"Order key {key.number}: sealed to until {_day(key.seal_until)}, destroyed {_day(key.destroy_at)}"
        )
    console.say(f"Hold keys: {keys.hold_keys}. Overdue keys: {keys.overdue}.")


def _day(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
