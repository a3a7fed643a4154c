"""Records for the acquirer's file, in the ledger: waiting, withdrawn or answered; files; answers; a person's cases.

Why here: a record is handed over when it is durable on both disks, and the database refuses it a second time.
Must not: commit by itself, or hold a card outside a box that only the acquirer opens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from offline_processor.ledger.ledger import Ledger, Row

WAITING: Final = "waiting"
WITHDRAWN: Final = "withdrawn"
ANSWERED: Final = "answered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A record as the ledger has it. ``file`` and ``place`` say where it stands; ``box`` is None when it is gone."""

    kind: str
    rrn: str
    stan: int
    file: int
    place: int
    number: int
    order_id: str
    attempt: int
    operation: str
    sent_at: int
    amount: int
    currency: str
    box: bytes | None = field(repr=False)
    state: str
    code: str
    approval: str


_KEPT: Final = (
    "SELECT kind, rrn, stan, file, place, number, order_id, attempt, operation, sent_at, amount, currency, box,"
    " state, code, approval FROM batch_record"
)


def open_file(ledger: Ledger) -> int:
    """The number of the file that takes records now: one above the newest finished one."""
    row = ledger.row("SELECT max(number) FROM batch_file")
    return (row[0] or 0) + 1 if row else 1


def hand_over(ledger: Ledger, records: Sequence[Kept], *, now: int) -> None:
    """Add records to the open file; their ``place`` counts on. One ledger entry for the window."""
    if not records:
        return
    file = records[0].file
    row = ledger.row("SELECT max(place) FROM batch_record WHERE file = ?", (file,))
    last = (row[0] or 0) if row else 0
    rows: list[Row] = [
        (
            *(
                item.kind,
                item.rrn,
                item.stan,
                item.file,
                last + place,
                item.number,
                item.order_id,
                item.attempt,
            ),
            *(item.operation, item.sent_at, item.amount, item.currency, item.box, WAITING, "", item.approval),
        )
        for place, item in enumerate(records, 1)
    ]
    ledger.execute_many(
        "INSERT INTO batch_record (kind, rrn, stan, file, place, number, order_id, attempt, operation, sent_at,"
        " amount, currency, box, state, code, approval, closed)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
        rows,
    )
    ledger.append("batch-records", str(file), now, {"records": len(rows), "from": last + 1})


def by_operation(ledger: Ledger, operation: str) -> Kept | None:
    """The record of an operation, if it was handed over before."""
    row = ledger.row(f"{_KEPT} WHERE operation = ?", (operation,))
    return _kept(row) if row else None


def authorisation(ledger: Ledger, rrn: str) -> Kept | None:
    """The authorisation's record of this retrieval reference."""
    row = ledger.row(f"{_KEPT} WHERE kind = 'A' AND rrn = ?", (rrn,))
    return _kept(row) if row else None


def named(ledger: Ledger, kind: str, rrn: str, stan: int) -> Kept | None:
    """The record that an answer names."""
    row = ledger.row(f"{_KEPT} WHERE kind = ? AND rrn = ? AND stan = ?", (kind, rrn, stan))
    return _kept(row) if row else None


def withdraw(ledger: Ledger, kept: Kept, *, now: int) -> None:
    """Take a record out of a file that is not finished: the acquirer never sees it."""
    ledger.execute(
        "UPDATE batch_record SET state = 'withdrawn', box = NULL WHERE kind = ? AND rrn = ? AND stan = ?",
        (kept.kind, kept.rrn, kept.stan),
    )
    facts = {"file": kept.file, "stan": kept.stan, "rrn": kept.rrn}
    ledger.append("batch-withdrawn", kept.order_id, now, facts)


def take_answer(ledger: Ledger, kept: Kept, *, code: str, approval: str) -> None:
    """The record is answered; its box stays until its whole file is, so that the file can be written again."""
    ledger.execute(
        "UPDATE batch_record SET state = 'answered', code = ?, approval = ?"
        " WHERE kind = ? AND rrn = ? AND stan = ?",
        (code, approval, kept.kind, kept.rrn, kept.stan),
    )


def in_file(ledger: Ledger, file: int, *states: str) -> list[Kept]:
    """The records of a file in these states, in their order."""
    marks = ",".join("?" * len(states))
    rows = ledger.rows(f"{_KEPT} WHERE file = ? AND state IN ({marks}) ORDER BY place", (file, *states))
    return [_kept(row) for row in rows]


def finish(ledger: Ledger, file: int, *, made_at: int, sha256: str, signature: str) -> None:
    """From now on this file is what it is."""
    ledger.execute(
        "INSERT INTO batch_file (number, made_at, sha256, signature, complete) VALUES (?, ?, ?, ?, 0)",
        (file, made_at, sha256, signature),
    )
    ledger.append("batch-file", str(file), made_at, {"sha256": sha256})


def let_go(ledger: Ledger, file: int) -> bool:
    """When every record of a finished file is answered its boxes go; True then."""
    if ledger.row("SELECT 1 FROM batch_record WHERE file = ? AND state = 'waiting' LIMIT 1", (file,)):
        return False
    ledger.execute("UPDATE batch_record SET box = NULL WHERE file = ?", (file,))
    ledger.execute("UPDATE batch_file SET complete = 1 WHERE number = ?", (file,))
    return True


def answer_digest(ledger: Ledger, file: int, number: int) -> str | None:
    """The digest of the answer file of this number that was taken, or None."""
    row = ledger.row("SELECT sha256 FROM batch_answer WHERE file = ? AND number = ?", (file, number))
    return str(row[0]) if row else None


def note_answer(ledger: Ledger, file: int, number: int, sha256: str, *, now: int) -> None:
    """An answer file is taken; the database refuses it a second time."""
    ledger.execute(
        "INSERT INTO batch_answer (file, number, sha256, at) VALUES (?, ?, ?, ?)", (file, number, sha256, now)
    )
    ledger.append("batch-answer", f"{file}-{number}", now, {"sha256": sha256})


def open_case(ledger: Ledger, file: int, rule: str, what: str, *, now: int) -> None:
    """A person must look into this; the same case is opened once."""
    found = ledger.row(
        "SELECT 1 FROM batch_case WHERE file = ? AND rule = ? AND what = ?", (file, rule, what)
    )
    if found is None:
        ledger.execute(
            "INSERT INTO batch_case (file, rule, what, at, closed_at) VALUES (?, ?, ?, ?, 0)",
            (file, rule, what, now),
        )
        ledger.append("batch-case", str(file), now, {"rule": rule, "what": what})


def open_cases(ledger: Ledger) -> list[tuple[int, int, str, str]]:
    """Id, file, rule and what, of every case that no person has closed."""
    query = "SELECT id, file, rule, what FROM batch_case WHERE closed_at = 0 ORDER BY id"
    return [(number, file, rule, what) for number, file, rule, what in ledger.rows(query)]


def close_case(ledger: Ledger, number: int, *, who: str, why: str, now: int) -> bool:
    """A person has looked into it; False when there is no such open case."""
    if ledger.row("SELECT 1 FROM batch_case WHERE id = ? AND closed_at = 0", (number,)) is None:
        return False
    ledger.execute("UPDATE batch_case SET closed_at = ? WHERE id = ?", (now, number))
    ledger.append("batch-case-closed", str(number), now, {"who": who, "why": why})
    return True


def taken_since_close(ledger: Ledger, currency: str) -> tuple[int, int, int, int]:
    """Captures and refunds that the acquirer has answered as done since the last close: counts and minor units."""
    found = {
        kind: (count, total)
        for kind, count, total in ledger.rows(
            "SELECT kind, count(*), sum(amount) FROM batch_record WHERE state = 'answered' AND code = '00'"
            " AND closed = 0 AND currency = ? AND kind IN ('C', 'R') GROUP BY kind",
            (currency,),
        )
    }
    return (*found.get("C", (0, 0)), *found.get("R", (0, 0)))


def mark_closed(ledger: Ledger, currency: str) -> None:
    """New totals begin."""
    ledger.execute(
        "UPDATE batch_record SET closed = 1 WHERE state = 'answered' AND currency = ? AND closed = 0",
        (currency,),
    )


def finished(ledger: Ledger) -> Iterator[tuple[int, int, str, str, bool]]:
    """Number, time, digest and signature of every finished file, and whether all of it is answered."""
    for number, made_at, sha256, signature, complete in list(
        ledger.rows("SELECT number, made_at, sha256, signature, complete FROM batch_file ORDER BY number")
    ):
        yield number, made_at, sha256, signature, bool(complete)


def _kept(row: Row) -> Kept:
    kind, rrn, stan, file, place, number, order_id, attempt, operation, sent_at, amount, currency, *rest = row
    box, state, code, approval = rest
    return Kept(
        kind=kind,
        rrn=rrn,
        stan=stan,
        file=file,
        place=place,
        number=number,
        order_id=order_id,
        attempt=attempt,
        operation=operation,
        sent_at=sent_at,
        amount=amount,
        currency=currency,
        box=box,
        state=state,
        code=code,
        approval=approval,
    )
