"""Sealed requests of people about their data, on their way into a bundle and kept for another one.

Why here: the spool is partitioned by batch keys, and a request has none; intake writes here, the push takes it along.
Must not: open a request, or lose one; to send one twice harms nobody, for its id is known by then.

``waiting/ID`` becomes ``sent/ID`` after the bundle that carries it was recorded. A sent one stays for a while: after a
restore the offline side may have forgotten an erasure, and the same request then brings it again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from keys.durable import create_durable, fsync_directory, make_directory
from transfer.errors import TransferError

SIZE_LIMIT: Final = 20_000
COUNT_LIMIT: Final = 10_000
_NAME: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectOutbox:
    """The requests of one node, below ``root``."""

    root: Path

    def add(self, request: str, envelope: bytes) -> None:
        """Keep one sealed request (its id in hex) until a push takes it along; durable on return.

        ``SUBJECT-CROWD`` when more wait than one bundle should carry.
        """
        if len(envelope) > SIZE_LIMIT or len(self.waiting()) >= COUNT_LIMIT:
            raise TransferError(
                "SUBJECT-CROWD",
                f"more than {COUNT_LIMIT} requests wait, or this one is too large",
                "push first",
            )
        make_directory(self._waiting)
        create_durable(self._waiting / request, envelope)

    def waiting(self) -> list[Path]:
        """The requests that no recorded bundle carries yet."""
        return _listed(self._waiting)

    def sent(self) -> list[Path]:
        """Those that a bundle carries, kept for another one."""
        return _listed(self._sent)

    def mark_sent(self, requests: Iterable[Path]) -> None:
        """These are in a bundle that is recorded."""
        self._move(requests, self._waiting, self._sent)

    def send_again(self, requests: Collection[str]) -> list[str]:
        """Let the next push take these along once more; which of them were still kept."""
        again = [path for path in self.sent() if path.name in requests]
        self._move(again, self._sent, self._waiting)
        return [path.name for path in again]

    def forget(self, requests: Collection[str]) -> int:
        """Delete kept requests that were sent; how many."""
        gone = [path for path in self.sent() if path.name in requests]
        for path in gone:
            path.unlink()
        if gone:
            fsync_directory(self._sent)
        return len(gone)

    @property
    def _waiting(self) -> Path:
        return self.root / "waiting"

    @property
    def _sent(self) -> Path:
        return self.root / "sent"

    def _move(self, requests: Iterable[Path], source: Path, target: Path) -> None:
        moved = list(requests)
        if not moved:
            return
        make_directory(target)
        for path in moved:
            os.rename(path, target / path.name)
        fsync_directory(target)
        fsync_directory(source)


def _listed(place: Path) -> list[Path]:
    try:
        return sorted(path for path in place.iterdir() if _NAME.fullmatch(path.name))
    except FileNotFoundError:
        return []
