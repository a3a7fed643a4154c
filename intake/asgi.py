"""Reading one request and writing one answer over ASGI, within limits.

Why here: the busiest endpoint needs no framework objects, and every endpoint needs the same answers and limits.
Must not: log a request, or let a client's bytes into an answer or an exception.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

import msgspec

from intake.problems import (
    BODY_TOO_LARGE,
    IDEMPOTENCY_KEY_MALFORMED,
    IDEMPOTENCY_KEY_MISSING,
    MEDIA_TYPE,
    MEDIA_TYPE_REFUSED,
    NOT_JSON,
    TOO_SLOW,
    Problem,
    encode_problem,
)
from transfer.errors import TransferError
from transfer.wire.ids import check_idempotency_key

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

NEW = "new "
"""The note of an answer that took an order which was not there before; its id follows."""
BODY_LIMIT = 32 * 1024
BODY_SECONDS = 15.0
_JSON = b"application/json"
_QUOTED_MINIMUM = 2
_decoder = msgspec.json.Decoder()


def single_headers(scope: Scope) -> Mapping[bytes, bytes]:
    """The headers by name (lower case); one that is repeated is left out, since nobody knows which was meant."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    by_name = dict(headers)
    if len(by_name) != len(headers):
        for name, count in Counter(name for name, _ in headers).items():
            if count > 1:
                del by_name[name]
    return by_name


def read_idempotency_key(headers: Mapping[bytes, bytes]) -> str | Problem:
    """The Idempotency-Key header, bare or as a structured-field string in double quotes."""
    raw = headers.get(b"idempotency-key")
    if raw is None:
        return IDEMPOTENCY_KEY_MISSING
    text = raw.decode("latin-1").strip(" \t")
    if len(text) >= _QUOTED_MINIMUM and text[0] == text[-1] == '"':
        text = text[1:-1]
    try:
        return check_idempotency_key(text)
    except TransferError:
        return IDEMPOTENCY_KEY_MALFORMED


async def read_json(headers: Mapping[bytes, bytes], receive: Receive) -> object | Problem:
    """The body as decoded JSON. A body that is not JSON, too large or too slow is a problem."""
    media_type = headers.get(b"content-type", b"")
    if media_type != _JSON and media_type.partition(b";")[0].strip().lower() != _JSON:
        return MEDIA_TYPE_REFUSED
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        return MEDIA_TYPE_REFUSED
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or int(length[:20]) > BODY_LIMIT:
        return BODY_TOO_LARGE
    body = await read_body(receive)
    return body if isinstance(body, Problem) else _decode(body)


def _decode(body: bytes) -> object | Problem:
    try:
        document: object = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # The decoder's own message may quote the body.
        return NOT_JSON
    return document


async def read_body(receive: Receive) -> bytes | Problem:
    """The body's bytes, within the limits of size and time.

    asyncio.timeout does the same at five times the price, for every order.
    """
    task = asyncio.current_task()
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        if task is not None:
            task.cancel()

    timer = asyncio.get_running_loop().call_later(BODY_SECONDS, expire)
    try:
        return await _read_chunks(receive)
    except asyncio.CancelledError:
        if not expired or task is None:
            raise
        task.uncancel()
        return TOO_SLOW
    finally:
        timer.cancel()


async def _read_chunks(receive: Receive) -> bytes | Problem:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""  # the client went away; nobody reads the answer
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > BODY_LIMIT:
            return BODY_TOO_LARGE
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks) if len(chunks) > 1 else chunks[0]


async def answer(
    send: Send,
    status: int,
    body: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    media_type: bytes,
    note: str = "",
) -> None:
    """Send a whole answer. ``note`` says in a word what it is, for counts and logs; no client sees it."""
    fixed = [
        (b"content-type", media_type),
        (b"content-length", b"%d" % len(body)),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers], "note": note})
    await send({"type": "http.response.body", "body": body})


async def answer_problem(send: Send, problem: Problem) -> None:
    """Send a refusal as application/problem+json."""
    headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in problem.headers]
    if not any(name == b"cache-control" for name, _ in headers):
        headers.append((b"cache-control", b"no-store"))
    body, media_type = encode_problem(problem), MEDIA_TYPE.encode("ascii")
    await answer(send, int(problem.status), body, headers, media_type, problem.rule)
