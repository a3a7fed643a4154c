"""What the server knows about its own readiness: keys, pinned identity, spool.

Why here: /readyz, /keys and `intake status` must agree.
Must not: take an order, or say anything about one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from intake.forms import Keys
from intake.live_keys import LiveKey, LiveKeys
from transfer.spool import Spool

KEYS_LOW = 5
FREE_MINIMUM = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """``reasons``: why no order can be taken now; ``warnings``: what will become one."""

    keys_left: int
    reasons: Sequence[str]
    warnings: Sequence[str]


class Health:
    """Looks at the roll and the spool, each time anew."""

    def __init__(self, *, keys: LiveKeys, spool: Spool, now: Callable[[], int]) -> None:
        self._keys = keys
        self._spool = spool
        self._now = now
        self._ended: set[bytes] = set()

    def keys(self) -> Keys | None:
        """The entries to seal to now, or None when the keys have run out."""
        self._keys.refresh()
        order_key = self._keys.order_key(self._now())
        batch_key = next(self._open_batch_keys(), None)
        if order_key is None or batch_key is None:
            return None
        return Keys(node=self._keys.node, order_key=order_key.entry, batch_key=batch_key.entry)

    def report(self) -> Report:
        """Look at everything that taking an order needs."""
        self._keys.refresh()
        left = sum(1 for _ in self._open_batch_keys())
        order_key = self._keys.order_key(self._now())
        reasons = []
        if self._keys.fault and not left:
            reasons.append(self._keys.fault)
        elif not left:
            reasons.append("no batch key is left; the next return from the offline side brings new ones")
        elif order_key is None:
            reasons.append("no order key is left; the next return from the offline side brings a new one")
        if fault := self._spool_fault():
            reasons.append(fault)
        warnings = []
        if self._keys.fault and left:
            warnings.append(self._keys.fault)
        if 0 < left <= KEYS_LOW:
            warnings.append(f"only {left} batch keys are left; carry a bundle over and a return back soon")
        return Report(keys_left=left, reasons=reasons, warnings=warnings)

    def _open_batch_keys(self) -> Iterator[LiveKey]:
        """Those whose partition takes orders; once it does not, it never will again."""
        for key in self._keys.batch_keys(self._now()):
            if key.key_id not in self._ended:
                if self._takes_orders(key.key_id):
                    yield key
                else:
                    self._ended.add(key.key_id)

    def _takes_orders(self, batch_key_id: bytes) -> bool:
        try:
            partition = self._spool.partition(batch_key_id)
        except OSError:
            return True  # the key is good; what is wrong with the spool is said by itself
        return (
            not partition.closed
            and partition.orders < self._spool.max_orders
            and partition.size < self._spool.max_bytes
        )

    def _spool_fault(self) -> str:
        try:
            free = os.statvfs(self._spool.root)
        except OSError as error:
            return f"the spool cannot be reached: {error.strerror}"
        if free.f_bavail * free.f_frsize < FREE_MINIMUM or free.f_flag & os.ST_RDONLY:
            return "the spool's disk is full or read-only"
        return (
            ""
            if self._spool.root.is_dir() and os.access(self._spool.root, os.W_OK | os.X_OK)
            else "the spool cannot be written to"
        )
