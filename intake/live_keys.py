"""The keys to seal to: read from the node's key roll, checked, and read again when it changes.

Why here: every worker follows the roll that a return brought, without a restart.
Must not: use an entry that a trusted identity has not signed, a revoked key, or any key at or after its seal_until.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keys.errors import RuleError
from keys.public.roll import KeyEntry, KeyRoll, encode_roll
from transfer.sync import trust
from transfer.sync.retired import RETIRED_NAME, Retired, load_retired
from transfer.sync.revoked import REVOKED_NAME, revoked_keys, without
from transfer.wire.manifest import KEYROLL_NAME

_Stamp = tuple[int, int, int] | None
_WATCHED = (trust.TRUSTED_NAME, trust.IDENTITIES_NAME, KEYROLL_NAME, REVOKED_NAME, RETIRED_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveKey:
    """An entry with its key as bytes (32) and its id (16)."""

    entry: KeyEntry
    public_key: bytes
    key_id: bytes


class LiveKeys:
    """The newest good roll of ``node`` in ``state``.

    ``fault``: why there is none, or why the newest is not used. ``retired``: the mark of a node that takes no more
    orders; it has no keys to seal to. ``identities``: whose signature makes an entry good, 32 bytes each.
    """

    def __init__(self, *, node: str, state: Path) -> None:
        self.node = node
        self.fault: RuleError | None = None
        self.retired: Retired | None = None
        self.issued_at = 0
        self.identities: tuple[bytes, ...] = ()
        self._state = state
        self._stamps: tuple[_Stamp, ...] | None = None
        self._listed: KeyRoll | None = None
        self._order_keys: tuple[LiveKey, ...] = ()
        self._batch_keys: tuple[LiveKey, ...] = ()

    def refresh(self) -> None:
        """Read all of it again if one of its files changed since the last time."""
        stamps = tuple(_stamp(self._state / name) for name in _WATCHED)
        if stamps == self._stamps:
            return
        self.retired = load_retired(self._state)
        self.fault = None
        try:
            self._listed = trust.listed_roll(self._state, node=self.node)
        except RuleError as error:
            # A roll that was good stays in use while its identity is trusted: its entries are each signed.
            self.fault = error
            if self._listed and not self._is_still_trusted(self._listed):
                self._listed = None
        try:
            revoked = revoked_keys(self._state)
        except RuleError as error:
            self.fault, self._listed, revoked = error, None, frozenset()
        self.identities = self._trusted()
        self._use(without(self._listed, revoked) if self._listed and not self.retired else None)
        self._stamps = stamps  # last: what failed with an error of the system is tried again

    def order_key(self, now: int) -> LiveKey | None:
        """The newest order key that may still be sealed to."""
        return next((key for key in reversed(self._order_keys) if now < key.entry.seal_until), None)

    def is_live_order_key(self, key_id: bytes, now: int) -> bool:
        """True for every order key of the roll that may still be sealed to, not only the newest."""
        return any(key.key_id == key_id and now < key.entry.seal_until for key in self._order_keys)

    def batch_keys(self, now: int) -> Iterator[LiveKey]:
        """The batch keys that may still be sealed to, in the order in which they are to be used."""
        return (key for key in self._batch_keys if now < key.entry.seal_until)

    @property
    def listed_batch_keys(self) -> tuple[LiveKey, ...]:
        """Those of the roll that are not revoked, also expired ones."""
        return self._batch_keys

    @property
    def order_ends(self) -> tuple[int, ...]:
        """``seal_until`` of the order keys that are not revoked."""
        return tuple(key.entry.seal_until for key in self._order_keys)

    def _trusted(self) -> tuple[bytes, ...]:
        try:
            return trust.load_identities(self._state).of_rolls
        except RuleError:
            return ()  # why, ``fault`` says already

    def _is_still_trusted(self, roll: KeyRoll) -> bool:
        try:
            trust.check_trusted(self._state, encode_roll(roll), node=self.node)
        except RuleError as error:
            return error.rule == "TRUST-NONE"  # nobody took the trust away: its file cannot be read
        return True

    def _use(self, roll: KeyRoll | None) -> None:
        self.issued_at = roll.issued_at if roll else 0
        self._order_keys = tuple(map(_live, roll.order_keys)) if roll else ()
        self._batch_keys = tuple(sorted(map(_live, roll.batch_keys), key=_number)) if roll else ()


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
