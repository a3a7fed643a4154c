"""Where a command gets the keystore's passphrases from: descriptor, configured file, or terminal, in this order.

Why here: key-ceremony and offline-processor must ask in the same way, for one passphrase or for two.
Must not: keep a passphrase after its block has ended, or judge one that exists.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from keys.config import Risk
from keys.master_key import FIRST_NAME, MOST_PASSPHRASES, claims_rehearsal, wants
from keys.private.passphrase import read_passphrase
from keys.private.swap import OnSwap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from keys.config import KeystoreConfig
    from keys.private.locked import LockedBuffer

Descriptors = tuple[int | None, int | None]


@contextlib.contextmanager
def keystore_passphrases(settings: KeystoreConfig, fds: Descriptors) -> Iterator[tuple[LockedBuffer, ...]]:
    """The passphrases of an existing keystore, one or two as it wants; wiped at the end of the block.

    Raises as ``read_passphrase`` does.
    """
    # A keystore that is not there is refused when it is opened, with its own words.
    count = wants(settings.path) if (settings.path / FIRST_NAME).exists() else 1
    rehearsal = claims_rehearsal(settings.path)
    prompt = "REHEARSAL passphrase" if rehearsal else "Passphrase of the keystore"
    yield from _asked(settings, fds, count, prompt, new=False, rehearsal=rehearsal)


@contextlib.contextmanager
def new_keystore_passphrases(
    settings: KeystoreConfig,
    fds: Descriptors,
    *,
    count: int,
    rehearsal: bool,
    says_rehearsal: bool = False,
) -> Iterator[tuple[LockedBuffer, ...]]:
    """The passphrases of a keystore that is about to be made: asked twice on a terminal, never a short one.

    ``says_rehearsal``: what nobody has authenticated yet claims so. It changes the prompt and nothing else.
    """
    prompt = "New REHEARSAL passphrase" if rehearsal or says_rehearsal else "New passphrase"
    yield from _asked(settings, fds, count, prompt, new=True, rehearsal=rehearsal)


def on_swap(settings: KeystoreConfig, *, rehearsal: bool) -> OnSwap:
    """What to do where this machine's swap is not encrypted. Only throwaway keys and a named risk go on."""
    if rehearsal:
        return OnSwap.REHEARSAL
    return OnSwap.ACCEPT if Risk.UNENCRYPTED_SWAP in settings.accept_risk else OnSwap.REFUSE


def _asked(
    settings: KeystoreConfig, fds: Descriptors, count: int, prompt: str, *, new: bool, rehearsal: bool
) -> Iterator[tuple[LockedBuffer, ...]]:
    files: tuple[Path | None, ...] = (settings.passphrase_file, settings.second_passphrase_file)
    asked: list[LockedBuffer] = []
    try:
        for file, descriptor, which in list(zip(files, fds, ("first", "second"), strict=True))[:count]:
            whose = f"{prompt} ({which} holder)" if count == MOST_PASSPHRASES else prompt
            asked.append(
                read_passphrase(
                    file=file,
                    descriptor=descriptor,
                    prompt=whose,
                    new=new,
                    second=which == "second",
                    on_swap=on_swap(settings, rehearsal=rehearsal),
                )
            )
        yield tuple(asked)
    finally:
        for passphrase in asked:
            passphrase.close()
