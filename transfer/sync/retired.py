"""The mark of a node that is closed for ever, and how a node is closed.

Why here: intake must see at once that it takes no more orders, and push that it cuts no more of them.
Must not: be undone, or close a node whose orders could still be delivered without saying so.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from keys.durable import write_durable
from keys.errors import RuleError
from keys.public import canonical
from keys.public.roll import Count
from transfer.errors import TransferError
from transfer.register import Register, UnsettledOrder
from transfer.sync import trust
from transfer.sync.node import Node
from transfer.sync.notices import Notice
from transfer.wire.manifest import Version

RETIRED_NAME = "retired.json"
_LIMIT = 4096
_PATIENCE = 60.0


class Retired(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Since when this node is closed; ``lost``: its state is an old copy, so that nothing of it may be cut."""

    format: Version = 1
    lost: bool
    retired_at: Count

    @property
    def notice(self) -> Notice:
        return Notice(
            rule="NODE-RETIRED",
            message="this node is retired: it takes no more orders",
            remedy="send customers to the new node; this state is kept only to answer for its orders",
            stops=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBundle:
    """A bundle that was cut and has no receipt, with the orders that it carries."""

    sequence: int
    orders: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetireReport:
    """What a retired node leaves open: every acknowledged order that has no receipt, by where it is."""

    node: str
    lost: bool
    bundles: list[OpenBundle]
    uncut: list[str]
    missing: list[str]

    @property
    def open_orders(self) -> int:
        return sum(len(bundle.orders) for bundle in self.bundles) + len(self.uncut) + len(self.missing)


def load_retired(state: Path) -> Retired | None:
    """The mark, or None for a node that is at work. A mark that cannot be read closes the node all the same."""
    try:
        raw = (state / RETIRED_NAME).read_bytes()
        return canonical.decode(raw, Retired, limit=_LIMIT, what="mark of a retired node")
    except FileNotFoundError:
        return None
    except (OSError, RuleError):
        return Retired(lost=True, retired_at=0)


def retire(node: Node, register: Register, *, now: int, lost: bool) -> RetireReport:
    """Close ``node`` for ever; run it inside ``node.alone()``. Repeating it gives the report anew.

    ``lost``: the state is an old copy, or the offline side takes no more of its bundles: what was not cut stays
    uncut. Without it ``RETIRE-WAITING`` while acknowledged orders wait in the spool: they can still be delivered.
    """
    spool = node.spool()
    register.reindex(spool, now)
    known = load_retired(node.state)
    waiting = [order for order in register.without_receipt() if order.sequence is None and not order.missing]
    if waiting and known is None and not lost:
        raise TransferError(
            "RETIRE-WAITING",
            f"{len(waiting)} acknowledged orders wait in the spool and could still be delivered, "
            f"the first of them {waiting[0].order_id}",
            "stop intake, run spool-sync push, carry the medium over, and retire again; "
            "only if this state is an old copy, or the offline side has retired the node: retire --lost",
        )
    if known is None or (lost and not known.lost):
        mark = Retired(lost=lost, retired_at=known.retired_at if known else now)
        write_durable(node.state / RETIRED_NAME, canonical.encode(mark))
    _close_spool(node)
    # A worker may have stored a last group between the look above and the mark: push still delivers that.
    register.reindex(spool, now)
    return report(node, register, lost=lost or (known is not None and known.lost))


def report(node: Node, register: Register, *, lost: bool) -> RetireReport:
    """What is open now."""
    bundles: dict[int, list[str]] = {}
    uncut: list[str] = []
    missing: list[str] = []
    for order in register.without_receipt():
        _place(order, bundles, uncut, missing).append(order.order_id)
    return RetireReport(
        node=node.node,
        lost=lost,
        bundles=[OpenBundle(sequence=sequence, orders=bundles[sequence]) for sequence in sorted(bundles)],
        uncut=uncut,
        missing=missing,
    )


def _place(
    order: UnsettledOrder, bundles: dict[int, list[str]], uncut: list[str], missing: list[str]
) -> list[str]:
    if order.missing:
        return missing
    return uncut if order.sequence is None else bundles.setdefault(order.sequence, [])


def _close_spool(node: Node) -> None:
    """No worker can begin a group, and none holds one open, when this returns."""
    spool = node.spool()
    keys = {partition.batch_key_id for partition in spool.partitions()}
    with contextlib.suppress(RuleError):  # without a roll no worker seals
        keys |= {entry.key_id for entry in trust.listed_roll(node.state, node=node.node).batch_keys}
    for key in sorted(keys):
        spool.close(key)
        with spool.exclusive(key, patience=_PATIENCE):
            pass
