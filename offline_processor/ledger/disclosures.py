"""The disclosure log: which data of whom went to whom, when, by whom, for what purpose and on what legal ground.

Why here: an export is recorded in the same transaction that decides what is in it, before anyone can have it.
Must not: commit by itself, or hold a name or an address; the file's own bytes are known by their digest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from offline_processor.ledger.ledger import Ledger, Row

_COLUMNS: Final = (
    "e.id, e.purpose, e.recipient, e.format, e.fields, e.ground, e.made_at, e.who, e.name, e.sha256, e.state"
)
_INSERT: Final = (
    "INSERT INTO export (id, purpose, recipient, format, fields, ground, made_at, who, name, sha256, state)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'recorded')"
)


class ExportState(StrEnum):
    """RECORDED: it may be out or not, the machine stopped between. WITHDRAWN: it never came into being."""

    RECORDED = "recorded"
    RELEASED = "released"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A file or a stack of paper. ``fields``: which data; ``sha256``: of its bytes; ``at``: Unix seconds."""

    id: int
    purpose: str
    recipient: str
    format: str
    fields: tuple[str, ...]
    ground: str
    at: int
    who: str
    name: str
    sha256: str
    state: ExportState = ExportState.RECORDED

    def as_document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "export": self.id,
            "purpose": self.purpose,
            "recipient": self.recipient,
            "format": self.format,
            "fields": list(self.fields),
            "legal_ground": self.ground,
            "at": self.at,
            "who": self.who,
            "name": self.name,
            "sha256": self.sha256,
            "state": self.state.value,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Disclosed:
    """An order in an export; ``reference``: what the recipient knows it by, "" where that is its id."""

    number: int
    order_id: str
    reference: str = ""


def next_export(ledger: Ledger) -> int:
    """The number that the next export will have."""
    row = ledger.row("SELECT coalesce(max(id), 0) + 1 FROM export")
    return 1 if row is None else int(row[0])


def record(ledger: Ledger, export: Export, disclosed: Sequence[Disclosed]) -> None:
    """Log an export and whose data is in it, in the caller's transaction, before it is released."""
    ledger.execute(
        _INSERT,
        (
            export.id,
            export.purpose,
            export.recipient,
            export.format,
            json.dumps(list(export.fields)),
            export.ground,
            export.at,
            export.who,
            export.name,
            export.sha256,
        ),
    )
    ledger.execute_many(
        "INSERT INTO disclosure (number, export, reference) VALUES (?, ?, ?)",
        [(one.number, export.id, one.reference) for one in disclosed],
    )
    facts = {
        "purpose": export.purpose,
        "recipient": export.recipient,
        "format": export.format,
        "fields": list(export.fields),
        "ground": export.ground,
        "who": export.who,
        "sha256": export.sha256,
        "orders": len(disclosed),
    }
    ledger.append("export", str(export.id), export.at, facts)
    for one in disclosed:
        ledger.append("disclosed", one.order_id, export.at, {"export": export.id, "purpose": export.purpose})


def release(ledger: Ledger, export: int, *, now: int) -> None:
    """The export is out of our hands."""
    _move(ledger, export, ExportState.RELEASED, now=now)


def withdraw(ledger: Ledger, export: int, *, now: int) -> None:
    """The export never came into being: its orders may go into another one. What was logged stays logged."""
    _move(ledger, export, ExportState.WITHDRAWN, now=now)


def _move(ledger: Ledger, export: int, state: ExportState, *, now: int) -> None:
    ledger.execute("UPDATE export SET state = ? WHERE id = ? AND state = 'recorded'", (state.value, export))
    ledger.append(f"export-{state.value}", str(export), now, {})


def unfinished(ledger: Ledger) -> list[Export]:
    """Exports that were recorded, and the machine stopped before anyone knew whether they came out."""
    rows = ledger.rows(f"SELECT {_COLUMNS} FROM export AS e WHERE e.state = 'recorded' ORDER BY e.id")  # noqa: S608
    return [_export(row) for row in rows]


def exports(ledger: Ledger, *, limit: int = 1000) -> list[Export]:
    """The newest exports, newest first."""
    rows = ledger.rows(f"SELECT {_COLUMNS} FROM export AS e ORDER BY e.id DESC LIMIT ?", (limit,))  # noqa: S608
    return [_export(row) for row in rows]


def of_order(ledger: Ledger, number: int) -> list[tuple[Export, str]]:
    """Every export that has this order's data, oldest first, each with the reference used in it ("" for none)."""
    rows = ledger.rows(
        f"SELECT d.reference, {_COLUMNS} FROM disclosure AS d JOIN export AS e ON e.id = d.export"  # noqa: S608
        " WHERE d.number = ? ORDER BY e.id",
        (number,),
    )
    return [(_export(row[1:]), str(row[0])) for row in rows]


def orders_in(ledger: Ledger, export: int) -> list[Disclosed]:
    """Whose data is in an export, in the order of their numbers."""
    rows = ledger.rows(
        "SELECT d.number, o.order_id, d.reference FROM disclosure AS d JOIN orders AS o USING (number)"
        " WHERE d.export = ? ORDER BY d.number",
        (export,),
    )
    return [
        Disclosed(number=number, order_id=order, reference=reference) for number, order, reference in rows
    ]


def forget_references(ledger: Ledger, number: int) -> None:
    """Part of an erasure: what a recipient calls this order by no longer leads to it."""
    ledger.execute("UPDATE disclosure SET reference = '' WHERE number = ? AND reference != ''", (number,))


def _export(row: Row) -> Export:
    number, purpose, recipient, form, fields, ground, at, who, name, sha256, state = row
    return Export(
        id=number,
        purpose=purpose,
        recipient=recipient,
        format=form,
        fields=tuple(json.loads(fields)),
        ground=ground,
        at=at,
        who=who,
        name=name,
        sha256=sha256,
        state=ExportState(state),
    )
