"""Binary layouts: what is written reads back, and whatever else comes is read or refused, never a crash."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.errors import RuleError
from tests.transfer import strategies as some
from tests.transfer.strategies import mutated, only_refuses, refuses, sized
from transfer.wire.basket import basket_digest
from transfer.wire.card import CARD_SIZE, Card, decode_card, encode_card
from transfer.wire.envelope import Envelope, decode_envelope, encode_envelope, frame, iter_frames
from transfer.wire.header import HEADER_SIZE, Header, decode_header, encode_header, header_digest
from transfer.wire.ids import basket_nonce, check_node_id, order_id
from transfer.wire.order import (
    COMPARTMENT_LIMIT,
    STEP,
    Item,
    Order,
    SubjectRequest,
    Total,
    decode_order_compartment,
    decode_subject_request,
    encode_order_compartment,
    encode_subject_request,
    pad,
    unpad,
)


def frames_of(raw: bytes) -> list[bytes]:
    return list(iter_frames(io.BytesIO(raw)))


def card_of(raw: bytes) -> object:
    return decode_card(memoryview(bytearray(raw)))


def encoded_card(card: Card) -> bytes:
    return bytes(
        encode_card(card, header_digest=bytes(32), order_box_digest=b"\1" * 32, amount=2499, currency="EUR")
    )


def encoded_order(order: Order) -> bytes:
    return encode_order_compartment(order, header_digest=bytes(32), nonce=b"\1" * 32)


@given(some.headers)
def test_a_header_reads_back(header: Header) -> None:
    raw = encode_header(header)
    assert len(raw) == HEADER_SIZE
    assert decode_header(raw) == header


@given(mutated(some.headers.map(encode_header)) | st.binary(max_size=200))
def test_a_changed_header_is_another_header_or_refused(raw: bytes) -> None:
    header = only_refuses(decode_header, raw)
    assert header is None or encode_header(header) == raw


@given(some.headers.map(encode_header), st.integers(0, HEADER_SIZE - 1), st.integers(1, 255))
def test_every_byte_of_a_header_counts_in_its_digest(raw: bytes, place: int, change: int) -> None:
    other = raw[:place] + bytes([raw[place] ^ change]) + raw[place + 1 :]
    assert header_digest(raw) != header_digest(other)


@given(some.envelopes)
def test_an_envelope_reads_back(envelope: Envelope) -> None:
    assert decode_envelope(encode_envelope(envelope)) == envelope


@given(mutated(some.envelopes.map(encode_envelope)) | st.binary(max_size=400))
def test_a_changed_envelope_is_another_envelope_or_refused(raw: bytes) -> None:
    envelope = only_refuses(decode_envelope, raw)
    assert envelope is None or encode_envelope(envelope) == raw


@given(st.lists(st.binary(max_size=600), max_size=6))
def test_frames_read_back(contents: list[bytes]) -> None:
    assert frames_of(b"".join(map(frame, contents))) == contents


@given(
    mutated(
        st.lists(st.binary(min_size=HEADER_SIZE, max_size=200), max_size=4).map(
            lambda contents: b"".join(map(frame, contents))
        )
    )
)
def test_changed_frames_are_other_frames_or_refused(raw: bytes) -> None:
    contents = only_refuses(frames_of, raw)
    assert contents is None or b"".join(map(frame, contents)) == raw


@pytest.mark.parametrize("size", [65_537, 2**32 - 1])
def test_a_frame_of_an_impossible_size_is_refused_before_it_is_read(size: int) -> None:
    refuses("ENVELOPE-FRAME", frames_of, size.to_bytes(4, "big") + bytes(100))


@given(some.orders)
def test_an_order_reads_back_in_whole_steps(order: Order) -> None:
    raw = encoded_order(order)
    assert len(raw) % STEP == 0
    read = decode_order_compartment(raw)
    assert (read.header, read.nonce) == ("00" * 32, "01" * 32)
    assert Order(items=read.items, total=read.total, customer=read.customer, delivery=read.delivery) == order


@given(mutated(some.orders.map(encoded_order)) | st.binary(max_size=2 * STEP))
def test_a_changed_order_is_read_or_refused(raw: bytes) -> None:
    only_refuses(decode_order_compartment, raw)
    only_refuses(decode_subject_request, raw)


@given(some.requests)
def test_a_subject_request_reads_back(request: SubjectRequest) -> None:
    assert decode_subject_request(encode_subject_request(request)) == request


@given(st.binary(max_size=COMPARTMENT_LIMIT - 4))
def test_padding_is_the_shortest_and_comes_off_again(content: bytes) -> None:
    raw = pad(content)
    assert len(raw) % STEP == 0
    assert 0 <= len(raw) - 4 - len(content) < STEP
    assert unpad(raw) == content


@given(st.binary(max_size=1000), st.data())
def test_any_other_padding_is_refused(content: bytes, data: st.DataObject) -> None:
    raw = pad(content)
    refuses("ORDER-PADDING", unpad, raw + bytes(STEP))
    refuses("ORDER-PADDING", unpad, raw[:-STEP])
    if len(raw) > 4 + len(content):
        place = data.draw(st.integers(4 + len(content), len(raw) - 1))
        refuses("ORDER-PADDING", unpad, raw[:place] + b"\1" + raw[place + 1 :])


def test_an_order_above_the_limit_is_not_written() -> None:
    with pytest.raises(RuleError) as caught:
        pad(bytes(COMPARTMENT_LIMIT - 3))
    assert caught.value.rule == "ORDER-SIZE"


@pytest.mark.parametrize("character", ["\n", "\x00", "\x7f", "\x85"])
def test_a_control_character_in_a_text_is_refused(character: str) -> None:
    order = (
        b'{"items":[{"sku":"A","quantity":1,"price":1}],"total":{"amount":1,"currency":"EUR"},'
        b'"customer":{"name":"NAME","email":"a@b"},"delivery":{"lines":["x"],"city":"y","region":"","postcode":"",'
        b'"country":"DE"},"header":"%s","nonce":"%s"}' % (b"00" * 32, b"00" * 32)
    )
    decode_order_compartment(pad(order))
    escaped = f"\\u{ord(character):04x}".encode()
    refuses("ORDER-TEXT", decode_order_compartment, pad(order.replace(b"NAME", escaped)))
    refuses("ORDER-FORM", decode_order_compartment, pad(order.replace(b'"A"', b'"A%s"' % escaped)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"quantity":1', b'"quantity":0'),
        (b'"quantity":1', b'"quantity":1000'),
        (b'"quantity":1', b'"quantity":1.0'),
        (b'"quantity":1', b'"quantity":true'),
        (b'"quantity":1', b'"quantity":"1"'),
        (b'"price":1', b'"price":-1'),
        (b'"price":1', b'"price":1000000000001'),
        (b'"amount":1', b'"amount":0'),
        (b'"amount":1', b'"amount":1000000000001'),
        (b'"EUR"', b'"eur"'),
        (b'"EUR"', b'"EURO"'),
        (b'"DE"', b'"D"'),
        (b'"sku":"A"', b'"sku":"' + b"A" * 65 + b'"'),
        (b'"sku":"A"', b'"sku":"A B"'),
        (b'"sku":"A"', b'"sku":"\xc3\x84"'),
        (b'"name":"N"', b'"name":""'),
        (b'"name":"N"', b'"name":"' + b"N" * 201 + b'"'),
        (b'"name":"N"', b'"name":null'),
        (b'"name":"N"', b'"name":"\xff"'),
        (b'"email":"a@b"', b'"email":"ab"'),
        (b'"lines":["x"]', b'"lines":[]'),
        (b'"lines":["x"]', b'"lines":["x","x","x","x","x"]'),
        (b'"city":"y"', b'"city":""'),
        (b'"region":"",', b""),
        (b'"region":""', b'"region":"","phone":"1"'),
        (b'"items":[', b'"card":"4111","items":['),
        (b'"items":[{"sku":"A","quantity":1,"price":1}]', b'"items":[]'),
        (b"{", b"["),
    ],
)
def test_a_field_beyond_its_limit_refuses_the_order(old: bytes, new: bytes) -> None:
    order = (
        b'{"items":[{"sku":"A","quantity":1,"price":1}],"total":{"amount":1,"currency":"EUR"},'
        b'"customer":{"name":"N","email":"a@b"},"delivery":{"lines":["x"],"city":"y","region":"","postcode":"",'
        b'"country":"DE"},"header":"%s","nonce":"%s"}' % (b"00" * 32, b"00" * 32)
    )
    assert decode_order_compartment(pad(order)).total == Total(amount=1, currency="EUR")
    assert old in order
    refuses("ORDER-FORM", decode_order_compartment, pad(order.replace(old, new, 1)))


def test_an_endlessly_nested_order_is_refused() -> None:
    refuses("ORDER-FORM", decode_order_compartment, pad(b"[" * 16_000))


@given(some.cards)
def test_a_card_reads_back_as_views_of_the_buffer(card: Card) -> None:
    buffer = bytearray(encoded_card(card))
    assert len(buffer) == CARD_SIZE
    view = decode_card(memoryview(buffer))
    assert (bytes(view.pan), bytes(view.cvv)) == (card.pan, card.cvv)
    assert (view.expiry_month, view.expiry_year) == (card.expiry_month, card.expiry_year)
    assert (view.amount, view.currency) == (2499, "EUR")
    assert (view.header_digest, view.order_box_digest) == (bytes(32), b"\1" * 32)
    assert (view.bin.encode(), view.last_four.encode()) == (card.pan[:6], card.pan[-4:])
    assert view.pan.obj is buffer
    assert view.cvv.obj is buffer
    buffer[:] = bytes(CARD_SIZE)
    assert not any(view.pan)


@given(mutated(some.cards.map(encoded_card)) | sized(CARD_SIZE))
def test_a_changed_card_is_another_card_or_refused(raw: bytes) -> None:
    only_refuses(card_of, raw)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (75, 11),
        (75, 20),
        (75, 15),
        (76, 0x2F),
        (76, 0x3A),
        (92, 0x30),
        (95, 0),
        (95, 13),
        (98, 2),
        (98, 5),
        (99, 0x20),
        (102, 0x30),
        (103, 1),
        (127, 1),
        (72, 0x65),
        (72, 0xC4),
    ],
)
def test_a_byte_outside_its_range_refuses_the_card(place: int, value: int) -> None:
    raw = bytearray(
        encoded_card(Card(pan=b"4242424242424242", cvv=b"123", expiry_month=12, expiry_year=2031))
    )
    card_of(bytes(raw))
    raw[place] = value
    refuses("CARD-FORM", card_of, bytes(raw))


@pytest.mark.parametrize("size", [0, 127, 129])
def test_a_card_of_another_size_is_refused(size: int) -> None:
    refuses("CARD-FORM", card_of, bytes(size))


def test_no_refusal_of_a_card_repeats_its_digits() -> None:
    raw = bytearray(
        encoded_card(Card(pan=b"4242424242424242", cvv=b"987", expiry_month=12, expiry_year=2031))
    )
    raw[103] = 1
    with pytest.raises(RuleError) as caught:
        card_of(bytes(raw))
    assert "4242" not in str(caught.value)
    assert "987" not in repr(caught.value)


@given(
    st.lists(some.items, min_size=1, max_size=4),
    st.lists(some.items, min_size=1, max_size=4),
    some.totals,
    sized(32),
)
def test_different_baskets_have_different_digests(
    left: list[Item], right: list[Item], total: Total, nonce: bytes
) -> None:
    same = basket_digest(nonce=nonce, items=left, total=total) == basket_digest(
        nonce=nonce, items=right, total=total
    )
    assert same == (left == right)


@given(some.idempotency_keys)
def test_id_and_nonce_of_a_key_are_unrelated_digests(key: str) -> None:
    assert len(order_id(key)) == 16
    assert len(basket_nonce(key)) == 32
    assert order_id(key) != basket_nonce(key)[:16]


@given(st.text(max_size=200))
def test_any_other_idempotency_key_is_refused_and_not_repeated(key: str) -> None:
    if re.fullmatch(r"[A-Za-z0-9_-]{22,128}", key):
        return
    with pytest.raises(RuleError) as caught:
        order_id(key)
    assert caught.value.rule == "ORDER-IDEMPOTENCY-KEY"
    assert len(key) < 22 or key not in str(caught.value)


@pytest.mark.parametrize("name", ["", "-a", "A", "a" * 33, "a/b", "..", "a\n", "ä", "a b", "a\0"])
def test_any_other_node_id_is_refused(name: str) -> None:
    with pytest.raises(RuleError) as caught:
        check_node_id(name)
    assert caught.value.rule == "NODE-ID"
