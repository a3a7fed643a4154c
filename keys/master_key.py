"""The master key of the keystore: under one passphrase, or under two that two people hold (dual control).

Why here: how many people it takes to open the keystore is decided in one place, and told by the files themselves.
Must not: say that a passphrase is wrong when a file is damaged, or leave open which of two is wrong.

One passphrase: ``master.key`` holds the master key. Two: ``master.key`` holds a random half under the first,
``master.second.key`` one under the second, and the master key is their XOR: either half alone says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from keys import keyfile
from keys.durable import settle_erasing
from keys.errors import KeysError
from keys.keyfile import Kind
from keys.private.locked import LockedBuffer
from keys.private.secretbox import KEY_SIZE, generate_key

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FIRST_NAME: Final = "master.key"
SECOND_NAME: Final = "master.second.key"
_WHOLE: Final = (Kind.KEYSTORE, Kind.REHEARSAL)
_FIRST: Final = (Kind.KEYSTORE_FIRST, Kind.REHEARSAL_FIRST)
_SECOND: Final = (Kind.KEYSTORE_SECOND, Kind.REHEARSAL_SECOND)
_REHEARSALS: Final = (Kind.REHEARSAL, Kind.REHEARSAL_FIRST, Kind.REHEARSAL_SECOND)
MOST_PASSPHRASES: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What the authenticated headers say of the keystore: ``identity`` is the hex of the one it was made with."""

    rehearsal: bool
    identity: str


def create(
    directory: Path,
    master: LockedBuffer,
    passphrases: Sequence[LockedBuffer],
    *,
    identity: bytes,
    rehearsal: bool,
) -> Stated:
    """Write the key files; with the last of them the keystore is complete. ``KEYSTORE-PASSPHRASES``."""
    stated = Stated(rehearsal=rehearsal, identity=identity.hex())
    cost = keyfile.INTERACTIVE if rehearsal else keyfile.MODERATE
    at = 1 if rehearsal else 0
    first = directory / FIRST_NAME
    if len(passphrases) == 1:
        keyfile.create(first, _WHOLE[at], identity, master.view, passphrases[0], cost)
        return stated
    if len(passphrases) != MOST_PASSPHRASES:
        raise _wrong_number(directory, MOST_PASSPHRASES, len(passphrases))
    with generate_key() as one, _xor(one, master) as other:
        keyfile.create(directory / SECOND_NAME, _SECOND[at], identity, other.view, passphrases[1], cost)
        keyfile.create(first, _FIRST[at], identity, one.view, passphrases[0], cost)
    return stated


def read(path: Path, passphrases: Sequence[LockedBuffer]) -> tuple[Stated, LockedBuffer]:
    """The master key, with what its files say.

    Raises ``KEYSTORE-PASSPHRASES`` (another number of them is wanted), ``KEY-PASSPHRASE`` (and which is
    wrong), ``KEY-FILE-MISSING``, ``KEY-FILE-MODE``, ``KEY-FILE-DAMAGED`` or ``KEY-FILE-KIND``.
    """
    wanted = wants(path)
    if len(passphrases) != wanted:
        raise _wrong_number(path, wanted, len(passphrases))
    if wanted == 1:
        header, master = keyfile.read(path / FIRST_NAME, _WHOLE, passphrases[0])
        return _stated(header), master
    # Damage of either file comes first: then no passphrase is to blame.
    second_header = keyfile.read_header(path / SECOND_NAME)
    halves: list[LockedBuffer] = []
    wrong: list[str] = []
    try:
        for name, kinds, passphrase, which in (
            (FIRST_NAME, _FIRST, passphrases[0], "first"),
            (SECOND_NAME, _SECOND, passphrases[1], "second"),
        ):
            try:
                halves.append(keyfile.read(path / name, kinds, passphrase)[1])
            except KeysError as error:
                if error.rule != "KEY-PASSPHRASE":
                    raise
                wrong.append(which)
        if wrong:
            raise _wrong_passphrase(path, wrong)
        stated = _stated(keyfile.read_header(path / FIRST_NAME))
        if stated != _stated(second_header):
            remedy = "the two key files are of different keystores: put back the one that belongs here"
            raise KeysError("KEYSTORE-DAMAGED", f"the key files in {path} do not belong together", remedy)
        return stated, _xor(*halves)
    finally:
        for half in halves:
            half.close()


def change_passphrase(path: Path, holder: int, old: LockedBuffer, new: LockedBuffer) -> None:
    """Give holder 1 or 2 a new passphrase; master key, ring and the other holder's stay. The caller has the lock.

    Raises ``KEYSTORE-PASSPHRASES`` (there is no second holder), ``KEY-PASSPHRASE-SAME``, ``KEY-PASSPHRASE`` or what
    ``keyfile.read`` raises.
    """
    wanted = wants(path)
    if holder > wanted:
        raise _wrong_number(path, wanted, holder)
    if old.view == new.view:
        raise KeysError("KEY-PASSPHRASE-SAME", "the new passphrase is the old one", "choose another")
    if holder == MOST_PASSPHRASES:
        keyfile.change_passphrase(path / SECOND_NAME, _SECOND, old, new)
    else:
        keyfile.change_passphrase(path / FIRST_NAME, _FIRST if wanted > 1 else _WHOLE, old, new)


def settle(path: Path) -> None:
    """End what a crash left of a change of passphrase: one of the two opens, the other's file is erased."""
    for name in (FIRST_NAME, SECOND_NAME):
        settle_erasing(path / name)


def wants(path: Path) -> int:
    """How many passphrases open this keystore, as its file says before it is opened."""
    return MOST_PASSPHRASES if keyfile.read_header(path / FIRST_NAME).kind in _FIRST else 1


def claims_rehearsal(path: Path) -> bool:
    """What the keystore says before it is opened: for prompts only."""
    try:
        return keyfile.read_header(path / FIRST_NAME).kind in _REHEARSALS
    except KeysError:
        return False


def _stated(header: keyfile.Header) -> Stated:
    return Stated(rehearsal=header.kind in _REHEARSALS, identity=header.public_key)


def _xor(one: LockedBuffer, other: LockedBuffer) -> LockedBuffer:
    result = LockedBuffer(KEY_SIZE)
    for at in range(KEY_SIZE):
        result.view[at] = one.view[at] ^ other.view[at]  # single bytes are shared, cached objects
    return result


def _wrong_number(path: Path, wanted: int, given: int) -> KeysError:
    remedy = (
        "two people hold one passphrase each: give the second too (--second-passphrase-fd, "
        "second_passphrase_file, or at the terminal)"
        if wanted == MOST_PASSPHRASES
        else "give one passphrase only"
    )
    message = f"the keystore {path} opens with {wanted} passphrases; {given} were given"
    return KeysError("KEYSTORE-PASSPHRASES", message, remedy)


def _wrong_passphrase(path: Path, wrong: list[str]) -> KeysError:
    which = (
        f"the {wrong[0]} passphrase is not that of {path}"
        if len(wrong) == 1
        else f"neither passphrase is that of {path}"
    )
    remedy = (
        "the files are whole: type it again, check the keyboard layout, and that each is in its own place"
    )
    return KeysError("KEY-PASSPHRASE", which, remedy)
