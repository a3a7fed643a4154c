"""Fingerprints in words: the same 128 bits, taken back in either form and in no other."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st
from mnemonic import Mnemonic

from keys.public.fingerprint import fingerprint, matches, words

KEYS = st.binary(min_size=32, max_size=32)


@given(KEYS)
def test_both_forms_say_the_same_and_both_are_taken(key: bytes) -> None:
    spoken = words(key)
    assert len(spoken.split()) == 12
    assert Mnemonic("english").to_entropy(spoken).hex() == fingerprint(key).replace("-", "")
    for form in (
        spoken,
        spoken.upper(),
        spoken.replace(" ", ", "),
        f"  {spoken}\n",
        spoken.replace(" ", "-"),
    ):
        assert matches(key, form)
    assert matches(key, fingerprint(key).upper().replace("-", " "))


@given(KEYS, st.integers(0, 11), st.integers(0, 2047))
def test_one_other_word_does_not_match(key: bytes, place: int, other: int) -> None:
    spoken = words(key).split()
    word = Mnemonic("english").wordlist[other]
    changed = [*spoken[:place], word, *spoken[place + 1 :]]
    assert matches(key, " ".join(changed)) is (word == spoken[place])
    assert not matches(key, " ".join(spoken[:place] + spoken[place + 1 :]))


@given(KEYS, st.text(max_size=200))
def test_anything_else_does_not_match(key: bytes, spoken: str) -> None:
    assert not matches(key, spoken)


def test_order_of_the_words_counts() -> None:
    key = os.urandom(32)
    spoken = words(key).split()
    if spoken[0] != spoken[1]:
        assert not matches(key, " ".join([spoken[1], spoken[0], *spoken[2:]]))
