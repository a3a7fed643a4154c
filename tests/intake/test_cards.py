"""Card rules: what a card number, an expiry and a security code must look like, for every scheme."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake.cards import BRANDS, OTHER, brand_of, luhn, number_fault, security_code_fault, without_spacing
from intake.sample_people import CARDS, TROUBLED_CARDS

DIGITS = st.text("0123456789", min_size=1, max_size=40)


def with_check_digit(digits: str) -> str:
    return next(digits + last for last in "0123456789" if luhn(digits + last))


@pytest.mark.parametrize("typed", CARDS + TROUBLED_CARDS)
def test_published_test_cards_are_accepted(typed: str) -> None:
    digits = without_spacing(typed)
    assert digits is not None
    assert number_fault(digits, brand_of(digits)) is None


def test_the_sample_has_a_card_of_every_scheme() -> None:
    assert {brand_of(without_spacing(card) or "").name for card in CARDS} == {brand.name for brand in BRANDS}


@pytest.mark.parametrize(
    ("digits", "brand"),
    [
        ("4242424242424242", "Visa"),
        ("2221000000000000", "Mastercard"),
        ("2720990000000000", "Mastercard"),
        ("2721000000000000", "other"),
        ("340000000000000", "American Express"),
        ("6449000000000000", "Discover"),
        ("6229000000000000", "UnionPay"),
        ("38520000023237", "Diners Club"),
        ("3528000000000000", "JCB"),
        ("6759000000000000", "Maestro"),
        ("9792000000000000", "other"),
    ],
)
def test_brand_by_first_digits(digits: str, brand: str) -> None:
    assert brand_of(digits).name == brand


@given(DIGITS, st.integers(0, 15), st.integers(1, 9))
def test_one_wrong_digit_is_always_found(digits: str, place: int, added: int) -> None:
    good = with_check_digit(digits)
    place %= len(good)
    wrong = good[:place] + str((int(good[place]) + added) % 10) + good[place + 1 :]
    assert not luhn(wrong)


def test_unionpay_needs_no_check_digit() -> None:
    assert not luhn("6200000000000006")
    assert number_fault("6200000000000006", brand_of("62")) is None


@pytest.mark.parametrize("length", range(1, 25))
def test_length_is_judged_by_brand(length: int) -> None:
    visa = with_check_digit("4" + "0" * (length - 2)) if length > 1 else "4"
    assert (number_fault(visa, brand_of(visa)) is None) == (length in {13, 16, 19})


@pytest.mark.parametrize(
    "typed", ["", " ", "4242x4242", "4242.4242", "٤٢٤٢", "²", "4" * 65, "-", "4242\n4242"]
)
def test_what_is_not_digits_with_spacing_is_refused(typed: str) -> None:
    assert without_spacing(typed) is None


@given(st.lists(st.sampled_from("0123456789 -\u00a0"), max_size=60))
def test_spacing_is_dropped_and_nothing_else(characters: list[str]) -> None:
    typed = "".join(characters)
    digits = "".join(character for character in typed if character.isdigit())
    assert without_spacing(typed) == (digits or None)


@pytest.mark.parametrize(
    ("code", "digits", "good"),
    [
        ("123", "4242424242424242", True),
        ("1234", "4242424242424242", False),
        ("1234", "378282246310005", True),
        ("123", "378282246310005", False),
        ("12", None, False),
        ("1234", None, True),
        ("12a", None, False),
        ("١٢٣", "4242424242424242", False),
        ("", "4242424242424242", False),
    ],
)
def test_security_code_has_the_brands_length(code: str, digits: str | None, *, good: bool) -> None:
    assert (security_code_fault(code, brand_of(digits or "")) is None) == good


def test_a_scheme_that_is_not_known_is_left_to_its_bank() -> None:
    mir = with_check_digit("220070000000000")
    assert brand_of(mir) is OTHER
    assert number_fault(mir, brand_of(mir)) is None
