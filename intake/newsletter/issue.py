"""One issue of the newsletter, from its file to the text that everybody gets.

Why here: the file is written by a person; all of it is checked before the first message is sent.
Must not: send anything, or put anything into the text that differs between two people but the link to leave.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from intake.catalogue import Catalogue, Record
from intake.errors import IntakeError
from intake.texts import is_harmful

_SIZE_LIMIT = 64 * 1024
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}", re.ASCII)
_RULE = "NEWSLETTER-ISSUE"


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    issue: str
    subject: Annotated[str, msgspec.Meta(min_length=1, max_length=150)]
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=20_000)]
    records: Annotated[list[str], msgspec.Meta(max_length=100)] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """``name`` is the issue's for ever; ``digest`` (32 bytes) is of all that is sent. ``text`` ends with a line end."""

    name: str
    subject: str
    text: str
    digest: bytes


def load_issue(path: Path, catalogue: Catalogue, *, shop_url: str) -> Issue:
    """Read an issue's file; ``NEWSLETTER-ISSUE`` says what is wrong with it."""
    try:
        with path.open("rb") as file:
            raw = file.read(_SIZE_LIMIT + 1)
    except OSError as error:
        raise IntakeError(_RULE, f"cannot read {path}: {error.strerror}") from error
    if len(raw) > _SIZE_LIMIT:
        raise IntakeError(_RULE, f"{path} is larger than {_SIZE_LIMIT} bytes")
    return read_issue(raw, catalogue, shop_url=shop_url, name=str(path))


def read_issue(raw: bytes, catalogue: Catalogue, *, shop_url: str, name: str) -> Issue:
    """The same from the file's bytes; ``name`` is the file's."""
    try:
        content = msgspec.convert(tomllib.loads(raw.decode("utf-8")), _File)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError, RecursionError) as error:
        raise IntakeError(_RULE, f"{name}: {error}", "intake newsletter send --help shows a file") from error
    if not _NAME.fullmatch(content.issue):
        raise IntakeError(_RULE, f"{name}: issue must be 1 to 40 of a-z 0-9 . -", 'for example "2026-12"')
    lines = content.text.strip("\n").splitlines()
    if is_harmful(content.subject) or any(is_harmful(line) for line in lines):
        raise IntakeError(_RULE, f"{name}: a text holds a control character")
    unknown = [sku for sku in content.records if sku not in catalogue.records]
    if unknown:
        raise IntakeError(_RULE, f"{name}: the catalogue has no {', '.join(unknown)}")
    shown = [line for sku in content.records for line in _shown(catalogue.records[sku], shop_url)]
    text = "\n".join([*lines, "", *shown])
    digest = hashlib.blake2b(f"{content.subject}\n{text}".encode(), digest_size=32, person=b"issue").digest()
    return Issue(name=content.issue, subject=content.subject.strip(), text=text, digest=digest)


def _shown(record: Record, shop_url: str) -> list[str]:
    return [
        f"{record.artist}: {record.title}",
        f"{record.medium}, {record.year}",
        f"{shop_url}/records/{record.sku}",
        "",
    ]
