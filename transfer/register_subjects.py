"""Requests of people about their data, as the online side knows them: ids, kinds, states and times.

Why here: the outbox carries the sealed request and a return brings its answer; both are told apart by the id alone.
Must not: hold an address, an order id or anything else of the person.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from transfer.register_file import RegisterFile
from transfer.wire.records import SubjectAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectRow:
    """A request: its id (hex) and kind; ``state`` is empty until a return answered it. Times are Unix seconds."""

    request: str
    kind: str
    asked_at: int
    state: str
    changed_at: int


class Subjects(RegisterFile):
    """The part of the register that knows requests."""

    def note_request(self, request: str, kind: str, *, now: int) -> None:
        """Durably: this request was made."""
        with self.transaction(durable=True) as connection:
            connection.execute(
                "INSERT INTO subject_request (request, kind, asked_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (request, kind, now),
            )

    def take_answers(self, answers: Iterable[SubjectAnswer]) -> int:
        """Record what a return answered; how many were of requests that are known here."""
        rows = [(answer.state.value, answer.changed_at, answer.request) for answer in answers]
        if not rows:
            return 0
        with self.transaction(durable=True) as connection:
            query = "UPDATE subject_request SET state = ?, changed_at = ? WHERE request = ?"
            return connection.executemany(query, rows).rowcount

    def ask_again(self, requests: Iterable[str]) -> None:
        """These requests are sent once more, and wait for their answer again."""
        with self.transaction(durable=True) as connection:
            connection.executemany(
                "UPDATE subject_request SET state = '', changed_at = 0 WHERE request = ?",
                [(request,) for request in requests],
            )

    def subject_requests(self) -> list[SubjectRow]:
        """All requests, the newest first."""
        rows = self._rows(
            "SELECT request, kind, asked_at, state, changed_at FROM subject_request ORDER BY asked_at DESC, request"
        )
        return [
            SubjectRow(request=request, kind=kind, asked_at=asked, state=state, changed_at=changed)
            for request, kind, asked, state, changed in rows
        ]

    def forget_requests(self, requests: Iterable[str]) -> None:
        """Delete the rows of these requests."""
        with self.transaction(durable=True) as connection:
            connection.executemany(
                "DELETE FROM subject_request WHERE request = ?", [(request,) for request in requests]
            )
