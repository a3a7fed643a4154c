"""The driver whose link is a person: the operator keys each order into a MOTO terminal and types what it answers.

Why here: a shop without a circuit to a host has a terminal, and its orders are charged by the same rules.
Must not: show a card twice, take a guess for an answer, or begin without a terminal to ask at.

The caller has made the intent durable before ``authorise``: it says "being keyed". When the process ends before the
result is typed, the next run finds it without an outcome and calls ``reverse`` for it, which asks about the terminal's
journal; only once that is answered may the order be keyed again. While the card stands on the screen every ending
signal clears it first; a SIGKILL cannot be met, so that a person who kills the process so closes the window.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from keys.errors import KeysError
from keys.screen import Screen, private_screen
from offline_processor.acquirers.operator_page import KeyingPage
from offline_processor.acquirers.operator_questions import answer, done_of, result_of, totals_of, void_of
from offline_processor.acquirers.protocol import (
    Answered,
    Authorisation,
    BatchAnswer,
    BatchTotals,
    Capture,
    Refund,
    Reversal,
    Verb,
)
from offline_processor.charging import APPROVED_CODE, Answer
from offline_processor.errors import ProcessorError

SHOWN_SECONDS: Final = 180
MARK: Final = "REHEARSAL - throwaway keys; nobody is charged. Do NOT key this into a live terminal."


class OperatorAcquirer:
    """Orders are keyed one at a time. ``OPERATOR-TERMINAL`` where there is no terminal.

    What is taken at once is keyed as a sale, whose capture has nothing left to do; what is captured when the goods go
    is keyed as a pre-authorisation, and its capture asked for. ``before_screen`` is called before
    the other screen is entered (progress bars must be still). ``shown_seconds``: how long a card stands there.
    """

    def __init__(
        self,
        *,
        rehearsal: bool,
        shown_seconds: int = SHOWN_SECONDS,
        before_screen: Callable[[], None] = lambda: None,
    ) -> None:
        try:
            os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
        except OSError as error:
            raise _no_terminal() from error
        self._rehearsal = rehearsal
        self._seconds = shown_seconds
        self._before_screen = before_screen
        self._page = KeyingPage()
        self._keyed = 0

    @property
    def is_simulator(self) -> bool:
        """A rehearsal keystore says that nobody is charged, and every page says so too."""
        return self._rehearsal

    @property
    def window(self) -> int:
        """One order at a time is being keyed."""
        return 1

    @property
    def in_flight(self) -> int:
        """The one."""
        return 1

    def needs_card(self, verb: Verb) -> bool:
        """BIN and last four, by which a person finds an entry in the journal."""
        return verb is Verb.REVERSE

    def echo(self) -> bool:
        """True when the operator says that the terminal is ready."""
        with self._screen("Is the MOTO terminal ready?") as screen:
            return screen.confirm("Is it switched on, and does it show that it is online")

    def authorise(self, asked: Iterator[Authorisation]) -> Answered:
        """Show each order once, then ask for the result."""
        for place, order in enumerate(asked):
            yield place, self._authorise(order)

    def _authorise(self, order: Authorisation) -> Answer | None:
        self._keyed += 1
        with self._screen("Keying an order") as screen:
            kind = "pre-authorisation" if order.only_reserves else "sale"
            screen.page(f"Next: order {self._keyed} of this run. Choose {kind}, card not present (MOTO).")
            screen.wait("When nobody else sees the screen and the terminal waits for the card")
            try:
                page = self._page.lay_out(order, mark=screen.mark, seconds=self._seconds)
                screen.show_until_key(page, self._seconds)
            finally:
                self._page.wipe()
            return result_of(screen, order.reference)

    def capture(self, window: Sequence[Capture]) -> Sequence[Answer | None]:
        """A sale was taken whole when it was approved; anything else is asked for."""
        return [self._capture(item) for item in window]

    def _capture(self, item: Capture) -> Answer | None:
        if item.at_once:
            return answer(item.reference, APPROVED_CODE, approval=item.approval)
        with self._screen("Completing an order") as screen:
            return done_of(screen, item, what="Take (complete the pre-authorisation)")

    def reverse(self, window: Sequence[Reversal]) -> Sequence[Answer | None]:
        """Ask whether each stands in the journal, and to void it."""
        return [self._reverse(item) for item in window]

    def _reverse(self, item: Reversal) -> Answer | None:
        with self._screen("Voiding an order") as screen:
            return void_of(screen, item)

    def refund(self, window: Sequence[Refund]) -> Sequence[Answer | None]:
        """Ask to give back, by the journal's entry."""
        return [self._refund(item) for item in window]

    def _refund(self, item: Refund) -> Answer | None:
        with self._screen("Refunding an order") as screen:
            return done_of(screen, item, what="Give back")

    def close_batch(self, totals: BatchTotals) -> BatchAnswer | None:
        """Compare with the totals that the operator types from the terminal's day report."""
        with self._screen("Closing the day") as screen:
            typed = totals_of(screen, totals)
        if typed is None:
            return None
        ours = (totals.captures, totals.captured, totals.refunds, totals.refunded)
        theirs = (typed.sales, typed.sold, typed.refunds, typed.refunded)
        return BatchAnswer.IN_BALANCE if ours == theirs else BatchAnswer.OUT_OF_BALANCE

    def close(self) -> None:
        """Give the page's memory back."""
        self._page.close()

    @contextmanager
    def _screen(self, heading: str) -> Iterator[Screen]:
        self._before_screen()
        try:
            with private_screen(mark=MARK if self._rehearsal else "") as screen:
                screen.heading = heading
                yield screen
        except KeysError as error:
            if error.rule != "CEREMONY-TERMINAL":
                raise
            raise KeyboardInterrupt from error  # it was there at the start: what was marked stays marked


def _no_terminal() -> ProcessorError:
    return ProcessorError(
        "OPERATOR-TERMINAL",
        "there is no terminal where the operator could be shown an order; nothing was marked or charged",
        "run it at the machine's own keyboard and screen, not from a script",
    )
