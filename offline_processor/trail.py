"""The trail of commands: who did what, when, and how it ended, as entries of the ledger's chain.

Why here: one mechanism for every command, also for those that are still to be written (cli_trail.py).
Must not: hold anything of a customer, or let a wrong clock into the ledger.

``command-begun`` (who, account, and the order or node that was named) is there, and anchored, before a command works
with the open keys; ``command-ended`` (begun: the number of that entry, 0 for none; code; rule) when it is over. What
lies between the two is the command's. An act of `key-ceremony` is told by the next command: ``key-act``, with the
digest of its signed record, and who, what, when and result out of it.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keys.act_record import records_of
from keys.errors import RuleError
from keys.keystore import Keystore
from keys.record import RECORD_NAME
from keys.record_form import decode_record
from offline_processor.errors import ProcessorError
from offline_processor.ledger import anchor
from offline_processor.ledger.ledger import Ledger

BEGUN = "command-begun"
ENDED = "command-ended"
_AHEAD = 3 * 86_400
"""Further from the newest entry a command's time is told as its ``clock`` and is not the ledger's (seconds)."""


@dataclass(slots=True, kw_only=True)
class Trail:
    """One command at work. ``account``: the system's name of who runs it; ``who``: a person's name, "" for none.

    ``silent``: it only looks, or only tries out, and leaves no entry. ``reopen`` opens the ledger that the
    configuration names, once that was read; None where there is nothing to open.
    """

    command: str
    account: str
    who: str = ""
    named: Mapping[str, str] = field(default_factory=dict)
    clock: Callable[[], int]
    silent: bool = False
    begun: int = 0
    reopen: Callable[[], Ledger | None] = lambda: None

    def begin(self, ledger: Ledger, keystore: Keystore) -> None:
        """Say durably that the command begins, and sign the ledger's tip. ``LEDGER-ANCHOR``, ``LEDGER-CUT``."""
        anchor.check(ledger, keystore.identities)
        if self.silent:
            return
        with ledger.atomic():
            _say_key_acts(ledger, records_of(keystore.path), now=self.clock())
            if not self.begun:  # a command of many steps opens the station more than once
                _append(ledger, BEGUN, self.command, self._facts(), now=self.clock())
                self.begun = ledger.entries
            anchor.renew(ledger, keystore, now=self.clock())

    def settle(self, ledger: Ledger, keystore: Keystore) -> None:
        """Sign the tip again, after the work and while the keys are still open."""
        if self.begun:
            with ledger.atomic():
                anchor.renew(ledger, keystore, now=self.clock())

    def give_up(self, ledger: Ledger, keystore: Keystore) -> None:
        """The same when the work has failed: what stopped it matters more than why nothing could be signed."""
        with suppress(ProcessorError, OSError, sqlite3.Error):
            self.settle(ledger, keystore)

    def end(self, ledger: Ledger, *, code: int, rule: str) -> None:
        """Say how the command ended."""
        facts = {**self._facts(), "begun": self.begun, "code": code, "rule": rule}
        with ledger.atomic():
            _append(ledger, ENDED, self.command, facts, now=self.clock())

    def _facts(self) -> dict[str, Any]:
        return {"account": self.account, "who": self.who, **self.named}


def unended(ledger: Ledger) -> tuple[int, int, str] | None:
    """Number, time and name of the newest command, if nothing says how it ended: it was killed, or its end is cut."""
    row = ledger.row(
        "SELECT id, at, kind, subject FROM entry WHERE kind IN ('command-begun', 'command-ended')"
        " ORDER BY id DESC LIMIT 1"
    )
    return None if row is None or row[2] == ENDED else (row[0], row[1], row[3])


def _append(ledger: Ledger, kind: str, command: str, facts: dict[str, Any], *, now: int) -> None:
    # A wrong clock must not become the ledger's: the right one would be refused ever after, or a wrong one no more.
    right = not ledger.newest or 0 <= now - ledger.newest <= _AHEAD
    ledger.append(kind, command, now if right else ledger.newest, facts if right else {**facts, "clock": now})


def _say_key_acts(ledger: Ledger, records: Path, *, now: int) -> None:
    """Tell of each record of an act with keys that no entry tells of yet, in the caller's transaction."""
    if not records.is_dir():
        return
    known = {name for (name,) in list(ledger.rows("SELECT record FROM key_act"))}
    for directory in sorted(records.iterdir()):
        record = directory / RECORD_NAME
        if directory.name in known or not record.is_file():
            continue
        _append(ledger, "key-act", directory.name, _act(record.read_bytes()), now=now)
        ledger.execute("INSERT INTO key_act (record) VALUES (?)", (directory.name,))


def _act(raw: bytes) -> dict[str, Any]:
    """Who did what and when, as the record says; of one that cannot be read, that there is one."""
    facts: dict[str, Any] = {"record": hashlib.sha256(raw).hexdigest()}
    with suppress(RuleError):
        record = decode_record(raw)
        facts |= {
            "act": record.act.value,
            "made_at": record.made_at,
            "who": [person.name for person in record.people],
            "result": [change.line() for change in record.changed],
        }
    return facts
