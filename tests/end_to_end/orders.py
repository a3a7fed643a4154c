"""What customers see of their orders: each status asked for with the order's own token.

Why here: the play's table and its tests read the same answers.
Must not: know what a status should be.
"""

from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.table import Table
from rich.text import Text

from intake.money import money
from tests.end_to_end.commands import JobFailedError, Shell

PAID = "paid"
SETTLED = frozenset({PAID, "declined", "order-again"})
_SHOWN_OF_AN_ID = 8
_TIMEOUT = 10.0
_STYLES = {PAID: "green", "declined": "yellow", "held": "magenta"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What the shop kept of an order that it sent. ``amount`` in minor units; ``by``: the way it came."""

    order_id: str
    token: str = field(repr=False)
    amount: int
    currency: str
    by: str = "API"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What the customer is told."""

    state: str
    reason: str


def read_receipts(path: Path) -> list[Receipt]:
    """The file that `intake sample --receipts` wrote."""
    return [
        Receipt(
            order_id=entry["order_id"],
            token=entry["access_token"],
            amount=entry["amount"],
            currency=entry["currency"],
        )
        for entry in json.loads(path.read_bytes())["orders"]
    ]


def get(url: str, path: str, token: str = "") -> tuple[int, Any]:
    """One GET; the answer's code and JSON."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        raw = answer.read()
    finally:
        connection.close()
    return answer.status, json.loads(raw)


def statuses(url: str, receipts: Sequence[Receipt]) -> dict[str, Status]:
    """Every order's status, asked for as its customer would."""
    found = {}
    for receipt in receipts:
        code, document = get(url, f"/orders/{receipt.order_id}", receipt.token)
        if code != HTTPStatus.OK:
            raise JobFailedError(f"GET {url}/orders/{receipt.order_id} answered {code}")
        found[receipt.order_id] = Status(state=document["status"], reason=document["reason"])
    return found


def show(
    shell: Shell, receipts: Sequence[Receipt], first: Mapping[str, Status], last: Mapping[str, Status]
) -> None:
    """The table of all orders, after the first return and now."""
    table = Table(title=Text("All orders, as their customers see them", style="bold"), title_justify="left")
    for column in ("order", "by", "amount", "after the first return", "now", "reason"):
        table.add_column(column, justify="right" if column == "amount" else "left")
    for receipt in receipts:
        before, now = first[receipt.order_id], last[receipt.order_id]
        table.add_row(
            Text(receipt.order_id[:_SHOWN_OF_AN_ID]),
            Text(receipt.by, style="" if receipt.by == "API" else "bold"),
            Text(money(receipt.amount, receipt.currency)),
            Text(before.state, style=_STYLES.get(before.state, "")),
            Text(now.state, style=_STYLES.get(now.state, "")),
            Text("" if now.reason == "none" else now.reason),
        )
    shell.console.print(table)
    counts = Counter(status.state for status in last.values())
    shell.say(
        f"{len(last)} orders: " + ", ".join(f"{count} {state}" for state, count in counts.most_common()),
        "bold",
    )
