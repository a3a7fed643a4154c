"""Walking a verified envelopes file by position.

Why here: screening, charging and holding each pass over the same file.
Must not: be used before receiving has verified the file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from transfer.wire.envelope import iter_frames

_BUFFER = 1 << 20


def numbered(envelopes: Path, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """(position, envelope bytes) from position ``start`` on."""
    with envelopes.open("rb", buffering=_BUFFER) as source:
        for position, raw in enumerate(iter_frames(source)):
            if position >= start:
                yield position, raw


def positions(envelopes: Path, wanted: Collection[int]) -> Iterator[tuple[int, bytes]]:
    """Only the envelopes at ``wanted`` positions, in file order."""
    if not wanted:
        return
    for position, raw in numbered(envelopes):
        if position in wanted:
            yield position, raw
