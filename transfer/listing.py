"""Lists of the register's orders, for people: numbers and states, by a connection that cannot write.

Why here: staff need a list of all orders, and the register serves one order at a time while intake works.
Must not: write to the register, or show anything but ids, states and times.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from transfer.errors import TransferError
from transfer.register_tables import IN_TRANSIT, RECEIVED

_STATUS = f"CASE WHEN state <> '' THEN state WHEN sequence IS NULL THEN '{RECEIVED}' ELSE '{IN_TRANSIT}' END AS status"
_BUSY_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedOrder:
    """One order. Times are Unix seconds; ``sequence`` is its bundle's."""

    order_id: str
    status: str
    reason: str
    sequence: int | None
    received_at: int
    changed_at: int


def counts(register: Path) -> dict[str, int]:
    """How many orders are in each state."""
    with _reading(register) as connection:
        return dict(connection.execute(f"SELECT {_STATUS}, count(*) FROM placed GROUP BY 1 ORDER BY 1"))  # noqa: S608  a constant


def newest(register: Path, *, limit: int, status: str | None = None) -> list[ListedOrder]:
    """The newest orders first, of one state or of all."""
    query = (
        f"SELECT order_id, {_STATUS}, reason, sequence, received_at, changed_at FROM placed"  # noqa: S608
        " WHERE ?1 IS NULL OR status = ?1 ORDER BY number DESC LIMIT ?2"
    )
    names = ("order_id", "status", "reason", "sequence", "received_at", "changed_at")
    with _reading(register) as connection:
        return [
            ListedOrder(**dict(zip(names, row, strict=True)))
            for row in connection.execute(query, (status, limit))
        ]


@contextlib.contextmanager
def _reading(register: Path) -> Iterator[sqlite3.Connection]:
    if not register.exists():
        raise TransferError(
            "CONFIG-STATE", f"{register} is not there", "start the intake first: intake serve"
        )
    connection = sqlite3.connect(f"{register.resolve().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS)
    try:
        yield connection
    finally:
        connection.close()
