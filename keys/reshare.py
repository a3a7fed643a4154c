"""A new custody key and a new share set, when a custodian leaves or a sheet is lost.

Why here: like a ceremony it hands shares out and proves them, but the keystore and its keys stay.
Must not: take the new custody over before a quorum of the new sheets has opened a copy.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from keys.custody import split
from keys.durable import create_durable, fsync_directory, make_directory
from keys.errors import KeysError
from keys.private.swap import check_swap
from keys.public.fingerprint import fingerprint, words
from keys.quorum import ask_shares
from keys.record_facts import record_act
from keys.record_form import Act
from keys.recovery import COPY_NAME, prove_copy
from keys.screen import private_screen
from keys.share_screen import hand_out_all

if TYPE_CHECKING:
    from pathlib import Path

    from keys.custody import Custody
    from keys.keystore import Keystore
    from keys.private.swap import OnSwap
    from keys.software import Software

_PUBLIC_MODE: Final = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Reshared:
    """A share set that replaced another; the former copies and sheets are of no use once they are burnt."""

    rehearsal: bool
    threshold: int
    shares: int
    set_id: int
    former_set_id: int | None
    custody_fingerprint: str
    custody_words: str
    output: Path


def reshare(
    keystore: Keystore,
    *,
    threshold: int,
    custodians: tuple[str, ...],
    output: Path,
    title: str,
    passphrases: int,
    software: Software,
    on_swap: OnSwap,
    mark: str,
    now: int,
) -> Reshared:
    """Hand out a new share set for ``keystore`` at the terminal, and write copy and record to ``output``.

    Raises ``CEREMONY-PEOPLE``, ``CEREMONY-EXISTS``, ``SWAP-NOT-ENCRYPTED``, ``CEREMONY-TERMINAL``, or
    ``CEREMONY-BROKEN-OFF``; then the former share set stays as it was.
    """
    _check(threshold, custodians, output)
    check_swap(on_swap)
    former = keystore.custody
    aside = output.with_name(f".{output.name}.reshare")
    try:
        with private_screen(mark=mark) as screen:
            custody, key, shares = split(threshold, len(custodians))
            key.close()
            hand_out_all(screen, shares, custodians, custody, title)
            screen.heading = "All new shares are out: rehearse the recovery"
            key = ask_shares(screen, custody, f"Any {threshold} custodians type their new shares.")
            with key.private:
                prove_copy(keystore, key, now, custody)
    except KeyboardInterrupt as error:
        raise KeysError(
            "CEREMONY-BROKEN-OFF",
            "no new share set was taken over: the former shares stay as they are",
            "sheets with words from this attempt open nothing: burn them, witnessed. Then begin again",
        ) from error
    if os.path.lexists(aside):
        shutil.rmtree(aside)
    make_directory(aside, 0o755)
    keystore.replace_custody(custody)
    create_durable(aside / COPY_NAME, keystore.custody_copy(now), _PUBLIC_MODE)
    record_act(
        keystore,
        aside,
        act=Act.RESHARE,
        title=title,
        files=[COPY_NAME],
        software=software,
        passphrases=passphrases,
        custodians=custodians,
        now=now,
    )
    os.rename(aside, output)
    fsync_directory(output.parent)
    return _reshared(keystore, custody, former, output)


def _reshared(keystore: Keystore, custody: Custody, former: Custody | None, output: Path) -> Reshared:
    return Reshared(
        rehearsal=keystore.rehearsal,
        threshold=custody.threshold,
        shares=custody.shares,
        set_id=custody.set_id,
        former_set_id=None if former is None else former.set_id,
        custody_fingerprint=fingerprint(custody.public_key),
        custody_words=words(custody.public_key),
        output=output,
    )


def _check(threshold: int, custodians: tuple[str, ...], output: Path) -> None:
    fault = None
    if len({name.casefold() for name in custodians}) != len(custodians):
        fault = "a custodian is named twice: one person keeps one share"
    elif not all(name.isprintable() and name.strip() == name and name for name in custodians):
        fault = "a custodian's name has characters that a screen does not show"
    elif threshold > len(custodians):
        fault = f"{threshold} shares are needed and only {len(custodians)} would be made"
    if fault is not None:
        raise KeysError("CEREMONY-PEOPLE", fault, "correct it and begin again; nothing was changed")
    if os.path.lexists(output):
        raise KeysError("CEREMONY-EXISTS", f"{output} exists already", "choose another directory with --out")
