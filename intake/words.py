"""What is wrong with a field, in one set of words for the API and for the pages.

Why here: the page's script judges what it may not send in clear, and must say the same as the server would.
Must not: hold anything that a client sent.
"""

from __future__ import annotations

MISSING = "is missing"
EMPTY = "must not be empty"
TEXT = "must be a text"
CONTROL = "must not hold control characters"
EMAIL = "must look like name@example.com"
COUNTRY = "must be an ISO 3166-1 country code of two capital letters"
CARD_DIGITS = "must be the digits of the card number; spaces and dashes are allowed"
CARD_LENGTH = "does not have the number of digits of its card brand"
CARD_CHECK = "is mistyped: its digits do not fit together"
EXPIRED = "the card has expired"
TOO_FAR = "is too far ahead"
CODE_FRONT = "must be the four digits on the front of the card"
CODE_BACK = "must be the three digits on the back of the card"
CODE_EITHER = "must be three or four digits"
EXPIRY_FORM = "must be the month and the year on the card, such as 08/29"
POSTCODE = "does not fit the country; it looks like"
TOO_LONG_TOGETHER = "is too long together with the other fields"


def at_most(characters: int) -> str:
    """A text that is too long."""
    return f"must have at most {characters} characters"
