"""One TCP connection to the acquirer: frames out of locked memory, answers into locked memory.

Why here: what was sent to the last byte, in part, or not at all is known only where the sending is done.
Must not: connect again, wait, or let a frame be sent a second time.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from keys.private.locked import LockedBuffer
from offline_processor.acquirers.iso8583.codec import Message
from offline_processor.acquirers.iso8583.exchange import HOST_REQUESTS, Exchange, Reply
from offline_processor.acquirers.iso8583.frame import FRAME_MOST, Mac, write_frame
from offline_processor.acquirers.iso8583.profile import Profile
from offline_processor.acquirers.iso8583.tls import (
    BLOCKED,
    has_more,
    keeps_what_it_was_given,
    refusal,
)
from offline_processor.errors import ProcessorError
from transfer.wire.card import CardView

_BUFFER: Final = 32 * 1024
_DISCARD, _DELIVER = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A message to send once, with its card when it carries one."""

    message: Message = field(repr=False)
    card: CardView | None = field(default=None, repr=False)


class Memory:
    """The locked memory of one connection at a time: what goes out, and what came in."""

    def __init__(self) -> None:
        self.outgoing = LockedBuffer(_BUFFER)
        self.incoming = LockedBuffer(_BUFFER)

    def wipe(self) -> None:
        """Zero both."""
        self.outgoing.wipe()
        self.incoming.wipe()

    def close(self) -> None:
        """Wipe and give back."""
        self.outgoing.close()
        self.incoming.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Queued:
    """A frame in the buffer; ``ticket`` None: our answer to a request of the host's."""

    ticket: int | None
    message: Message = field(repr=False)
    start: int
    end: int


class Connection:
    """A connected socket, which does not block, and what was asked over it.

    ``stopped``: it takes no further request. ``failed``: it stopped for a fault, and not one more byte is sent.
    ``ended``: nothing more comes either, so whoever waits has no answer. ``refused``: why, if TLS told.
    """

    def __init__(
        self, profile: Profile, connected: socket.socket, memory: Memory, *, mac: Mac | None = None
    ) -> None:
        # What the system still holds when this ends, by us or by a kill, must not reach the host later: the reversal
        # that follows over another connection would be there before it, find nothing, and count as done.
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DISCARD)
        self.socket, self.memory = connected, memory
        self.exchange = Exchange(profile=profile, mac=mac)
        self.stopped = False
        self.ended = False
        self.failed = False
        self.refused = ""
        self._profile, self._mac = profile, mac
        self._queue: deque[_Queued] = deque()
        self._sent = self._begun = self._filled = self._came = 0

    @property
    def to_send(self) -> bool:
        """True when bytes wait to be sent."""
        return self._sent < self._filled

    def put(self, ticket: int, request: Request, *, deadline: float) -> bool:
        """Take a request to be sent; False when there is no room just now. ``ISO-FORM``."""
        if self._filled + FRAME_MOST > self.memory.outgoing.size:
            return False
        size = self._write(request)
        self.exchange.asked(ticket, request.message, deadline=deadline)
        self._enqueue(ticket, request.message, size)
        return True

    def _write(self, request: Request) -> int:
        free = self.memory.outgoing.view[self._filled :]
        return write_frame(self._profile, request.message, request.card, free, mac=self._mac)

    def _enqueue(self, ticket: int | None, message: Message, size: int) -> None:
        end = self._filled + size
        self._queue.append(_Queued(ticket=ticket, message=message, start=self._filled, end=end))
        self._filled = end

    def _answer_host(self) -> None:
        """Put our answers to the host's own requests behind what waits; those without room are not given."""
        waiting = sum(one.ticket is None for one in self._queue)
        asked, self.exchange.to_answer = self.exchange.to_answer, []
        if self.stopped or self.exchange.tired:
            return
        for message in asked[: HOST_REQUESTS - waiting]:
            if self._filled + FRAME_MOST > self.memory.outgoing.size:
                break
            with suppress(ProcessorError):  # what it would have us repeat does not fit
                self._enqueue(None, message, self._write(Request(message=message)))
        self.flush()

    def flush(self) -> None:
        """Send what can be sent now."""
        while self.to_send and not self.failed:
            try:
                self._sent += self.socket.send(self.memory.outgoing.view[self._sent : self._filled])
            except OSError as error:
                if keeps_what_it_was_given(self.socket):
                    self._begun = self._filled
                if not isinstance(error, BLOCKED):
                    self.stopped = self.failed = True  # what the host had answered before may still be read
                return
            self._begun = max(self._begun, self._sent)
            while self._queue and self._queue[0].end <= self._sent:
                self._queue.popleft()
        if not self.to_send:
            self._forget_outgoing()

    def read(self, now: float) -> list[Reply]:
        """The answers in what has come, not in what goes on coming; the end of the connection is noted."""
        replies = self._read(now)
        while not self.ended and has_more(self.socket):
            replies += self._read(now)
        return replies

    def _read(self, now: float) -> list[Reply]:
        try:
            size = self.socket.recv_into(self.memory.incoming.view[self._came :])
        except BLOCKED:
            return []
        except OSError as error:
            size, self.refused = 0, refusal(error)
        if size == 0:
            self.ended = self.stopped = self.failed = True
            return []
        self._came += size
        replies, taken = self.exchange.receive(self.memory.incoming.view[: self._came], now=now)
        self._shift(taken)
        if self.exchange.broken:
            self.ended = self.stopped = self.failed = True
        if self.exchange.to_answer:
            self._answer_host()
        return replies

    def run_out(self, now: float) -> None:
        """After a time-out nothing more is sent here."""
        self.exchange.run_out(now)
        if self.exchange.tired:
            self.stopped = self.failed = True

    def take_back(self) -> list[int]:
        """Of a connection that has stopped: the tickets of which not one byte was sent.

        A frame that was sent in part is sent to its end, unless the connection has failed.
        """
        back = [one for one in self._queue if one.start >= self._begun]
        for one in back:
            if one.ticket is not None:
                self.exchange.taken_back(one.message)
        begun = [one for one in self._queue if one.start < self._begun and not self.failed]
        self._queue = deque(begun)
        if begun:
            end = begun[-1].end
            self.memory.outgoing.view[end : self._filled] = bytes(self._filled - end)
            self._filled = end
        else:
            self._forget_outgoing()
        return [one.ticket for one in back if one.ticket is not None]

    def close(self) -> None:
        """End it, and wipe its memory."""
        self.stopped = self.ended = self.failed = True
        if self.exchange.settled and not self.to_send:
            self.socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, _DELIVER
            )  # nothing can be late any more
        self.socket.close()
        self.memory.wipe()

    def _forget_outgoing(self) -> None:
        if self._filled:
            self.memory.outgoing.wipe()
            self._sent = self._begun = self._filled = 0

    def _shift(self, taken: int) -> None:
        """Keep only what is no whole frame yet, at the front."""
        view, left = self.memory.incoming.view, self._came - taken
        if left and taken:
            view[:left] = view[taken : self._came]
        view[left : self._came] = bytes(self._came - left)
        self._came = left
