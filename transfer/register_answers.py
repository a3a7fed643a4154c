"""What returns said: the statuses of orders, and the receipts of bundles.

Why here: the status board shows them, and only a return changes them.
Must not: decide which return counts; whoever calls takes them in by (epoch, number).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from transfer.register_file import RegisterFile, chunks
from transfer.wire.records import Receipt, StatusRecord

_UPDATE = "UPDATE orders SET state = ?, reason = ?, changed_at = ?, epoch = ? WHERE order_id = ?"


class Answers(RegisterFile):
    """The part of the register that a pull writes."""

    def settled_without_status(self, limit: int = 1000) -> list[str]:
        """Orders whose bundle has its receipt, but of which no return told a state, the oldest first."""
        query = (
            "SELECT order_id FROM bundle CROSS JOIN orders USING (batch_key_id) WHERE outcome <> '' AND state = ''"
            " AND number <= last_order AND order_id NOT IN (SELECT order_id FROM missing) ORDER BY number LIMIT ?"
        )
        return [order_id for (order_id,) in self._rows(query, (limit,))]

    def update_statuses(self, records: Iterable[StatusRecord], *, epoch: int = 1) -> tuple[int, int]:
        """Set the statuses that a return of ``epoch`` brought: how many were of orders known here, and how many not.

        Whoever calls takes returns in by (epoch, number), so what comes later is what counts.
        """
        known = total = 0
        for chunk in chunks(records):
            with self.transaction() as connection:
                rows = [
                    (record.state, record.reason, record.changed_at, epoch, record.order) for record in chunk
                ]
                known += connection.executemany(_UPDATE, rows).rowcount
                total += len(rows)
        return known, total - known

    def statuses_of(self, order_ids: Sequence[str]) -> dict[str, str]:
        """What returns told of those of these orders (ids, hex) that are known here; empty before any did."""
        query = "SELECT order_id, state FROM orders WHERE order_id IN (SELECT value FROM json_each(?))"
        return dict(self._rows(query, (json.dumps(list(order_ids)),)))

    def told_charged(self, order_ids: Iterable[str]) -> list[str]:
        """Those of these orders (ids, hex) of which an earlier return said that they were charged."""
        query = "SELECT 1 FROM orders WHERE order_id = ? AND state IN ('authorised', 'paid', 'dispatched', 'refunded')"
        with self._reading:
            return [one for one in order_ids if self._reader.conn.execute(query, (one,)).fetchone()]

    def untold(self, epoch: int, limit: int = 1000) -> list[str]:
        """Orders whose bundle has its receipt, but whose end no return told, and none of ``epoch`` speaks of."""
        query = (
            "SELECT order_id FROM bundle CROSS JOIN orders USING (batch_key_id)"
            " WHERE outcome <> '' AND state IN ('', 'held') AND epoch < ?"
            " AND number <= last_order AND order_id NOT IN (SELECT order_id FROM missing) ORDER BY number LIMIT ?"
        )
        return [order_id for (order_id,) in self._rows(query, (epoch, limit))]

    def take_receipts(self, receipts: Iterable[Receipt]) -> None:
        """Record the receipts of bundles, durably; one that is not for the very bundle, or miscounts it, is none."""
        with self.transaction(durable=True) as connection:
            connection.executemany(
                "UPDATE bundle SET outcome = ?, settled_at = ? WHERE sequence = ? AND manifest = ? AND orders = ?",
                [
                    (receipt.outcome, receipt.settled_at, receipt.sequence, receipt.manifest, receipt.orders)
                    for receipt in receipts
                ],
            )
