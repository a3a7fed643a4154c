"""When an order's money is taken: at once, or when its goods go.

Why here: charging, an answer file, a person's word and the acquirer's report must all say the same of one order.
Must not: do I/O, or look at anything but the order's own facts and the configuration.
"""

from __future__ import annotations

from typing import Literal, Protocol

Capture = Literal["sale", "dispatch"]
"""At once, or when the goods go."""


class Order(Protocol):
    """An order's facts: what a person said of its ``capture`` ("" for nothing), and ``release_at`` of its goods.

    ``release_at``: when the last of the pre-ordered is there (Unix seconds); 0 when none is pre-ordered.
    """

    @property
    def capture(self) -> str: ...
    @property
    def release_at(self) -> int: ...


def at_dispatch(order: Order, configured: Capture) -> bool:
    """True when ``order`` is captured when its goods go, False at once.

    A person's word about the order stands above its goods, and goods that are not there yet above the configuration.
    """
    if order.capture:
        return order.capture == "dispatch"
    return order.release_at > 0 or configured == "dispatch"
