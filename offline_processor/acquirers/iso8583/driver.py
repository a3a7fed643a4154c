"""The ISO 8583 driver: each verb's messages over the link, and what their answers mean to charging.

Why here: the only part that knows both the charging's protocol and the messages.
Must not: see a card's digits, send again what may have been sent, or take a broken answer for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Final, TypeVar

from offline_processor.acquirers.iso8583 import messages
from offline_processor.acquirers.iso8583.codec import Message
from offline_processor.acquirers.iso8583.connection import Request
from offline_processor.acquirers.iso8583.dialling import Line
from offline_processor.acquirers.iso8583.exchange import Reply
from offline_processor.acquirers.iso8583.link import Link, Settings
from offline_processor.acquirers.iso8583.mac import MacKey
from offline_processor.acquirers.iso8583.messages import Terms
from offline_processor.acquirers.iso8583.profile import Profile, load
from offline_processor.acquirers.iso8583.protection import mac_of, tls_of
from offline_processor.acquirers.protocol import (
    Advice,
    Answered,
    Authorisation,
    BatchAnswer,
    BatchTotals,
    Capture,
    Refund,
    Reversal,
    Verb,
)
from offline_processor.charging import Answer, Reference
from offline_processor.circuit import endpoint
from offline_processor.config import AcquirerConfig
from offline_processor.errors import ProcessorError

_A = TypeVar("_A", bound=Advice)


class Iso8583Acquirer:
    """An acquirer's host behind a link that is open and signed on."""

    window: Final = None

    def __init__(self, link: Link, profile: Profile, terms: Terms) -> None:
        self._link, self._profile, self._terms = link, profile, terms

    @property
    def is_simulator(self) -> bool:
        """What the other end said at sign-on."""
        return self._link.is_simulator

    def needs_card(self, verb: Verb) -> bool:
        """By the profile."""
        return verb in self._profile.pan_in

    def echo(self) -> bool:
        """True when the other end answers an 0800."""
        return self._link.echo()

    @property
    def in_flight(self) -> int:
        """As configured, over all connections."""
        return self._link.in_flight

    def authorise(self, asked: Iterator[Authorisation]) -> Answered:
        """0100; a card without security code goes without its element."""
        yield from self._answers((self._authorisation(one), one.reference) for one in asked)

    def _authorisation(self, one: Authorisation) -> Request:
        digits = {"pan_digits": len(one.card.pan), "cvv_digits": len(one.card.cvv)}
        message = messages.authorisation(self._profile, self._terms, one.reference, **digits)
        return Request(message=message, card=one.card)

    def capture(self, window: Sequence[Capture]) -> Sequence[Answer | None]:
        """0220 or 0221."""
        return self._advise(Verb.CAPTURE, window, messages.capture)

    def reverse(self, window: Sequence[Reversal]) -> Sequence[Answer | None]:
        """0420 or 0421; a host that asks to wait and then says no more has not answered."""
        return self._advise(Verb.REVERSE, window, messages.reversal)

    def refund(self, window: Sequence[Refund]) -> Sequence[Answer | None]:
        """0220 or 0221 with a refund's processing code."""
        return self._advise(Verb.REFUND, window, messages.refund)

    def close_batch(self, totals: BatchTotals) -> BatchAnswer | None:
        """0500; None when it was not answered, NOT_COMPARED where the profile's host takes no totals."""
        if not self._profile.totals:
            return BatchAnswer.NOT_COMPARED
        reply = self._link.ask_one(Request(message=messages.totals(self._profile, self._terms, totals)))
        return None if reply is None or reply.late else messages.batch_answer(self._profile, reply.message)

    def close(self) -> None:
        """Hang up."""
        self._link.close()

    def _advise(
        self, verb: Verb, window: Sequence[_A], message: Callable[..., Message]
    ) -> Sequence[Answer | None]:
        asked: list[tuple[Request, Reference]] = []
        for one in window:
            card = one.card if self.needs_card(verb) else None
            digits = len(card.pan) if card is not None else 0
            written = message(self._profile, self._terms, one, pan_digits=digits)
            asked.append((Request(message=written, card=card), one.reference))
        answers = dict(self._answers(asked))
        return [answers.get(place) for place in range(len(window))]

    def _answers(self, asked: Iterable[tuple[Request, Reference]]) -> Answered:
        """The answers as they come, each with its request's place."""
        fetched: list[tuple[Message, Reference]] = []

        def requests() -> Iterator[Request]:
            for request, sent in asked:
                fetched.append((request.message, sent))
                yield request

        with closing(self._link.ask(requests())) as replies:
            for place, reply in replies:
                yield place, None if reply is None else self._answer(*fetched[place], reply)

    def _answer(self, request: Message, sent: Reference, reply: Reply) -> Answer | None:
        try:
            answer = messages.answer(self._profile, request, reply.message, sent=sent)
        except ProcessorError:
            return None  # it names no code: nothing counts as answered
        return replace(answer, late=True) if reply.late else answer


def open_iso8583(
    config: AcquirerConfig,
    *,
    now: Callable[[], int],
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Iso8583Acquirer:
    """The driver by its configuration, signed on. As ``check_iso8583`` and ``Link`` raise."""
    profile, line, mac = _agreed(config)
    terms = Terms(terminal=config.terminal, merchant=config.merchant, acquirer_id=config.acquirer_id)
    settings = Settings(
        profile=profile,
        terms=terms,
        line=line,
        connections=config.connections,
        in_flight=config.in_flight,
        clock=clock,
        sleep=sleep,
        now=now,
        mac=mac,
    )
    return Iso8583Acquirer(Link(settings), profile, terms)


def check_iso8583(config: AcquirerConfig) -> None:
    """Refuse what cannot be used, before anything is connected to. ``CONFIG-…``, ``ISO-PROFILE``."""
    *_, mac = _agreed(config)
    if mac is not None:
        mac.close()


def _agreed(config: AcquirerConfig) -> tuple[Profile, Line, MacKey | None]:
    """What was agreed with the acquirer: profile, where and by which TLS it is, and the key of the MAC."""
    address, port = endpoint(config.address)
    if not (config.terminal and config.merchant):
        raise ProcessorError(
            "CONFIG-ISO8583",
            "the acquirer's line needs our names there",
            "set [acquirer] terminal and merchant as the acquirer gave them",
        )
    if not address.is_loopback and not config.interface:
        raise ProcessorError(
            "CONFIG-ISO8583",
            "the circuit to the acquirer is not named",
            "set [acquirer] interface to the network interface of the private circuit",
        )
    profile = load(config.profile)
    line = Line(address=address, port=port, tls=tls_of(config, profile))
    return profile, line, mac_of(config, profile)
