"""What every acquirer driver offers to the charging: seven verbs, authorisations as a stream and the rest in windows.

Why here: the batch knows this protocol and no driver; a driver knows no ledger.
Must not: offer a way to send an authorisation a second time.

``None`` stands for no answer: after an authorisation the caller reverses and never resends; a reversal, capture or
refund is an advice, which the caller repeats until it is answered. Advices are answered in the order of their window.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from offline_processor.charging import Answer, Reference
from transfer.wire.card import CardView


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorisation:
    """One amount to reserve. ``card`` views locked memory and is wiped after the exchange.

    Its ``cvv`` is empty when the authorisation repeats a declined one later: a CVV is sent once. ``only_reserves``: it
    is captured later, when the goods go; a terminal that tells sales from pre-authorisations has to know.
    """

    reference: Reference
    card: CardView = field(repr=False)
    only_reserves: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What follows an authorisation: a capture, a reversal or a refund.

    ``operation`` is the caller's own id of it (32 hexadecimal digits), the same in every repetition; ``reference`` has
    its own trace number, time and amount, and the retrieval reference of ``original``, the authorisation that it is
    about. ``approval`` is that one's approval code, "" when none is known. ``card`` is PAN and expiry from the vault
    where the driver ``needs_card`` for the verb. ``repeat`` is true when it may have been sent before.
    """

    operation: str
    reference: Reference
    original: Reference
    approval: str
    repeat: bool
    card: CardView | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture(Advice):
    """Take ``reference.amount`` of what was reserved. ``final``: nothing of the rest will be taken.

    ``at_once``: it is of an order that is taken whole as soon as it is approved, which a terminal's sale has done.
    """

    final: bool
    at_once: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversal(Advice):
    """Release what was reserved, or may have been; ``reference.amount`` is the authorisation's.

    ``keep``: the amount of it that stays reserved or taken (0: all of it is released).
    """

    keep: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund(Advice):
    """Give ``reference.amount`` back of what was captured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTotals:
    """What our ledger says was taken and given back in one currency since the last close, in minor units."""

    currency: str
    captures: int
    captured: int
    refunds: int
    refunded: int
    stan: int
    sent_at: int


class BatchAnswer(Enum):
    """What the acquirer says of our totals. NOT_COMPARED: it takes none, by what was agreed."""

    IN_BALANCE = "in balance"
    OUT_OF_BALANCE = "out of balance"
    NOT_COMPARED = "not compared"


class HandedOver(Enum):
    """In place of an answer: it is in a file to the acquirer, and the answer comes in a file."""

    HANDED_OVER = "handed over"


Heard = Generator[tuple[int, Answer | HandedOver | None], None, None]
"""Places in a stream of authorisations (the first is 0), each with what was heard of it, as it comes."""

Answered = Generator[tuple[int, Answer | None], None, None]
"""The same of an acquirer that answers by itself."""


class Verb(Enum):
    """The verbs whose messages may have to carry the card again."""

    CAPTURE = "capture"
    REVERSE = "reverse"
    REFUND = "refund"


class Acquirer(Protocol):
    """A link to an acquirer. Drivers raise ``ProcessorError`` only before anything of a window was sent.

    Whatever the caller's stream raises goes through the driver, which sends nothing more.
    """

    @property
    def is_simulator(self) -> bool:
        """True when the other end, asked at sign-on, is a simulator: nobody is charged."""
        ...

    @property
    def window(self) -> int | None:
        """The most orders that may be in one window (an operator keys one at a time); None: as configured."""
        ...

    @property
    def in_flight(self) -> int | None:
        """How many authorisations it fetches at a time and has unanswered at most; None: it fetches all of a window."""
        ...

    def needs_card(self, verb: Verb) -> bool:
        """True when messages of this verb carry PAN and expiry again, so that the vault must keep them."""
        ...

    def echo(self) -> bool:
        """True when the other end answers."""
        ...

    def authorise(self, asked: Iterator[Authorisation]) -> Heard:
        """Reserve; each sent once, whatever happens, and never before it was fetched from ``asked``.

        Each that was fetched is told of once. What is not fetched at the end was not sent: the line is gone. Closed
        before its end, it hangs up.
        """
        ...

    def capture(self, window: Sequence[Capture]) -> Sequence[Answer | HandedOver | None]:
        """Take what was reserved."""
        ...

    def reverse(self, window: Sequence[Reversal]) -> Sequence[Answer | HandedOver | None]:
        """Release what was, or may have been, reserved."""
        ...

    def refund(self, window: Sequence[Refund]) -> Sequence[Answer | HandedOver | None]:
        """Give back what was taken."""
        ...

    def close_batch(self, totals: BatchTotals) -> BatchAnswer | None:
        """Compare the totals of one currency with the acquirer's own and begin new ones there."""
        ...

    def close(self) -> None:
        """Release what the driver holds."""
        ...
