"""The newsletter's tables, as migrations.

Why here: the web half and the sending half share one file.
Must not: change a migration that was ever released; add another. Hold anything about a person but an address.
"""

from __future__ import annotations

from sqlite_utils import Database, Migrations

migrations = Migrations("newsletter")

_TABLES = (
    # Every wording that was ever agreed to, as it was shown.
    "CREATE TABLE words (number INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT",
    # mark: stands for the address (tokens.py). mails: confirmations sent; wants_mail: one is to be sent.
    """CREATE TABLE subscriber (
        id BLOB PRIMARY KEY, mark BLOB NOT NULL UNIQUE, address TEXT NOT NULL,
        asked_at INTEGER NOT NULL, asked_words INTEGER REFERENCES words,
        wants_mail INTEGER NOT NULL, mails INTEGER NOT NULL DEFAULT 0, mailed_at INTEGER NOT NULL DEFAULT 0,
        confirmed_at INTEGER NOT NULL DEFAULT 0, confirmed_words INTEGER REFERENCES words
        ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX subscriber_waiting ON subscriber (asked_at) WHERE confirmed_at = 0",
    "CREATE TABLE suppressed (mark BLOB PRIMARY KEY, since INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    """CREATE TABLE issue (
        name TEXT PRIMARY KEY, digest BLOB NOT NULL, subject TEXT NOT NULL, begun_at INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID""",
    # state: sending (what became of it is unknown unless a run is at it), sent, refused.
    """CREATE TABLE delivery (
        issue TEXT NOT NULL REFERENCES issue, mark BLOB NOT NULL, state TEXT NOT NULL, changed_at INTEGER NOT NULL,
        PRIMARY KEY (issue, mark)) STRICT, WITHOUT ROWID""",
)


@migrations()
def first_form(database: Database) -> None:
    """All tables of the first version."""
    for table in _TABLES:
        database.execute(table)


@migrations()
def asked_after_leaving(database: Database) -> None:
    """When an address that left was last typed in again, so that it is written to: 0 for never."""
    database.execute("ALTER TABLE suppressed ADD COLUMN asked_at INTEGER NOT NULL DEFAULT 0")
