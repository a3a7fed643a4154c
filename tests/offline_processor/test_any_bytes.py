"""Whatever bytes come, an order is chargeable only if every byte of its envelope is the one that was sealed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keys.private.unseal import SealingKey
from keys.public.seal import seal
from offline_processor.cards import CardTable
from offline_processor.opening import open_order
from offline_processor.screening import card_fault, screen
from offline_processor.stages import OpenedOrder, Quarantined, ScreenedOrder, SubjectAsked
from tests.offline_processor.forgery import forge
from tests.offline_processor.shop import Shop, open_shop
from transfer.wire.card import CARD_SIZE
from transfer.wire.envelope import decode_envelope, encode_envelope
from transfer.wire.header import HEADER_SIZE, header_digest
from transfer.wire.sealing import order_box_digest


@dataclass(frozen=True, kw_only=True)
class Desk:
    """One envelope, and all that judging it takes."""

    shop: Shop
    table: CardTable
    batch_key: SealingKey
    right: bytes

    def judge(self, raw: bytes) -> str:
        """The rule that keeps this envelope from being charged, or an empty string."""
        keys = {order.key.key_id: order.key for order in self.shop.keystore.order_keys}
        order: OpenedOrder | ScreenedOrder | SubjectAsked | Quarantined
        order = open_order(raw, position=0, order_keys=keys, batch_key_id=self.batch_key.key_id)
        if isinstance(order, OpenedOrder):
            order = screen(order)
        if isinstance(order, Quarantined):
            return order.rule
        assert isinstance(order, ScreenedOrder), "a request, made of an order's bytes"
        envelope = decode_envelope(raw)
        card = self.table.open(0, envelope.card_box, self.batch_key)
        if isinstance(card, str):
            return card
        return card_fault(
            card,
            header_digest=header_digest(envelope.header),
            order_box_digest=order_box_digest(envelope.order_box),
            amount=order.amount,
            currency=order.currency,
        )


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    root: Path = tmp_path_factory.mktemp("desk")
    shop = open_shop(root)
    batch_key = shop.keystore.ring.batch_key(shop.keys_for().batch_key_id)
    assert batch_key is not None
    with CardTable(1) as table:
        right = encode_envelope(shop.seal(0))
        yield Desk(shop=shop, table=table, batch_key=batch_key, right=right)
    shop.keystore.close()


def test_envelope_as_it_was_sealed_is_chargeable(desk: Desk) -> None:
    assert desk.judge(desk.right) == ""


@settings(max_examples=300)
@given(place=st.integers(0, 10**6), bits=st.integers(1, 255))
def test_no_byte_of_an_envelope_can_be_changed_unnoticed(desk: Desk, place: int, bits: int) -> None:
    raw = bytearray(desk.right)
    raw[place % len(raw)] ^= bits
    assert desk.judge(bytes(raw)) != ""


@settings(max_examples=100)
@given(cut=st.integers(HEADER_SIZE, 10**6), more=st.binary(max_size=8))
def test_no_envelope_can_be_cut_or_lengthened_unnoticed(desk: Desk, cut: int, more: bytes) -> None:
    raw = desk.right[: max(HEADER_SIZE, cut % len(desk.right))] + more
    assert raw == desk.right or desk.judge(raw) != ""


@settings(max_examples=200)
@given(st.binary(min_size=HEADER_SIZE, max_size=HEADER_SIZE + 700))
def test_any_bytes_are_put_aside(desk: Desk, raw: bytes) -> None:
    assert desk.judge(raw) != ""


@settings(max_examples=150)
@given(st.one_of(st.binary(max_size=600), st.binary(max_size=508).map(lambda text: text.ljust(512, b"\0"))))
def test_any_bytes_in_an_order_compartment_are_put_aside(desk: Desk, content: bytes) -> None:
    raw = encode_envelope(forge(desk.shop, 0, padded=lambda right: content))
    assert desk.judge(raw) in {"ORDER-PADDING", "ORDER-FORM"}


@settings(max_examples=150)
@given(st.binary(min_size=CARD_SIZE, max_size=CARD_SIZE))
def test_any_bytes_in_a_card_compartment_are_no_card_of_this_order(desk: Desk, content: bytes) -> None:
    envelope = decode_envelope(desk.right)
    box = seal(content, desk.shop.keys_for().batch_key)
    raw = desk.right[: -len(envelope.card_box)] + box
    assert desk.judge(raw) in {"CARD-FORM", "CARD-HEADER"}
