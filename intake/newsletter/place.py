"""Where the newsletter's file and its secret lie in a node's state.

Why here: the server and the commands open the same two files.
Must not: replace a secret that is damaged: every link that was ever mailed hangs on it, and every mark of who left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from intake.errors import IntakeError
from intake.newsletter.subscribers import Subscribers
from intake.newsletter.tokens import KEY_SIZE, LinkKey
from keys.durable import create_durable, make_directory

_FILE, _SECRET = "newsletter.db", "newsletter.key"


def newsletter_is_there(state: Path) -> bool:
    """Whether anybody ever could ask for the newsletter here."""
    return (state / _FILE).exists()


def open_subscribers(state: Path, *, random: Callable[[int], bytes]) -> Subscribers:
    """The newsletter of the node whose state is ``state``; what is missing is made."""
    make_directory(state)
    path = state / _SECRET
    if not path.exists():
        with contextlib.suppress(FileExistsError):  # another process was quicker
            create_durable(path, random(KEY_SIZE))
    secret = path.read_bytes()
    if len(secret) != KEY_SIZE:
        remedy = "restore it: with another one no link works, and those who left could be written to again"
        raise IntakeError("NEWSLETTER-KEY", f"{path} is damaged", remedy)
    return Subscribers(state / _FILE, key=LinkKey(secret=secret), random=random)
