"""Names, addresses and email addresses of the whole world are accepted; what can harm a reader is not."""

# ruff: noqa: RUF001  names in their own scripts

from __future__ import annotations

import unicodedata

import email_validator
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake.sample_people import PEOPLE
from intake.texts import _PLAIN_EMAIL, clean, email_address, is_harmful


@pytest.mark.parametrize("person", PEOPLE, ids=lambda person: person.email)
def test_sample_people_are_accepted(person: tuple[str, ...]) -> None:
    assert not any(is_harmful(clean(text)) for text in person)
    assert email_address(person[1])


@given(st.from_regex(_PLAIN_EMAIL, fullmatch=True))
def test_the_short_cut_accepts_only_what_email_validator_accepts_unchanged(address: str) -> None:
    normal = email_validator.validate_email(address, check_deliverability=False).normalized
    assert email_address(address) == address == normal


@pytest.mark.parametrize(
    "address",
    ["", "a", "a@", "@b.com", "a@b", "a..b@example.com", "a b@example.com", "a@example.com\n", "a@[127.0.0.1]",
     "a@example.com,b@example.com", '"a"@example.com', "a@-x.com", "a@localhost",
     "a@" + "b" * 250 + ".com", "a\x00@example.com", "a@\u202emoc.elpmaxe"],
)  # fmt: skip
def test_what_is_not_an_email_address_is_refused(address: str) -> None:
    assert email_address(address) is None


@given(st.text(max_size=40))
def test_any_text_as_email_gives_an_address_or_none(text: str) -> None:
    address = email_address(text)
    assert address is None or ("@" in address and not is_harmful(address))


@pytest.mark.parametrize(
    "character", ["\0", "\n", "\r", "\t", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\u202e", "\u2066"]
)
def test_control_characters_are_refused(character: str) -> None:
    assert is_harmful(f"Zoë{character}M")


@given(st.text(st.characters(categories=["L", "M", "N", "P", "S", "Zs"]), min_size=1, max_size=60))
def test_letters_marks_and_signs_of_every_script_are_accepted(text: str) -> None:
    assert not is_harmful(clean(text))


@pytest.mark.parametrize("name", ["क्\u200dष", "می\u200cخواهم", "👩\u200d🎤 Band"])
def test_joiners_that_some_scripts_need_are_accepted(name: str) -> None:
    assert not is_harmful(clean(name))


@given(st.text(max_size=60))
def test_cleaned_text_is_in_normal_form(text: str) -> None:
    assert unicodedata.is_normalized("NFC", clean(text))
