"""What every verb that changes keys begins and ends with: the keystore opened, people asked, custody copies written.

Why here: rotation and revocation must refuse, ask and copy in one way (only cli modules read clock and environment).
Must not: let a change begin whose custody copy could not be written.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from keys import console
from keys.ceremony_run import REHEARSAL_MARK
from keys.config import KeystoreConfig, load
from keys.console import say
from keys.durable import create_durable
from keys.errors import KeysError
from keys.keystore import Keystore, claims_rehearsal
from keys.passphrases import Descriptors, keystore_passphrases
from keys.public.fingerprint import matches
from keys.recovery import refresh_copy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

F = TypeVar("F", bound="Callable[..., Any]")

FILE: Final = click.Path(path_type=Path, dir_okay=False)
KEY_ID_DIGITS: Final = 8
_PUBLIC_MODE: Final = 0o644


def copy_option(function: F) -> F:
    """Add ``--custody-copy FILE`` (passed as ``copy_file``)."""
    option = click.option(
        "--custody-copy",
        "copy_file",
        metavar="FILE",
        type=FILE,
        help="Where the new custody copy is written; needed when the keystore has custodians.",
    )
    return option(function)


def settings_of(config: Path, *, as_json: bool) -> KeystoreConfig:
    """The keystore's settings, with the mark of a rehearsal on the screen before anything else."""
    loaded = load(config, {"keystore": KeystoreConfig}, os.environ)["keystore"]
    if not isinstance(loaded, KeystoreConfig):
        raise TypeError("load gives what it is asked for")
    if claims_rehearsal(loaded.path):
        (console.warn if as_json else say)(REHEARSAL_MARK, style="bold")
    return loaded


@contextlib.contextmanager
def opened(settings: KeystoreConfig, fds: Descriptors, copy_file: Path | None) -> Iterator[Keystore]:
    """An open keystore, once it is certain that its custody copy can be written where it should be."""
    if copy_file is not None:
        _refuse_existing(copy_file)
    with keystore_passphrases(settings, fds) as passphrases:
        keystore = Keystore.open(settings.path, passphrases)
    with keystore:
        if keystore.custody is not None and copy_file is None:
            raise KeysError(
                "CUSTODY-COPY",
                "this change must reach the custody copy, or a recovery would bring the old keys back",
                "say where to write the new copy: --custody-copy FILE, on a medium that is kept elsewhere",
            )
        if keystore.custody is None and copy_file is not None:
            raise KeysError("CUSTODY-NONE", "this keystore has no custodians", "leave --custody-copy away")
        yield keystore


def _refuse_existing(copy_file: Path) -> None:
    if os.path.lexists(copy_file):
        remedy = "copies are never overwritten: choose another name"
        raise KeysError("CUSTODY-EXISTS", f"{copy_file} exists already", remedy)
    if not os.access(copy_file.parent, os.W_OK | os.X_OK):
        remedy = "insert the medium, or choose another place"
        raise KeysError("CUSTODY-COPY", f"cannot write into {copy_file.parent}", remedy)


def write_copies(keystore: Keystore, copy_file: Path | None) -> dict[str, Path]:
    """The custody copy beside the keystore, and the one that is carried away."""
    time_now = now()
    beside = refresh_copy(keystore, time_now)
    if beside is None or copy_file is None:
        return {}
    try:
        create_durable(copy_file, keystore.custody_copy(time_now), _PUBLIC_MODE)
    except OSError as error:
        raise KeysError(
            "CUSTODY-COPY",
            f"the change is made, but {copy_file} was not written: {error.strerror}",
            f"write it now: key-ceremony custody-copy FILE, or carry {beside} to another medium",
        ) from error
    return {"custody_copy": copy_file, "custody_copy_beside": beside}


def say_copies(copies: dict[str, Path]) -> None:
    """Tell where the new copy is and what to do with it."""
    if copies:
        say(
            f"The new custody copy: {copies['custody_copy']}. Take it to where copies are kept; the shares stay."
        )


def compare(public_key: bytes, spoken: str, what: str) -> None:
    """Refuse (``KEY-FINGERPRINT``) when ``spoken`` is not this key's fingerprint, in hex or words."""
    if not matches(public_key, spoken):
        raise KeysError(
            "KEY-FINGERPRINT",
            f"{what} does not have the fingerprint that was given",
            "have it read out again; if it still differs, stop: something was exchanged",
        )


def ask(question: str) -> str:
    """What a person types; ``KEY-FINGERPRINT`` when nobody is there."""
    if not sys.stdin.isatty():
        raise KeysError(
            "KEY-FINGERPRINT",
            f"nobody is there to ask: {question}",
            "give it as an option (--fingerprint, --key-id), read from paper or read out by voice",
        )
    # Typed, not shown for a nod: whoever only confirms what the screen says has compared nothing.
    return str(click.prompt(question, err=True))


def short(key_id: bytes) -> str:
    """The first digits of a key id, as `status` shows them."""
    return key_id.hex()[:KEY_ID_DIGITS]


def now() -> int:
    """Unix seconds."""
    return int(time.time())


def date(seconds: int) -> str:
    """Unix seconds as a person reads them."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
