"""What the server knows about its own readiness: keys, pinned identity, spool.

Why here: /readyz, /keys and `intake status` must agree.
Must not: take an order, or say anything about one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from intake.forms import Keys
from intake.live_keys import LiveKey, LiveKeys

KEYS_LOW = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """``reasons``: why no order can be taken now; ``warnings``: what will become one."""

    keys_left: int
    reasons: Sequence[str]
    warnings: Sequence[str]


class Health:
    """``is_closed``: whether a batch key's partition was cut; ``spool_fault``: why nothing can be written, or ''."""

    def __init__(
        self,
        *,
        keys: LiveKeys,
        is_closed: Callable[[bytes], bool],
        spool_fault: Callable[[], str],
        now: Callable[[], int],
    ) -> None:
        self._keys = keys
        self._is_closed = is_closed
        self._spool_fault = spool_fault
        self._now = now

    def keys(self) -> Keys | None:
        """The entries to seal to now, or None when the keys have run out."""
        self._keys.refresh()
        order_key = self._keys.order_key(self._now())
        batch_keys = self._open_batch_keys()
        if order_key is None or not batch_keys:
            return None
        return Keys(node=self._keys.node, order_key=order_key.entry, batch_key=batch_keys[0].entry)

    def report(self) -> Report:
        """Look at everything that taking an order needs."""
        self._keys.refresh()
        left = len(self._open_batch_keys())
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

    def _open_batch_keys(self) -> list[LiveKey]:
        return [key for key in self._keys.batch_keys(self._now()) if not self._is_closed(key.key_id)]
