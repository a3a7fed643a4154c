"""What rules and response codes mean, in words for the operator.

Why here: RULES.md is the one place that says what a rule means; nobody should have to look it up.
Must not: say of a rule what that page does not.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

_CODES: Final = {
    "01": "refer to the card's issuer",
    "02": "refer to the card's issuer, special condition",
    "1A": "the issuer wants the customer to identify themselves",
    "70": "the customer has to call the issuer",
    "03": "the merchant is not valid",
    "06": "error",
    "12": "the transaction is not valid",
    "13": "the amount is not valid",
    "30": "the message is not of the right form",
    "58": "this terminal may not do this",
}


def code_in_words(code: str) -> str:
    """What a response code says that a person should look at."""
    return _CODES.get(code, "see RULES.md")


def meaning(rule: str) -> str:
    """What a rule means, in the words of RULES.md; the rule itself where that page has none."""
    return _meanings().get(rule, rule)


@cache
def _meanings() -> dict[str, str]:
    page = Path(__file__).with_name("RULES.md").read_text("utf-8")
    rows = (line.split(" | ") for line in page.splitlines() if line.startswith("| "))
    return {row[0].removeprefix("| "): row[1] for row in rows if len(row) > 2}  # noqa: PLR2004  rule, meaning, check
