"""W3C Trace Context: the caller's trace is read, a span of ours is added, and both are named in answer and log.

Why here: a shop's developer finds one request in two systems' logs by it.
Must not: carry a byte of a header that does not have the exact form, or trust it to be unique.
"""

from __future__ import annotations

import re

import msgspec

_FORM = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_LIMIT = 512
_TRACE, _SPAN = 32, 16
FRESH_SIZE = (_TRACE + _SPAN) // 2


class Trace(msgspec.Struct, frozen=True):
    """In lower-case hex: the trace (16 bytes), the caller's span (8, or empty), ours; whether it is sampled."""

    trace_id: str
    parent_id: str
    span_id: str
    is_sampled: bool

    @property
    def response(self) -> bytes:
        """The value of the answer's ``traceresponse`` header."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.is_sampled else '00'}".encode("ascii")


def trace_of(traceparent: bytes | None, fresh: bytes) -> Trace:
    """The trace of one request; ``fresh``: 24 random bytes, of which the span, and if need be the trace, is made."""
    drawn = fresh.hex()
    if traceparent is not None and (read := _read(traceparent)):
        trace_id, parent_id, is_sampled = read
        return Trace(trace_id, parent_id, drawn[_TRACE:], is_sampled)
    return Trace(drawn[:_TRACE], "", drawn[_TRACE:], is_sampled=False)


def _read(header: bytes) -> tuple[str, str, bool] | None:
    if len(header) > _LIMIT:
        return None
    form = _FORM.fullmatch(header)
    if form is None:
        return None
    version, trace_id, parent_id, flags, rest = form.groups()
    # ff is no version; a later version may add to the end, the first may not; all zeros are no ids.
    if version == b"ff" or (version == b"00" and rest is not None):
        return None
    if not trace_id.strip(b"0") or not parent_id.strip(b"0"):
        return None
    return trace_id.decode("ascii"), parent_id.decode("ascii"), bool(int(flags, 16) & 1)
