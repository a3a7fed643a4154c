"""Where an order is: only for its owner, by its token, and cheap to ask again."""

from __future__ import annotations

import secrets

from tests.intake.answers import problem
from tests.intake.node import Node
from tests.intake.orders import good_order, new_key
from transfer.register import Register


def test_status_is_shown_only_to_the_owner(node: Node) -> None:
    accepted = node.post(good_order(), new_key()).json
    other = node.post(good_order(), new_key()).json
    path, token = f"/orders/{accepted['order_id']}", accepted["access_token"]
    answer = node.get(path, Authorization=f"Bearer {token}")
    assert answer.status == 200
    assert answer.json["status"] == "received"
    assert answer.json["reason"] == "none"
    assert "retry-after" in answer.headers
    assert node.get(path, Authorization=f"bearer {token}").status == 200
    refusals = {
        node.get(path).body,
        node.get(path, Authorization=f"Bearer {other['access_token']}").body,
        node.get(path, Authorization="Bearer").body,
        node.get(path, Authorization=f"Basic {token}").body,
        node.get(f"/orders/{secrets.token_hex(16)}", Authorization=f"Bearer {token}").body,
        node.get("/orders/nonsense", Authorization=f"Bearer {token}").body,
        node.get("/orders/" + "é".encode().hex() + "zz").body,
        node.get(path, Authorization="Bearer \xe9").body,
    }
    assert len(refusals) == 1
    problem(node.get(path), 404, "INTAKE-ORDER-UNKNOWN")


def test_an_unchanged_status_is_answered_304(node: Node) -> None:
    accepted = node.post(good_order(), new_key()).json
    path, bearer = f"/orders/{accepted['order_id']}", f"Bearer {accepted['access_token']}"
    tag = node.get(path, Authorization=bearer).headers["etag"]
    for sent in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        answer = node.get(path, Authorization=bearer, If_None_Match=sent)
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["etag"] == tag
    assert node.get(path, Authorization=bearer, If_None_Match='"x"').status == 200
    assert node.get(path, If_None_Match="*").status == 404


def test_the_status_follows_the_bundle_and_the_return(node: Node) -> None:
    accepted = node.post(good_order(), new_key()).json
    path, bearer = f"/orders/{accepted['order_id']}", f"Bearer {accepted['access_token']}"
    before = node.get(path, Authorization=bearer)
    register = Register(node.state / "register.db")
    with register.transaction() as connection:
        connection.execute(
            "INSERT INTO bundle (sequence, batch_key_id, manifest, orders, cut_at, last_order)"
            " SELECT 1, batch_key_id, '00', 1, 0, number FROM orders WHERE order_id = ?",
            (accepted["order_id"],),
        )
    assert node.get(path, Authorization=bearer).json["status"] == "in-transit"
    with register.transaction() as connection:
        connection.execute(
            "UPDATE orders SET state = 'declined', reason = 'card-declined', changed_at = 1234 WHERE order_id = ?",
            (accepted["order_id"],),
        )
    register.close()
    after = node.get(path, Authorization=bearer, If_None_Match=before.headers["etag"])
    assert after.status == 200
    assert after.json == {
        "order_id": accepted["order_id"],
        "status": "declined",
        "reason": "card-declined",
        "changed_at": 1234,
    }
    assert "retry-after" not in after.headers


def test_wrong_methods_and_addresses_are_problems(node: Node) -> None:
    for method, path, allowed in (
        ("GET", "/orders", "POST"),
        ("DELETE", "/orders", "POST"),
        ("POST", "/keys", "GET"),
        ("PUT", f"/orders/{'0' * 32}", "GET"),
    ):
        answer = node.request(method, path)
        problem(answer, 405, "INTAKE-METHOD")
        assert allowed in answer.headers["allow"]
    problem(node.get("/nothing"), 404, "INTAKE-NOT-FOUND")
    problem(node.get("/orders/"), 404, "INTAKE-NOT-FOUND")
    problem(node.get("/keys/"), 404, "INTAKE-NOT-FOUND")
