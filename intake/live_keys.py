"""The keys to seal to: read from the node's key roll, checked, and read again when it changes.

Why here: every worker follows the roll that a return brought, without a restart.
Must not: use an entry that the pinned identity has not signed, or any key at or after its seal_until.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keys.errors import RuleError
from keys.public.roll import KeyEntry
from transfer.sync import trust
from transfer.wire.manifest import KEYROLL_NAME

_Stamp = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveKey:
    """An entry with its key as bytes (32) and its id (16)."""

    entry: KeyEntry
    public_key: bytes
    key_id: bytes


class LiveKeys:
    """The newest good roll of ``node`` in ``state``; ``fault``: why there is none, or why the newest is not used."""

    def __init__(self, *, node: str, state: Path) -> None:
        self.node = node
        self.fault = ""
        self._state = state
        self._stamps: tuple[_Stamp, _Stamp] | None = None
        self._order_keys: tuple[LiveKey, ...] = ()
        self._batch_keys: tuple[LiveKey, ...] = ()

    def refresh(self) -> None:
        """Read the roll again if its file or the pinned identity's changed since the last time."""
        stamps = _stamp(self._state / trust.TRUSTED_NAME), _stamp(self._state / KEYROLL_NAME)
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            roll = trust.load_roll(self._state, node=self.node)
        except RuleError as error:
            # A roll that was good stays in use: its entries are each signed and expire by themselves.
            remedy = f"; {error.remedy}" if error.remedy else ""
            self.fault = f"{error.rule}: {error.message}{remedy}"
            return
        self.fault = ""
        self._order_keys = tuple(map(_live, roll.order_keys))
        self._batch_keys = tuple(sorted(map(_live, roll.batch_keys), key=_number))

    def order_key(self, now: int) -> LiveKey | None:
        """The newest order key that may still be sealed to."""
        return next((key for key in reversed(self._order_keys) if now < key.entry.seal_until), None)

    def is_live_order_key(self, key_id: bytes, now: int) -> bool:
        """True for every order key of the roll that may still be sealed to, not only the newest."""
        return any(key.key_id == key_id and now < key.entry.seal_until for key in self._order_keys)

    def batch_keys(self, now: int) -> Iterator[LiveKey]:
        """The batch keys that may still be sealed to, in the order in which they are to be used."""
        return (key for key in self._batch_keys if now < key.entry.seal_until)


def _live(entry: KeyEntry) -> LiveKey:
    return LiveKey(entry=entry, public_key=bytes.fromhex(entry.public_key), key_id=entry.key_id)


def _number(key: LiveKey) -> tuple[int, int]:
    return key.entry.number, key.entry.epoch


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
