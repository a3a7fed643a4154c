"""The stages an order goes through offline, each a frozen type that only its own function constructs.

Why here: the signatures of receiving, opening, screening and charging then show what has been checked already.
Must not: hold PAN or CVV; a card is a view of locked memory and lives in charging alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from transfer.wire.ids import NodeId, OrderId
from transfer.wire.manifest import BundleManifest
from transfer.wire.order import OrderCompartment
from transfer.wire.records import Reason, StatusState


class OrderState(StrEnum):
    """Where an order stands in the ledger. SCREENED waits for its charge in this or a resumed run."""

    SCREENED = "screened"
    QUARANTINED = "quarantined"
    HELD = "held"
    AUTHORISED = "authorised"
    PAID = "paid"
    DISPATCHED = "dispatched"
    REFUNDED = "refunded"
    DECLINED = "declined"
    ORDER_AGAIN = "order-again"


STATUS_OF: dict[OrderState, StatusState] = {
    OrderState.QUARANTINED: StatusState.HELD,
    OrderState.HELD: StatusState.HELD,
    OrderState.AUTHORISED: StatusState.AUTHORISED,
    OrderState.PAID: StatusState.PAID,
    OrderState.DISPATCHED: StatusState.DISPATCHED,
    OrderState.REFUNDED: StatusState.REFUNDED,
    OrderState.DECLINED: StatusState.DECLINED,
    OrderState.ORDER_AGAIN: StatusState.ORDER_AGAIN,
}
"""What the shop is told of each state; SCREENED is not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledBundle:
    """A bundle copied off the medium into our own spool, nothing of it checked but names and sizes.

    ``name`` is the directory's name on the medium.
    """

    node: NodeId
    name: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedBundle:
    """A bundle whose copy was verified whole: signature, chain, digest, frames. ``confirms`` is a return's number.

    ``signed_by`` is the node's Ed25519 key that signed it.
    """

    node: NodeId
    sequence: int
    manifest: BundleManifest
    manifest_digest: str
    confirms: int
    envelopes: Path
    signed_by: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedOrder:
    """An order compartment that opened and parsed, not yet judged."""

    position: int
    order_id: OrderId
    basket_digest: bytes
    header_digest: bytes
    compartment: OrderCompartment = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectAsked:
    """What a person asked about their data (FORMAT.md, kind 2): opened and whole; a person of ours decides on it.

    ``request`` is its id (hex), ``orders`` the ids that were named.
    """

    position: int
    request: str
    kind: str
    email: str = field(repr=False)
    orders: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenedOrder:
    """An order that may be charged: its basket, total and bindings agree."""

    position: int
    order_id: OrderId
    basket_digest: bytes
    amount: int
    currency: str
    compartment: OrderCompartment = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """An order that waits for a person. ``order_id`` is None when not even its header could be read."""

    position: int
    order_id: OrderId | None
    basket_digest: bytes
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of one order: its new state, the coarse reason, and the rule or answer behind it."""

    order_id: OrderId
    state: OrderState
    reason: Reason = Reason.NONE
    rule: str = ""
