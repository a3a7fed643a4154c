"""Custody: a sealing key whose private half only M of N custodians can rebuild from their shares (SLIP-39).

Why here: splitting, checking each share as it is given, and rebuilding are one scheme; the quorum's screens are not.
Must not: keep a share or the private key after use, or accept a rebuilt key that is not the keystore's.

`shamir-mnemonic` (SatoshiLabs' reference) works on Python objects: while shares are made or put together, the
key and the shares are ordinary ``bytes`` and ``str`` in this process, which nothing can wipe for certain. So
this happens in commands of its own that end soon after, and what is kept is in locked memory. No SLIP-39
passphrase is used: with a wrong one the scheme gives a wrong key in silence. Any SLIP-39 tool can join the shares.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import shamir_mnemonic
from shamir_mnemonic import MnemonicError, Share
from shamir_mnemonic.shamir import ShareGroup
from shamir_mnemonic.wordlist import WORD_INDEX_MAP

from keys.errors import KeysError
from keys.private.locked import LockedBuffer
from keys.private.unseal import (
    PRIVATE_KEY_SIZE,
    SealingKey,
    generate_sealing_key,
    public_key_of,
    sealing_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

SHARE_WORDS: Final = 33
FEWEST: Final = 2
MOST: Final = 16  # SLIP-39 has no more
_WORDS_LIMIT: Final = 1024  # characters
_NOT_GENUINE: Final = (
    "give another custodian's share as well: with one more, the one that does not fit is found"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Custody:
    """What everybody may know of a custody: its X25519 key (32 bytes), M, N, and the identifier in every share."""

    public_key: bytes
    threshold: int
    shares: int
    set_id: int


def split(threshold: int, shares: int) -> tuple[Custody, SealingKey, list[str]]:
    """A new custody key and its N shares, each 33 words; any ``threshold`` of them rebuild the key.

    Raises ``CUSTODY-NUMBERS`` unless 2 <= threshold <= shares <= 16.
    """
    if not FEWEST <= threshold <= shares <= MOST:
        raise KeysError(
            "CUSTODY-NUMBERS",
            f"a custody of {threshold} of {shares} shares cannot be made",
            f"at least {FEWEST} of at most {MOST}: one share alone must never be enough",
        )
    key = generate_sealing_key()
    secret = bytes(key.private.view)  # see the head of this module
    [made] = shamir_mnemonic.generate_mnemonics(1, [(threshold, shares)], secret, iteration_exponent=0)
    custody = Custody(
        public_key=key.public_key,
        threshold=threshold,
        shares=shares,
        set_id=Share.from_mnemonic(made[0]).identifier,
    )
    # Rebuilt from the first and from the last of them before anyone relies on a share.
    for some in (made[:threshold], made[-threshold:]):
        assembly = Assembly(custody)
        for words in some:
            assembly.add(words)
        assembly.key().close()
    return custody, key, list(made)


class Assembly:
    """Shares as the custodians give them, until there are enough.

    ``custody`` is the one that the shares must belong to; None when only the shares themselves know.
    """

    __slots__ = ("_custody", "_fitting", "_given")

    def __init__(self, custody: Custody | None) -> None:
        self._custody = custody
        self._given: list[Any] = []
        self._fitting: tuple[Any, ...] | None = None

    @property
    def remaining(self) -> int:
        """How many shares are still missing; at 0 ``key`` can be asked for, unless they do not fit."""
        threshold = self._threshold()
        if threshold is None:
            return FEWEST
        missing = threshold - len({share.index for share in self._given})
        return 0 if self._fitting is not None else max(missing, 0)

    def add(self, words: str) -> int:
        """Take one share; how many are still missing. After a refusal more shares may be added.

        Raises ``SHARE-FORM`` (not 33 words of the list), ``SHARE-CHECKSUM`` (mistyped), ``SHARE-OTHER-SET``,
        ``SHARE-REPEATED``, or ``SHARE-WRONG`` (well formed, of this set by its words, and does not fit).
        """
        share = _parse(words)
        self._refuse_other_set(share)
        if share in self._given:
            raise KeysError(
                "SHARE-REPEATED", "this very share was given before", "the next custodian's share is wanted"
            )
        self._given.append(share)
        conflict = any(each.index == share.index for each in self._given[:-1])
        if self._fitting is None:
            self._fitting = self._find_fitting(share)
        if self._fitting is None and conflict:
            message = (
                f"share {share.index + 1} was given before with other words: one of the two is not genuine"
            )
            raise KeysError("SHARE-WRONG", message, _NOT_GENUINE)
        if self._fitting is None and self.remaining == 0:
            raise KeysError(
                "SHARE-WRONG", "these shares do not fit together: at least one is not genuine", _NOT_GENUINE
            )
        return self.remaining

    @property
    def not_genuine(self) -> tuple[int, ...]:
        """The numbers of shares that turned out not to fit, once enough others did (from 1)."""
        fitting = self._fitting or ()
        return tuple(share.index + 1 for share in self._given if fitting and not self._belongs(share))

    def key(self) -> SealingKey:
        """The custody key; close it soon.

        Raises ``SHARE-MISSING`` before there are enough, ``SHARE-FINGERPRINT`` when it is not ``custody``'s.
        """
        if self._fitting is None:
            raise KeysError(
                "SHARE-MISSING", f"{max(self.remaining, 1)} more shares are needed", "ask another custodian"
            )
        key = _rebuilt(self._fitting)
        if self._custody is not None and key.public_key != self._custody.public_key:
            key.close()
            raise KeysError(
                "SHARE-FINGERPRINT",
                "the shares fit together, but the key that they give is not this keystore's custody key",
                "these are shares of another custody: compare the set number on the envelopes with the record",
            )
        return key

    def _threshold(self) -> int | None:
        if self._custody is not None:
            return self._custody.threshold
        return self._given[0].member_threshold if self._given else None

    def _refuse_other_set(self, share: Any) -> None:
        if self._custody is not None:
            found = (share.identifier, share.member_threshold)
            belongs = found == (self._custody.set_id, self._custody.threshold)
        else:
            belongs = all(each.group_parameters() == share.group_parameters() for each in self._given[:1])
        if not belongs or share.group_count != 1:
            wanted = "this custody" if self._custody is not None else "the shares given before"
            raise KeysError(
                "SHARE-OTHER-SET",
                f"this share is whole, but it is of set {share.identifier}, not of {wanted}",
                "an old share, or one of another keystore or a rehearsal: look at the envelope's set number",
            )
        if self._custody is not None and share.index >= self._custody.shares:
            message = f"there is no share {share.index + 1} in a custody of {self._custody.shares}"
            raise KeysError("SHARE-WRONG", message, "this share is not genuine: keep it, and ask who made it")

    def _find_fitting(self, newest: Any) -> tuple[Any, ...] | None:
        """Enough shares, the newest among them, that agree; with a custody those that give its key."""
        others = self._given[:-1]
        fallback = None
        for some in itertools.combinations(others, newest.member_threshold - 1):
            shares = (*some, newest)
            if len({share.index for share in shares}) < len(shares) or not _agree(shares):
                continue
            if self._custody is None:
                return shares
            with _rebuilt(shares).private as private:
                if public_key_of(private) == self._custody.public_key:
                    return shares
            fallback = shares
        return fallback

    def _belongs(self, share: Any) -> bool:
        fitting = self._fitting or ()
        if share in fitting:
            return True
        others = [each for each in fitting if each.index != share.index]
        return _agree((*others[: share.member_threshold - 1], share))


def _parse(words: str) -> Any:
    if len(words) > _WORDS_LIMIT or len(words.split()) != SHARE_WORDS:
        count = len(words[:_WORDS_LIMIT].split())
        message = f"a share has {SHARE_WORDS} words; {count} were given"
        raise KeysError("SHARE-FORM", message, "type all words of one share, with a space between them")
    for place, word in enumerate(words.split(), start=1):
        if word.lower() not in WORD_INDEX_MAP:
            message = f"word {place} is not a word of the list"
            raise KeysError("SHARE-FORM", message, "look at the printed share: each word is in the list")
    try:
        share = Share.from_mnemonic(words)
    except MnemonicError as error:
        # The library's text quotes the first words, so it is not handed on.
        if "checksum" in str(error):
            raise KeysError(
                "SHARE-CHECKSUM",
                "the words do not agree with each other: at least one is mistyped or in the wrong place",
                "compare each word with the printed share, and type it again",
            ) from None
        raise KeysError("SHARE-FORM", "these words are not a share of this kind") from None
    return share


def _agree(shares: Iterable[Any]) -> bool:
    try:
        _combined(shares)
    except MnemonicError:  # each share was parsed before; what is left is that they give no common secret
        return False
    return True


def _combined(shares: Iterable[Any]) -> Any:
    group = ShareGroup()
    for share in shares:
        group.add(share)
    return shamir_mnemonic.recover_ems({0: group})


def _rebuilt(shares: Iterable[Any]) -> SealingKey:
    secret = _combined(shares).decrypt(b"")  # see the head of this module
    private = LockedBuffer(PRIVATE_KEY_SIZE).copy_from(secret)
    return sealing_key(public_key_of(private), private)
