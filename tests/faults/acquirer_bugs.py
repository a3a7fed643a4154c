"""Mistakes that a tired programmer makes between ledger and line, each put around the link of one process.

Why here: a sweep over the line that finds nothing proves nothing unless it is known to find these.
Must not: change a file of the code, or be noticed while nothing breaks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from offline_processor import cli_steps
from offline_processor.acquirers.drivers import open_acquirer
from offline_processor.acquirers.iso8583.codec import Message
from offline_processor.acquirers.iso8583.connection import Connection
from offline_processor.acquirers.iso8583.driver import Iso8583Acquirer
from offline_processor.acquirers.iso8583.exchange import _key
from offline_processor.charging import Answer
from tests.faults.bugs import BUGS

Patch = pytest.MonkeyPatch
_PUT: dict[int, dict[int, Message]] = {}


class _Around:
    """The link itself; each bug replaces one verb."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _noted(self, asked: Iterator[Any], fetched: list[Any]) -> Iterator[Any]:
        for one in asked:
            fetched.append(one)
            yield one


class _Resending(_Around):
    def authorise(self, asked: Iterator[Any]) -> Iterator[Any]:
        fetched: list[Any] = []
        answers = dict(self._inner.authorise(self._noted(asked, fetched)))
        silent = [place for place, answer in answers.items() if answer is None]
        if silent:
            again = self._inner.authorise(fetched[place] for place in silent)
            answers |= {silent[place]: answer for place, answer in again}
        yield from answers.items()


class _NotReversing(_Around):
    def reverse(self, window: Sequence[Any]) -> list[Any]:
        return [_done(one) for one in window]


class _GivingUpReversals(_Around):
    def reverse(self, window: Sequence[Any]) -> list[Any]:
        answers = self._inner.reverse(window)
        return [answer or _done(one) for one, answer in zip(window, answers, strict=True)]


class _NewNumberForEachReversal(_Around):
    _numbers = itertools.count(700_000)

    def reverse(self, window: Sequence[Any]) -> list[Any]:
        sent = [replace(one, reference=replace(one.reference, stan=next(self._numbers))) for one in window]
        answers = self._inner.reverse(sent)
        return [
            answer and replace(answer, stan=one.reference.stan)
            for one, answer in zip(window, answers, strict=True)
        ]


class _GivingUpCaptures(_Around):
    def capture(self, window: Sequence[Any]) -> list[Any]:
        answers = self._inner.capture(window)
        return [answer or _done(one) for one, answer in zip(window, answers, strict=True)]


class _SilenceIsADecline(_Around):
    def authorise(self, asked: Iterator[Any]) -> Iterator[Any]:
        fetched: list[Any] = []
        for place, answer in self._inner.authorise(self._noted(asked, fetched)):
            yield place, answer or replace(_done(fetched[place]), code="05")


class _SilenceIsAnApproval(_Around):
    def authorise(self, asked: Iterator[Any]) -> Iterator[Any]:
        fetched: list[Any] = []
        for place, answer in self._inner.authorise(self._noted(asked, fetched)):
            yield place, answer or _done(fetched[place])


def _done(sent: Any) -> Answer:
    one = sent.reference
    return Answer(stan=one.stan, rrn=one.rrn, amount=one.amount, currency=one.currency, code="00")


def _put_around(kind: type[_Around]) -> Callable[[Patch], None]:
    def plant(patch: Patch) -> None:
        patch.setattr(
            cli_steps, "open_acquirer", lambda *given, **named: kind(open_acquirer(*given, **named))
        )

    return plant


def _send_over_again(patch: Patch) -> None:
    """The link takes back what was already sent, when a connection fails, and sends it over the next one."""
    rightly_put, rightly_take_back = Connection.put, Connection.take_back

    def put(self: Any, ticket: int, request: Any, *, deadline: float) -> bool:
        taken = rightly_put(self, ticket, request, deadline=deadline)
        if taken:
            _PUT.setdefault(id(self), {})[ticket] = request.message
        return taken

    def take_back(self: Any) -> list[int]:
        back = rightly_take_back(self)
        open_keys = set(self.exchange._asked)
        for ticket, message in _PUT.pop(id(self), {}).items():
            if self.failed and ticket not in back and _key(self.exchange.profile, message) in open_keys:
                self.exchange.taken_back(message)
                back.append(ticket)
        return back

    patch.setattr(Connection, "put", put)
    patch.setattr(Connection, "take_back", take_back)


def _whole_windows(patch: Patch) -> None:
    """The intents of a window are in one commit, however few of them can be in flight."""
    patch.setattr(Iso8583Acquirer, "in_flight", None)


LINE_BUGS: dict[str, Callable[[Patch], None]] = {
    "send again what was not answered": _put_around(_Resending),
    "charge again without a reversal": _put_around(_NotReversing),
    "take a reversal without an answer for done": _put_around(_GivingUpReversals),
    "a new trace number for each try of a reversal": _put_around(_NewNumberForEachReversal),
    "take a capture without an answer for done": _put_around(_GivingUpCaptures),
    "take silence for a decline": _put_around(_SilenceIsADecline),
    "take silence for an approval": _put_around(_SilenceIsAnApproval),
    "send over a new connection what was on its way over a failed one": _send_over_again,
    "commit more intents than can be in flight": _whole_windows,
    "send before the intent is recorded": BUGS["send before the intent is recorded"].plant,
    "skip the recovery of intents": BUGS["skip the recovery of intents"].plant,
}
