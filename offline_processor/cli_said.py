"""Who decides and why: the two options of every command that leaves a person's word in the ledger.

Why here: such commands ask in the same words and check them by the same rule.
Must not: let a command go on without either.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from offline_processor.decisions import Said
from offline_processor.words import checked_word

F = TypeVar("F", bound=Callable[..., Any])


def said_options(function: F) -> F:
    """Add ``--who`` and ``--why``, both required, passed as one ``said``. ``USAGE-WORDS``."""

    @functools.wraps(function)
    def command(*rest: Any, who: str, why: str, **others: Any) -> Any:
        said = Said(who=checked_word(who, "--who"), why=checked_word(why, "--why"))
        return function(*rest, said=said, **others)

    who = click.option("--who", required=True, metavar="NAME", help="Who decides; kept in the ledger.")
    why = click.option("--why", required=True, metavar="TEXT", help="Why; kept in the ledger, never sent.")
    return who(why(command))  # type: ignore[return-value]
