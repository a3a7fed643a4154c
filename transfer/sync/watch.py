"""One look of `watch`: what has changed since the last, and therefore whether to pull and to push.

Why here: a scan that is repeated for years must cost little when nothing is new, and forget nothing when it is.
Must not: depend on an event, cut a bundle that nobody can carry, or keep anything that a restart would miss.

What it remembers between two looks (which medium it saw, when it last wrote) only saves work: a new watch pushes and
pulls once, and finds by that all that there is to do.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from keys.errors import RuleError
from transfer.register import Register
from transfer.sync import trust
from transfer.sync.inbound import PullReport
from transfer.sync.media import medium_errors, open_drop
from transfer.sync.medium import Medium, place_of
from transfer.sync.outbound import Sign
from transfer.sync.plan import Waiting, cut_is_due, plan_writes
from transfer.sync.push_report import PushReport
from transfer.sync.rounds import Rounds
from transfer.wire.manifest import return_name

_REPEAT = 3600  # seconds after which all that lies on a drop is compared again, although nothing has changed
ABSENT = ("MEDIUM-NONE", "MEDIUM-NOT-MOUNTED")


@dataclass(slots=True, kw_only=True)
class Look:
    """What one look did. ``absent``: rules of drops that are not there, which is no fault of a carried medium."""

    pushed: PushReport | None = None
    pulled: PullReport | None = None
    absent: list[RuleError] = field(default_factory=list)
    refused: list[RuleError] = field(default_factory=list)

    @property
    def did_something(self) -> bool:
        pushed = self.pushed is not None and self.pushed.did_something
        return pushed or (self.pulled is not None and self.pulled.taken is not None)


@dataclass(slots=True, kw_only=True)
class Watch:
    """Looks at one node again and again. ``sign`` may be used at any look."""

    rounds: Rounds
    sign: Sign
    _seen_in: object = None
    _written_at: int = 0
    _must_push: bool = True

    def look(self, *, now: int) -> Look:
        """Do what is due at ``now``. A refusal of one direction stops nothing of the other; ``NODE-BUSY`` is raised."""
        done = Look()
        with self.rounds.alone() as register:
            self._pull(register, done)
            self._push(register, done, now)
        return done

    def _pull(self, register: Register, done: Look) -> None:
        try:
            newest = self.rounds.newest_offered(self.rounds.medium_out())
            taken = self.rounds.node.newest_return()
            # A pull that was killed is ended from its own copy, whatever the drop holds now.
            begun = self.rounds.node.incoming.is_dir()
            if begun or (newest and (taken is None or newest > return_name(taken.epoch, taken.number))):
                done.pulled = self.rounds.pull(register)
                done.refused += done.pulled.refused
                self._must_push |= done.pulled.taken is not None  # it may have to be confirmed
        except RuleError as error:
            _note(error, done)

    def _push(self, register: Register, done: Look, now: int) -> None:
        try:
            medium = self.rounds.medium_in()
            if not self._push_is_due(medium, register, now):
                return
            done.pushed = self.rounds.push(register, self.sign, now=now)
            done.refused += done.pushed.refused
            self._must_push = bool(done.pushed.refused)
            self._seen_in, self._written_at = _identity(medium), now
        except RuleError as error:
            self._seen_in = None
            _note(error, done)

    def _push_is_due(self, medium: Medium, register: Register, now: int) -> bool:
        # A clock that was ahead and was put right is no reason to wait.
        lately = 0 <= now - self._written_at < _REPEAT
        if self._must_push or _identity(medium) != self._seen_in or not lately:
            # A medium that has just been put in is carried away soon: all that waits goes with it.
            return True
        return bool(self.rounds.node.subjects.waiting()) or self._cut_is_due(register, now)

    def _cut_is_due(self, register: Register, now: int) -> bool:
        node = self.rounds.node
        roll = trust.load_roll(node.state, node=node.node)
        ends = {entry.key_id: entry.seal_until for entry in roll.batch_keys}
        waiting = [
            Waiting(orders=key.orders, oldest=key.oldest, seal_until=ends.get(key.batch_key_id, 0))
            for key in register.uncut_tally()
        ]
        return cut_is_due(
            waiting,
            in_flight=len(plan_writes(node.outbox_listing(recorded=register.last_sequence()))),
            now=now,
            patience=self.rounds.sync.cut_minutes * 60,
            max_orders=node.max_orders,
        )


def _identity(medium: Medium) -> object:
    """What tells one medium from another in the same place; for a directory, its own place."""
    with medium_errors(medium.drop), open_drop(medium.drop) as top:
        return place_of(top), medium.marker


def _note(error: RuleError, done: Look) -> None:
    (done.absent if error.rule in ABSENT else done.refused).append(error)
