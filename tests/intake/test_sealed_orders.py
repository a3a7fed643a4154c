"""Orders that the browser sealed: the same rules after sealing, and a conflict when the key has moved on."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.intake.answers import problem, stored
from tests.intake.node import Node
from tests.intake.orders import CVV, PAN, good_order, new_key
from transfer.spool import Spool
from transfer.wire import ids
from transfer.wire.card import Card
from transfer.wire.envelope import Envelope, encode_envelope
from transfer.wire.header import Header, Kind, decode_header, encode_header
from transfer.wire.order import Customer, Delivery, Item, Order, Total
from transfer.wire.sealing import SealingKeys, seal_order

ORDER = Order(
    items=[Item(sku="LP-0001", quantity=1, price=2499), Item(sku="CD-0101", quantity=2, price=1299)],
    total=Total(amount=5097, currency="EUR"),
    customer=Customer(name="Zoë Müller", email="zoe.mueller@example.com"),
    delivery=Delivery(lines=["Hauptstraße 5"], city="Köln", region="", postcode="50667", country="DE"),
)
CARD = Card(pan=PAN.encode(), cvv=CVV.encode(), expiry_month=12, expiry_year=2035)


def sealing_keys(node: Node) -> SealingKeys:
    """What a page does first."""
    keys = node.get("/keys").json
    return SealingKeys.of(*(bytes.fromhex(keys[name]["public_key"]) for name in ("order_key", "batch_key")))


def seal(keys: SealingKeys, key: str) -> Envelope:
    """What a page does then."""
    identity, nonce = ids.order_id(key), ids.basket_nonce(key)
    return seal_order(ORDER, CARD, order_id=identity, nonce=nonce, keys=keys, now=12345)


def document(envelope: Envelope) -> dict[str, Any]:
    plain = good_order()
    parts = {"header": envelope.header, "order": envelope.order_box, "card": envelope.card_box}
    sealed = {name: base64.b64encode(part).decode() for name, part in parts.items()}
    return {"items": plain["items"], "total": plain["total"], "sealed": sealed}


def close_current(node: Node) -> None:
    """What the cutter does first."""
    current = sealing_keys(node).batch_key_id
    Spool(node.state / "spool").close(current)


def test_a_sealed_order_is_stored_as_it_was_sealed(node: Node) -> None:
    key = new_key()
    envelope = seal(sealing_keys(node), key)
    answer = node.post(document(envelope), key)
    assert answer.status == 202
    assert stored(node)[answer.json["order_id"]] == encode_envelope(envelope)


def test_sealed_and_plain_are_the_same_order(node: Node) -> None:
    key = new_key()
    plain = node.post(good_order(), key)
    sealed = node.post(document(seal(sealing_keys(node), key)), key)
    assert (sealed.status, sealed.body) == (202, plain.body)


def test_a_key_that_was_cut_asks_to_seal_again_under_the_same_id(node: Node) -> None:
    key, known = new_key(), new_key()
    envelope, known_envelope = seal(sealing_keys(node), key), seal(sealing_keys(node), known)
    first = node.post(document(known_envelope), known)
    close_current(node)
    conflict = problem(node.post(document(envelope), key), 409, "INTAKE-RESEAL")
    # A retry of an order that stands is answered, although its key is gone.
    retry = node.post(document(known_envelope), known)
    assert (retry.status, retry.body) == (202, first.body)
    assert conflict["keys"] == "/keys"
    again = node.post(document(seal(sealing_keys(node), key)), key)
    assert again.status == 202
    assert again.json["order_id"] == ids.order_id(key).hex()


def test_a_batch_key_that_is_not_the_one_in_use_asks_to_seal_again(node: Node) -> None:
    later = node.offline.batch_keys[-1].public_key.encode()
    current = sealing_keys(node)
    keys = SealingKeys.of(current.order_key, later)
    key = new_key()
    problem(node.post(document(seal(keys, key)), key), 409, "INTAKE-RESEAL")


def test_a_strange_order_key_asks_to_seal_again(node: Node) -> None:
    keys = sealing_keys(node)
    key = new_key()
    strange = SealingKeys.of(bytes(32), keys.batch_key)
    header = replace(decode_header(seal(keys, key).header), order_key_id=strange.order_key_id)
    envelope = replace(seal(keys, key), header=encode_header(header))
    problem(node.post(document(envelope), key), 409, "INTAKE-RESEAL")


@pytest.mark.parametrize(
    "change",
    [
        lambda header: replace(header, order_id=bytes(16)),
        lambda header: replace(header, basket_digest=bytes(32)),
        lambda header: replace(header, suite=2),
        lambda header: replace(header, kind=Kind.SUBJECT_REQUEST),
    ],
)
def test_a_header_that_does_not_fit_the_order_is_refused(
    node: Node, change: Callable[[Header], Header]
) -> None:
    key = new_key()
    envelope = seal(sealing_keys(node), key)
    changed = replace(envelope, header=encode_header(change(decode_header(envelope.header))))
    refusal = problem(node.post(document(changed), key), 422, "INTAKE-FIELDS")
    assert [error["pointer"] for error in refusal["errors"]] == ["/sealed/header"]


def test_another_basket_than_the_sealed_one_is_refused(node: Node) -> None:
    key = new_key()
    body = document(seal(sealing_keys(node), key))
    body["items"][0]["sku"] = "CD-0101"
    body["total"]["amount"] = 3 * 1299
    problem(node.post(body, key), 422, "INTAKE-FIELDS")


def test_another_idempotency_key_than_the_sealed_one_is_refused(node: Node) -> None:
    envelope = seal(sealing_keys(node), new_key())
    problem(node.post(document(envelope), new_key()), 422, "INTAKE-FIELDS")


def test_a_sealed_total_that_is_not_the_catalogues_is_refused(node: Node) -> None:
    key = new_key()
    body = document(seal(sealing_keys(node), key))
    body["total"]["amount"] = 1
    refusal = problem(node.post(body, key), 422, "INTAKE-FIELDS")
    assert [error["pointer"] for error in refusal["errors"]] == ["/total/amount"]
