"""Whether a proxy of this machine hides its customers: seen by the workers, told by /readyz and `intake status`.

Why here: the one who sees it is a worker, and the one who asks may be another process.
Must not: keep anything of a request but its time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from transfer.sync.notices import DAY, Notice

_FILE = "proxy-unnamed"
_NOTE_AGAIN = 60
_AHEAD = 60


class ProxyWatch:
    """Remembers in the node's state when it was last so: the modification time of an empty file."""

    def __init__(self, state: Path) -> None:
        self._path = state / _FILE
        self._next_note = 0.0

    def note(self, now: float) -> None:
        """It is so now. A disk that cannot be written to is told of by itself."""
        if now < self._next_note:
            return
        self._next_note = now + _NOTE_AGAIN
        with contextlib.suppress(OSError):
            self._path.touch(mode=0o600)
            os.utime(self._path, (now, now))

    def notices(self, now: int) -> Sequence[Notice]:
        """PROXY-UNNAMED, for a day after it was last so."""
        try:
            seen_at = self._path.stat().st_mtime
        except OSError:
            return ()
        if not now - DAY < seen_at < now + _AHEAD:
            return ()
        return (
            Notice(
                rule="PROXY-UNNAMED",
                message="a proxy on this machine does not say for whom it asks: "
                "all its customers share the limits of one",
                remedy="let it set X-Forwarded-For and Host, as intake/deploy/nginx.conf does; "
                "this goes a day after it last happened",
            ),
        )
