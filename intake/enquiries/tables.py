"""The tables of enquiries, as migrations.

Why here: the page and the commands share one file.
Must not: change a migration that was ever released; add another.
"""

from __future__ import annotations

from sqlite_utils import Database, Migrations

migrations = Migrations("enquiries")

_TABLES = (
    # changed_at: when anything last happened with it. closed_at: 0 while it is open.
    """CREATE TABLE enquiry (
        number TEXT PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL, order_number TEXT NOT NULL,
        postcode TEXT NOT NULL, text TEXT NOT NULL, received_at INTEGER NOT NULL, changed_at INTEGER NOT NULL,
        closed_at INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID""",
    "CREATE INDEX enquiry_time ON enquiry (received_at)",
    # sent: 0 while nobody knows whether it was sent.
    """CREATE TABLE answer (
        number INTEGER PRIMARY KEY, enquiry TEXT NOT NULL REFERENCES enquiry ON DELETE CASCADE,
        text TEXT NOT NULL, answered_at INTEGER NOT NULL, sent INTEGER NOT NULL) STRICT""",
    "CREATE INDEX answer_enquiry ON answer (enquiry)",
)


@migrations()
def first_form(database: Database) -> None:
    """All tables of the first version."""
    for table in _TABLES:
        database.execute(table)
