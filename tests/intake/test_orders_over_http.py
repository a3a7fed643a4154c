"""Orders over real HTTP: taken once, durable, named faults, and never a word of the card."""

from __future__ import annotations

import json
import secrets
import socket
import threading
from collections.abc import Callable

import nacl.public
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intake.catalogue import SHIPPED
from tests.intake.answers import problem, stored
from tests.intake.node import Node
from tests.intake.orders import CVV, PAN, good_order, new_key
from transfer.wire.card import decode_card
from transfer.wire.envelope import decode_envelope
from transfer.wire.header import decode_header, header_digest
from transfer.wire.ids import order_id
from transfer.wire.order import decode_order_compartment

DIGITS = "0123456789"


def test_an_accepted_order_is_durable_and_opens_offline(node: Node) -> None:
    key = new_key()
    answer = node.post(good_order(), key)
    assert answer.status == 202
    accepted = answer.json
    assert accepted == {
        "order_id": order_id(key).hex(),
        "status": "received",
        "access_token": accepted["access_token"],
    }
    assert answer.headers["location"] == f"/orders/{accepted['order_id']}"
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["cache-control"] == "no-store"

    envelope = decode_envelope(stored(node)[accepted["order_id"]])
    header = decode_header(envelope.header)
    assert header.order_id == order_id(key)
    batch_key = next(k for k in node.offline.batch_keys if k.public_key.encode() == _live_batch_key(node))
    order = decode_order_compartment(
        nacl.public.SealedBox(node.offline.order_key).decrypt(envelope.order_box)
    )
    assert order.customer.name == "Zoë Müller"
    assert order.header == header_digest(envelope.header).hex()
    card = decode_card(memoryview(nacl.public.SealedBox(batch_key).decrypt(envelope.card_box)))
    assert (bytes(card.pan), bytes(card.cvv), card.amount, card.currency) == (
        PAN.encode(),
        CVV.encode(),
        5097,
        "EUR",
    )


def _live_batch_key(node: Node) -> bytes:
    return bytes.fromhex(node.get("/keys").json["batch_key"]["public_key"])


def test_a_retry_after_a_lost_answer_gets_the_first_answer_again(node: Node) -> None:
    key = new_key()
    body = json.dumps(good_order()).encode()
    # The client sends everything and goes away without reading.
    head = (
        f"POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nIdempotency-Key: {key}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", node.port)) as connection:
        connection.sendall(head.encode() + body)
    first = node.post(good_order(), key)
    second = node.post(good_order(), key)
    assert first.status == second.status == 202
    assert first.body == second.body
    assert first.json["order_id"] in stored(node)


def test_the_same_key_with_another_basket_is_refused(node: Node) -> None:
    key = new_key()
    assert node.post(good_order(), key).status == 202
    other = good_order()
    other["items"][0]["quantity"] = 2
    other["total"]["amount"] = 2 * 2499 + 2 * 1299
    problem(node.post(other, key), 422, "INTAKE-IDEMPOTENCY-CONFLICT")


def test_a_retry_after_a_change_of_prices_learns_that_the_order_stands(
    new_node: Callable[[], Node],
) -> None:
    node = new_node().configure().enrol()
    prices = node.root / "catalogue.toml"
    prices.write_text(SHIPPED.read_text("utf-8"), "utf-8")
    node.config.write_text(node.config.read_text() + 'catalogue = "catalogue.toml"\n')
    key = new_key()
    assert node.start().post(good_order(), key).status == 202
    node.stop()
    prices.write_text(prices.read_text("utf-8").replace("EUR = 2499", "EUR = 2599"), "utf-8")
    answer = node.start().post(good_order(), key)
    assert (answer.status, answer.json["rule"]) == (422, "INTAKE-IDEMPOTENCY-CONFLICT")
    assert node.post(good_order(), new_key()).json["rule"] == "INTAKE-FIELDS"


def test_a_retry_with_another_card_or_address_is_the_first_order(node: Node) -> None:
    key = new_key()
    first = node.post(good_order(), key)
    changed = good_order()
    changed["delivery"]["city"] = "Bonn"
    changed["card"]["security_code"] = "12"  # even a faulty one: the order stands already
    again = node.post(changed, key)
    assert (again.status, again.body) == (202, first.body)


def test_the_key_may_be_a_structured_field_string(node: Node) -> None:
    key = new_key()
    first, second = node.post(good_order(), key), node.post(good_order(), f'"{key}"')
    assert first.status == 202
    assert first.body == second.body


@pytest.mark.parametrize("key", ["", "short", "x" * 129, 'a"' * 20, "é" * 22, "a b" * 10, '"', '""'])
def test_a_malformed_key_is_refused(node: Node, key: str) -> None:
    answer = node.request(
        "POST",
        "/orders",
        json.dumps(good_order()).encode(),
        {"Content-Type": "application/json", "Idempotency-Key": key},
    )
    problem(answer, 400, "ORDER-IDEMPOTENCY-KEY")


def test_a_missing_or_repeated_key_is_refused(node: Node) -> None:
    body = json.dumps(good_order()).encode()
    problem(
        node.request("POST", "/orders", body, {"Content-Type": "application/json"}),
        400,
        "INTAKE-IDEMPOTENCY-KEY",
    )
    twice = f"Idempotency-Key: {new_key()}\r\n" * 2
    assert b"INTAKE-IDEMPOTENCY-KEY" in raw(node, f"Content-Type: application/json\r\n{twice}", body)


def raw(node: Node, headers: str, body: bytes, length: int | None = None) -> bytes:
    """Send bytes as they are and read the whole answer."""
    size = len(body) if length is None else length
    head = f"POST /orders HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}Content-Length: {size}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as connection:
        connection.sendall(head.encode() + body)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received


@pytest.mark.parametrize(
    "media_type",
    ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "multipart/form-data"],
)
def test_other_media_types_are_refused(node: Node, media_type: str) -> None:
    answer = node.post(good_order(), new_key(), **{"Content-Type": media_type})
    problem(answer, 415, "INTAKE-MEDIA-TYPE")


def test_compressed_bodies_are_refused(node: Node) -> None:
    answer = node.post(good_order(), new_key(), **{"Content-Encoding": "gzip"})
    problem(answer, 415, "INTAKE-MEDIA-TYPE")


def test_json_with_a_charset_is_accepted(node: Node) -> None:
    answer = node.post(good_order(), new_key(), **{"Content-Type": "Application/JSON; charset=utf-8"})
    assert answer.status == 202


@pytest.mark.parametrize("size", [32 * 1024 + 1, 10 * 1024 * 1024])
def test_a_body_above_the_limit_is_refused(node: Node, size: int) -> None:
    answer = raw(node, f"Content-Type: application/json\r\nIdempotency-Key: {new_key()}\r\n", b"", size)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"INTAKE-BODY-SIZE" in answer


def test_a_chunked_body_above_the_limit_is_refused(node: Node) -> None:
    head = (
        "POST /orders HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
        f"Content-Type: application/json\r\nIdempotency-Key: {new_key()}\r\n\r\n"
    )
    chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as connection:
        connection.sendall(head.encode() + chunk * 9 + b"0\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 20_000,
        b'{"a":' * 5000,
        b"1e999",
        b"NaN",
        b'"\\ud800"',
        b"\xef\xbb\xbf{}",
        b"{}{}",
        b"\0" * 100,
        b'{"items": "\xc3"}',
    ],
)
def test_bodies_that_are_not_json_are_refused(node: Node, body: bytes) -> None:
    problem(node.post(body, new_key()), 400, "INTAKE-JSON")


@pytest.mark.parametrize(
    "body", [b"null", b"[]", b"5", b'"x"', b"{}", b'{"sealed": 1}', b'{"items": [[[[]]]]}']
)
def test_json_that_is_no_order_has_its_faults_named(node: Node, body: bytes) -> None:
    document = problem(node.post(body, new_key()), 422, "INTAKE-FIELDS")
    assert document["errors"]
    assert all(set(error) == {"pointer", "detail"} for error in document["errors"])


def test_faulty_fields_are_all_named_over_http(node: Node) -> None:
    order = good_order()
    order["card"]["number"] = "4242424242424241"
    order["customer"]["email"] = "zoe"
    del order["delivery"]["city"]
    document = problem(node.post(order, new_key()), 422, "INTAKE-FIELDS")
    assert {error["pointer"] for error in document["errors"]} == {
        "/card/number",
        "/customer/email",
        "/delivery/city",
    }


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    number=st.text(DIGITS, min_size=12, max_size=19),
    place=st.sampled_from(
        ["number", "security_code", "expiry_month", "extra", "name", "sku", "currency", "key"]
    ),
)
def test_no_refusal_ever_holds_a_card_number_that_was_sent(node: Node, number: str, place: str) -> None:
    order = good_order()
    order["total"]["amount"] = 1
    headers = {}
    match place:
        case "extra":
            order["card"][number] = number
        case "name":
            order["customer"]["name"] = number + "\0"
        case "sku":
            order["items"][0]["sku"] = number
        case "currency":
            order["total"]["currency"] = number
        case "key":
            headers["Idempotency-Key"] = number
        case _:
            order["card"][place] = number
    answer = node.post(order, new_key(), **headers)
    assert answer.status in (400, 422)
    for sent in (number, PAN):
        assert sent.encode() not in answer.body
        assert not any(sent in value for value in answer.headers.values())


def test_nothing_of_a_card_or_address_is_in_any_file_or_log(node: Node) -> None:
    order = good_order()
    marker = f"Marker {secrets.token_hex(8)}"
    order["delivery"]["city"] = marker
    order["card"]["number"] = "5555 5555 5555 4444"
    assert node.post(order, new_key()).status == 202
    order["card"]["security_code"] = "12345"
    assert node.post(order, new_key()).status == 422
    for path in node.files():
        content = path.read_bytes()
        for secret in ("5555555555554444", "5555 5555 5555 4444", PAN, marker, "zoe.mueller"):
            assert secret.encode() not in content, path


def test_the_idempotency_key_is_stored_nowhere(node: Node) -> None:
    key = new_key()
    assert node.post(good_order(), key).status == 202
    assert not any(key.encode() in path.read_bytes() for path in node.files())


def test_many_clients_at_once_with_duplicates_take_each_order_once(node: Node) -> None:
    keys = [new_key() for _ in range(40)]
    answers: list[tuple[str, int, bytes]] = []
    lock = threading.Lock()

    def client(number: int) -> None:
        for turn in range(10):
            key = keys[(number * 7 + turn * 3) % len(keys)]
            answer = node.post(good_order(), key)
            with lock:
                answers.append((key, answer.status, answer.body))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 320
    assert {status for _, status, _ in answers} == {202}
    by_key: dict[str, set[bytes]] = {}
    for key, _, body in answers:
        by_key.setdefault(key, set()).add(body)
    assert all(len(bodies) == 1 for bodies in by_key.values())
    # ``stored`` itself refuses an order that lies twice.
    assert {order_id(key).hex() for key in by_key} <= stored(node).keys()
