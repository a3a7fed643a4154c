"""The register's tables, as migrations, and the two states that no return has to bring.

Why here: the register writes them and the listing reads them; neither owns the other.
Must not: change a migration that was ever released; add another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlite_utils import Migrations

if TYPE_CHECKING:
    from sqlite_utils import Database

RECEIVED = "received"
IN_TRANSIT = "in-transit"
WANTED = "changes-wanted"
"""The fact that somebody asked to be told of changes of status."""

migrations = Migrations("register")

_TABLES = (
    # number: rows lie in the order of their coming; random ids would spread each group over the whole file.
    """CREATE TABLE orders (
        number INTEGER PRIMARY KEY, order_id TEXT NOT NULL UNIQUE, basket_digest BLOB NOT NULL,
        batch_key_id BLOB NOT NULL, group_name TEXT NOT NULL, sequence INTEGER, state TEXT NOT NULL DEFAULT '',
        reason TEXT NOT NULL DEFAULT 'none', changed_at INTEGER NOT NULL DEFAULT 0, received_at INTEGER NOT NULL
        ) STRICT""",
    "CREATE INDEX orders_uncut ON orders (batch_key_id) WHERE sequence IS NULL",
    """CREATE TABLE bundle (
        sequence INTEGER PRIMARY KEY, batch_key_id BLOB UNIQUE, manifest TEXT NOT NULL, orders INTEGER NOT NULL,
        cut_at INTEGER NOT NULL, outcome TEXT NOT NULL DEFAULT '', settled_at INTEGER NOT NULL DEFAULT 0) STRICT""",
    # Acknowledged orders that a cut did not find in their partition.
    """CREATE TABLE missing (
        order_id TEXT PRIMARY KEY, batch_key_id BLOB NOT NULL, noticed_at INTEGER NOT NULL) STRICT, WITHOUT ROWID""",
    "CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
)

_KEY_SAYS_THE_BUNDLE = (
    "ALTER TABLE bundle ADD COLUMN last_order INTEGER NOT NULL DEFAULT 0",
    """UPDATE bundle SET last_order =
        (SELECT coalesce(max(number), 0) FROM orders WHERE orders.sequence = bundle.sequence)""",
    # What lies in a partition that has no bundle yet. An empty digest: the group is to be read order by order.
    """CREATE TABLE waiting_group (
        batch_key_id BLOB NOT NULL, name TEXT NOT NULL, orders INTEGER NOT NULL, sha256 BLOB NOT NULL,
        PRIMARY KEY (batch_key_id, name)) STRICT, WITHOUT ROWID""",
    """INSERT INTO waiting_group
        SELECT batch_key_id, group_name, count(*), x'' FROM orders WHERE sequence IS NULL GROUP BY 1, 2""",
    "DROP INDEX orders_uncut",
    "DROP INDEX orders_open",
    "ALTER TABLE orders DROP COLUMN sequence",
    "CREATE INDEX orders_of_key ON orders (batch_key_id, state)",
    """CREATE VIEW placed AS
        SELECT orders.*, missing.order_id IS NOT NULL AS is_missing,
            CASE WHEN missing.order_id IS NULL THEN bundle.sequence END AS sequence,
            CASE WHEN missing.order_id IS NULL THEN bundle.outcome END AS outcome
        FROM orders
        LEFT JOIN bundle ON bundle.batch_key_id = orders.batch_key_id AND orders.number <= bundle.last_order
        LEFT JOIN missing ON missing.order_id = orders.order_id""",
)


@migrations()
def first_form(database: Database) -> None:
    """All tables of the first version."""
    for table in _TABLES:
        database.execute(table)


@migrations()
def epoch_of_status(database: Database) -> None:
    """Which epoch's return told a status, and a short way to the orders whose end was not told."""
    database.execute("ALTER TABLE orders ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0")
    database.execute(
        "CREATE INDEX orders_open ON orders (sequence) WHERE state IN ('', 'held') AND sequence IS NOT NULL"
    )


@migrations()
def key_says_the_bundle(database: Database) -> None:
    """A cut touches no order any more: the batch key says in which bundle an order is (see ``register_cuts``)."""
    for statement in _KEY_SAYS_THE_BUNDLE:
        database.execute(statement)


@migrations()
def changes_of_status(database: Database) -> None:
    """Every change of an order's status, for whoever asked to be told (see ``register_changes``)."""
    database.execute(
        """CREATE TABLE status_change (
        number INTEGER PRIMARY KEY AUTOINCREMENT, order_id TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
        changed_at INTEGER NOT NULL, tries INTEGER NOT NULL DEFAULT 0, next_at INTEGER NOT NULL DEFAULT 0,
        given_up INTEGER NOT NULL DEFAULT 0) STRICT"""
    )
    database.execute("CREATE INDEX status_change_due ON status_change (next_at, number) WHERE NOT given_up")
    database.execute(
        """CREATE TRIGGER status_changed AFTER UPDATE OF state ON orders
        WHEN (NEW.state <> OLD.state OR NEW.reason <> OLD.reason OR NEW.changed_at <> OLD.changed_at)
            AND EXISTS (SELECT 1 FROM fact WHERE name = 'changes-wanted')
        BEGIN
            INSERT INTO status_change (order_id, state, reason, changed_at)
            VALUES (NEW.order_id, NEW.state, NEW.reason, NEW.changed_at);
        END"""
    )


@migrations()
def subject_requests(database: Database) -> None:
    """Requests of people about their data: ids and states, nobody's name."""
    database.execute(
        """CREATE TABLE subject_request (
            request TEXT PRIMARY KEY, kind TEXT NOT NULL, asked_at INTEGER NOT NULL, state TEXT NOT NULL DEFAULT '',
            changed_at INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID"""
    )
