"""Who asked not to be named: for one purpose (an opt-out), or to anyone (a restriction of processing).

Why here: every export asks before it names a person, and a wish must outlive the erasure of that person's data.
Must not: hold an address; a subject is a digest of it under a salt that never leaves this ledger.
"""

from __future__ import annotations

import os
import unicodedata
from typing import Final

from keys.public.digest import digest
from offline_processor.ledger.ledger import Ledger

ALL: Final = "all"
"""Every purpose: the data is kept and nothing else is done with it (GDPR, Article 18)."""

_SALT_SIZE: Final = 16


def restrict(ledger: Ledger, email: str, purpose: str, *, who: str, now: int) -> bool:
    """Note the wish of the person with this address, in the caller's transaction; False when it was noted before."""
    subject = _subject(_salt_made(ledger), email)
    known = ledger.row("SELECT 1 FROM restriction WHERE subject = ? AND purpose = ?", (subject, purpose))
    if known is not None:
        return False
    ledger.execute("INSERT INTO restriction (subject, purpose, at) VALUES (?, ?, ?)", (subject, purpose, now))
    ledger.append("restricted", subject, now, {"purpose": purpose, "who": who})
    return True


def lift(ledger: Ledger, email: str, purpose: str, *, who: str, now: int) -> bool:
    """The person has taken the wish back; False when there was none."""
    salt = _salt(ledger)
    subject = None if salt is None else _subject(salt, email)
    known = ledger.row("SELECT 1 FROM restriction WHERE subject = ? AND purpose = ?", (subject, purpose))
    if subject is None or known is None:
        return False
    ledger.execute("DELETE FROM restriction WHERE subject = ? AND purpose = ?", (subject, purpose))
    ledger.append("restriction-lifted", subject, now, {"purpose": purpose, "who": who})
    return True


class Restrictions:
    """The wishes that stand at this moment, read once for a whole export."""

    def __init__(self, ledger: Ledger) -> None:
        self._salt = _salt(ledger)
        self._noted: dict[str, frozenset[str]] = {}
        for subject, purpose in ledger.rows("SELECT subject, purpose FROM restriction"):
            self._noted[subject] = self._noted.get(subject, frozenset()) | {purpose}

    def of(self, email: str) -> frozenset[str]:
        """The purposes for which the person with this address must not be named; ``ALL`` among them for any."""
        if self._salt is None or not self._noted:
            return frozenset()
        subject = _subject(self._salt, email)
        return self._noted.get(subject, frozenset())


def _subject(salt: bytes, email: str) -> str:
    # One mailbox is written in many ways; most providers ignore case, and to respect a wish too often harms nobody.
    normal = unicodedata.normalize("NFKC", email.strip()).casefold()
    return digest("subject", salt, normal.encode("utf-8", "surrogatepass"), size=16).hex()


def _salt(ledger: Ledger) -> bytes | None:
    row = ledger.row("SELECT salt FROM subject_salt")
    return None if row is None else bytes(row[0])


def _salt_made(ledger: Ledger) -> bytes:
    salt = _salt(ledger)
    if salt is None:
        salt = os.urandom(_SALT_SIZE)
        ledger.execute("INSERT INTO subject_salt (one, salt) VALUES (1, ?)", (salt,))
    return salt
