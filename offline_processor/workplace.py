"""What one run works with, and what it reports of itself.

Why here: the stages of a run share these two, and nothing else.
Must not: decide anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from keys.errors import RuleError
from keys.keystore import Keystore
from keys.keystore_index import DestroyedOrderKey
from keys.recovery import refresh_copy
from keys.ring_index import Destroyed, DestroyReason
from offline_processor.acquirers.protocol import Acquirer
from offline_processor.config import ChargingConfig
from offline_processor.control_total import ControlTotal
from offline_processor.key_record import say_destroyed
from offline_processor.ledger.bundles import BundleRecord, BundleState
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.staging import Staged
from offline_processor.operations import Sent
from offline_processor.reporting import ReturnWritten
from offline_processor.stages import OrderState, Quarantined, ScreenedOrder, Settled
from offline_processor.stopping import StopSwitch
from transfer.wire.manifest import ENVELOPES_NAME, bundle_name

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many orders are done, and of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """What one run works with. ``clock`` gives Unix seconds; ``hold_seconds`` is the limit of a hold key.

    ``acquirer``: None for the steps that send nothing. ``stop`` is looked at after every window that was sent.
    """

    ledger: Ledger
    keystore: Keystore
    acquirer: Acquirer | None = None
    state: Path
    drop_in: Path
    drop_out: Path
    media_of: str | None = None
    window: int
    hold_seconds: int
    clock: Callable[[], int]
    confirm: Callable[[ControlTotal], None]
    progress: Progress
    charging: ChargingConfig = field(default_factory=ChargingConfig)
    stop: StopSwitch = field(default_factory=StopSwitch)


@dataclass(slots=True, kw_only=True)
class RunReport:
    """What a run did, for its summary. Amounts are minor units by currency; ``outcomes`` counts orders by state.

    ``answered``: nodes whose newest return is on the medium now, whether it had to be written or was there.
    """

    received: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    refused: list[RuleError] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)
    paid: Counter[str] = field(default_factory=Counter)
    known_already: int = 0
    strays: int = 0
    subjects: int = 0
    interrupted: int = 0
    reversed: int = 0
    operations: Sent = field(default_factory=Sent)
    keys_destroyed: list[Destroyed] = field(default_factory=list)
    order_keys_destroyed: list[DestroyedOrderKey] = field(default_factory=list)
    returns: list[ReturnWritten] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    safe_to_remove: str = ""
    acquirer_silent: bool = False
    stopped: bool = False

    def include(self, part: RunReport) -> None:
        """Count what another step, or another try of the same one, did."""
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(part, each.name)
            if isinstance(mine, list):
                mine.extend(theirs)
            elif isinstance(mine, Counter):
                mine.update(theirs)
            elif isinstance(mine, Sent):
                mine.add(theirs)
            elif isinstance(mine, bool):
                setattr(self, each.name, mine or theirs)
            elif isinstance(mine, int):
                setattr(self, each.name, mine + theirs)
            else:
                setattr(self, each.name, theirs or mine)

    def count(self, state: OrderState, orders: int) -> None:
        """Count orders that came to a state without a window."""
        if orders:
            self.outcomes[state.value] += orders

    def add_staged(self, staged: Staged, judged: Iterable[ScreenedOrder | Quarantined]) -> None:
        """Count what screening put aside."""
        self.known_already += staged.repeated
        self.strays += len(staged.strays)
        self.rules.update(rule for rule in staged.strays if rule == "ORDER-ID-CONFLICT")
        self.rules.update(order.rule for order in judged if isinstance(order, Quarantined))
        for outcome in staged.reported:
            self.count(outcome.state, 1)
            self.rules.update([outcome.rule] if outcome.rule else [])

    def add_operations(self, sent: Sent) -> None:
        """Count captures, refunds and voids."""
        self.operations.add(sent)

    def add(self, settled: Iterable[Settled], amounts: Mapping[str, tuple[int, str]]) -> None:
        """Count the outcomes of a window; ``amounts`` gives each order's amount and currency."""
        for outcome in settled:
            self.outcomes[outcome.state.value] += 1
            if outcome.rule:
                self.rules[outcome.rule] += 1
            if outcome.state is OrderState.PAID:
                amount, currency = amounts[outcome.order_id]
                self.paid[currency] += amount


def spooled_copy(place: Workplace, bundle: BundleRecord) -> Path:
    """The directory of our own copy of an accepted bundle."""
    return place.state / "spool" / bundle.node / bundle_name(bundle.sequence)


def is_missing(place: Workplace, bundle: BundleRecord) -> bool:
    """True when our copy is gone though the bundle's work still needs it: to screen, or to charge with a live key."""
    wanted = bundle.state is BundleState.ACCEPTED or (
        bundle.batch_key is not None
        and place.keystore.ring.batch_key(bytes.fromhex(bundle.batch_key)) is not None
    )
    return wanted and not envelopes_of(place, bundle).is_file()


def envelopes_of(place: Workplace, bundle: BundleRecord) -> Path:
    """The envelopes file of our own copy of an accepted bundle."""
    return spooled_copy(place, bundle) / ENVELOPES_NAME


def destroy_keys(place: Workplace, key_ids: Iterable[bytes], reason: DestroyReason) -> list[Destroyed]:
    """Destroy keys in the ring, then say so in the ledger; what a crash left unsaid is said by the next call."""
    ring = place.keystore.ring
    ring.destroy(key_ids, reason=reason, now=place.clock())
    return say_destroyed(place.ledger, ring, now=place.clock())


def destroy_order_keys(place: Workplace) -> list[DestroyedOrderKey]:
    """Destroy the order keys whose time has come, and record each, also those that a crash left unsaid."""
    ledger, now = place.ledger, place.clock()
    place.keystore.destroy_due_order_keys(now)
    gone, said = place.keystore.destroyed_order_keys, ledger.counter("order-keys-destroyed")
    unsaid = list(gone[said:])
    if unsaid:
        refresh_copy(place.keystore, now)  # before it is said: an older copy still has the keys, sealed
        with ledger.atomic():
            for key in unsaid:
                facts = {"number": key.number, "destroyed_at": key.destroyed_at}
                ledger.append("order-key-destroyed", key.key_id, now, facts)
            ledger.set_counter("order-keys-destroyed", len(gone))
    return unsaid
