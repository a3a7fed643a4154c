"""What a sync has to do, from what it sees: listings in, actions out.

Why here: every repair after a crash is decided here, where it can be tested without a disk.
Must not: touch a file, read a clock, or decide by anything but its arguments.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from transfer.errors import TransferError

_DAY = 86_400
_NEAR_THE_END = _DAY  # a key's orders must reach the offline side before it destroys the key
_DOUBLINGS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleSeen:
    """A bundle in the outbox. ``complete``: signed; ``envelopes``: still kept; ``recorded``: in the register."""

    sequence: int
    complete: bool
    envelopes: bool
    recorded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard:
    """Delete what a crash left of a bundle that was never signed, so that nobody ever saw it."""

    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Enter a bundle that was signed, but not entered, into the register."""

    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Close a partition and make it the next bundle."""

    batch_key_id: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Clear:
    """Empty a partition whose bundle is recorded."""

    batch_key_id: bytes
    sequence: int


def plan_repairs(outbox: Sequence[BundleSeen]) -> list[Discard | Record]:
    """Settle what an interrupted cut left. ``OUTBOX-GAP`` when a bundle of the chain is not there any more."""
    actions: list[Discard | Record] = []
    expected = 1
    for bundle in outbox:
        if not bundle.complete:
            actions.append(Discard(sequence=bundle.sequence))
            continue
        if bundle.sequence != expected:
            raise gap(expected)
        expected += 1
        if not bundle.recorded:
            actions.append(Record(sequence=bundle.sequence))
    if any(bundle.recorded and not bundle.complete for bundle in outbox):
        raise gap(expected)
    return actions


def check_outbox(outbox: Sequence[BundleSeen], *, recorded: int) -> None:
    """``OUTBOX-GAP`` when the register has recorded a bundle that the outbox does not hold."""
    last = max((bundle.sequence for bundle in outbox if bundle.complete), default=0)
    if recorded > last:
        raise gap(last + 1)


def plan_cuts(
    partitions: Iterable[bytes], *, numbers: Mapping[bytes, tuple[int, int]], bundled: Mapping[bytes, int]
) -> list[Cut | Clear]:
    """What to do with the partitions that hold groups, in the order of their keys.

    ``numbers``: (epoch, number) of the keys in the roll; a key that left it was used earlier and comes first.
    ``bundled``: the sequence that has used a key.
    """
    ordered = sorted(partitions, key=lambda key: (numbers.get(key, (0, 0)), key))
    clear: list[Cut | Clear] = [
        Clear(batch_key_id=key, sequence=bundled[key]) for key in ordered if key in bundled
    ]
    return clear + [Cut(batch_key_id=key) for key in ordered if key not in bundled]


def plan_writes(outbox: Sequence[BundleSeen]) -> list[int]:
    """The sequences that have no receipt: each must lie on the drop."""
    return [bundle.sequence for bundle in outbox if bundle.complete and bundle.envelopes]


def newer_returns(
    names: Iterable[tuple[int, int]], *, taken: tuple[int, int] | None
) -> list[tuple[int, int]]:
    """The (epoch, number) of returns above ``taken``, the newest first: each holds all that older ones said."""
    return sorted((name for name in set(names) if taken is None or name > taken), reverse=True)


def must_confirm(*, newest: str | None, carried: str | None, worth_it: bool) -> bool:
    """Whether a bundle without orders is due: the newest return's manifest was not ``carried`` by a bundle yet.

    ``worth_it`` is false for a return that only answers bundles without orders: confirming it would be
    answered again, for ever.
    """
    return newest is not None and newest != carried and worth_it


def lost_keys(uncut: Iterable[bytes], with_groups: Collection[bytes]) -> list[bytes]:
    """Keys for which orders were acknowledged, but whose partition holds nothing at all."""
    return sorted(set(uncut) - set(with_groups))


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Orders of one batch key that wait for a cut: how many, since when, and until when the key may be sealed to."""

    orders: int
    oldest: int
    seal_until: int


def cut_is_due(
    waiting: Sequence[Waiting], *, in_flight: int, now: int, patience: int, max_orders: int
) -> bool:
    """Whether ``watch`` cuts now. A push that a person or cron starts always cuts: they know why they start it.

    A key that is full or near its end is cut at once. Otherwise orders wait ``patience`` seconds for others, twice as
    long for each bundle that is on its way without an answer, a day at most: each cut uses up a batch key, and only
    an answer brings new ones. An order as far ahead of now came while the clock was wrong, and waits no longer either.
    """
    if not waiting:
        return False
    if len(waiting) > 1 or any(
        key.orders >= max_orders or key.seal_until - now < _NEAR_THE_END for key in waiting
    ):
        return True
    patience = min(patience << min(in_flight, _DOUBLINGS), _DAY)
    return abs(now - min(key.oldest for key in waiting)) >= patience


def sign_of_life_is_due(*, last_cut: int, in_flight: int, now: int, every: int) -> bool:
    """Whether a bundle without orders is due, so that each side can tell "no orders" from "nobody carries".

    Never before the first bundle, and never while one waits for its answer: that one says it already.
    """
    return every > 0 and last_cut > 0 and in_flight == 0 and abs(now - last_cut) >= every


def gap(sequence: int) -> TransferError:
    """The refusal of a chain of bundles in which this one is missing."""
    return TransferError(
        "OUTBOX-GAP",
        f"bundle {sequence} is not in the outbox any more, so the chain of bundles cannot go on",
        "restore the outbox; if it is lost, retire this node and enrol it under a new node id",
    )
