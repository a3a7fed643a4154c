"""The link to the acquirer: connections that are signed on, requests pipelined over them, and none of them sent twice.

Why here: which of many requests goes over which connection, and what is known of each when one of them ends.
Must not: send an authorisation again, or go on with another kind of host than the one it signed on to first.

A request of which a byte was sent and no answer came is answered by None: the caller reverses. One of which nothing was
sent goes over the next connection, unless none can be had. Requests are fetched from the caller as many at a time as
may be unanswered, once all before them are on their way: what he makes durable for them, he does while these are away.
"""

from __future__ import annotations

import selectors
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from keys.private.locked import zero_stack
from offline_processor.acquirers.iso8583 import messages
from offline_processor.acquirers.iso8583.connection import Connection, Memory, Request
from offline_processor.acquirers.iso8583.dialling import Line, NotConnectedError, connect, refused
from offline_processor.acquirers.iso8583.exchange import Reply
from offline_processor.acquirers.iso8583.mac import MacKey
from offline_processor.acquirers.iso8583.messages import Terms
from offline_processor.acquirers.iso8583.profile import Profile
from offline_processor.errors import ProcessorError

ATTEMPTS: Final = 5
"""After so many failures without any answer between them, what was not sent is left unanswered."""

_FIRST_WAIT, _LONGEST_WAIT = 0.2, 5.0
_FIRST_REST, _LONGEST_REST = 5.0, 600.0
"""While one connection works, a further one that cannot be had is tried again after such pauses only."""
_TOGETHER: Final = 4
_SIGN_ON: Final = -1
_NETWORK_STANS: Final = 999
"""0800 counts 1 to 999 of its own: its answers are of a type of their own, and one at most is awaited anywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Whom to connect to, over how many connections, and how many requests may be unanswered over all of them.

    ``clock`` gives seconds that only go forward, ``now`` Unix seconds; ``mac``: its key, which the link
    closes, where the profile asks for one.
    """

    profile: Profile
    terms: Terms
    line: Line
    connections: int
    in_flight: int
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    now: Callable[[], int]
    mac: MacKey | None = None


@dataclass(slots=True, kw_only=True)
class _Course:
    """One call of ``ask``: what is to be fetched (none ``more``: nothing), to be sent, open, and what came of it.

    ``first`` is the ticket of the first request; no ticket of one course is ever one of another.
    """

    source: Iterator[Request]
    first: int
    fetched: int = 0
    more: bool = True
    todo: deque[int] = field(default_factory=deque)
    open: dict[int, Request] = field(default_factory=dict)
    came: list[tuple[int, Reply | None]] = field(default_factory=list)

    def fetch(self, count: int) -> None:
        """The next requests of the source, which may take its time."""
        for request in islice(self.source, count):
            ticket = self.first + self.fetched
            self.open[ticket] = request
            self.todo.append(ticket)
            self.fetched += 1
        self.more = len(self.todo) == count

    def over(self, ticket: int, reply: Reply | None) -> None:
        """Note what came of a request; never an answer to the place of another."""
        if self.open.pop(ticket, None) is not None:
            self.came.append((ticket - self.first, reply))

    def news(self) -> list[tuple[int, Reply | None]]:
        """What came since this was asked last."""
        came, self.came = self.came, []
        return came


class Link:
    """Signed-on connections to one acquirer. Opening it signs on; ``ACQUIRER-UNREACHABLE``, ``ACQUIRER-SIGN-ON``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._selector = selectors.DefaultSelector()
        self._memories = [Memory() for _ in range(settings.connections)]
        self._connections: list[Connection] = []
        self._simulator: bool | None = None
        self._failures = 0
        self._stan = 0
        self._first = 0
        self._others_from, self._rest = 0.0, _FIRST_REST
        try:
            self._connect()
        except NotConnectedError as error:
            self.close()
            raise refused(settings.line, error) from None
        except BaseException:
            self.close()
            raise

    @property
    def is_simulator(self) -> bool:
        """What the other end said of itself at sign-on."""
        return bool(self._simulator)

    @property
    def in_flight(self) -> int:
        """So many are fetched at a time, and unanswered at most."""
        return self._settings.in_flight

    def ask(self, requests: Iterator[Request]) -> Generator[tuple[int, Reply | None], None, None]:
        """Send each once; each one's place with its answer as it comes, None for no answer.

        What is not fetched was not sent: no connection can be had. Raises by itself only before anything was sent,
        or when the caller has a bug; whatever ``requests`` raises goes through. After that, or closed before its end,
        the link has hung up.
        """
        try:
            yield from self._ask(_Course(source=requests, first=self._first))
        except BaseException:
            self._hang_up()  # what is unanswered must not be taken for the answer to anything that comes after
            raise
        finally:
            zero_stack()

    def ask_one(self, request: Request) -> Reply | None:
        """The answer to one; None for none."""
        return dict(self.ask(iter([request]))).get(0)

    def echo(self) -> bool:
        """True when the other end answers."""
        settings = self._settings
        message = messages.echo(settings.profile, settings.terms, self._next_stan(), settings.now())
        reply = self.ask_one(Request(message=message))
        return reply is not None and not reply.late

    def close(self) -> None:
        """Hang up and give the memory back."""
        self._hang_up()
        self._selector.close()
        for memory in self._memories:
            memory.close()
        if self._settings.mac is not None:
            self._settings.mac.close()

    def _ask(self, course: _Course) -> Generator[tuple[int, Reply | None], None, None]:
        self._turn(course, wait=0.0)  # what came since the last window: hang-ups, strangers
        self._failures = 0
        if self._connections:
            self._connect_others()
        while course.more or course.todo or self._waiting():
            if not self._usable() and not self._waiting():
                self._hang_up()
                if not self._connect_again():
                    break
            self._fill(course)
            self._turn(course)
            yield from course.news()
        for connection in [one for one in self._connections if one.stopped]:
            self._drop(connection)
        self._first += course.fetched
        for ticket in list(course.open):
            course.over(ticket, None)
        yield from course.news()

    def _usable(self) -> list[Connection]:
        return [one for one in self._connections if not one.stopped]

    def _waiting(self) -> int:
        return sum(one.exchange.waiting for one in self._connections)

    def _has_next(self, course: _Course) -> bool:
        """True when a request is to be sent; the next are fetched when all before them are on their way."""
        if not course.todo and course.more:
            for connection in self._connections:
                connection.flush()
            if self._usable():
                course.fetch(self._settings.in_flight)
        return bool(course.todo)

    def _fill(self, course: _Course) -> None:
        """Give to the connections what may be sent now."""
        settings, todo = self._settings, course.todo
        room = settings.in_flight - self._waiting()
        while self._has_next(course) and room > 0 and (usable := self._usable()):
            request = course.open[todo[0]]
            usable.sort(key=lambda one: one.exchange.waiting)
            fresh = [one for one in usable if not one.exchange.knows(request.message)]
            if not fresh:  # its answer could not be told from another's: a new connection
                usable[0].stopped = True
                return
            deadline = settings.clock() + settings.profile.timeouts.answer
            try:
                if not fresh[0].put(todo[0], request, deadline=deadline):
                    if not fresh[
                        0
                    ].exchange.waiting:  # a host that does not read our answers to it, nor ever will
                        fresh[0].stopped = fresh[0].failed = True
                    return
            except ProcessorError:
                if todo[0] == course.first:  # nothing was sent
                    raise
                course.over(todo.popleft(), None)  # the caller comes back to it, alone
                continue
            todo.popleft()
            room -= 1
            if not room % _TOGETHER:  # the host begins with these while we write the next
                fresh[0].flush()

    def _turn(self, course: _Course, wait: float | None = None) -> None:
        """Send, wait for something, and take what came."""
        settings = self._settings
        for connection in self._connections:
            connection.flush()
            writes = connection.to_send and not connection.failed
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writes else 0)
            if self._selector.get_key(connection.socket).events != events:
                self._selector.modify(connection.socket, events, connection)
        if wait is None:
            deadlines = [one.exchange.deadline for one in self._connections]
            nearest = min((one for one in deadlines if one is not None), default=settings.clock())
            to_take_back = any(one.failed and one.to_send for one in self._connections)
            wait = 0.0 if to_take_back else max(0.0, nearest - settings.clock())
        for key, _ in self._selector.select(wait):
            connection = key.data
            for reply in connection.read(settings.clock()):
                course.over(reply.ticket, reply)
                self._failures = 0
        for connection in list(self._connections):
            connection.run_out(settings.clock())
            if connection.stopped:
                course.todo.extendleft(reversed(connection.take_back()))
                if connection.ended or not connection.exchange.waiting:
                    for ticket in connection.exchange.unanswered:
                        course.over(ticket, None)
                    self._drop(connection)
                    self._failures += connection.failed

    def _connect_again(self) -> bool:
        """A new connection, with pauses that grow; False after too many failures."""
        while self._failures < ATTEMPTS:
            if self._failures:
                self._settings.sleep(min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (self._failures - 1)))
            try:
                self._connect()
            except NotConnectedError:
                self._failures += 1
            else:
                self._connect_others()
                return True
        return False

    def _connect_others(self) -> None:
        """Open what is missing of the connections; one is enough, so after a failure not again at once."""
        settings = self._settings
        if settings.clock() < self._others_from:
            return
        try:
            while len(self._connections) < settings.connections:
                self._connect()
        except NotConnectedError:
            self._others_from = settings.clock() + self._rest
            self._rest = min(_LONGEST_REST, self._rest * 2)
        else:
            self._rest = _FIRST_REST

    def _connect(self) -> None:
        """One more connection, signed on; the other end must be of the same kind as the first time."""
        settings = self._settings
        used = [one.memory for one in self._connections]
        memory = next(one for one in self._memories if one not in used)
        connected = connect(settings.line, settings.profile.timeouts.connect, clock=settings.clock)
        connection = Connection(settings.profile, connected, memory, mac=settings.mac)
        try:
            simulator = self._signed_on(connection)
            self._check_same_as_before(simulator=simulator)
        except BaseException:
            connection.close()
            raise
        self._simulator = simulator
        self._connections.append(connection)
        self._selector.register(connected, selectors.EVENT_READ, connection)

    def _check_same_as_before(self, *, simulator: bool) -> None:
        if self._simulator not in (None, simulator):
            raise NotConnectedError("sign-on", "the other end is no longer the one it was")

    def _signed_on(self, connection: Connection) -> bool:
        """Sign on; True when a simulator is at the other end."""
        settings = self._settings
        message = messages.sign_on(settings.profile, settings.terms, self._next_stan(), settings.now())
        deadline = settings.clock() + settings.profile.timeouts.answer
        connection.put(_SIGN_ON, Request(message=message), deadline=deadline)
        with selectors.DefaultSelector() as selector:
            selector.register(connection.socket, selectors.EVENT_READ)
            while not (connection.ended or connection.exchange.tired):
                connection.flush()
                selector.select(max(0.0, deadline - settings.clock()))
                for reply in connection.read(settings.clock()):
                    code = reply.message.fields.get(39, "")
                    if code not in settings.profile.codes.approved or reply.late:
                        raise NotConnectedError("sign-on", f"it answered with code {code[:2]!r}")
                    return messages.is_simulator(settings.profile, reply.message)
                connection.run_out(settings.clock())
        if connection.refused:
            raise NotConnectedError("tls", connection.refused)
        mac = settings.profile.mac
        if connection.exchange.broken:
            other = ", or has not the MAC of our key" if mac else ""
            raise NotConnectedError("sign-on", f"what it answers is no message of this profile{other}")
        perhaps = ", as one does that finds another MAC than its own" if mac else ""
        raise NotConnectedError("sign-on", f"it did not answer{perhaps}")

    def _next_stan(self) -> int:
        self._stan = self._stan % _NETWORK_STANS + 1
        return self._stan

    def _drop(self, connection: Connection) -> None:
        self._selector.unregister(connection.socket)
        connection.close()
        self._connections.remove(connection)

    def _hang_up(self) -> None:
        for connection in list(self._connections):
            self._drop(connection)
