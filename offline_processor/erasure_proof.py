"""Proof of an erasure: the raw bytes of every ledger file are searched, before and after.

Why here: "deleted" is what a database says; what a disk's reader finds is another question.
Must not: call anything proved that the search did not find while it was still there (the positive control).

Searched for is what stands in one row only: its salt, 16 random bytes; and the person's own words as the file has them.
Words that another order still needs (the same person's, under a legal hold) are left out, for they must stay.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from offline_processor.ledger import subject_requests
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.subject_requests import Request
from transfer.wire.order import Customer, Delivery, Item

SAMPLE: Final = 25
_SHORTEST: Final = 6
_decoder = msgspec.json.Decoder(tuple[list[Item], Customer, Delivery], strict=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What to search for, of a sample of orders. ``found``: how many of them the files held before."""

    orders: int
    salts: tuple[bytes, ...] = field(repr=False)
    words: tuple[bytes, ...] = field(repr=False)
    found: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """How many of the traces that were found before are found still: none, or it is not erased."""

    orders: int
    found_before: int
    found_after: int
    files: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """True when something was searched that was there, and nothing of it is left."""
        return self.found_before > 0 and self.found_after == 0

    def as_document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "orders_searched": self.orders,
            "traces_found_before": self.found_before,
            "traces_found_after": self.found_after,
            "files": list(self.files),
            "holds": self.holds,
        }

    def in_words(self) -> str:
        """One line."""
        where = ", ".join(Path(file).name for file in self.files)
        return (
            f"raw search of {where}: of {self.orders} orders searched, {self.found_before} traces were found before"
            f" and {self.found_after} after"
        )


def look_for(ledger: Ledger, numbers: Sequence[int], *, answers: Request | None = None) -> Traces:
    """Gather what betrays the persons of (a sample of) these orders, and find it in the files while it is there.

    ``answers``: the request that the erasure answers; its address goes too, those of other requests stay.
    """
    sample = list(numbers[:SAMPLE])
    salts: list[bytes] = []
    words: set[bytes] = set()
    for number in sample:
        row = ledger.row("SELECT person, salt FROM person WHERE number = ?", (number,))
        if row is not None:
            salts.append(bytes(row[1]))
            words |= _words(row[0])
    gone = set(numbers)
    for number, person in ledger.rows("SELECT number, person FROM person"):
        if words and number not in gone:
            text = str(person).encode()
            words = {word for word in words if word not in text}
    ending = "" if answers is None else answers.request
    for request in subject_requests.waiting(ledger):
        if request.request != ending:
            words.discard(msgspec.json.encode(request.email)[1:-1])
    ledger.empty_log()
    traces = Traces(orders=len(sample), salts=tuple(salts), words=tuple(sorted(words)), found=0)
    kept = _present(ledger.files, (*traces.salts, *traces.words))
    return Traces(
        orders=traces.orders,
        salts=tuple(salt for salt in traces.salts if salt in kept),
        words=tuple(word for word in traces.words if word in kept),
        found=len(kept),
    )


def search_again(ledger: Ledger, traces: Traces) -> Proof:
    """The same search after the erasure, the logs emptied first."""
    ledger.empty_log()
    left = _present(ledger.files, (*traces.salts, *traces.words))
    return Proof(
        orders=traces.orders,
        found_before=traces.found,
        found_after=len(left),
        files=tuple(str(path) for path in ledger.files if path.exists()),
    )


def _words(person: str) -> set[bytes]:
    """What the person wrote, as it lies in the file; short words may stand anywhere by chance."""
    _, customer, delivery = _decoder.decode(person)
    texts = (customer.name, customer.email, *delivery.lines)
    encoded = (msgspec.json.encode(text)[1:-1] for text in texts)
    return {word for word in encoded if len(word) >= _SHORTEST}


def _present(files: Iterable[Path], needles: Sequence[bytes]) -> set[bytes]:
    """Those of ``needles`` that any of the files holds."""
    # To close a file ends the system's locks that SQLite has on it in this process. The ledger's own lock, which is on
    # another file, keeps every other process away all the same.
    found: set[bytes] = set()
    for path in files:
        if not path.exists() or path.stat().st_size == 0:
            continue
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found |= {needle for needle in needles if needle not in found and content.find(needle) >= 0}
    return found
