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
from transfer.sync import notices
from transfer.sync.notices import KeyFacts, Notice

FREE_MINIMUM = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Every notice; those that stop are why no order can be taken now, the others what will become a reason."""

    keys_left: int
    notices: Sequence[Notice]

    @property
    def reasons(self) -> list[str]:
        return [notice.text + _remedy(notice) for notice in self.notices if notice.stops]

    @property
    def warnings(self) -> list[str]:
        return [notice.text for notice in self.notices if not notice.stops]


class Health:
    """Looks at the roll and the spool, each time anew. ``returned_at``: the time of the newest return, 0 for none.

    ``silence``: what should have come or gone by a time, and has not. ``proxy``: what the proxy in
    front does wrong.
    """

    def __init__(
        self,
        *,
        keys: LiveKeys,
        spool: Spool,
        now: Callable[[], int],
        returned_at: Callable[[], int],
        silence: Callable[[int], Sequence[Notice]],
        proxy: Callable[[int], Sequence[Notice]],
    ) -> None:
        self._keys = keys
        self._spool = spool
        self._now = now
        self._returned_at = returned_at
        self._silence = silence
        self._proxy = proxy
        self._ended: set[bytes] = set()

    def keys(self) -> Keys | None:
        """The entries to seal to now, or None when the keys have run out."""
        self._keys.refresh()
        order_key = self._keys.order_key(self._now())
        batch_key = next(self._open_batch_keys(), None)
        if order_key is None or batch_key is None:
            return None
        return Keys(node=self._keys.node, order_key=order_key.entry, batch_key=batch_key.entry)

    @property
    def is_retired(self) -> bool:
        """True once this node takes no more orders, for ever."""
        self._keys.refresh()
        return self._keys.retired is not None

    def report(self) -> Report:
        """Look at everything that taking an order needs."""
        self._keys.refresh()
        keys, now = self._keys, self._now()
        facts = KeyFacts(
            order_ends=keys.order_ends,
            unused_ends=tuple(
                key.entry.seal_until for key in keys.listed_batch_keys if self._is_open(key.key_id)
            ),
            heard_at=max(keys.issued_at, self._returned_at()),
        )
        left = facts.keys_left(now)
        found = []
        if keys.retired:
            found.append(keys.retired.notice)
        elif keys.fault and not left:
            found.append(Notice.of(keys.fault, stops=True))
        else:
            found += [Notice.of(keys.fault, stops=False)] if keys.fault else []
            found += notices.of_keys(facts, now)
        if fault := self._spool_fault():
            found.append(
                Notice(
                    rule="SPOOL-FAULT", message=fault, remedy="see to the disk of [node] state", stops=True
                )
            )
        if not keys.retired:
            found += self._silence(now)
        found += self._proxy(now)
        return Report(keys_left=left, notices=[*found, *notices.of_clock(facts, now)])

    def _open_batch_keys(self) -> Iterator[LiveKey]:
        """Those whose partition takes orders; once it does not, it never will again."""
        return (key for key in self._keys.batch_keys(self._now()) if self._is_open(key.key_id))

    def _is_open(self, batch_key_id: bytes) -> bool:
        if batch_key_id in self._ended:
            return False
        if self._takes_orders(batch_key_id):
            return True
        self._ended.add(batch_key_id)
        return False

    def _takes_orders(self, batch_key_id: bytes) -> bool:
        try:
            partition = self._spool.partition(batch_key_id)
        except OSError:
            return True  # the key is good; what is wrong with the spool is said by itself
        return not partition.closed and not self._spool.is_full(partition)

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


def _remedy(notice: Notice) -> str:
    return f" ({notice.remedy})" if notice.remedy else ""
