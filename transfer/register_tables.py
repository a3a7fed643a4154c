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
