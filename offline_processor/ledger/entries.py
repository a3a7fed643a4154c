"""Checking the chain of entries, wherever they lie: ledger, mirror, snapshot.

Why here: three files are checked by one code.
Must not: open a file; rows come in the order of their numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from keys.public.chain import GENESIS, link
from keys.public.digest import equal
from offline_processor.errors import ProcessorError

_PROGRESS = 10_000


def verify_entries(
    rows: Iterable[tuple[Any, ...]],
    *,
    after: int = 0,
    chain: bytes = GENESIS,
    progress: Callable[[int], None] = lambda done: None,
) -> int:
    """Recompute the chain over entries, oldest first; the last one's number. ``LEDGER-CHAIN``: one differs.

    ``after``: the number of the entry before them, whose ``chain`` is trusted. ``progress`` gets a number now and then.
    """
    expected = after
    for number, at, kind, subject, facts, stored in rows:
        expected += 1
        chain = link(chain, number=number, at=at, kind=kind, subject=subject, facts=facts)
        if number != expected or not equal(chain, stored):
            raise broken(number)
        if expected % _PROGRESS == 0:
            progress(expected)
    return expected


def broken(number: int) -> ProcessorError:
    """The refusal of a chain that does not hold at this entry."""
    return ProcessorError(
        "LEDGER-CHAIN",
        f"ledger entry {number} was altered, removed or reordered",
        "stop work, keep this machine as it is, and restore from the last good backup",
    )
