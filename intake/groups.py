"""Group commit: orders that arrive together are sealed, made durable and answered together.

Why here: one fsync for many orders is what makes "202 only when durable" affordable.
Must not: answer before the group is durable, seal without the partition's shared lock, or keep a form.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum, auto

from intake.live_keys import LiveKeys
from transfer.register import Committed, NewOrder, Register
from transfer.spool import OpenGroup, Spool
from transfer.wire.envelope import Envelope, encode_envelope
from transfer.wire.sealing import SealingKeys

GROUP_MAXIMUM = 256
WAITING_MAXIMUM = 1024
_log = logging.getLogger("intake")


class Outcome(Enum):
    """What became of an order that asked to be taken."""

    NEW = auto()
    SAME = auto()
    OTHER_BASKET = auto()
    KEYS_OUT = auto()
    RESEAL = auto()
    RETIRED = auto()
    BUSY = auto()
    NOT_STORED = auto()


_COMMITTED = {
    Committed.NEW: Outcome.NEW,
    Committed.SAME: Outcome.SAME,
    Committed.CONFLICT: Outcome.OTHER_BASKET,
}


@dataclass(slots=True, kw_only=True)
class _Group:
    keys: SealingKeys
    seal_until: int
    spool: OpenGroup
    orders: list[NewOrder] = field(default_factory=list)
    answers: list[asyncio.Future[Outcome]] = field(default_factory=list)


class GroupCommit:
    """Collects orders into groups and commits one group at a time in a thread of its own.

    All methods belong to the event loop.
    """

    def __init__(self, *, spool: Spool, register: Register, keys: LiveKeys, now: Callable[[], int]) -> None:
        self._spool = spool
        self._register = register
        self._keys = keys
        self._now = now
        self._filling: _Group | None = None
        self._full: deque[_Group] = deque()
        self._committing = False
        self._starting = False
        self._waiting = 0
        self._closed: set[bytes] = set()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="commit")

    def enter(
        self,
        *,
        order_id: bytes,
        basket_digest: bytes,
        seal: Callable[[SealingKeys], Envelope],
        sealed_to: tuple[bytes, bytes] | None = None,
    ) -> asyncio.Future[Outcome] | Outcome:
        """Seal one order into the group of now; the future is done when the group is durable.

        Not a coroutine, so that nothing of the form outlives the sealing.
        ``sealed_to``: the order key and the batch key that an envelope sealed in a browser is for; None for any.
        """
        now = self._now()  # one moment for all that is judged by the clock here
        if self._waiting >= WAITING_MAXIMUM:
            return Outcome.BUSY
        group = self._filling
        if group is not None and group.seal_until <= now:
            # Commits are slow, and meanwhile the key's time ran out.
            self._full.append(group)
            self._filling = group = None
        try:
            group = group or self._open(now)
        except OSError as error:
            _log.error("the spool cannot be opened: %s", type(error).__name__)
            return Outcome.NOT_STORED
        # Before anything can fail: an open group holds its partition's lock, so it must end soon, even if empty.
        self._start_soon()
        if group is None:
            return Outcome.RETIRED if self._keys.retired else Outcome.KEYS_OUT
        if sealed_to is not None:
            order_key_id, batch_key_id = sealed_to
            # Any order key that may still be sealed to; of the batch keys only the one in use.
            if batch_key_id != group.keys.batch_key_id or not self._keys.is_live_order_key(order_key_id, now):
                return Outcome.RESEAL
        group.spool.append(encode_envelope(seal(group.keys)))
        group.orders.append(NewOrder(order_id=order_id.hex(), basket_digest=basket_digest))
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        group.answers.append(answer)
        self._waiting += 1
        if len(group.orders) >= GROUP_MAXIMUM:
            self._full.append(group)
            self._filling = None
        return answer

    def close(self) -> None:
        """Let the commit under way end; orders that were not answered were not taken."""
        self._thread.shutdown(wait=True)
        for group in (*self._full, self._filling):
            if group is not None:
                group.spool.abandon()

    def _open(self, now: int) -> _Group | None:
        """Open a group on the first batch key that may be sealed to and whose partition is open."""
        self._keys.refresh()
        order_key = self._keys.order_key(now)
        if order_key is None:
            return None
        for key in self._keys.batch_keys(now):
            if key.key_id in self._closed:
                continue
            spool = self._spool.open_group(key.key_id)
            if spool is None:
                self._closed.add(key.key_id)  # closed is for ever
                continue
            keys = SealingKeys(
                order_key=order_key.public_key,
                order_key_id=order_key.key_id,
                batch_key=key.public_key,
                batch_key_id=key.key_id,
            )
            seal_until = min(order_key.entry.seal_until, key.entry.seal_until)
            self._filling = _Group(keys=keys, seal_until=seal_until, spool=spool)
            return self._filling
        return None

    def _start_soon(self) -> None:
        """Commit the filling group in the loop's next turn, unless a commit is under way: then it follows that one.

        Waiting for more orders was measured: it makes groups larger and everybody slower.
        """
        if not self._committing and not self._starting:
            self._starting = True
            asyncio.get_running_loop().call_soon(self._start)

    def _start(self) -> None:
        self._starting = False
        if self._committing:
            return
        group = self._full.popleft() if self._full else self._filling
        if group is None:
            return
        if group is self._filling:
            self._filling = None
        self._committing = True
        loop = asyncio.get_running_loop()
        commit = loop.run_in_executor(self._thread, self._commit, group, self._now())
        commit.add_done_callback(lambda done: self._finish(group, done))

    def _commit(self, group: _Group, now: int) -> Sequence[Committed]:
        """In the committing thread: the group is durable, or abandoned, when this returns."""
        if not group.orders:
            group.spool.abandon()
            return ()
        return self._register.commit_group(group.spool, group.orders, now)

    def _finish(self, group: _Group, done: asyncio.Future[Sequence[Committed]]) -> None:
        self._committing = False
        self._waiting -= len(group.answers)
        error = done.exception()
        if error is None:
            outcomes = [_COMMITTED[committed] for committed in done.result()]
        else:
            # Full disk, lost mount: the sender retries with the same key, so nothing is taken twice.
            _log.error(
                "a group of %d orders could not be stored: %s", len(group.answers), type(error).__name__
            )
            outcomes = [Outcome.NOT_STORED] * len(group.answers)
        for answer, outcome in zip(group.answers, outcomes, strict=True):
            if not answer.done():
                answer.set_result(outcome)
        if self._full or self._filling:
            self._start_soon()
