"""Names and reasons that a person types and the ledger keeps for ever: which may stand there.

Why here: no entry can be taken back, so that one check stands before every word of a person, whatever the command.
Must not: accept what may be a card's number, or repeat in a message what was typed.
"""

from __future__ import annotations

import re
from typing import Final

from offline_processor.errors import ProcessorError

_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .,'/-]{0,63}", re.ASCII)
_CARD_DIGITS: Final = 12
"""So many digits may be a card's."""


def may_stand(text: str) -> bool:
    """True for a name or a reason that may stand in the ledger."""
    return _WORD.fullmatch(text) is not None and sum(letter.isdecimal() for letter in text) < _CARD_DIGITS


def checked_word(text: str, option: str) -> str:
    """A name or a reason that may stand in the ledger for ever; ``USAGE-WORDS``."""
    if not may_stand(text):
        raise ProcessorError(
            "USAGE-WORDS",
            f"{option} is up to 64 letters, digits (11 at most), blanks and .,'/-",
            "it is kept in the ledger for ever: put no card and no address there",
        )
    return text
