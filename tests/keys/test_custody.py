"""Custody: any M of N shares rebuild the key and fewer do not; every kind of wrong share is told apart."""

from __future__ import annotations

import itertools
from functools import cache
from typing import TYPE_CHECKING

import pytest
import shamir_mnemonic
from hypothesis import given, settings
from hypothesis import strategies as st
from shamir_mnemonic import EncryptedMasterSecret, Share
from shamir_mnemonic.wordlist import WORDLIST

from keys.custody import MOST, SHARE_WORDS, Assembly, Custody, split
from keys.errors import KeysError
from keys.private.unseal import SealingKey, open_box
from keys.public.seal import seal

if TYPE_CHECKING:
    from collections.abc import Iterable

NUMBERS = st.integers(2, 6).flatmap(lambda n: st.tuples(st.integers(2, n), st.just(n)))


@cache
def made(threshold: int, shares: int, again: int = 0) -> tuple[Custody, SealingKey, tuple[str, ...]]:
    custody, key, words = split(threshold, shares)
    return custody, key, tuple(words)


def rule_of(assembly: Assembly, words: str) -> str:
    with pytest.raises(KeysError) as refusal:
        assembly.add(words)
    said, typed = refusal.value.message, words.split()
    assert not any(" ".join(pair) in said for pair in itertools.pairwise(typed)), "a refusal shows the share"
    return refusal.value.rule


def filled(custody: Custody | None, words: Iterable[str]) -> Assembly:
    assembly = Assembly(custody)
    for share in words:
        assembly.add(share)
    return assembly


@settings(max_examples=25, deadline=None)
@given(numbers=NUMBERS, data=st.data())
def test_any_m_of_n_rebuild_the_key_in_any_order(numbers: tuple[int, int], data: st.DataObject) -> None:
    custody, key, words = made(*numbers)
    assert len(words) == custody.shares == numbers[1]
    assert all(len(share.split()) == SHARE_WORDS for share in words)
    some = data.draw(st.permutations(words))[: numbers[0]]
    for known in (custody, None):
        assembly = Assembly(known)
        missing = [assembly.add(share) for share in some]
        assert missing == list(range(numbers[0] - 1, -1, -1))
        again = assembly.key()
        box = seal(b"a custody copy", custody.public_key)
        assert open_box(box, again.public_key, again.private) == b"a custody copy"
        assert again.private.view == key.private.view


@settings(max_examples=25, deadline=None)
@given(numbers=NUMBERS, data=st.data())
def test_fewer_than_m_do_not(numbers: tuple[int, int], data: st.DataObject) -> None:
    custody, _, words = made(*numbers)
    assembly = filled(custody, data.draw(st.permutations(words))[: numbers[0] - 1])
    assert assembly.remaining == 1
    with pytest.raises(KeysError) as refusal:
        assembly.key()
    assert refusal.value.rule == "SHARE-MISSING"


def test_m_minus_one_shares_fit_every_key_equally_well() -> None:
    """Not only our refusal: with M-1 genuine shares and any other value in the last, the scheme gives another key."""
    custody, key, words = made(3, 5)
    shares = [Share.from_mnemonic(share) for share in words]
    value = bytes(byte ^ 1 for byte in shares[2].value)
    raw = [(share.index, share.value) for share in shares[:2]] + [(shares[2].index, value)]
    from shamir_mnemonic.shamir import RawShare, _interpolate  # noqa: PLC0415

    other = _interpolate([RawShare(*pair) for pair in raw], 255)
    secret = EncryptedMasterSecret(custody.set_id, True, 0, other).decrypt(b"")
    assert secret != bytes(key.private.view)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_mistyped_share_is_found_by_its_checksum(data: st.DataObject) -> None:
    custody, _, words = made(3, 5)
    typed = data.draw(st.sampled_from(words)).split()
    for place in data.draw(st.lists(st.integers(0, SHARE_WORDS - 1), min_size=1, max_size=3, unique=True)):
        typed[place] = data.draw(st.sampled_from([word for word in WORDLIST if word != typed[place]]))
    # Up to three wrong words are found for certain.
    assert rule_of(Assembly(custody), " ".join(typed)) == "SHARE-CHECKSUM"


@given(typed=st.text(max_size=300))
def test_what_is_no_share_is_refused_in_order(typed: str) -> None:
    with pytest.raises(KeysError) as refusal:
        Assembly(None).add(typed)
    assert refusal.value.rule == "SHARE-FORM"


def test_other_word_lists_and_other_lengths_are_not_shares() -> None:
    custody, _, words = made(3, 5)
    parts = words[0].split()
    assert rule_of(Assembly(custody), " ".join(parts[:-1])) == "SHARE-FORM"
    assert rule_of(Assembly(custody), " ".join([*parts, parts[0]])) == "SHARE-FORM"
    assert rule_of(Assembly(custody), " ".join([*parts[:-1], "zebra"])) == "SHARE-FORM"
    [[short]] = shamir_mnemonic.generate_mnemonics(1, [(1, 1)], b"s" * 16)
    assert rule_of(Assembly(custody), short) == "SHARE-FORM"


def test_case_and_spacing_of_what_is_typed_do_not_matter() -> None:
    custody, key, words = made(2, 3)
    assembly = filled(custody, [words[0].upper(), "  " + words[2].replace(" ", " \t ") + "\n"])
    assert assembly.key().public_key == key.public_key


def test_share_of_another_set_is_told_apart_and_the_right_one_still_counts() -> None:
    custody, key, words = made(3, 5)
    _, _, others = made(3, 5, again=1)
    _, _, smaller = made(2, 3)
    assembly = filled(custody, words[:1])
    for other in (others[1], smaller[0]):
        assert rule_of(assembly, other) == "SHARE-OTHER-SET"
    assert [assembly.add(words[1]), assembly.add(words[2])] == [1, 0]
    assert assembly.key().public_key == key.public_key
    assert rule_of(filled(None, words[:1]), others[1]) == "SHARE-OTHER-SET"


def test_same_share_twice_counts_once() -> None:
    custody, _, words = made(3, 5)
    assembly = filled(custody, words[:2])
    assert rule_of(assembly, words[0]) == "SHARE-REPEATED"
    assert assembly.remaining == 1


def forged(words: str, **changes: object) -> str:
    """A well-formed share, checksum and all, that no ceremony made."""
    import dataclasses  # noqa: PLC0415

    return str(dataclasses.replace(Share.from_mnemonic(words), **changes).mnemonic())


def test_well_formed_share_that_does_not_fit_is_found_and_one_more_share_says_which() -> None:
    custody, key, words = made(3, 5)
    bad = forged(words[1], value=b"x" * 32)
    assembly = filled(custody, [words[0], bad])
    assert rule_of(assembly, words[2]) == "SHARE-WRONG"
    with pytest.raises(KeysError) as refusal:
        assembly.key()
    assert refusal.value.rule == "SHARE-MISSING"
    assert assembly.add(words[3]) == 0
    assert assembly.not_genuine == (2,)
    assert assembly.key().public_key == key.public_key


def test_two_different_shares_with_one_number_are_told_and_settled_by_the_others() -> None:
    custody, key, words = made(3, 5)
    assembly = filled(custody, [words[0]])
    assert rule_of(assembly, forged(words[0], value=b"y" * 32)) == "SHARE-WRONG"
    assert [assembly.add(words[1]), assembly.add(words[2])] == [1, 0]
    assert assembly.not_genuine == (1,)
    assert assembly.key().public_key == key.public_key
    assert rule_of(Assembly(custody), forged(words[0], index=9)) == "SHARE-WRONG"


def test_shares_that_fit_each_other_and_give_another_key_are_refused_by_the_fingerprint() -> None:
    custody, _, _ = made(3, 5)
    secret = EncryptedMasterSecret.from_master_secret(b"z" * 32, b"", custody.set_id, True, 0)
    [group] = shamir_mnemonic.split_ems(1, [(3, 5)], secret)
    assembly = filled(custody, [share.mnemonic() for share in group[:3]])
    with pytest.raises(KeysError) as refusal:
        assembly.key()
    assert refusal.value.rule == "SHARE-FINGERPRINT"
    assert filled(None, [share.mnemonic() for share in group[:3]]).key().private.view == b"z" * 32


@pytest.mark.parametrize(("threshold", "shares"), [(1, 1), (1, 3), (4, 3), (0, 2), (2, MOST + 1)])
def test_custody_that_one_share_opens_or_nobody_is_not_made(threshold: int, shares: int) -> None:
    with pytest.raises(KeysError) as refusal:
        split(threshold, shares)
    assert refusal.value.rule == "CUSTODY-NUMBERS"


def test_every_choice_of_the_largest_custody_works() -> None:
    custody, key, words = made(2, MOST)
    for some in itertools.islice(itertools.combinations(words, 2), 0, 120, 7):
        assert filled(custody, some).key().public_key == key.public_key


def test_independent_tool_joins_the_shares() -> None:
    """The reference's own front door, with no code of ours: what a custodian could use in twenty years."""
    _, key, words = made(3, 5)
    assert shamir_mnemonic.combine_mnemonics(words[1:4]) == bytes(key.private.view)
