"""The record of an act while the shop goes on: who stands for it, and where it is written.

Why here: what changes, forbids or destroys a key leaves a signed record beside the keystore and beside its copy.
Must not: write over an earlier record, or hide that a change was made when its record could not be written.
"""

from __future__ import annotations

import secrets
import sys
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from keys.ceremony_file import Duty, Person
from keys.durable import make_directory
from keys.errors import KeysError
from keys.record_facts import record_act
from keys.record_form import Act, ChangedKey, RecordedCopy
from keys.software import file_digest, installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from keys.keystore import Keystore

F = TypeVar("F", bound="Callable[..., Any]")

_NAME_LIMIT: Final = 120


def who_option(function: F) -> F:
    """Add ``--who NAME`` (passed as ``who``, a tuple)."""
    option = click.option(
        "--who", multiple=True, metavar="NAME", help="Who does this, for the record; once for each person."
    )
    return option(function)


def people_of(who: Sequence[str], *, needed: bool) -> tuple[Person, ...]:
    """Those who stand for an act; asked on a terminal when nobody is named and it is ``needed``. ``CEREMONY-WHO``."""
    names = [name.strip() for name in who]
    if not names and needed:
        if not sys.stdin.isatty():
            raise KeysError(
                "CEREMONY-WHO",
                "nobody is named who does this, and there is no terminal to ask on",
                "give --who NAME, once for each person: the record says who it was",
            )
        typed = click.prompt("Who does this (names, with commas between them)", err=True)
        names = [name.strip() for name in str(typed).split(",")]
    if not all(name.isprintable() and 0 < len(name) <= _NAME_LIMIT for name in names):
        raise KeysError("CEREMONY-WHO", "this is no name for a record", f"1 to {_NAME_LIMIT} letters a name")
    return tuple(Person(name=name, roles=(Duty.OPERATOR,)) for name in dict.fromkeys(names))


def write_act(
    keystore: Keystore,
    *,
    act: Act,
    title: str,
    people: tuple[Person, ...],
    passphrases: int,
    changed: tuple[ChangedKey, ...],
    copies: tuple[RecordedCopy, ...],
    carried: Path | None,
    now: int,
) -> dict[str, Path]:
    """Write the signed record beside the keystore, and to the new directory ``carried``; where it is.

    Raises ``RECORD-UNWRITTEN``: the act itself is done by then.
    """
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    places = {"record_beside": records_of(keystore.path) / f"{moment}-{act}-{secrets.token_hex(2)}"}
    if carried is not None:
        places["record"] = carried
    for directory in places.values():
        try:
            make_directory(directory, 0o755)
            record_act(
                keystore,
                directory,
                act=act,
                title=title,
                people=people,
                files=[],
                changed=changed,
                custody_copies=copies,
                software=installed(),
                passphrases=passphrases,
                now=now,
            )
        except OSError as error:
            raise KeysError(
                "RECORD-UNWRITTEN",
                f"{title}: done, but its record was not written to {directory}: {error.strerror}",
                "make room, and write down what was done; `key-ceremony custody-copy FILE` writes a new copy "
                "and a record of what there is now",
            ) from error
    return places


def recorded_copies(copies: Iterable[Path]) -> tuple[RecordedCopy, ...]:
    """What a record says of the custody copies that there are."""
    return tuple(RecordedCopy(name=copy.name[-_NAME_LIMIT:], digest=file_digest(copy)) for copy in copies)


def records_of(keystore: Path) -> Path:
    """Where the records of all acts on a keystore are kept."""
    return keystore.with_name(f"{keystore.name}.records")
