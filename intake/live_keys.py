"""The keys to seal to: read from the node's key roll, checked, and read again when it changes.

Why here: every worker follows the roll that a return brought, without a restart.
Must not: use an entry that the pinned identity has not signed, or any key at or after its seal_until.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keys.errors import RuleError
from keys.public.minisign import MinisignPublicKey
from keys.public.roll import ROLL_LIMIT, KeyEntry, KeyRoll, decode_roll

_IDENTITY_LIMIT = 4096
_Stamp = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveKey:
    """An entry with its key as bytes (32) and its id (16)."""

    entry: KeyEntry
    public_key: bytes
    key_id: bytes


class LiveKeys:
    """The newest good roll of ``node``. ``fault`` says why there is none, or why the newest file is not used."""

    def __init__(self, *, node: str, identity_path: Path, roll_path: Path) -> None:
        self.node = node
        self.fault = "there is no key roll; run: intake trust"
        self._identity_path = identity_path
        self._roll_path = roll_path
        self._stamps: tuple[_Stamp, _Stamp] | None = None
        self._order_keys: tuple[LiveKey, ...] = ()
        self._batch_keys: tuple[LiveKey, ...] = ()

    def refresh(self) -> None:
        """Read the roll again if its file or the pinned identity's changed since the last time."""
        stamps = _stamp(self._identity_path), _stamp(self._roll_path)
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            roll = self._read()
        except RuleError as error:
            # A roll that was good stays in use: its entries are each signed and expire by themselves.
            self.fault = f"{error.rule}: {error.message}"
            return
        except OSError as error:
            self.fault = (
                f"cannot read the key roll or the pinned identity: {error.strerror}; run: intake trust"
            )
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

    def _read(self) -> KeyRoll:
        with self._identity_path.open("rb") as file:
            identity = MinisignPublicKey.decode(file.read(_IDENTITY_LIMIT).decode("ascii", "replace"))
        with self._roll_path.open("rb") as file:
            raw = file.read(ROLL_LIMIT + 1)
        return decode_roll(raw, node=self.node, identity=identity.public_key)


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
