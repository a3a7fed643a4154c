"""The catalogue: shipped prices are usable, impossible files are refused, amounts are shown by ISO 4217."""

from __future__ import annotations

from pathlib import Path

import pytest

from intake.catalogue import SHIPPED, load_catalogue
from intake.errors import IntakeError
from intake.money import control_total, money

_RECORD = (
    '[[record]]\nsku = "A-1"\nartist = "A"\ntitle = "B"\nmedium = "LP"\nyear = 1970\nprices = {{ {} }}\n'
)


def test_shipped_catalogue_has_prices_with_no_two_and_three_decimals() -> None:
    catalogue = load_catalogue(SHIPPED)
    assert set(catalogue.prices) == {"EUR", "GBP", "USD", "JPY", "KWD", "BHD"}
    assert len(catalogue.records) == 24


@pytest.mark.parametrize(
    "text",
    [
        "",
        "record = 1",
        "[[record]]\nsku = 1",
        "\0",
        _RECORD.format(""),
        _RECORD.format("EUR = 0"),
        _RECORD.format("EUR = 1.5"),
        _RECORD.format("EUR = -1"),
        _RECORD.format("XXQ = 100"),
        _RECORD.format("EUR = 100") * 2,
        _RECORD.format("EUR = 100") + _RECORD.format("USD = 100").replace("A-1", "A-2"),
        _RECORD.format("EUR = 100").replace("A-1", "A 1"),
        _RECORD.format("EUR = 100") + "cost = 5\n",
    ],
)
def test_an_impossible_catalogue_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "catalogue.toml"
    path.write_text(text)
    with pytest.raises(IntakeError) as refusal:
        load_catalogue(path)
    assert refusal.value.rule == "CONFIG-CATALOGUE"


def test_a_missing_catalogue_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntakeError, match="CONFIG-CATALOGUE"):
        load_catalogue(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        (1200, "JPY", "JPY 1200"),
        (3500, "KWD", "KWD 3.500"),
        (5, "EUR", "EUR 0.05"),
        (12345, "EUR", "EUR 123.45"),
    ],
)
def test_money_has_the_decimals_of_iso_4217(amount: int, currency: str, shown: str) -> None:
    assert money(amount, currency) == shown


def test_control_total_counts_orders_and_sums_each_currency() -> None:
    totals = [(12000, "EUR"), (345, "EUR"), (1200, "JPY"), (3500, "KWD")]
    assert control_total(totals) == "4 orders: EUR 123.45, JPY 1200, KWD 3.500"
    assert control_total([(1, "JPY")]) == "1 order: JPY 1"
    assert control_total([]) == "0 orders"
