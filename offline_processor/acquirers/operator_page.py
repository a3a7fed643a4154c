"""The page from which an operator keys one order: laid out in locked memory, written from there, then wiped.

Why here: card data on a screen is the one place where a person must read it, and it must leave no copy behind.
Must not: make ``bytes`` or ``str`` of a PAN or CVV, or be shown anywhere but on a private screen.
"""

from __future__ import annotations

from typing import Final

from keys.private.locked import LockedBuffer
from offline_processor.acquirers.protocol import Authorisation
from offline_processor.control_total import money

PAGE_LIMIT: Final = 1024
_GROUP: Final = 4
_ZERO: Final = ord("0")
_SPACE: Final = ord(" ")


def short_form(order_id: str) -> str:
    """The first eight digits of an order's id in two groups, as they stand on every surface of the operator."""
    return f"{order_id[:4]}-{order_id[4:8]}".upper()


class KeyingPage:
    """One page of locked memory; ``lay_out`` fills it, ``wipe`` empties it."""

    def __init__(self) -> None:
        self._buffer = LockedBuffer(PAGE_LIMIT)
        self._used = 0

    def lay_out(self, order: Authorisation, *, mark: str, seconds: int) -> memoryview:
        """The page as a view of locked memory; it is good until ``wipe``."""
        self.wipe()
        card, sent = order.card, order.reference
        self._text(f"{mark}\n\n" if mark else "")
        self._text(f"Order {short_form(sent.order_id)}. Key it into the terminal now:\n\n")
        self._text(f"  Amount         {money(sent.amount, sent.currency)}\n")
        self._text("  Card           ")
        self._digits(card.pan, grouped=True)
        self._text("\n  Expires        ")
        self._number(card.expiry_month)
        self._text("/")
        self._number(card.expiry_year % 100)
        self._text("\n  Security code  ")
        if card.cvv.nbytes:
            self._digits(card.cvv, grouped=False)
        else:
            self._text("none: it was used already")
        self._text(f"\n  Reference      {short_form(sent.order_id)}\n\n")
        self._text(f"This is shown once, for {seconds} seconds. Press a key when the terminal has answered.")
        return self._buffer.view[: self._used]

    def wipe(self) -> None:
        """Nothing is left of the page."""
        self._buffer.wipe()
        self._used = 0

    def close(self) -> None:
        """Wipe and give the memory back."""
        self._buffer.close()

    def _text(self, text: str) -> None:
        raw = text.encode("ascii")
        self._buffer.view[self._used : self._used + len(raw)] = raw
        self._used += len(raw)

    def _digits(self, digits: memoryview, *, grouped: bool) -> None:
        # Slice to slice: no digit becomes an object that could stay behind.
        step = _GROUP if grouped else digits.nbytes
        for start in range(0, digits.nbytes, step):
            if start:
                self._put(_SPACE)
            part = digits[start : start + step]
            self._buffer.view[self._used : self._used + part.nbytes] = part
            self._used += part.nbytes

    def _number(self, number: int) -> None:
        tens, ones = divmod(number, 10)
        self._put(_ZERO + tens)
        self._put(_ZERO + ones)

    def _put(self, character: int) -> None:
        self._buffer.view[self._used] = character
        self._used += 1
