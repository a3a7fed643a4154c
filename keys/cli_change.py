"""What every verb that changes keys begins and ends with: the keystore opened, people asked, copy and record written.

Why here: enrolment, rotation and revocation must refuse, ask, copy and record in one way.
Must not: let a change begin whose custody copy could not be written, or that nobody stands for.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from keys import console
from keys.act_record import people_of, recorded_copies, write_act
from keys.ceremony_file import Person
from keys.ceremony_run import REHEARSAL_MARK
from keys.config import KeystoreConfig, load
from keys.console import say
from keys.copy_age import CopyState
from keys.durable import create_durable
from keys.errors import KeysError
from keys.keystore import Keystore, claims_rehearsal
from keys.passphrases import Descriptors, keystore_passphrases
from keys.private.swap import OnSwap, check_swap
from keys.record_form import Act, ChangedKey
from keys.recovery import refresh_copy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

F = TypeVar("F", bound="Callable[..., Any]")

DIRECTORY: Final = click.Path(path_type=Path, file_okay=False)
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
    settings = read_settings(config)
    banner(as_json=as_json, rehearsal=claims_rehearsal(settings.path))
    return settings


def read_settings(config: Path) -> KeystoreConfig:
    """The same without the mark, for a verb that has no keystore yet or says it in its own place."""
    loaded = load(config, {"keystore": KeystoreConfig}, os.environ)["keystore"]
    if not isinstance(loaded, KeystoreConfig):
        raise TypeError("load gives what it is asked for")
    return loaded


def banner(*, as_json: bool, rehearsal: bool) -> None:
    """The mark of a rehearsal, and of a machine whose swap is not encrypted."""
    if rehearsal:
        speak = console.warn if as_json else say
        speak(REHEARSAL_MARK, style="bold")
        if (mark := check_swap(OnSwap.REHEARSAL)) is not None:
            speak(mark, style="bold")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """An open keystore, who stands for what is done with it, and where copy and record go."""

    keystore: Keystore
    people: tuple[Person, ...]
    passphrases: int
    copy_file: Path | None

    def end(self, act: Act, title: str, changed: Sequence[ChangedKey] = ()) -> dict[str, Path]:
        """Write custody copies and signed record of what was done; where they are."""
        time_now = now()
        written = write_copies(self.keystore, self.copy_file, time_now)
        if self.people:
            carried = None if self.copy_file is None else _record_of(self.copy_file)
            made = self.record(act, title, changed, list(written.values()), carried, time_now)
            written |= made
        return written

    def record(
        self,
        act: Act,
        title: str,
        changed: Sequence[ChangedKey],
        copies: Iterable[Path],
        carried: Path | None,
        time_now: int,
    ) -> dict[str, Path]:
        """Write the signed record beside the keystore, and to ``carried``; where it is."""
        return write_act(
            self.keystore,
            act=act,
            title=title,
            people=self.people,
            passphrases=self.passphrases,
            changed=tuple(changed),
            copies=recorded_copies(copies),
            carried=carried,
            now=time_now,
        )


def _record_of(copy_file: Path) -> Path:
    return copy_file.with_name(f"{copy_file.name}.record")


@contextlib.contextmanager
def opened(
    settings: KeystoreConfig,
    fds: Descriptors,
    copy_file: Path | None,
    who: Sequence[str],
    *,
    copy_needed: bool = True,
) -> Iterator[Work]:
    """An open keystore, once it is certain that copy and record can be written, and who stands for the change."""
    if copy_file is not None:
        for place in (copy_file, _record_of(copy_file)):
            _refuse_existing(place)
    with keystore_passphrases(settings, fds) as passphrases:
        keystore = Keystore.open(settings.path, passphrases)
    with keystore:
        if keystore.custody is not None and copy_file is None and copy_needed:
            raise KeysError(
                "CUSTODY-COPY",
                "this change must reach the custody copy, or a recovery would bring the old keys back",
                "say where to write the new copy: --custody-copy FILE, on a medium that is kept elsewhere",
            )
        if keystore.custody is None and copy_file is not None:
            raise KeysError("CUSTODY-NONE", "this keystore has no custodians", "leave --custody-copy away")
        people = people_of(who, needed=keystore.custody is not None)
        yield Work(keystore=keystore, people=people, passphrases=len(passphrases), copy_file=copy_file)


def _refuse_existing(copy_file: Path) -> None:
    if os.path.lexists(copy_file):
        remedy = "copies and records are never overwritten: choose another name"
        raise KeysError("CUSTODY-EXISTS", f"{copy_file} exists already", remedy)
    if not os.access(copy_file.parent, os.W_OK | os.X_OK):
        remedy = "insert the medium, or choose another place"
        raise KeysError("CUSTODY-COPY", f"cannot write into {copy_file.parent}", remedy)


def write_copies(keystore: Keystore, copy_file: Path | None, time_now: int) -> dict[str, Path]:
    """The custody copy beside the keystore, and the one that is carried away."""
    beside = refresh_copy(keystore, time_now)
    if beside is None:
        return {}
    if copy_file is None:
        return {"custody_copy_beside": beside}
    try:
        create_durable(copy_file, keystore.custody_copy(time_now), _PUBLIC_MODE)
    except OSError as error:
        raise KeysError(
            "CUSTODY-COPY",
            f"the change is made, but {copy_file} was not written: {error.strerror}",
            f"write it now: key-ceremony custody-copy FILE, or carry {beside} to another medium",
        ) from error
    return {"custody_copy": copy_file, "custody_copy_beside": beside}


def say_copies(written: dict[str, Path]) -> None:
    """Tell where the new copy and the record are, and what to do with them."""
    if "custody_copy" in written:
        say(
            f"The new custody copy: {written['custody_copy']}. Take it to where copies are kept; the shares stay."
        )
        say("Destroy the copy that it replaces: it still holds what was destroyed since.")
    elif "custody_copy_beside" in written:
        say(
            f"The custody copy is written anew: take {written['custody_copy_beside']} to the two media that keep it."
        )
    if "record_beside" in written:
        say(f"The signed record of this: {written.get('record', written['record_beside'])}")


def say_copy_states(copies: Sequence[CopyState]) -> None:
    """How old each custody copy is, with a warning for one that is behind the keys."""
    for copy in copies:
        written = "is not there" if copy.copied_at is None else f"was written at {date(copy.copied_at)}"
        say(f"Custody copy {copy.path} {written}.")
        if copy.old:
            say(f"  {copy.rule}: {copy.reason}. Write a new one: key-ceremony custody-copy FILE", "bold")


def short(key_id: bytes) -> str:
    """The first digits of a key id, as `status` shows them."""
    return key_id.hex()[:KEY_ID_DIGITS]


def now() -> int:
    """Unix seconds."""
    return int(time.time())


def date(seconds: int) -> str:
    """Unix seconds as a person reads them."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
