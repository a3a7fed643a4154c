"""The authorisation file: each record boxed to the acquirer's key from locked memory, all closed by one trailer.

Why here: the layout of FORMAT.md, sections 2 and 3, for writer and reader alike.
Must not: put a CVV into a record, or make ``bytes`` or ``str`` of a PAN.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from keys.private.locked import LockedBuffer
from keys.private.reseal import seal_view
from keys.private.unseal import SealingKey, UnsealError, open_box_into
from keys.public.seal import SEAL_OVERHEAD
from offline_processor.acquirers.batch_file.form import (
    FORM,
    PRINTABLE,
    Counted,
    Kind,
    Mode,
    check_totals,
    close,
    matching,
    moment,
    number,
    refused,
    rows_of,
)
from offline_processor.acquirers.report import in_words
from offline_processor.charging import Reference
from transfer.wire.card import CardView

HEADER: Final = "AUTHORISATIONS"
COMMENT: Final = "sealed-orders authorisation file"
RECORD_SIZE: Final = 192
BOX_SIZE: Final = RECORD_SIZE + SEAL_OVERHEAD
FILE_LIMIT: Final = 999_999
_PAN: Final = slice(139, 158)
_EXPIRY: Final = slice(158, 162)
_CLEAR_SIZE: Final = 139
_RRN: Final = re.compile(r"[0-9]{12}", re.ASCII)
_KEY: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CLEAR: Final = re.compile(
    r"(?P<kind>[ACVR])(?P<file>[0-9]{6})(?P<order>[0-9a-f]{32})(?P<operation>[0-9a-f]{32}| {32})"
    r"(?P<stan>[0-9]{6})(?P<rrn>[0-9]{12})(?P<time>[0-9]{10})(?P<amount>[0-9]{15})(?P<currency>[A-Z]{3})"
    r"(?P<approval>[0-9A-Z ]{6})(?P<final>[F ])(?P<keep>[0-9]{15})",
    re.ASCII,
)
_DIGITS: Final = frozenset(b"0123456789")
_ZERO: Final = ord("0")
_SPACE: Final = b" "


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One record without its card. ``operation`` is "" for an authorisation; ``rrn`` is the authorisation's.

    ``keep``: of a reversal, the minor units that stay; ``final``: of a capture, nothing more will be taken.
    """

    kind: Kind
    file: int
    order_id: str
    operation: str
    stan: int
    rrn: str
    sent_at: int
    amount: int
    currency: str
    approval: str = ""
    final: bool = False
    keep: int = 0

    @classmethod
    def of(
        cls,
        kind: Kind,
        file: int,
        sent: Reference,
        *,
        operation: str = "",
        approval: str = "",
        final: bool = False,
        keep: int = 0,
    ) -> Self:
        """The record that asks for what ``sent`` names."""
        return cls(
            kind=kind,
            file=file,
            order_id=sent.order_id,
            operation=operation,
            stan=sent.stan,
            rrn=sent.rrn,
            sent_at=sent.sent_at,
            amount=sent.amount,
            currency=sent.currency,
            approval=approval,
            final=final,
            keep=keep,
        )

    @property
    def counted(self) -> Counted:
        return Counted(kind=self.kind, currency=self.currency, amount=self.amount, rrn=self.rrn)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What the header says. ``key`` is the acquirer's public key, 32 bytes; ``made_at`` Unix seconds."""

    file: int
    mode: Mode
    merchant: str
    terminal: str
    made_at: int
    key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxedRecord:
    """A record as it stands in the file."""

    counted: Counted
    box: bytes = field(repr=False)


class RecordBuffer:
    """One record of locked memory, filled, boxed and wiped in turn."""

    def __init__(self) -> None:
        self._buffer = LockedBuffer(RECORD_SIZE)

    def box(self, request: Request, card: CardView | None, public_key: bytes) -> bytes:
        """The record sealed to the acquirer's key; PAN and expiry go from locked memory to locked memory."""
        view = self._buffer.view
        try:
            view[:_CLEAR_SIZE] = _clear(request)
            view[_CLEAR_SIZE:] = _SPACE * (RECORD_SIZE - _CLEAR_SIZE)
            if card is not None:
                view[_PAN.start : _PAN.start + card.pan.nbytes] = card.pan
                year = card.expiry_year % 100
                for place, digit in enumerate(
                    (*divmod(year, 10), *divmod(card.expiry_month, 10)), _EXPIRY.start
                ):
                    view[place] = _ZERO + digit
            return seal_view(view, public_key)
        finally:
            self._buffer.wipe()

    def open(self, box: bytes, key: SealingKey) -> tuple[Request, str]:
        """The acquirer's side: the record, and BIN and last four of its card ("" without one).

        ``BATCH-FILE-FORM`` or ``BATCH-FILE-KEY``.
        """
        view = self._buffer.view
        try:
            open_box_into(box, key.public_key, key.private, view)
            request = _request(str(view[:_CLEAR_SIZE], "ascii", "replace"))
            return request, _card_name(view)
        except UnsealError as error:
            raise refused("a record does not open with the acquirer's key") from error
        finally:
            self._buffer.wipe()

    def close(self) -> None:
        """Wipe and give the memory back."""
        self._buffer.close()


def write_file(facts: FileFacts, records: Sequence[BoxedRecord]) -> bytes:
    """The whole file; the same bytes for the same records, always."""
    header = (
        HEADER,
        FORM,
        str(facts.file),
        facts.mode.value,
        facts.merchant,
        facts.terminal,
        in_words(facts.made_at),
        facts.key.hex(),
    )
    lines = [",".join(header)]
    for place, record in enumerate(records, 1):
        box = base64.b64encode(record.box).decode("ascii")
        counted = record.counted
        amount = str(counted.amount)
        lines.append(
            ",".join(("RECORD", str(place), counted.kind.value, counted.rrn, amount, counted.currency, box))
        )
    return close(lines, [record.counted for record in records])


def read_file(raw: bytes) -> tuple[FileFacts, list[BoxedRecord]]:
    """The acquirer's side: header and records, proved whole by the trailer; boxes are not opened.

    ``BATCH-FILE-FORM``, ``BATCH-FILE-DAMAGED`` or ``BATCH-FILE-TOTALS``.
    """
    what = "the authorisation file"
    rows, trailer = rows_of(raw, what=what)
    head, *rest = rows
    if len(head) != 8 or head[:2] != [HEADER, FORM] or head[3] not in {*Mode}:  # noqa: PLR2004
        raise refused("this is not an authorisation file of this form")
    facts = FileFacts(
        file=number(head[2], "the file number", limit=FILE_LIMIT),
        mode=Mode(head[3]),
        merchant=matching(PRINTABLE, head[4], "the merchant"),
        terminal=matching(PRINTABLE, head[5], "the terminal"),
        made_at=moment(head[6]),
        key=bytes.fromhex(matching(_KEY, head[7], "the key")),
    )
    records = [_boxed(row, place) for place, row in enumerate(rest, 1)]
    check_totals(trailer, [record.counted for record in records], what=what)
    return facts, records


def _boxed(row: list[str], place: int) -> BoxedRecord:
    if len(row) != 7 or row[0] != "RECORD" or row[1] != str(place) or row[2] not in {*Kind}:  # noqa: PLR2004
        raise refused(f"record {place} is missing, repeated, out of its order, or not of its form")
    counted = Counted(
        kind=Kind(row[2]),
        rrn=matching(_RRN, row[3], "a retrieval reference"),
        amount=number(row[4], "an amount", limit=10**15 - 1),
        currency=matching(re.compile("[A-Z]{3}"), row[5], "a currency"),
    )
    try:
        box = base64.b64decode(row[6].encode("ascii"), validate=True)
    except binascii.Error as error:
        raise refused(f"record {place} is not base64") from error
    if len(box) != BOX_SIZE or base64.b64encode(box).decode("ascii") != row[6]:
        raise refused(f"record {place} has another size")
    return BoxedRecord(counted=counted, box=box)


def _clear(request: Request) -> bytes:
    """The record up to the card: ``_CLEAR_SIZE`` characters."""
    text = (
        f"{request.kind.value}{request.file:06d}{request.order_id}{request.operation:32}{request.stan:06d}"
        f"{request.rrn}{request.sent_at:010d}{request.amount:015d}{request.currency}{request.approval:6}"
        f"{'F' if request.final else ' '}{request.keep:015d}"
    )
    if not _CLEAR.fullmatch(text):
        raise ValueError("a record cannot hold this operation")
    return text.encode("ascii")


def _request(text: str) -> Request:
    found = _CLEAR.fullmatch(text)
    if found is None:
        raise refused("a record is not of its form")
    return Request(
        kind=Kind(found["kind"]),
        file=int(found["file"]),
        order_id=found["order"],
        operation=found["operation"].strip(),
        stan=int(found["stan"]),
        rrn=found["rrn"],
        sent_at=int(found["time"]),
        amount=int(found["amount"]),
        currency=found["currency"],
        approval=found["approval"].rstrip(),
        final=found["final"] == "F",
        keep=int(found["keep"]),
    )


def _card_name(view: memoryview) -> str:
    pan = view[_PAN]
    size = sum(1 for character in pan if character in _DIGITS)
    if not size:
        return ""
    return f"{str(pan[:6], 'ascii')}*{str(pan[size - 4 : size], 'ascii')}"
