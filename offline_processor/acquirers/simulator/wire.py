"""The simulated acquirer's reading and writing of ISO 8583 by a profile: what the host needs, and its answer.

Why here: host and books know no bit of a message; the server knows only frames.
Must not: hand on a PAN beyond BIN and last four, or a security code.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from offline_processor.acquirers.iso8583 import codec, profile
from offline_processor.acquirers.iso8583.acquirer_side import answered, requested
from offline_processor.acquirers.simulator.books import Kind, Sums
from offline_processor.acquirers.simulator.host import Message, Reply
from offline_processor.acquirers.simulator.server import Request, WireError
from offline_processor.errors import ProcessorError

_TIME_SIZE: Final = 10
_OVERSIZE: Final = {"binary2": b"\xff\xff", "ascii4": b"9999"}


class IsoWire:
    """Messages of one profile. ``now`` gives Unix seconds: a message's time has no year."""

    def __init__(self, name: str, *, now: Callable[[], int]) -> None:
        self._profile = profile.load(name)
        self._now = now

    def split(self, received: bytearray) -> list[bytes]:
        """Take the whole messages out."""
        try:
            return codec.split(self._profile, received)
        except ProcessorError:
            raise WireError("no length of this profile") from None

    def frame(self, raw: bytes, *, oversize: bool = False) -> bytes:
        """A message with its length before it, or with one that is too large."""
        before = _OVERSIZE[self._profile.length_prefix] if oversize else codec.prefix(self._profile, raw)
        return before + raw

    def read(self, raw: bytes) -> Request:
        """One message; ``WireError`` names nothing of what it held."""
        try:
            message = codec.decode(self._profile, raw, keep_ends=True)
            return Request(message=self._message(message), asked=message)
        except (ProcessorError, ValueError):
            raise WireError("no message of this profile") from None

    def write(self, request: Request, reply: Reply, *, stan: int, code: str) -> bytes:
        """The answer to a request."""
        message = answered(
            self._profile,
            request.asked,
            code=code,
            approval=reply.approval,
            stan=stan,
            amount=reply.amount,
            currency=reply.currency or None,
            security_code=reply.security_code,
            simulator=True,
        )
        return bytes(codec.encode(self._profile, message))

    def _message(self, message: codec.Message) -> Message:
        asked = requested(self._profile, message)
        totals = asked.totals
        return Message(
            kind=Kind(asked.kind),
            mti=message.mti,
            reference=asked.order_id,
            stan=asked.stan,
            rrn=asked.rrn,
            sent_at=_time(asked.time, self._now()),
            amount=asked.amount,
            currency=asked.currency,
            bin=asked.bin,
            last_four=asked.last_four,
            original_stan=asked.original_stan,
            keep=asked.keep,
            has_cvv=asked.has_cvv,
            totals=None
            if totals is None
            else Sums(
                captures=totals.captures,
                captured=totals.captured,
                refunds=totals.refunds,
                refunded=totals.refunded,
            ),
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
