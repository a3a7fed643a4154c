"""Packing slips and address labels as PDF, in the world's scripts.

Why here: what may stand on paper is declared as for any export, and a character that cannot be drawn is a reject.
Must not: write a file (a temporary one least of all), or be used while a key is open: typesetting starts a process.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from offline_processor.exports.addresses import address_lines, country_name, is_right_to_left
from offline_processor.exports.fonts import FontBook, missing_in_words
from offline_processor.exports.letters import without_directions
from offline_processor.exports.making import Prepared, Ready, ready_of
from offline_processor.exports.people import Person, Reject, Wish, select
from offline_processor.exports.purposes import PURPOSES, Declared, Field, Purpose
from offline_processor.exports.typesetting import typeset
from offline_processor.ledger.disclosures import Disclosed
from offline_processor.ledger.ledger import Ledger

STACK: Final = 1000
"""How many orders go into one PDF: more are several, so that a printer and this machine's memory bear them."""

IN_HOUSE: Final = "packers"
_SIZES: Final = (20.0, 17.0, 14.0, 12.0, 11.0, 10.0, 8.0, 6.0, 5.0, 4.0, 3.0, 2.0)
_POINTS: Final = 72 / 25.4  # in a millimetre
_FULL: Final = 0.85  # how full a row is that is broken between words
_ROW: Final = 1.45  # a line and what is between it and the next
_AROUND: Final = 32  # millimetres of a label that are not the address
_MARGINS: Final = 0.88  # of a label's width
_WINDOW: Final = (85, 45)  # millimetres of a slip that are the address
_ON_SLIP: Final = 11.0
_LONG, _PIECE = 24, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """How paper looks: the size of slips, of labels in millimetres, the shop's own address, and a mark on each page."""

    size: str = "a4"
    label: tuple[int, int] = (100, 150)
    sender: tuple[str, ...] = ()
    mark: str = ""


def slips(ledger: Ledger, paper: Paper, fonts: FontBook, wish: Wish, *, now: int) -> Ready:
    """A packing slip for every order that is to be sent: address, order id, SKUs and quantities."""
    return _on_paper(ledger, PURPOSES[Purpose.SLIPS], "slips.typ", paper, fonts, wish, now=now)


def labels(ledger: Ledger, paper: Paper, fonts: FontBook, wish: Wish, *, now: int) -> Ready:
    """An address label for every order that is to be sent."""
    return _on_paper(ledger, PURPOSES[Purpose.LABELS], "labels.typ", paper, fonts, wish, now=now)


def _on_paper(
    ledger: Ledger, declared: Declared, template: str, paper: Paper, fonts: FontBook, wish: Wish, *, now: int
) -> Ready:
    found = select(ledger, declared, wish, now=now)
    drawn: list[Person] = []
    rejects: list[Reject] = []
    for person in found.people:
        if lacking := fonts.lacking((*person.texts(), country_name(person.country).upper())):
            why = missing_in_words(lacking)
            rejects.append(Reject(order_id=person.order_id, rule="EXPORT-ROW-FONT", why=why))
        else:
            drawn.append(person)
    ready = ready_of(found, rejects)
    stacks = list(_stacks(drawn))
    documents = ((f"{__package__}:{template}", _data(paper, fonts, some)) for some in stacks)
    for some, content in zip(stacks, typeset(documents, fonts.directory, now=now), strict=True):
        ready.files.append(
            Prepared(
                declared=declared,
                recipient=IN_HOUSE,
                kind="pdf",
                fields=_fields(declared, some),
                disclosed=tuple(Disclosed(number=person.number, order_id=person.order_id) for person in some),
                content=content,
            )
        )
    return ready


def _stacks(people: Sequence[Person]) -> Iterator[Sequence[Person]]:
    for start in range(0, len(people), STACK):
        yield people[start : start + STACK]


def _fields(declared: Declared, people: Sequence[Person]) -> frozenset[Field]:
    """What stands on this paper: a field that is empty for all of them is not disclosed."""
    always = {Field.ORDER, Field.COUNTRY} | ({Field.GOODS} & declared.fields)
    texts = {
        Field.NAME: (person.name for person in people),
        Field.LINES: (person.lines for person in people),
        Field.CITY: (person.city for person in people),
        Field.REGION: (person.region for person in people),
        Field.POSTCODE: (person.postcode for person in people),
    }
    return frozenset(always | {name for name, values in texts.items() if any(values)})


def _data(paper: Paper, fonts: FontBook, people: Sequence[Person]) -> dict[str, Any]:
    width, height = paper.label
    return {
        "paper": {"letter": "us-letter"}.get(paper.size, paper.size),
        "width": width,
        "height": height,
        "sender": list(paper.sender),
        "mark": paper.mark,
        "fonts": fonts.families(paper.sender),
        "people": [
            {
                "address": list(map(breakable, lines)),
                "rtl": is_right_to_left(person),
                "fonts": fonts.families(
                    (*person.texts(), country_name(person.country).upper()), person.country
                ),
                "size": letter_size(lines, width * _MARGINS, height - _AROUND),
                "small": letter_size(lines, *_WINDOW, largest=_ON_SLIP),
                "order": " ".join(person.order_id[start : start + 8] for start in range(0, 32, 8)),
                "goods": person.goods,
                "pieces": sum(quantity for _, quantity in person.goods),
            }
            for person in people
            for lines in (address_lines(person),)
        ],
    }


def letter_size(lines: Sequence[str], width: float, height: float, largest: float = _SIZES[0]) -> float:
    """The size (points) at which an address fits into these millimetres, however wide its letters are."""
    fitting = [size for size in _SIZES if size <= largest]
    for size in fitting:
        across = width * _FULL * _POINTS / size
        rows = sum(max(1, math.ceil(_ems(line) / across)) for line in lines)
        if rows * size * _ROW <= height * _POINTS:
            return size
    return fitting[-1]


def _ems(line: str) -> float:
    return sum(map(_em, line))


def _em(character: str) -> float:
    """How wide a letter is at most, in bold."""
    if character in "WMwm@%" or unicodedata.east_asian_width(character) in "WF":
        return 1.0
    return 0.8 if character.isupper() else 0.66


def breakable(line: str) -> str:
    """The line as it is set: one kind of blank, its own direction, unseen places to break words of no language."""
    return " ".join(
        "\u200b".join(word[start : start + _PIECE] for start in range(0, len(word), _PIECE))
        if len(word) > _LONG
        else word
        for word in without_directions(line).split()
    )
