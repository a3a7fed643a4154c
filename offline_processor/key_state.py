"""The state of keys, backup and mirror, as the summary and `status` show it, and what a person is warned of.

Why here: a run sees the keystore open and writes down what it saw; `status` opens no key and reads that.
Must not: decide about an order, or show more of a key than its number and times.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from keys.keystore import Keystore
from offline_processor import announcing, reconciliation
from offline_processor.backup import LAST_BACKUP
from offline_processor.ledger import reports
from offline_processor.ledger.ledger import CLOCK_JUMP, Ledger
from offline_processor.reporting import BATCH_KEYS_KEPT, usable_keys

DAY: Final = 24 * 3600
ORDER_KEY_NOTICE: Final = 30 * DAY
_SEEN: Final = "keys"


class NodeKeys(msgspec.Struct, frozen=True, kw_only=True):
    """One node's batch keys, and what it has not confirmed yet."""

    node: str
    unused: int
    usable: int
    unconfirmed: list[str]


class OrderKeyTimes(msgspec.Struct, frozen=True, kw_only=True):
    """One order key's number and times (Unix seconds)."""

    number: int
    seal_until: int
    destroy_at: int


class KeyState(msgspec.Struct, frozen=True, kw_only=True):
    """What a run saw of the keys. ``custody``: a backup can be made at all."""

    epoch: int
    custody: bool
    order_keys: list[OrderKeyTimes]
    nodes: list[NodeKeys]
    hold_keys: int
    overdue: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something a person should know; ``needs_person``: it will not go away by itself."""

    rule: str
    message: str
    needs_person: bool


def look(ledger: Ledger, keystore: Keystore, *, hold_seconds: int, now: int) -> KeyState:
    """What there is to see, with the keystore open."""
    ring = keystore.ring
    return KeyState(
        epoch=keystore.epoch,
        custody=keystore.custody is not None,
        order_keys=[
            OrderKeyTimes(number=key.number, seal_until=key.seal_until, destroy_at=key.destroy_at)
            for key in keystore.order_keys
            if key.revoked_at is None
        ],
        nodes=[
            NodeKeys(
                node=node.node,
                unused=len(ring.unused(node.node)),
                usable=usable_keys(keystore, node.node, now),
                unconfirmed=announcing.unconfirmed(ledger, keystore, node.node),
            )
            for node in ring.nodes()
            if node.retired_at is None
        ],
        hold_keys=len(ring.hold_records()),
        overdue=len(ring.overdue(now, hold_limit=hold_seconds)),
    )


def note(ledger: Ledger, state: KeyState, *, now: int) -> None:
    """Write down what was seen, for `status`; only when it has changed."""
    document = msgspec.json.encode(state).decode()
    row = ledger.row("SELECT document FROM seen WHERE name = ?", (_SEEN,))
    if row is None or row[0] != document:
        with ledger.atomic():
            ledger.execute(
                "INSERT OR REPLACE INTO seen (name, at, document) VALUES (?, ?, ?)", (_SEEN, now, document)
            )


def last_seen(ledger: Ledger) -> tuple[int, KeyState] | None:
    """What the last run that saw a change wrote down, and when."""
    row = ledger.row("SELECT at, document FROM seen WHERE name = ?", (_SEEN,))
    return None if row is None else (int(row[0]), msgspec.json.decode(row[1], type=KeyState))


def warnings(
    ledger: Ledger, state: KeyState | None, *, mirror_on_same_disk: bool, backup_days: int, now: int
) -> list[Notice]:
    """What a person is to be warned of, the most urgent first."""
    found: list[Notice] = []
    if reconciliation.is_required(ledger):
        found.append(
            _notice("LEDGER-UNRECONCILED", "this ledger was restored and waits to be reconciled", person=True)
        )
    unknown = reports.unknown_orders(ledger)
    if unknown:
        found.append(
            _notice(
                "RECONCILE-TO-COME",
                f"{len(unknown)} orders were charged, says the acquirer, and have not come to this ledger yet",
                person=True,
            )
        )
    if now < ledger.newest or (ledger.newest and now - ledger.newest > CLOCK_JUMP):
        found.append(
            _notice("CLOCK-DOUBT", "the clock does not agree with the newest ledger entry", person=True)
        )
    if state is not None:
        found += _of_keys(state, now)
        found += _of_backup(ledger, state, backup_days, now)
    if mirror_on_same_disk:
        found.append(
            _notice(
                "MIRROR-SAME-DISK",
                "ledger and mirror lie on one file system: one dead disk takes both",
                person=False,
            )
        )
    return found


def _of_keys(state: KeyState, now: int) -> list[Notice]:
    found = []
    seal_until = max((key.seal_until for key in state.order_keys), default=0)
    if seal_until <= now:
        found.append(
            _notice(
                "ORDER-KEY-EXPIRED",
                "no order key may be sealed to any more: key-ceremony rotate order-key",
                person=True,
            )
        )
    elif seal_until - now < ORDER_KEY_NOTICE:
        until = datetime.fromtimestamp(seal_until, UTC).strftime("%Y-%m-%d")
        found.append(
            _notice(
                "ORDER-KEY-EXPIRING",
                f"the order key is sealed to until {until}: key-ceremony rotate order-key",
                person=False,
            )
        )
    if state.overdue:
        found.append(
            _notice("KEYS-OVERDUE", f"{state.overdue} keys are overdue: run destroys them", person=False)
        )
    for node in state.nodes:
        if node.usable < BATCH_KEYS_KEPT // 2:
            what = f"{node.node} has {node.usable} batch keys left that it may seal to: carry it a return"
            found.append(_notice("KEYS-LOW", what, person=False))
        if node.unconfirmed:
            what = f"{node.node} has not confirmed {len(node.unconfirmed)} announcements of keys"
            found.append(_notice("KEYS-UNCONFIRMED", what, person=False))
    return found


def _of_backup(ledger: Ledger, state: KeyState, backup_days: int, now: int) -> list[Notice]:
    if not state.custody:
        return []
    last = ledger.counter(LAST_BACKUP)
    if not last:
        what = "there is no backup of this ledger yet: offline-processor backup"
        return [_notice("BACKUP-OLD", what, person=False)]
    age = (now - last) // DAY
    if age < backup_days:
        return []
    return [
        _notice(
            "BACKUP-OLD", f"the last good backup is {age} days old: offline-processor backup", person=False
        )
    ]


def _notice(rule: str, message: str, *, person: bool) -> Notice:
    return Notice(rule=rule, message=message, needs_person=person)
