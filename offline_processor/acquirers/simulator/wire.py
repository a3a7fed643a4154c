"""The simulated acquirer's reading and writing of ISO 8583 by a profile: what the host needs, and its answer.

Why here: host and books know no bit of a message; the server knows only frames.
Must not: hand on a PAN beyond BIN and last four, or a security code.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Final

from offline_processor.acquirers.iso8583 import codec, profile
from offline_processor.acquirers.iso8583.acquirer_side import answered, requested
from offline_processor.acquirers.iso8583.frame import is_authentic
from offline_processor.acquirers.iso8583.messages import ECHO, is_response
from offline_processor.acquirers.iso8583.protection import read_mac_key
from offline_processor.acquirers.simulator.books import Kind, Sums
from offline_processor.acquirers.simulator.host import Message, Reply
from offline_processor.acquirers.simulator.server import Request, WireError
from offline_processor.errors import ProcessorError

_TIME_SIZE: Final = 10
_LAST_STAN: Final = 999_999
_OVERSIZE: Final = {"binary2": b"\xff\xff", "ascii4": b"9999"}


class IsoWire:
    """Messages of one profile, with its MAC where it has one. ``now`` gives Unix seconds: a message has no year.

    ``SIMULATOR-PROTECTION`` where the MAC's key or TLS are not as the profile says.
    """

    def __init__(
        self, name: str, *, now: Callable[[], int], mac_key: Path | None = None, speaks_tls: bool = False
    ) -> None:
        self._profile = profile.load(name)
        self._now = now
        self._echoes = 0
        algorithm = self._profile.mac_algorithm
        if (algorithm is None) is not (mac_key is None) or self._profile.tls is not speaks_tls:
            raise ProcessorError(
                "SIMULATOR-PROTECTION",
                "the profile's mac and --mac-key go together, and so do its tls and --tls-certificate",
                "give what the profile asks for: the file that [acquirer] mac_key names, a certificate and its key",
            )
        self._mac = None if algorithm is None or mac_key is None else read_mac_key(mac_key, algorithm)

    @property
    def mac_check(self) -> str:
        """The check value of its key; "" without one."""
        return "" if self._mac is None else self._mac.check_value().hex().upper()

    def close(self) -> None:
        """Wipe the key."""
        if self._mac is not None:
            self._mac.close()

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

    def read(self, raw: bytes) -> Request | None:
        """One message, None for an answer; ``WireError`` names nothing of what it held, and says of a MAC no more."""
        try:
            if not is_authentic(self._profile, memoryview(raw), self._mac):
                raise WireError("no message with a MAC of our key")
            message = codec.decode(self._profile, raw, keep_ends=True)
            if is_response(message):
                return None
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
        return self._written(message)

    def echo(self) -> bytes:
        """An echo test of the host's own, without its length."""
        self._echoes = self._echoes % _LAST_STAN + 1
        at = datetime.fromtimestamp(self._now(), UTC).strftime("%m%d%H%M%S")
        fields = {7: at, 11: f"{self._echoes:06d}", 70: ECHO}
        return self._written(codec.Message(mti="0800", fields=fields))

    def _written(self, message: codec.Message) -> bytes:
        raw = codec.encode(self._profile, message)
        places = codec.mac_places(self._profile, memoryview(raw))
        if self._mac is not None and places is not None:
            self._mac.write(*places)
        return bytes(raw)

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
