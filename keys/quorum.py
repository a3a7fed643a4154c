"""Asking M custodians for their shares, one by one, until the custody key can be rebuilt.

Why here: recovery, restore and every other act of a quorum ask in the same way, at a terminal or from a descriptor.
Must not: show a share to the next custodian, keep one longer than needed, or write one anywhere.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from shamir_mnemonic.wordlist import WORDLIST

from keys.custody import SHARE_WORDS, Assembly
from keys.errors import KeysError
from keys.private.swap import OnSwap, check_swap
from keys.screen import private_screen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keys.custody import Custody
    from keys.private.unseal import SealingKey
    from keys.screen import Screen

AGAIN: Final = "redo"  # not in the list of words, nor the beginning of one
_PREFIX: Final = 4  # no two words of the list begin with the same four letters
_LINE_LIMIT: Final = 2048
_BY_PREFIX: Final = {word[:_PREFIX]: word for word in WORDLIST}
_NO_WORDS: Final = (
    f"Type the words with blanks between them, on one line or several; '{AGAIN}' begins anew.",
)


def ask_quorum(
    custody: Custody | None,
    *,
    shares_fd: int | None,
    on_swap: OnSwap = OnSwap.REFUSE,
    purpose: str = "",
    mark: str = "",
) -> SealingKey:
    """The custody key, rebuilt from the shares of enough custodians; close it soon.

    At the terminal a wrong share is named and asked for again, and the screen is cleared after each. From
    ``shares_fd`` (one share a line) a wrong share is refused. ``custody`` None takes any set's key.
    Raises ``SHARE-FORM``, ``SHARE-CHECKSUM``, ``SHARE-OTHER-SET``, ``SHARE-REPEATED``, ``SHARE-WRONG``,
    ``SHARE-MISSING``, ``SHARE-FINGERPRINT``, ``SWAP-NOT-ENCRYPTED`` or ``CEREMONY-TERMINAL``.
    """
    check_swap(on_swap)
    if shares_fd is not None:
        return _from_descriptor(custody, shares_fd)
    with private_screen(mark=mark) as screen:
        return ask_shares(screen, custody, purpose)


def ask_shares(screen: Screen, custody: Custody | None, purpose: str) -> SealingKey:
    """The same on a screen that is there already."""
    assembly = Assembly(custody)
    given, missing = 0, custody.threshold if custody is not None else None
    while missing is None or missing > 0:
        total = f" of {given + missing}" if missing is not None else ""
        screen.page(
            purpose, f"Share {given + 1}{total}: its custodian alone looks at the screen.", *_NO_WORDS
        )
        reason = ""
        while True:
            if reason:
                screen.page(
                    purpose,
                    f"Share {given + 1}{total} was not taken. {reason}",
                    "Type it again, or let another custodian type theirs.",
                    *_NO_WORDS,
                )
            try:
                missing = assembly.add(read_share(screen))
            except KeysError as error:
                if not error.rule.startswith("SHARE-"):
                    raise
                reason = f"{error.rule}: {error.message}."
                continue
            break
        given += 1
        screen.clear()
    return assembly.key()


def read_share(screen: Screen) -> str:
    """The words of one share as typed: four letters are enough for a word, unknown words are asked for again."""
    typed: list[str] = []
    while len(typed) < SHARE_WORDS:
        line = screen.ask(f"Word {len(typed) + 1}").lower().split()
        if AGAIN in line:
            typed = []
            screen.page(*_NO_WORDS)
            continue
        if typed and len(line) == SHARE_WORDS:
            screen.say(f"These are all {SHARE_WORDS} words: what was typed before is forgotten.")
            typed = []
        if len(typed) + len(line) > SHARE_WORDS:
            screen.say(
                f"A share has {SHARE_WORDS} words, and with this line there would be {len(typed) + len(line)}. "
                f"Nothing of the line was taken: type words {len(typed) + 1} to {SHARE_WORDS}, or '{AGAIN}'."
            )
            continue
        for word in line:
            known = completed(word)
            if known is None:
                screen.say(
                    f"Word {len(typed) + 1}, '{word}', is not in the list of words. Go on from word {len(typed) + 1}."
                )
                break
            typed.append(known)
    return " ".join(typed)


def completed(word: str) -> str | None:
    """The word of the SLIP-39 list that begins so (four letters or the whole word); None when there is none."""
    found = _BY_PREFIX.get(word[:_PREFIX])
    return found if found is not None and found.startswith(word) else None


def _from_descriptor(custody: Custody | None, descriptor: int) -> SealingKey:
    assembly = Assembly(custody)
    for words in _lines(descriptor):
        if assembly.add(words) == 0:
            return assembly.key()
    raise KeysError(
        "SHARE-MISSING",
        f"descriptor {descriptor} gave fewer shares than are needed",
        "give one share a line, of as many custodians as the threshold says",
    )


def _lines(descriptor: int) -> Iterator[str]:
    line = bytearray()
    while True:
        try:
            byte = os.read(descriptor, 1)
        except OSError as error:
            message = f"cannot read shares from descriptor {descriptor}: {error.strerror}"
            raise KeysError("SHARE-MISSING", message, "open it: --shares-fd 3 3< FILE") from error
        if byte not in {b"", b"\n"}:
            line += byte
            if len(line) > _LINE_LIMIT:
                raise KeysError("SHARE-FORM", f"a line of descriptor {descriptor} is too long for a share")
            continue
        if line.strip():
            yield line.decode("utf-8", "replace").strip()
        line.clear()
        if byte == b"":
            return
