"""The simulated acquirer's reading and writing of ISO 8583: what the host needs of a request, and its answer.

Why here: host and books know no bit of a message; the server knows only frames.
Must not: hand on a PAN beyond BIN and last four, or a security code; both end in this module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import iso4217
import iso8583
import iso8583.specs

from offline_processor.acquirers.simulator.books import Kind, Sums
from offline_processor.acquirers.simulator.host import Message, Reply
from offline_processor.acquirers.simulator.server import Request, WireError
from offline_processor.charging import SecurityCode

_TIME_SIZE: Final = 10
SIMULATOR: Final = "SIMULATOR"
_KINDS: Final = {
    "08": Kind.NETWORK,
    "01": Kind.AUTHORISATION,
    "02": Kind.CAPTURE,
    "04": Kind.REVERSAL,
    "05": Kind.TOTALS,
}
_CONSTANT: Final = frozenset(
    ("3", "4", "7", "11", "12", "13", "15", "32", "37", "41", "42", "49", "50", "70")
)
_REFUND_CODES: Final = "20"
_NUMERIC: Final = {f"{one.number:03d}": one.code for one in iso4217.Currency}
_ALPHA: Final = {code: number for number, code in _NUMERIC.items()}
_SECURITY: Final = {SecurityCode.MATCH: "M", SecurityCode.MISMATCH: "N", SecurityCode.NOT_CHECKED: "P"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Where a profile puts what the standard leaves open; ``spec`` as pyiso8583 takes it."""

    spec: dict[str, Any]
    reference: str = "63"
    security_code: str = "60"
    security_result: str = "44"
    simulator: str = "63"
    length_size: int = 2


class IsoWire:
    """Messages of one dialect. ``now`` gives Unix seconds: a message's time has no year."""

    def __init__(self, dialect: Dialect, *, now: Callable[[], int]) -> None:
        self._dialect, self._now = dialect, now

    def split(self, received: bytearray) -> list[bytes]:
        """Take the whole messages out."""
        size, found = self._dialect.length_size, []
        while len(received) >= size:
            end = size + int.from_bytes(received[:size], "big")
            if len(received) < end:
                break
            found.append(bytes(received[size:end]))
            del received[:end]
        return found

    def frame(self, raw: bytes, *, length: int | None = None) -> bytes:
        """A message with its length before it, or with another one."""
        return (len(raw) if length is None else length).to_bytes(self._dialect.length_size, "big") + raw

    def read(self, raw: bytes) -> Request:
        """One message; ``WireError`` names nothing of what it held."""
        try:
            fields, _ = iso8583.decode(raw, self._dialect.spec)
            return Request(message=self._message(fields), fields=_repeated(fields))
        except (iso8583.DecodeError, KeyError, ValueError):
            raise WireError("no message of this profile") from None

    def write(self, request: Request, reply: Reply, *, stan: int, code: str) -> bytes:
        """The answer to a request."""
        mti, dialect = request.fields["t"], self._dialect
        fields = dict(request.fields)
        # The last digit is who began: a repetition (1) is answered as what it repeats.
        fields["t"] = f"{mti[:2]}{int(mti[2]) + 1}0"
        fields["11"], fields["39"] = f"{stan:06d}", code
        if reply.approval and code in ("00", "10"):
            fields["38"] = reply.approval
        if "4" in fields:
            fields["4"] = f"{reply.amount:012d}"
        if "49" in fields:
            fields["49"] = _ALPHA[reply.currency]
        if request.message.kind is Kind.AUTHORISATION:
            fields[dialect.security_result] = _SECURITY[reply.security_code]
        if request.message.kind is Kind.NETWORK:
            fields[dialect.simulator] = SIMULATOR
        raw, _ = iso8583.encode(fields, dialect.spec)
        return bytes(raw)

    def _message(self, fields: dict[str, str]) -> Message:
        mti, pan = fields["t"], fields.get("2", "")
        kind = _KINDS[mti[:2]]
        if kind is Kind.CAPTURE and fields["3"].startswith(_REFUND_CODES):
            kind = Kind.REFUND
        original, replacement = fields.get("90", ""), fields.get("95", "")
        return Message(
            kind=kind,
            mti=mti,
            reference=fields.get(self._dialect.reference, "") if kind is not Kind.NETWORK else "",
            stan=int(fields["11"]),
            rrn=fields.get("37", ""),
            sent_at=_time(fields["7"], self._now()),
            amount=int(fields.get("4", "0")),
            currency=_NUMERIC[fields["49"]] if "49" in fields else "",
            bin=pan[:6],
            last_four=pan[-4:],
            original_stan=int(original[4:10] or "0"),
            keep=int(replacement[:12] or "0"),
            has_cvv=self._dialect.security_code in fields,
            totals=_totals(fields) if kind is Kind.TOTALS else None,
        )


def open_wire(profile: str, *, now: Callable[[], int]) -> IsoWire:
    """The wire of a profile."""
    del profile
    return IsoWire(Dialect(spec=_default_spec()), now=now)


def _default_spec() -> dict[str, Any]:
    return {
        field: {**one, "data_enc": "b"} if field in ("p", "1") else one
        for field, one in iso8583.specs.default_ascii.items()
    }


def _repeated(fields: dict[str, str]) -> dict[str, str]:
    """What an answer repeats of its request; no card."""
    return {name: value for name, value in fields.items() if name in _CONSTANT or name in ("h", "t")}


def _totals(fields: dict[str, str]) -> Sums:
    return Sums(
        captures=int(fields.get("76", "0")),
        captured=int(fields.get("88", "0")),
        refunds=int(fields.get("74", "0")),
        refunded=int(fields.get("86", "0")),
    )


def _time(text: str, now: int) -> int:
    """MMDDhhmmss in the year in which it is nearest to now, in Unix seconds."""
    if len(text) != _TIME_SIZE or not text.isdecimal():
        raise ValueError("no time")
    parts = [int(text[at : at + 2]) for at in range(0, _TIME_SIZE, 2)]
    year = datetime.fromtimestamp(now, UTC).year
    times = [at for one in (year - 1, year, year + 1) if (at := _in_year(one, *parts)) is not None]
    return min(times, key=lambda at: abs(at - now))


@lru_cache(maxsize=1_000)
def _in_year(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int | None:
    try:
        return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp())
    except ValueError:  # 29 February of another year
        return None
