"""One connection's outstanding requests: bytes in, matched answers out, and which of them ran out of time.

Why here: pure, so that every order of answers, duplicates, strangers and cuts is tried without a socket.
Must not: do I/O, read a clock, give an answer to a request that it does not name, or guess after a broken frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from offline_processor.acquirers.iso8583 import codec, messages
from offline_processor.acquirers.iso8583.codec import Message
from offline_processor.acquirers.iso8583.frame import Mac, is_authentic, next_frame
from offline_processor.errors import ProcessorError

if TYPE_CHECKING:
    from offline_processor.acquirers.iso8583.profile import Profile

REMEMBERED: Final = 4096
"""So many requests that are over are remembered, to tell a duplicate answer from a stranger's."""

HOST_REQUESTS: Final = 16
"""So many requests of the host's own wait for our answer at most; what it asks beyond them is not answered."""

_FUNCTION: Final = 70
_WITHOUT_REFERENCE: Final = frozenset(("0510", "0810"))

Key = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to the request that was sent as ``ticket``; ``late``: its time had run out."""

    ticket: int
    message: Message
    late: bool


@dataclass(slots=True, kw_only=True)
class _Asked:
    ticket: int
    deadline: float
    function: str
    timed_out: bool = False


@dataclass(slots=True, kw_only=True)
class Exchange:
    """What was asked on one connection, by the key that request and answer have in common.

    ``tired``: a request's time ran out, so nothing more is sent here. ``broken``: what came is no message, or has not
    the MAC that the profile asks for, so nothing more is read. ``strangers`` and ``duplicates`` count answers that
    were ignored. ``to_answer``: what we say to the host's own requests; whoever sends it takes it away.
    """

    profile: Profile
    mac: Mac | None = None
    tired: bool = False
    broken: bool = False
    strangers: int = 0
    duplicates: int = 0
    to_answer: list[Message] = field(default_factory=list, repr=False)
    _asked: dict[Key, _Asked] = field(default_factory=dict, repr=False)
    _over: dict[Key, None] = field(default_factory=dict, repr=False)
    _timed_out: int = 0

    def knows(self, request: Message) -> bool:
        """True when an answer to such a request is awaited here, or was: a second one could not be told apart."""
        key = _key(self.profile, request)
        return key in self._asked or key in self._over

    def asked(self, ticket: int, request: Message, *, deadline: float) -> None:
        """A request has been, or is being, sent; its key must not be known."""
        key = _key(self.profile, request)
        if key in self._asked or key in self._over or self.tired or self.broken:
            raise AssertionError("this request must go over another connection")
        self._asked[key] = _Asked(
            ticket=ticket, deadline=deadline, function=request.fields.get(_FUNCTION, "")
        )

    def taken_back(self, request: Message) -> None:
        """Not one byte of it was sent."""
        self._timed_out -= self._asked.pop(_key(self.profile, request)).timed_out

    @property
    def waiting(self) -> int:
        """How many are neither answered nor out of time."""
        return len(self._asked) - self._timed_out

    @property
    def unanswered(self) -> list[int]:
        """The tickets of all that was not answered, in time or late."""
        return [one.ticket for one in self._asked.values()]

    @property
    def settled(self) -> bool:
        """True when every request was answered."""
        return not self._asked

    @property
    def deadline(self) -> float | None:
        """When the next of them runs out of time."""
        return min((one.deadline for one in self._asked.values() if not one.timed_out), default=None)

    def receive(self, received: memoryview, *, now: float) -> tuple[list[Reply], int]:
        """The answers in the whole frames at the front of ``received``, and how many bytes those were."""
        replies: list[Reply] = []
        at = 0
        self.run_out(now)
        while not self.broken:
            try:
                frame, size = next_frame(self.profile, received[at:])
                if frame is None:
                    break
                reply = self._read(frame)
            except ProcessorError:
                self.broken = True
                break
            at += size
            if reply is not None:
                replies.append(reply)
        return replies, at

    def run_out(self, now: float) -> list[int]:
        """The tickets whose time has run out just now."""
        gone = [one for one in self._asked.values() if one.deadline <= now and not one.timed_out]
        for one in gone:
            one.timed_out = True
        self._timed_out += len(gone)
        self.tired = self.tired or bool(gone)
        return [one.ticket for one in gone]

    def _read(self, frame: memoryview) -> Reply | None:
        if not is_authentic(self.profile, frame, self.mac):
            raise ProcessorError("ISO-FORM", "a message on the acquirer's line has not the MAC of our key")
        return self._matched(codec.decode(self.profile, frame))

    def _matched(self, message: Message) -> Reply | None:
        key = _key(self.profile, message)
        if messages.is_host_request(message) and key not in self._asked:  # else it is our own, sent back
            if len(self.to_answer) < HOST_REQUESTS:
                self.to_answer.append(messages.answer_to_host(message))
            return None
        if not messages.is_response(message):
            self.strangers += 1
            return None
        asked = self._asked.get(key)
        if asked is None:
            if key in self._over:
                self.duplicates += 1
            else:
                self.strangers += 1
            return None
        if asked.function and message.fields.get(_FUNCTION, asked.function) != asked.function:
            self.strangers += 1  # our own 0810 to a host's echo test, sent back with its MAC, signs nobody on
            return None
        if messages.is_in_progress(self.profile, message):
            return None
        del self._asked[key]
        self._timed_out -= asked.timed_out
        self._over[key] = None
        if len(self._over) > REMEMBERED:
            del self._over[next(iter(self._over))]
        return Reply(ticket=asked.ticket, message=message, late=asked.timed_out)


def _key(profile: Profile, message: Message) -> Key:
    kind, terminal, stan, rrn = messages.key(message)
    # What we send of these kinds has no retrieval reference; some hosts put their own into the answer.
    return kind, terminal, stan, rrn if profile.echoes_reference and kind not in _WITHOUT_REFERENCE else ""
