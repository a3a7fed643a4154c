"""intake/INTEGRATION.md as its readers use it: every block is taken out and run."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nacl.public
import pytest
from standardwebhooks import WebhookVerificationError

from intake.webhooks.message import headers_of, message_of, secret_text
from tests.intake.answers import stored
from tests.intake.node import Node
from tests.tools.known import WIRE_JS, find
from transfer.register_changes import StatusChange
from transfer.wire.card import decode_card
from transfer.wire.envelope import decode_envelope
from transfer.wire.header import decode_header, header_digest
from transfer.wire.order import decode_order_compartment

GUIDE = (Path(__file__).parents[2] / "intake" / "INTEGRATION.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
SETTING, CURL = (text for language, text in BLOCKS if language == "sh")
PYTHON, WEBHOOK = (text for language, text in BLOCKS if language == "python")
(JAVASCRIPT,) = (text for language, text in BLOCKS if language == "js")


def run(command: list[object], node: Node, text: str, directory: Path) -> str:
    environment = {**os.environ, "INTAKE": node.url, "IDENTITY": node.offline.public.public_key.hex()}
    done = subprocess.run(
        [str(part) for part in command],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=directory,
        env=environment,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def opened(node: Node, order_id: str) -> tuple[str, bytes]:
    """What the offline side reads of an order: the customer's name and the card's number."""
    envelope = decode_envelope(stored(node)[order_id])
    batch_key = next(
        key
        for key in node.offline.batch_keys
        if key.public_key.encode().hex() == node.get("/keys").json["batch_key"]["public_key"]
    )
    order = decode_order_compartment(
        nacl.public.SealedBox(node.offline.order_key).decrypt(envelope.order_box)
    )
    card = decode_card(memoryview(nacl.public.SealedBox(batch_key).decrypt(envelope.card_box)))
    assert order.header == header_digest(envelope.header).hex()
    assert decode_header(envelope.header).order_id.hex() == order_id
    assert (card.amount, card.currency, bytes(card.cvv)) == (2499, "EUR", b"123")
    return order.customer.name, bytes(card.pan)


def check_both_orders(node: Node, said: str) -> None:
    orders = dict(line.split() for line in said.splitlines())
    assert list(orders.values()) == ["received", "received"]
    assert [opened(node, order_id) for order_id in orders] == [("Åsa Ölund", b"4242424242424242")] * 2


def test_the_identity_is_read_as_the_guide_says(node: Node, tmp_path: Path) -> None:
    (tmp_path / "identity.pub").write_text(node.offline.public.encode())
    said = run(["sh"], node, f'{SETTING}\nprintf %s "$IDENTITY"', tmp_path)
    assert said == node.offline.public.public_key.hex()


@pytest.mark.needs_tool("curl", "openssl")
def test_the_curl_example_orders_and_looks(node: Node, tmp_path: Path) -> None:
    said = run(["bash", "-euo", "pipefail"], node, CURL, tmp_path)
    shown = re.search(r'"order_id":"([0-9a-f]{32})","status":"received"', said)
    assert shown is not None
    assert opened(node, shown[1]) == ("Åsa Ölund", b"4242424242424242")


def test_the_python_example_orders_in_both_ways(node: Node, tmp_path: Path) -> None:
    check_both_orders(node, run([sys.executable, "-I", "-"], node, PYTHON, tmp_path))


@pytest.mark.needs_tool("node", "wire_js")
def test_the_javascript_example_orders_in_both_ways(node: Node, tmp_path: Path) -> None:
    (tmp_path / "order.mjs").write_text(JAVASCRIPT)
    (tmp_path / "node_modules").symlink_to(WIRE_JS / "node_modules")
    check_both_orders(node, run([find("node"), "order.mjs"], node, "", tmp_path))


def test_the_examples_seal_to_no_key_that_is_not_signed(node: Node, tmp_path: Path) -> None:
    environment = {**os.environ, "INTAKE": node.url, "IDENTITY": bytes(32).hex()}
    before = len(stored(node))
    done = subprocess.run(
        [sys.executable, "-I", "-"],
        input=PYTHON,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert done.returncode == 1
    assert "BadSignatureError" in done.stderr
    assert len(stored(node)) == before + 1  # the plain one


def test_the_webhook_example_believes_its_intake_and_nobody_else() -> None:
    scope: dict[str, Any] = {}
    exec(WEBHOOK, scope)  # noqa: S102  the guide's own words
    change = StatusChange(
        number=1, order_id="0" * 32, status="paid", reason="none", changed_at=1_700_000_000, tries=0
    )
    key = bytes(range(32))
    message = message_of(change)
    headers, seen = headers_of(message, [key], int(time.time())), set[str]()
    assert scope["receive"](headers, message.body, secret_text(key), seen) == ("0" * 32, "paid")
    assert scope["receive"](headers, message.body, secret_text(key), seen) is None
    with pytest.raises(WebhookVerificationError):
        scope["receive"](headers, message.body, base64.b64encode(bytes(32)).decode(), seen)
