"""Shares from a descriptor and as people type them: four letters are enough, nothing else is taken for a word."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shamir_mnemonic.wordlist import WORDLIST

from keys.custody import split
from keys.errors import KeysError
from keys.quorum import AGAIN, ask_quorum, completed
from keys.share_screen import SHOW, grid
from tests.keys.terminal import words_in


def quorum_of(text: bytes) -> str:
    reading, writing = os.pipe()
    os.write(writing, text)
    os.close(writing)
    try:
        key = ask_quorum(None, shares_fd=reading)
    except KeysError as error:
        return error.rule
    finally:
        os.close(reading)
    with key.private:
        return key.public_key.hex()


@given(st.sampled_from(WORDLIST), st.integers(0, 8))
def test_four_letters_are_a_word_and_fewer_are_none(word: str, length: int) -> None:
    typed = word[:length]
    assert completed(typed) == (word if length >= 4 else None)


@given(st.text(max_size=12))
def test_nothing_else_is_taken_for_a_word(typed: str) -> None:
    found = completed(typed)
    assert found is None or (found in WORDLIST and found.startswith(typed) and len(typed) >= 4)


def test_words_that_command_the_screen_are_no_words_of_a_share() -> None:
    assert completed(AGAIN) is None
    assert completed(SHOW) is None


def test_enough_lines_rebuild_the_key_and_no_byte_more_is_wanted() -> None:
    custody, key, shares = split(2, 3)
    key.close()
    text = f"\n{shares[2]}\n\n  {shares[0].upper()}  ".encode()
    assert quorum_of(text) == custody.public_key.hex()
    assert quorum_of(f"{shares[2]}\n".encode()) == "SHARE-MISSING"
    assert quorum_of(b"") == "SHARE-MISSING"


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_by_a_rule(raw: bytes) -> None:
    assert quorum_of(raw).startswith("SHARE-")


def test_a_line_without_end_is_not_read_for_ever() -> None:
    assert quorum_of(b"x" * 3000) == "SHARE-FORM"
    with pytest.raises(KeysError) as refusal:
        ask_quorum(None, shares_fd=987)
    assert refusal.value.rule == "SHARE-MISSING"


@given(st.lists(st.sampled_from(WORDLIST), min_size=33, max_size=33))
def test_grid_shows_every_word_once_by_its_number(words: list[str]) -> None:
    assert words_in("\r\n".join(grid(" ".join(words))) + "\r\n") == words
