"""Reading the ledger's entries for the evidence, and checking their chain on the way.

Why here: the key room signs the evidence, and what it reads is a file of another room: its documented table only.
Must not: write to the ledger, hold more of it than what concerns keys, or go on behind an entry that is not chained.

The table, append-only: ``entry (id, at, kind, subject, facts, chain)``, ids from 1 without a gap, ``facts`` canonical
JSON, ``chain`` as keys/public/chain.py links it. Kinds that concern keys: ``key-issued``, ``card-held``,
``bundle-accepted``, ``key-emptied``, ``key-destroyed`` (offline_processor/key_record.py).
"""

from __future__ import annotations

import contextlib
import sqlite3
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple, TypeAlias, TypeVar

import msgspec

from keys.errors import KeysError
from keys.evidence import LedgerKeys
from keys.public.chain import GENESIS, link
from keys.public.digest import equal
from keys.public.roll import Count, Hex16, Node, Number
from keys.ring_index import DestroyReason, KeyRole, RingBackend

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")

_COLUMNS: Final = "SELECT id, at, kind, subject, facts, chain FROM entry ORDER BY id"


class _Entry(NamedTuple):
    at: int
    subject: str
    facts: str


class _Issued(msgspec.Struct, frozen=True):
    epoch: Number
    node: Node
    number: Number
    issued_at: Count


class _Held(msgspec.Struct, frozen=True):
    key: Hex16


class _Accepted(msgspec.Struct, frozen=True):
    batch_key: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{32})?$(?!\n)")]


class _Destroyed(msgspec.Struct, frozen=True):
    role: KeyRole
    reason: DestroyReason
    destroyed_at: Count
    epoch: Count | None = None
    issued_at: Count | None = None
    opened_at: Count | None = None
    backend: RingBackend | None = None
    node: Node | None = None
    number: Number | None = None
    order: Hex16 | None = None


def read(path: Path) -> LedgerKeys:
    """Read the ledger at ``path`` to its end.

    Raises ``EVIDENCE-LEDGER`` (no ledger, or unreadable), ``LEDGER-CHAIN`` at the first entry that was altered,
    removed or put elsewhere, and ``EVIDENCE-ENTRY`` when a key's entry has not the form of its kind.
    """
    found = LedgerKeys()
    chain = GENESIS
    try:
        with contextlib.closing(_opened(path.resolve(strict=True))) as database:
            for number, at, kind, subject, facts, stored in database.execute(_COLUMNS):
                found.entries += 1
                chain = link(chain, number=number, at=at, kind=kind, subject=subject, facts=facts)
                if number != found.entries or not equal(chain, stored):
                    raise KeysError(
                        "LEDGER-CHAIN",
                        f"ledger entry {number} was altered, removed or reordered",
                        "stop work, keep this machine as it is, and restore from the last good backup",
                    )
                found.newest = max(found.newest, at)
                take = _KINDS.get(kind)
                if take is not None:
                    _taken(found, take, number, _Entry(at, subject, facts))
    except (OSError, sqlite3.Error, struct.error, TypeError, ValueError) as error:
        remedy = "name the processor's ledger: ledger.db in [processor] state, or a copy of it"
        raise KeysError("EVIDENCE-LEDGER", f"{path} cannot be read as a ledger", remedy) from error
    found.tip = chain
    return found


_Take: TypeAlias = Callable[[LedgerKeys, _Entry], None]


def _opened(path: Path) -> sqlite3.Connection:
    """The file, for reading only; the keystore's lock, which the caller holds, keeps every run away meanwhile."""
    database = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        database.execute("SELECT 1 FROM entry LIMIT 1").fetchone()
    except sqlite3.OperationalError:
        database.close()
        log = path.with_name(f"{path.name}-wal")
        if log.exists() and log.stat().st_size:
            raise
        # A copy on a medium that cannot be written to: SQLite would want to make its own files beside it.
        database = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
    return database


def _taken(found: LedgerKeys, take: _Take, number: int, entry: _Entry) -> None:
    try:
        take(found, entry)
    except msgspec.MsgspecError as error:
        message = f"ledger entry {number} is chained, but has not the form of its kind"
        remedy = "the ledger and this program are of different versions"
        raise KeysError("EVIDENCE-ENTRY", message, remedy) from error


def _issued(found: LedgerKeys, entry: _Entry) -> None:
    found.issued(_key(entry), **msgspec.structs.asdict(_facts(entry, _Issued)))


def _held(found: LedgerKeys, entry: _Entry) -> None:
    found.held(_facts(entry, _Held).key, _key(entry), entry.at)


def _accepted(found: LedgerKeys, entry: _Entry) -> None:
    if key := _facts(entry, _Accepted).batch_key:
        found.used(key, entry.at)


def _emptied(found: LedgerKeys, entry: _Entry) -> None:
    found.emptied(_key(entry), entry.at)


def _destroyed(found: LedgerKeys, entry: _Entry) -> None:
    told = msgspec.structs.asdict(_facts(entry, _Destroyed))
    role = told.pop("role")
    told["used_at"] = told.pop("opened_at")
    found.destroyed(_key(entry), role, **told)


def _facts(entry: _Entry, into: type[T]) -> T:
    return msgspec.json.decode(entry.facts, type=into)


def _key(entry: _Entry) -> str:
    return msgspec.convert(entry.subject, Hex16)


_KINDS: Final[dict[str, _Take]] = {
    "key-issued": _issued,
    "card-held": _held,
    "bundle-accepted": _accepted,
    "key-emptied": _emptied,
    "key-destroyed": _destroyed,
}
