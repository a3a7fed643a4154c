"""Profiles: what the standard leaves to acquirer and merchant to agree on, from one strict TOML file.

Why here: another acquirer is another file and no other code.
Must not: hold a secret or an address, or let a message be sent by a profile that cannot write and read every kind.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from offline_processor.acquirers.iso8583 import codec, samples
from offline_processor.acquirers.iso8583.fields import LAST, MAC_ZEROS, Element, Form, form
from offline_processor.acquirers.protocol import Verb
from offline_processor.charging import DECLINE_CLASS, DeclineClass
from offline_processor.errors import ProcessorError

SHIPPED: Final = ("ascii-1987", "bcd-1987")
_FOLDER: Final = Path(__file__).parent / "profiles"
_SIZE_LIMIT: Final = 64 * 1024
_REMEDY: Final = f"name one of {', '.join(SHIPPED)} or a TOML file made after one of them (PROFILES.md)"

FieldNumber = Annotated[int, msgspec.Meta(ge=2, le=LAST)]
Code = Annotated[str, msgspec.Meta(pattern="^[0-9A-Z]{2}$(?!\n)")]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=300)]
Text = Annotated[str, msgspec.Meta(pattern="^[ -~]{0,99}$(?!\n)")]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class Timeouts(_Part, frozen=True, kw_only=True):
    """In seconds; after ``answer`` an authorisation counts as unanswered."""

    connect: Seconds
    answer: Seconds


class Codes(_Part, frozen=True, kw_only=True):
    """What data element 39 means here, beyond what ``charging.DECLINE_CLASS`` knows.

    ``declines``: further codes by class (never_retry, retry_later, new_card, call_issuer, our_fault).
    """

    approved: tuple[Code, ...] = ("00",)
    partial: tuple[Code, ...] = ("10",)
    in_progress: tuple[Code, ...] = ("09",)
    reversed: tuple[Code, ...] = ("00", "21", "25")
    declines: Mapping[
        Literal["never_retry", "retry_later", "new_card", "call_issuer", "our_fault"], tuple[Code, ...]
    ] = {}
    in_balance: tuple[Code, ...] = ("00",)
    out_of_balance: tuple[Code, ...] = ("95",)


class Profile(_Part, frozen=True, kw_only=True, dict=True):
    """One acquirer's dialect; the shipped files and PROFILES.md say what each key means."""

    title: Text
    length_prefix: Literal["binary2", "ascii4"]
    header: Annotated[str, msgspec.Meta(pattern="^([0-9A-F]{2}){0,32}$(?!\n)")]
    digits: Literal["ascii", "bcd"]
    lengths: Literal["ascii", "bcd"]
    bitmaps: Literal["binary", "hex"]
    utc_offset_minutes: Annotated[int, msgspec.Meta(ge=-14 * 60, le=14 * 60)] = 0
    cvv_field: FieldNumber
    cvv_before: Text = ""
    cvv_width: Annotated[int, msgspec.Meta(ge=0, le=8)] = 0
    cvv_result_field: FieldNumber
    cvv_result_position: Annotated[int, msgspec.Meta(ge=0, le=99)]
    cvv_match: Text
    cvv_mismatch: Text
    avs_result_field: FieldNumber
    avs_result_position: Annotated[int, msgspec.Meta(ge=0, le=99)]
    eci_field: FieldNumber
    eci_value: Text
    constants: dict[str, Text] = {}
    order_reference_field: FieldNumber
    operation_field: FieldNumber | None = None
    simulator_field: FieldNumber
    reversal_stan: Literal["new", "same"]
    pan_in: frozenset[Verb]
    echoes_amount: bool = True
    echoes_reference: bool = True
    totals: bool
    mac: bool
    mac_algorithm: Literal["aes-cmac", "retail"] | None = None
    mac_field: Literal[64, 128] = 64
    tls: bool
    timeouts: Timeouts
    codes: Codes
    fields: dict[str, Element] = {}

    def __post_init__(self) -> None:
        taken = [self.cvv_field, self.order_reference_field, self.eci_field]
        if self.operation_field is not None:
            taken.append(self.operation_field)
        named = [*taken, *map(int, _numbers(self.constants))]
        if len(set(named)) != len(named) or set(named) & _OURS:
            raise ValueError("two of cvv, order reference, operation, eci and constants use the same element")
        if self.cvv_field in (self.cvv_result_field, self.avs_result_field, self.simulator_field):
            raise ValueError("the security code's element is never read, so no result can stand in it")
        codes = [*self.codes.approved, *self.codes.partial, *self.codes.in_progress]
        extra = [code for group in self.codes.declines.values() for code in group]
        if len(set(codes + extra)) != len(codes + extra) or set(codes) & DECLINE_CLASS.keys():
            raise ValueError("a response code has two meanings")
        _numbers(self.fields)
        if self.mac is (self.mac_algorithm is None):
            raise ValueError("mac = true and mac_algorithm go together")
        if self.mac and [self.fields.get(name) for name in ("64", "128")] not in _MAC_FORMS:
            raise ValueError(
                "with mac = true, elements 64 and 128 are the standard's, or both text of size 16"
            )

    @cached_property
    def spec(self) -> Form:
        """The elements as pyiso8583 takes them."""
        return form(
            header_size=len(self.header) // 2,
            digits=self.digits,
            lengths=self.lengths,
            bitmaps=self.bitmaps,
            own={int(number): element for number, element in self.fields.items()},
        )

    @cached_property
    def declines(self) -> dict[str, DeclineClass]:
        """The further codes of ``codes.declines`` to their class."""
        return {
            code: DeclineClass[name.upper()] for name, group in self.codes.declines.items() for code in group
        }


_OURS: Final = frozenset((2, 3, 4, 7, 11, 12, 13, 14, 32, 37, 38, 39, 41, 42, 49, 64, 65, 70, 90, 95, 128))
"""Elements with one meaning in every profile; no profile puts anything else there."""


_MAC_AS_DIGITS: Final = Element(kind="text", size=len(MAC_ZEROS))
_MAC_FORMS: Final = ([None, None], [_MAC_AS_DIGITS, _MAC_AS_DIGITS])


def _numbers(table: Mapping[str, object]) -> list[str]:
    for name in table:
        if not (name.isascii() and name.isdecimal() and str(int(name)) == name and 2 <= int(name) <= LAST):  # noqa: PLR2004
            raise ValueError(f"{name!r} is no element's number")
    return list(table)


def load(name_or_path: str) -> Profile:
    """A shipped profile by its name, or a file by its path (it ends in .toml). ``ISO-PROFILE``."""
    shipped = name_or_path in SHIPPED
    if not (shipped or name_or_path.endswith(".toml")):
        raise ProcessorError("ISO-PROFILE", f"there is no ISO 8583 profile {name_or_path[:60]!r}", _REMEDY)
    path = _FOLDER / f"{name_or_path}.toml" if shipped else Path(name_or_path)
    try:
        with path.open("rb") as file:
            raw = file.read(_SIZE_LIMIT + 1)
        if len(raw) > _SIZE_LIMIT:
            raise ValueError(f"it is larger than {_SIZE_LIMIT} bytes")  # noqa: TRY301
        return read(tomllib.loads(raw.decode("utf-8")))
    except OSError as error:
        reason = error.strerror or "it cannot be read"
    except (ValueError, msgspec.ValidationError) as error:
        reason = str(error)
    raise ProcessorError("ISO-PROFILE", f"the ISO 8583 profile {path.name} cannot be used: {reason}", _REMEDY)


def read(document: dict[str, object]) -> Profile:
    """The profile of a TOML document, tried out. ``ValueError`` with the reason."""
    profile = msgspec.convert(document, Profile)
    for name, sample in samples.every_kind(profile).items():
        kind = f"a message {sample.mti} ({name})"
        try:
            frame, places = codec.encode_with_layout(profile, sample)
            back = codec.decode(profile, frame)
        except ProcessorError:
            raise ValueError(f"{kind} cannot be written and read with it") from None
        seen = {number for number in sample.fields if number not in codec.HIDDEN | {profile.cvv_field}}
        if any(back.fields.get(number) != sample.fields[number] for number in seen) or back.mti != sample.mti:
            raise ValueError(f"{kind} is not read as it was written")
        if not set(sample.fields) <= set(places):
            raise ValueError(f"{kind} has elements without a place")
    return profile
