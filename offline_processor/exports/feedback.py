"""Invitations to say what one thinks of a purchase: address, name and a reference that leads to no order elsewhere.

Why here: a review service needs no more, and learns no order number.
Must not: invite a person who opted out (``people`` sees to it), or change an address to make it safe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from offline_processor.exports.cells import csv_bytes, defused, has_controls, is_harmless
from offline_processor.exports.letters import without_directions
from offline_processor.exports.people import Person, Reject

HEADER: Final = ("email", "name", "reference")


def invitations(
    people: Sequence[Person], reference: Callable[[], str]
) -> tuple[list[tuple[Person, str]], list[Reject]]:
    """Who is invited, each with a reference of their own, and who cannot be."""
    invited: list[tuple[Person, str]] = []
    rejects: list[Reject] = []
    for person in people:
        if not is_harmless(person.email) or has_controls(person.name):
            why = "its email address would be run by a spreadsheet, or its name has a control character"
            rejects.append(Reject(order_id=person.order_id, rule="EXPORT-ROW-EXACT", why=why))
            continue
        invited.append((person, reference()))
    return invited, rejects


def invitation_bytes(invited: Sequence[tuple[Person, str]]) -> bytes:
    """The file: email, name and reference number in this order, UTF-8, as Trustpilot and others take it."""
    rows = [
        (person.email, defused(without_directions(person.name)), reference) for person, reference in invited
    ]
    return csv_bytes([HEADER, *rows])
