"""Evidence: the life of every batch and hold key as the ledger tells it, cross-checked with the key ring.

Why here: pure, so that what is signed follows from ledger and ring alone.
Must not: believe the ring where the ledger is silent: a difference is a finding, and a person has to look at it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from keys.public.roll import Count, Hex16, Hex32, Node, Number
from keys.ring_index import DestroyReason, HoldKey, KeyRole, RingBackend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keys.ring_index import BatchKey, Destroyed, RingIndex

COMMENT: Final = "sealed-orders v1 key-evidence"
SIZE_LIMIT: Final = 256 * 1024 * 1024
_FORM: Final = {"frozen": True, "kw_only": True, "forbid_unknown_fields": True, "omit_defaults": True}


class Erasure(StrEnum):
    """What stands behind a destruction."""

    HARDWARE = "hardware"  # the TPM forgot what unwrapped it
    NOT_ASSURED = "not-assured-by-hardware"  # overwritten and removed as far as software can see
    UNKNOWN = "unknown"  # lost with a machine or a medium


ERASURE_OF: Final = {RingBackend.TPM: Erasure.HARDWARE, RingBackend.FILE: Erasure.NOT_ASSURED}


class State(StrEnum):
    """Where a key is now."""

    LIVE = "live"
    DESTROYED = "destroyed"
    LOST = "lost"  # of an earlier epoch, and in no list: it went with the old machine


class KeyLife(msgspec.Struct, **_FORM):
    """One key. ``node`` and ``number`` are a batch key's, ``order`` a hold key's; times are Unix seconds.

    ``used_at``: its bundle was accepted. ``emptied_at``: nothing needed it any more.
    """

    key_id: Hex16
    role: KeyRole
    state: State
    epoch: Count = 0
    node: Node | None = None
    number: Number | None = None
    order: Hex16 | None = None
    issued_at: Count | None = None
    used_at: Count | None = None
    emptied_at: Count | None = None
    destroyed_at: Count | None = None
    reason: DestroyReason | None = None
    erasure: Erasure | None = None


class Finding(msgspec.Struct, **_FORM):
    """A difference that a person has to explain, by rule."""

    rule: str
    key_id: Hex16
    what: str


class Overdue(msgspec.Struct, **_FORM):
    """A live key that should be dead since ``due_at``; the next run destroys it for this ``reason``."""

    key_id: Hex16
    role: KeyRole
    due_at: Count
    reason: DestroyReason


class Evidence(msgspec.Struct, tag_field="kind", tag="key-evidence", **_FORM):
    """The signed document. ``ledger_tip`` is the chain of its newest entry: it names the ledger that was read.

    ``not_yet_recorded`` counts what happened in the ring after the newest entry; the next run records it.
    """

    format: Annotated[int, msgspec.Meta(ge=1, le=1)]
    made_at: Count
    rehearsal: bool
    identity: Hex32
    epoch: Number
    backend: RingBackend
    hold_limit: Count
    ledger_entries: Count
    ledger_newest: Count
    ledger_tip: Hex32
    keys: list[KeyLife]
    findings: list[Finding]
    overdue: list[Overdue]
    not_yet_recorded: Count


@dataclass(slots=True, kw_only=True)
class Told:
    """What the ledger has told of one key so far."""

    role: KeyRole = KeyRole.BATCH
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class LedgerKeys:
    """The fold of a ledger's entries: only what concerns keys is kept, so a long ledger needs little memory."""

    entries: int = 0
    newest: int = 0
    tip: bytes = bytes(32)
    keys: dict[str, Told] = field(default_factory=dict)

    def issued(self, key_id: str, **facts: Any) -> None:
        self._told(key_id, facts)

    def held(self, key_id: str, order: str, at: int) -> None:
        self._told(key_id, {"order": order, "issued_at": at}, role=KeyRole.HOLD)

    def used(self, key_id: str, at: int) -> None:
        if "destroyed_at" not in self._told(key_id, {}).facts:  # a bundle that came too late used nothing
            self._told(key_id, {"used_at": at})

    def emptied(self, key_id: str, at: int) -> None:
        self._told(key_id, {"emptied_at": at})

    def destroyed(self, key_id: str, role: KeyRole, **facts: Any) -> None:
        self._told(key_id, facts, role=role)

    def _told(self, key_id: str, facts: dict[str, Any], role: KeyRole | None = None) -> Told:
        told = self.keys.setdefault(key_id, Told())
        if role is not None:
            told.role = role
        for name, value in facts.items():
            if value is not None:
                told.facts.setdefault(
                    name, value
                )  # the first time counts: a run that was cut short says it again
        return told


def make(
    ledger: LedgerKeys,
    ring: RingIndex,
    *,
    backend: RingBackend,
    identity: bytes,
    rehearsal: bool,
    hold_limit: int,
    now: int,
) -> Evidence:
    """Lay ledger and ring side by side."""
    live: dict[str, BatchKey | HoldKey] = {key.entry.key_id.hex(): key for key in ring.batch_keys}
    live |= {key.key_id: key for key in ring.hold_keys}
    gone = {key.key_id: key for key in ring.destroyed}
    unsaid = list(_unsaid(ledger, live, gone))
    findings = [finding for at, finding in unsaid if at < ledger.newest]
    lives = []
    for key_id, told in ledger.keys.items():
        life = _life(key_id, told, ring, known=key_id in live or key_id in gone)
        lives.append(life)
        findings += _differences(life, live.get(key_id), gone.get(key_id), ring.epoch)
    lives.sort(key=lambda life: (life.issued_at or 0, life.node or "", life.number or 0, life.key_id))
    return Evidence(
        format=1,
        made_at=now,
        rehearsal=rehearsal,
        identity=identity.hex(),
        epoch=ring.epoch,
        backend=backend,
        hold_limit=hold_limit,
        ledger_entries=ledger.entries,
        ledger_newest=ledger.newest,
        ledger_tip=ledger.tip.hex(),
        keys=lives,
        findings=findings,
        overdue=list(_overdue(ring, hold_limit, now)),
        not_yet_recorded=len(unsaid) - sum(at < ledger.newest for at, _ in unsaid),
    )


def _life(key_id: str, told: Told, ring: RingIndex, *, known: bool) -> KeyLife:
    facts = told.facts
    state = State.LIVE
    if "destroyed_at" in facts:
        state = State.DESTROYED
    elif not known and facts.get("epoch", 0) < ring.epoch and ring.lost_before_epoch:
        state = State.LOST
    erasure = None
    if state is not State.LIVE:
        lost = state is State.LOST or facts.get("reason") is DestroyReason.LOST
        backend = facts.get("backend")
        erasure = Erasure.UNKNOWN if lost or backend is None else ERASURE_OF[backend]
    told_of = (
        "epoch",
        "node",
        "number",
        "order",
        "issued_at",
        "used_at",
        "emptied_at",
        "destroyed_at",
        "reason",
    )
    return KeyLife(
        key_id=key_id,
        role=told.role,
        state=state,
        erasure=erasure,
        **{name: facts[name] for name in told_of if name in facts},
    )


def _unsaid(
    ledger: LedgerKeys, live: dict[str, BatchKey | HoldKey], gone: dict[str, Destroyed]
) -> Iterator[tuple[int, Finding]]:
    """What the ring has done and the ledger does not have, with its time: newer than the ledger it is no finding."""
    for key_id, key in live.items():
        facts = ledger.keys[key_id].facts if key_id in ledger.keys else {}
        issued_at, opened_at = _times(key)
        if "issued_at" not in facts:
            yield (
                issued_at,
                _finding("EVIDENCE-UNRECORDED", key_id, "the ring issued it, the ledger does not say so"),
            )
        if opened_at is not None and "used_at" not in facts:
            yield (
                opened_at,
                _finding("EVIDENCE-UNRECORDED", key_id, "the ring opened it, the ledger has no bundle"),
            )
    for key_id, dead in gone.items():
        if key_id not in ledger.keys or "destroyed_at" not in ledger.keys[key_id].facts:
            what = "the ring destroyed it, the ledger does not say so"
            yield dead.destroyed_at, _finding("EVIDENCE-UNRECORDED", key_id, what)


def _differences(
    life: KeyLife, live: BatchKey | HoldKey | None, gone: Destroyed | None, epoch: int
) -> Iterator[Finding]:
    """What the ledger says and the ring does not bear out, or what cannot be."""
    if life.state is State.DESTROYED and live is not None:
        yield _finding("EVIDENCE-ALIVE", life.key_id, "destroyed, says the ledger; the ring has it alive")
    if life.state is State.LIVE and live is None and gone is None:
        yield _finding("EVIDENCE-VANISHED", life.key_id, "alive, says the ledger; the ring does not know it")
    if life.state is State.DESTROYED and live is None and gone is None and life.epoch == epoch:
        yield _finding("EVIDENCE-VANISHED", life.key_id, "the ring has forgotten that it destroyed it")
    if gone is not None and life.state is State.DESTROYED:
        ours = (life.role, life.destroyed_at, life.reason, life.node, life.number, life.order)
        rings = (gone.role, gone.destroyed_at, gone.reason, gone.node, gone.number, gone.order_id)
        if ours != rings or life.issued_at != gone.issued_at:
            yield _finding("EVIDENCE-DIFFERS", life.key_id, "ledger and ring tell its end differently")
    if live is not None and life.issued_at not in (None, _times(live)[0]):
        yield _finding("EVIDENCE-DIFFERS", life.key_id, "ledger and ring date its issue differently")
    times = [life.issued_at, life.used_at, life.emptied_at, life.destroyed_at]
    known = [time for time in times if time is not None]
    if known != sorted(known):
        yield _finding("EVIDENCE-ORDER", life.key_id, "its times are not in the order of a life")


def _times(key: BatchKey | HoldKey) -> tuple[int, int | None]:
    """When it was issued, and when it was opened (a hold key has no such time)."""
    if isinstance(key, HoldKey):
        return key.made_at, None
    return key.issued_at, key.opened_at


def _overdue(ring: RingIndex, hold_limit: int, now: int) -> Iterator[Overdue]:
    for key in ring.batch_keys:
        due_at, reason = key.entry.destroy_at, DestroyReason.EXPIRED
        if key.opened_at is not None:
            due_at, reason = min(due_at, key.opened_at + hold_limit), DestroyReason.LIMIT
        if now >= due_at:
            key_id = key.entry.key_id.hex()
            yield Overdue(key_id=key_id, role=KeyRole.BATCH, due_at=due_at, reason=reason)
    for held in ring.hold_keys:
        if now >= held.destroy_at:
            yield Overdue(
                key_id=held.key_id, role=KeyRole.HOLD, due_at=held.destroy_at, reason=DestroyReason.LIMIT
            )


def _finding(rule: str, key_id: str, what: str) -> Finding:
    return Finding(rule=rule, key_id=key_id, what=what)
