"""The plan: every repair and every cut, decided from listings alone."""

from __future__ import annotations

import pytest

from transfer.errors import TransferError
from transfer.sync.plan import (
    BundleSeen,
    Clear,
    Cut,
    Discard,
    Record,
    check_outbox,
    lost_keys,
    must_confirm,
    newer_returns,
    plan_cuts,
    plan_repairs,
    plan_writes,
)

A, B, C = b"a" * 16, b"b" * 16, b"c" * 16


def seen(
    sequence: int, *, complete: bool = True, envelopes: bool = True, recorded: bool = True
) -> BundleSeen:
    return BundleSeen(sequence=sequence, complete=complete, envelopes=envelopes, recorded=recorded)


def test_a_whole_outbox_needs_nothing() -> None:
    assert plan_repairs([]) == []
    assert plan_repairs([seen(1), seen(2)]) == []


def test_an_unsigned_bundle_is_discarded_and_a_signed_one_recorded() -> None:
    assert plan_repairs([seen(1), seen(2, complete=False, recorded=False)]) == [Discard(sequence=2)]
    assert plan_repairs([seen(1), seen(2, recorded=False)]) == [Record(sequence=2)]


@pytest.mark.parametrize(
    "outbox",
    [
        [seen(2)],
        [seen(1), seen(3)],
        [seen(1, complete=False), seen(2)],
        [seen(1), seen(2, complete=False, recorded=True)],
    ],
)
def test_a_gap_in_the_outbox_stops_the_node(outbox: list[BundleSeen]) -> None:
    with pytest.raises(TransferError) as caught:
        plan_repairs(outbox)
    assert caught.value.rule == "OUTBOX-GAP"


def test_an_outbox_that_lost_its_newest_bundle_stops_the_node() -> None:
    check_outbox([seen(1), seen(2)], recorded=2)
    with pytest.raises(TransferError) as caught:
        check_outbox([seen(1)], recorded=2)
    assert caught.value.rule == "OUTBOX-GAP"


def test_partitions_are_cut_in_the_order_of_their_keys_and_spent_ones_cleared_first() -> None:
    numbers = {A: (1, 9), B: (1, 2)}
    assert plan_cuts([A, B, C], numbers=numbers, bundled={}) == [
        Cut(batch_key_id=C),
        Cut(batch_key_id=B),
        Cut(batch_key_id=A),
    ]
    assert plan_cuts([A, B], numbers=numbers, bundled={A: 4}) == [
        Clear(batch_key_id=A, sequence=4),
        Cut(batch_key_id=B),
    ]


def test_only_bundles_without_a_receipt_are_written() -> None:
    assert plan_writes([seen(1, envelopes=False), seen(2), seen(3, complete=False)]) == [2]


def test_only_newer_returns_count_the_newest_first() -> None:
    names = [(1, 3), (2, 1), (1, 4), (1, 4)]
    assert newer_returns(names, taken=None) == [(2, 1), (1, 4), (1, 3)]
    assert newer_returns(names, taken=(1, 4)) == [(2, 1)]
    assert newer_returns(names, taken=(2, 1)) == []


def test_a_return_is_confirmed_once_and_only_if_it_said_something() -> None:
    assert not must_confirm(newest=None, carried=None, worth_it=True)
    assert must_confirm(newest="r", carried=None, worth_it=True)
    assert not must_confirm(newest="r", carried="r", worth_it=True)
    assert not must_confirm(newest="r", carried="q", worth_it=False)


def test_a_key_with_orders_and_no_groups_is_lost() -> None:
    assert lost_keys([B, A], [A]) == [B]
