"""Reading what an intake stored and what it answered."""

from __future__ import annotations

from typing import Any

from tests.intake.node import Answer, Node
from transfer.spool import Spool, read_group


def stored(node: Node) -> dict[str, bytes]:
    """Every order in the spool's group files: order id to envelope."""
    spool = Spool(node.state / "spool")
    found: dict[str, bytes] = {}
    for partition in spool.partitions():
        for path in spool.groups(partition.batch_key_id):
            for entry in read_group(path):
                assert entry.order_id not in found, "an order lies twice in the spool"
                found[entry.order_id] = entry.envelope
    return found


def problem(answer: Answer, status: int, rule: str) -> Any:
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json
    assert (answer.status, document["status"], document["rule"]) == (status, status, rule)
    assert document["type"] == f"urn:sealed-orders:problem:{rule.lower()}"
    assert document["title"]
    assert document["detail"]
    return document
