"""What the server says about itself: keys, readiness, its interface, and its silence about requests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from intake import forms
from intake.problems import ProblemDocument
from intake.tokens import access_token, token_is_good
from keys.public.roll import check_entry
from tests.intake.answers import problem
from tests.intake.node import Node
from tests.intake.orders import good_order, new_key

NewNode = Callable[[], Node]


def test_keys_are_those_of_the_roll_with_their_signatures(node: Node) -> None:
    answer = node.get("/keys")
    keys = msgspec.json.decode(answer.body, type=forms.Keys, strict=True)
    for entry in (keys.order_key, keys.batch_key):
        check_entry(entry, node.offline.public.public_key)
    assert (keys.order_key.role, keys.batch_key.role) == ("order", "batch")
    assert keys.batch_key.number == 1
    assert answer.headers["cache-control"] == "no-store"


def test_readiness_counts_the_keys_and_warns_when_they_run_low(new_node: NewNode) -> None:
    node = new_node().configure().enrol(7).start()
    ready = msgspec.json.decode(node.get("/readyz").body, type=forms.Ready)
    assert (ready.keys_left, ready.warnings) == (7, [])
    node.new_roll(2)
    ready = msgspec.json.decode(node.get("/readyz").body, type=forms.Ready)
    assert ready.keys_left == 2
    assert "2 batch keys" in ready.warnings[0]


def test_a_spool_that_is_gone_is_not_ready(new_node: NewNode) -> None:
    node = new_node().configure().enrol().start()
    shutil.rmtree(node.state / "spool")
    (node.state / "spool").write_bytes(b"")
    answer = node.get("/readyz")
    problem(answer, 503, "INTAKE-NOT-READY")
    assert "SPOOL-FAULT" in {notice["rule"] for notice in answer.json["notices"]}
    problem(node.post(good_order(), new_key()), 503, "INTAKE-STORE")
    assert node.get("/livez").json == {"status": "live"}


def _walk(value: Any) -> Iterator[Any]:
    yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _walk(inner)


def test_the_openapi_document_describes_every_answer(node: Node) -> None:
    document = node.get("/openapi.json").json
    assert document["openapi"] == "3.1.0"
    schemas = document["components"]["schemas"]
    references = [value["$ref"] for value in _walk(document) if isinstance(value, dict) and "$ref" in value]
    assert references
    assert all(reference.removeprefix("#/components/schemas/") in schemas for reference in references)
    assert set(document["paths"]) == {
        "/orders",
        "/orders/{order_id}",
        "/keys",
        "/livez",
        "/readyz",
        "/openapi.json",
        "/metrics",
        "/newsletter",
        "/enquiries",
    }
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        for status, response in operation["responses"].items():
            assert "traceresponse" in response["headers"]
            assert ("Retry-After" in response["headers"]) >= (status in {"429", "503"})
            if status >= "400":
                assert set(response["content"]) == {"application/problem+json"}
    taking = document["paths"]["/orders"]["post"]
    refusals = {"400", "405", "408", "409", "413", "415", "422", "429", "500", "503"}
    assert set(taking["responses"]) == {"202", *refusals}
    assert schemas["CardForm"]["required"] == ["number", "expiry_month", "expiry_year", "security_code"]


def test_the_documents_of_the_interface_have_the_described_form(node: Node) -> None:
    good = msgspec.json.encode(good_order())
    assert isinstance(msgspec.json.decode(good, type=forms.PlainOrder), forms.PlainOrder)
    answer = node.post(good, new_key())
    accepted = msgspec.json.decode(answer.body, type=forms.Accepted)
    shown = node.get(answer.headers["location"], Authorization=f"Bearer {accepted.access_token}")
    assert msgspec.json.decode(shown.body, type=forms.Status).order_id == accepted.order_id
    refused = node.post(b"{}", new_key())
    assert msgspec.json.decode(refused.body, type=ProblemDocument).errors


LOGGED = {"time", "level", "event", "method", "route", "status", "ms", "worker", "client", "trace", "span"}


def test_the_log_has_a_line_a_request_and_nothing_that_a_client_sent(new_node: NewNode) -> None:
    node = new_node().configure().enrol(9).start()
    key = new_key()
    accepted = node.post(good_order(), key, **{"X-Forwarded-For": "198.51.100.77"}).json
    node.get(f"/orders/{accepted['order_id']}", Authorization=f"Bearer {accepted['access_token']}")
    node.post(b"[" * 5000, key)
    node.get("/nothing?card=4242424242424242")
    node.request("BREW4242", "/4242424242424242", headers={"X-Secret": "4242424242424242"})
    node.stop()
    first, *lines = node.log.read_text().splitlines()
    assert first == f"intake of node shop-t on {node.url}, 9 batch keys left"
    logged = [line for line in map(json.loads, lines) if line["route"] != "/livez"]
    assert [(line["method"], line["route"], line["status"], line.get("rule", "")) for line in logged] == [
        ("POST", "/orders", 202, ""),
        ("GET", "/orders/{order_id}", 200, ""),
        ("POST", "/orders", 400, "INTAKE-JSON"),
        ("GET", "other", 404, ""),
        ("other", "other", 404, ""),
    ]
    assert all(LOGGED <= set(line) <= LOGGED | {"rule", "parent"} for line in logged)
    whole = "\n".join(lines)
    sent = (
        "4242",
        key,
        accepted["order_id"],
        accepted["access_token"],
        "198.51.100.77",
        "127.0.0.1",
        "Müller",
    )
    assert [text for text in sent if text in whole] == []


def test_tokens_are_of_one_order_and_one_node_only() -> None:
    key, order = bytes(32), bytes(16)
    token = access_token(key, order)
    assert len(token) == 32
    assert token_is_good(key, order, token)
    for wrong in ("", token[:-1], token + "A", token.lower(), "é", "\udcff"):
        assert not token_is_good(key, order, wrong)
    assert not token_is_good(b"\1" + bytes(31), order, token)
    assert not token_is_good(key, b"\1" + bytes(15), token)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("bind", '"8080"', "CONFIG-VALUE"),
        ("bind", '"x:99999"', "CONFIG-VALUE"),
        ("workers", "0", "CONFIG-VALUE"),
        ("catalogue", '"none.toml"', "CONFIG-CATALOGUE"),
        ("colour", "1", "CONFIG-UNKNOWN"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_served(
    tmp_path: Path, run_intake: Callable[..., tuple[int, str, str]], name: str, value: str, rule: str
) -> None:
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\nnode = "a"\nstate = "state"\n[intake]\n{name} = {value}\n')
    code, output, _ = run_intake("serve", "--config", config, "--json")
    assert json.loads(output)["rule"] == rule
    assert code in (2, 4)
    assert not (tmp_path / "state" / "register.db").exists()
