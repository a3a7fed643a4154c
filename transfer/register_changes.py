"""What orders' statuses became, one entry a change, kept until whoever asked for changes has passed each one on.

Why here: an entry is made in the very transaction that changes the status, so that no change is lost and none invented.
Must not: know to whom changes are told, or keep any before somebody asked.

The same status from another return is no change. A change that a power cut took away with its status comes again with
the return, as an entry that says the same in every field.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from transfer.register_file import RegisterFile
from transfer.register_tables import WANTED

_DUE = (
    "SELECT number, order_id, state, reason, changed_at, tries FROM status_change"
    " WHERE next_at <= ? AND NOT given_up ORDER BY next_at, number LIMIT ?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    """One change. ``number`` orders them; ``tries``: how often it was tried to pass it on."""

    number: int
    order_id: str
    status: str
    reason: str
    changed_at: int
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Postponed:
    """A change that could not be passed on: to be tried again at ``next_at``, or not before a person asks (None)."""

    number: int
    next_at: int | None


class Changes(RegisterFile):
    """The part of the register that tells of changes."""

    def want_changes(self) -> bool:
        """Keep changes from now on; True when that is new."""
        if self.fact(WANTED):
            return False
        self.set_fact(WANTED, True)
        return True

    def due_changes(self, now: int, limit: int) -> list[StatusChange]:
        """Those to pass on now, in the order in which they are due."""
        names = ("number", "order_id", "status", "reason", "changed_at", "tries")
        return [StatusChange(**dict(zip(names, row, strict=True))) for row in self._rows(_DUE, (now, limit))]

    def settle_changes(self, told: Iterable[int], postponed: Iterable[Postponed]) -> None:
        """Forget those that were told, and set when the others come again."""
        with self.transaction() as connection:
            connection.executemany(
                "DELETE FROM status_change WHERE number = ?", [(number,) for number in told]
            )
            connection.executemany(
                "UPDATE status_change SET tries = tries + 1, next_at = coalesce(?1, next_at), given_up = ?1 IS NULL"
                " WHERE number = ?2",
                [(entry.next_at, entry.number) for entry in postponed],
            )

    def try_again(self) -> int:
        """Make every change due that waits or was given up; how many."""
        with self.transaction() as connection:
            return connection.execute(
                "UPDATE status_change SET tries = 0, next_at = 0, given_up = 0"
            ).rowcount

    def changes_waiting(self) -> dict[str, int]:
        """How many changes were never tried, wait for another try, or were given up."""
        query = (
            "SELECT coalesce(sum(tries = 0 AND NOT given_up), 0), coalesce(sum(tries > 0 AND NOT given_up), 0),"
            " coalesce(sum(given_up), 0) FROM status_change"
        )
        return dict(zip(("new", "retrying", "given-up"), self._rows(query)[0], strict=True))
