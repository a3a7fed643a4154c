"""Orders sealed twice: what JavaScript, written from FORMAT.md alone, seals we open, and the other way round.

Why here: a format that only its own author can write is no format; tests/wire_js shares no code with us.
Must not: judge bundles and returns; test_second_judge does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec
import pytest

from keys.private.unseal import SealingKey, generate_sealing_key
from offline_processor.opening import open_order
from offline_processor.screening import card_fault, screen
from offline_processor.stages import OpenedOrder, ScreenedOrder
from tests.transfer.house import NOW
from tests.transfer.javascript import (
    NOTE,
    ORDERS,
    SAMPLE,
    VISA,
    Json,
    Keys,
    bought,
    changed,
    flipped,
    javascript,
    key_text,
    of_size,
    ours,
    verify,
    written,
)
from transfer.errors import TransferError
from transfer.wire.basket import basket_digest
from transfer.wire.card import decode_card
from transfer.wire.envelope import CARD_BOX_SIZE, Envelope, decode_envelope, encode_envelope, frame
from transfer.wire.header import decode_header, header_digest
from transfer.wire.ids import basket_nonce, order_id
from transfer.wire.order import decode_order_compartment
from transfer.wire.sealing import order_box_digest

pytestmark = pytest.mark.needs_tool("node", "wire_js")


@pytest.fixture(scope="module")
def keys() -> Iterator[Keys]:
    made = Keys(order=generate_sealing_key(), batch=generate_sealing_key())
    yield made
    made.order.close()
    made.batch.close()


@pytest.fixture(scope="module")
def theirs(keys: Keys) -> dict[str, Envelope]:
    """Every order of the table, sealed in JavaScript."""
    answers = javascript("seal.mjs", [keys.question(name, *given) for name, given in ORDERS.items()])
    envelopes = {}
    for name, answer in zip(ORDERS, answers, strict=True):
        assert answer["ok"], (name, answer)
        raw = bytes.fromhex(answer["frame"])
        envelopes[name] = decode_envelope(raw[4:])
        assert raw == frame(encode_envelope(envelopes[name]))
    return envelopes


@pytest.mark.parametrize("name", ORDERS)
def test_order_sealed_in_javascript_opens_to_every_field(
    name: str, keys: Keys, theirs: dict[str, Envelope]
) -> None:
    envelope, (order, card) = theirs[name], ORDERS[name]
    header = decode_header(envelope.header)
    assert header.order_id == order_id(key_text(name))
    assert (header.order_key_id, header.batch_key_id) == (keys.order.key_id, keys.batch.key_id)
    assert header.time == NOW

    opened = decode_order_compartment(keys.order_text(envelope))
    assert opened.header == header_digest(envelope.header).hex()
    assert opened.nonce == basket_nonce(key_text(name)).hex()
    assert {part: msgspec.to_builtins(getattr(opened, part)) for part in order} == order
    assert header.basket_digest == basket_digest(
        nonce=basket_nonce(key_text(name)), items=opened.items, total=opened.total
    )

    view = decode_card(memoryview(keys.card_text(envelope)))
    assert view.header_digest == header_digest(envelope.header)
    assert view.order_box_digest == order_box_digest(envelope.order_box)
    assert (view.amount, view.currency) == (order["total"]["amount"], order["total"]["currency"])
    assert (bytes(view.pan), bytes(view.cvv)) == (card["number"].encode(), card["security_code"].encode())
    assert (view.expiry_month, view.expiry_year) == (card["expiry_month"], card["expiry_year"])


@pytest.mark.parametrize("name", ORDERS)
def test_order_sealed_in_javascript_passes_screening(
    name: str, keys: Keys, theirs: dict[str, Envelope]
) -> None:
    envelope = theirs[name]
    opened = open_order(
        encode_envelope(envelope),
        position=0,
        order_keys={keys.order.key_id: keys.order},
        batch_key_id=keys.batch.key_id,
    )
    assert isinstance(opened, OpenedOrder)
    screened = screen(opened)
    assert isinstance(screened, ScreenedOrder)
    fault = card_fault(
        decode_card(memoryview(keys.card_text(envelope))),
        header_digest=opened.header_digest,
        order_box_digest=order_box_digest(envelope.order_box),
        amount=screened.amount,
        currency=screened.currency,
    )
    assert fault == ""


@pytest.mark.parametrize("name", ORDERS)
def test_both_sides_seal_the_same_order_to_the_same_plaintext(
    name: str, keys: Keys, theirs: dict[str, Envelope]
) -> None:
    their, our = theirs[name], ours(keys, name)
    assert their.header == our.header
    assert json.loads(unpadded(keys.order_text(their))) == json.loads(unpadded(keys.order_text(our)))
    assert len(their.order_box) == len(our.order_box)
    assert len(their.card_box) == len(our.card_box) == CARD_BOX_SIZE
    # Only the digest of the order box differs: each box was made with a key of its own.
    their_card, our_card = keys.card_text(their), keys.card_text(our)
    assert their_card[:32] + their_card[64:] == our_card[:32] + our_card[64:]


def unpadded(plaintext: bytes) -> bytes:
    return plaintext[4 : 4 + int.from_bytes(plaintext[:4], "big")]


@pytest.mark.parametrize("size", [511, 512, 513, 1024, 1025, 16_383, 16_384])
def test_order_box_grows_in_steps_of_512(size: int, keys: Keys, theirs: dict[str, Envelope]) -> None:
    envelope = theirs[f"{size} bytes"]
    assert len(unpadded(keys.order_text(envelope))) == size - 4
    assert len(envelope.order_box) == len(ours(keys, f"{size} bytes").order_box) == 48 + -(-size // 512) * 512


def test_javascript_opens_what_python_sealed(keys: Keys) -> None:
    envelopes = {name: ours(keys, name) for name in ORDERS}
    secrets = {"order_secret": private(keys.order), "batch_secret": private(keys.batch)}
    answers = javascript(
        "open.mjs",
        [{"envelope": encode_envelope(envelope).hex(), **secrets} for envelope in envelopes.values()],
    )
    for name, answer in zip(ORDERS, answers, strict=True):
        order, card = ORDERS[name]
        assert answer["ok"], (name, answer)
        assert {part: answer["order"][part] for part in order} == order
        assert answer["card"] == card
        assert answer["fields"]["order_id"] == order_id(key_text(name)).hex()
        assert answer["fields"]["time"] == NOW


def private(key: SealingKey) -> str:
    return bytes(key.private.view).hex()


def test_javascript_binds_compartments_to_each_other(keys: Keys) -> None:
    right, other = ours(keys, "plain"), ours(keys, "yen")
    moved = [
        replace_envelope(right, order_box=other.order_box),
        replace_envelope(right, card_box=other.card_box),
        replace_envelope(right, header=other.header),
        replace_envelope(right, order_box=ours(keys, "plain").order_box),
        replace_envelope(right, card_box=flipped(right.card_box, 60)),
        replace_envelope(right, order_box=flipped(right.order_box, 0)),
    ]
    secrets = {"order_secret": private(keys.order), "batch_secret": private(keys.batch)}
    answers = javascript("open.mjs", [{"envelope": encode_envelope(item).hex(), **secrets} for item in moved])
    assert [answer["ok"] for answer in answers] == [False] * len(moved)


def replace_envelope(envelope: Envelope, **parts: bytes) -> Envelope:
    known = {"header": envelope.header, "order_box": envelope.order_box, "card_box": envelope.card_box}
    return Envelope(**(known | parts))


IMPOSSIBLE: dict[str, Json] = {
    "total is not the sum": {**SAMPLE, "total": {"amount": 2498, "currency": "EUR"}},
    "nothing to pay": bought("EUR", ("X", 1, 0)),
    "no items": {**SAMPLE, "items": []},
    "101 items": bought("EUR", *[("X", 1, 1)] * 101),
    "quantity of 1000": bought("EUR", ("X", 1000, 1)),
    "long SKU": bought("EUR", ("X" * 65, 1, 1)),
    "foreign SKU": bought("EUR", ("É", 1, 1)),
    "currency in lower case": {**SAMPLE, "total": {"amount": 2499, "currency": "eur"}},
    "no name": changed(SAMPLE, customer={"name": ""}),
    "name of 201": changed(SAMPLE, customer={"name": NOTE * 201}),
    "line feed in a line": changed(SAMPLE, delivery={"lines": ["a\nb"]}),
    "five lines": changed(SAMPLE, delivery={"lines": ["x"] * 5}),
    "next line character": changed(SAMPLE, delivery={"city": "a\u0085b"}),
    "country of three": changed(SAMPLE, delivery={"country": "DEU"}),
    "unknown member": changed(SAMPLE, delivery={"street": "x"}),
    "too large for its box": changed(of_size(16_384), delivery={"postcode": "5" * 20}),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_neither_side_seals_an_order_outside_the_limits(name: str, keys: Keys) -> None:
    order = IMPOSSIBLE[name]
    assert not javascript("seal.mjs", [keys.question(name, order, VISA)])[0]["ok"]
    assert not readable_by_us(order)


def readable_by_us(order: Json) -> bool:
    """Whether our side would take this order from a sealer that observed no limit at all."""
    try:
        text = written(order)
        raw = len(text).to_bytes(4, "big") + text
        opened = decode_order_compartment(raw + bytes(-len(raw) % 512))
        return sum(item.quantity * item.price for item in opened.items) == opened.total.amount
    except TransferError:
        return False


def test_unknown_suite_and_oversize_are_judged_from_the_envelope_alone(keys: Keys) -> None:
    raw = encode_envelope(ours(keys, "plain"))
    given = {
        "ORDER-SUITE": raw[:2] + b"\x02" + raw[3:],
        "ORDER-SIZE": raw + bytes(20_001 - len(raw)),
        "ENVELOPE-HEADER": b"\x02" + raw[1:],
        "ENVELOPE-FORM": raw[:-1],
    }
    answers = javascript("verify.mjs", [{"check": "envelope", "data": data.hex()} for data in given.values()])
    assert [answer["rule"] for answer in answers] == list(given)
    assert verify("envelope", data=raw.hex())["ok"]
