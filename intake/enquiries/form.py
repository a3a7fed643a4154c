"""What an enquiry must look like, for the page and for JSON alike.

Why here: both name the same faults in the same words.
Must not: let a card number through: customers write them into letters, and none may be kept here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
from msgspec import Meta

from intake import words
from intake.cards import OTHER, PAN_MAXIMUM, brand_of, number_fault
from intake.forms import EMAIL_MAXIMUM, POSTCODE_MAXIMUM, TEXT_MAXIMUM
from intake.problems import Fault
from intake.texts import clean, email_address, is_harmful

ORDER_MAXIMUM = 64
QUESTION_MAXIMUM = 3000  # as a form's field in any script it fits into what a request may have
CARD_NUMBER = "must not hold a card number; we never need it, and it would be read by people"
_BETWEEN = r"[\W_]{1,3}"  # whatever is neither letter nor digit: nobody knows what people put between groups
_GROUPS = re.compile(rf"\d+(?:{_BETWEEN}\d+)*")
_ORDER_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_PAN_SHORTEST = 12


class EnquiryForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An enquiry. ``order`` is an order's number, if it is about one; ``postcode`` helps to find it."""

    name: Annotated[str, Meta(min_length=1, max_length=TEXT_MAXIMUM, examples=["Zoë Müller"])]
    email: Annotated[
        str,
        Meta(
            min_length=3,
            max_length=EMAIL_MAXIMUM,
            examples=["zoe.mueller@example.com"],
            extra_json_schema={"format": "email"},
        ),
    ]
    text: Annotated[str, Meta(min_length=1, max_length=QUESTION_MAXIMUM, examples=["Is side B in stereo?"])]
    order: Annotated[str, Meta(max_length=ORDER_MAXIMUM)] = ""
    postcode: Annotated[str, Meta(max_length=POSTCODE_MAXIMUM)] = ""


class EnquiryTaken(msgspec.Struct, frozen=True, kw_only=True):
    """The enquiry is kept, and is answered by email. ``enquiry`` is its number."""

    enquiry: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """An enquiry that is in order; every text in normal form C, its lines ended by a line feed."""

    name: str = field(repr=False)
    email: str = field(repr=False)
    text: str = field(repr=False)
    order: str = field(default="", repr=False)
    postcode: str = field(default="", repr=False)


FIELDS = ("name", "email", "order", "postcode", "text")
LABELS = {
    "name": "Your name",
    "email": "Email address",
    "order": "Order number",
    "postcode": "Postcode",
    "text": "Your question",
}
_LIMITS = {
    "name": TEXT_MAXIMUM,
    "email": EMAIL_MAXIMUM,
    "order": ORDER_MAXIMUM,
    "postcode": POSTCODE_MAXIMUM,
    "text": QUESTION_MAXIMUM,
}
_NEEDED = frozenset({"name", "email", "text"})


def read_question(document: Mapping[str, object]) -> Question | list[Fault]:
    """A question, or every fault of it."""
    faults = []
    if set(document) - set(FIELDS):
        faults.append(Fault(pointer="", detail=f"must have the fields {', '.join(FIELDS)} and no other"))
    values = {}
    for name in FIELDS:
        given = document.get(name, "")
        values[name] = _tidy(given) if isinstance(given, str) else ""
        fault = _fault(name, document, values[name])
        if fault:
            faults.append(Fault(pointer=f"/{name}", detail=fault))
    if faults:
        return faults
    values["email"] = email_address(values["email"]) or ""
    order = "".join(values["order"].split()).lower()
    values["order"] = order if _ORDER_ID.fullmatch(order) else values["order"]
    return Question(**values)


def _fault(name: str, document: Mapping[str, object], value: str) -> str:
    lines = value.split("\n") if name == "text" else [value]
    if not isinstance(document.get(name, ""), str):
        return words.TEXT
    if not value:
        return words.MISSING if name in _NEEDED else ""
    if len(value) > _LIMITS[name]:
        return words.at_most(_LIMITS[name])
    if any(is_harmful(line.replace("\t", " ")) for line in lines):
        return words.CONTROL
    if name == "email" and email_address(value) is None:
        return words.EMAIL
    return CARD_NUMBER if _is_card_number(name, value) else ""


def _is_card_number(name: str, value: str) -> bool:
    if name == "order" and _ORDER_ID.fullmatch("".join(value.split()).lower()):
        return False
    return holds_card_number(value.rpartition("@")[0] if name == "email" else value)


def _tidy(given: str) -> str:
    return clean(given.replace("\r\n", "\n").replace("\r", "\n")).strip("\n ")


def holds_card_number(text: str) -> bool:
    """True when digits in ``text``, in one or several groups, are the number of a card of a scheme that we know."""
    plain = "".join(
        one for one in unicodedata.normalize("NFKC", text) if unicodedata.category(one) != "Cf"
    )  # a zero-width space is seen by nobody
    return any(
        len(digits) >= _PAN_SHORTEST
        and (brand := brand_of(digits)) is not OTHER
        and number_fault(digits, brand) is None
        for digits in _runs(plain)
    )


def _runs(text: str) -> Iterator[str]:
    """The digits of every sequence of neighbouring groups that is not too long for a card."""
    for match in _GROUPS.finditer(text):
        groups = [
            "".join(str(unicodedata.digit(one)) for one in part) for part in re.split(_BETWEEN, match[0])
        ]
        for first in range(len(groups)):
            digits = ""
            for group in groups[first:]:
                digits += group
                if len(digits) > PAN_MAXIMUM:
                    break
                yield digits
