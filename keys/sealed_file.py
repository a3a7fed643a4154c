"""Large files sealed to a public key: written by who cannot open them, opened by who holds the private key.

Why here: a backup is sealed to the custody key, so that it may lie anywhere and only a quorum can read it.
Must not: hold a file in memory, release a chunk that did not verify, or take a cut or reordered file for whole.

Form: a header, one line of canonical JSON (at most 4,096 bytes) and a line feed; then chunks of libsodium's
``crypto_secretstream_xchacha20poly1305``, each 65,536 bytes of content and 17 more, the last one shorter (perhaps
without content) and tagged FINAL. ``key`` is the stream key as a sealed box (``crypto_box_seal``) to ``public_key``,
``stream`` the stream's own header. The header's line is the additional data of every chunk, so ``purpose`` and
``notes``, which anyone may read, are as good as the content once one chunk has verified.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, BinaryIO, Final, Protocol

import msgspec

from keys.durable import Bytes
from keys.errors import KeysError
from keys.private import sodium
from keys.private.locked import LockedBuffer
from keys.private.reseal import seal_view
from keys.private.secretbox import KEY_SIZE, generate_key
from keys.private.unseal import SealingKey, UnsealError, open_box_into
from keys.public import canonical
from keys.public.roll import Count, Hex32

CHUNK: Final = 65_536
HEADER_LIMIT: Final = 4_096
_STREAM_HEADER: Final = sodium.lib.crypto_secretstream_xchacha20poly1305_headerbytes()
_STATE: Final = sodium.lib.crypto_secretstream_xchacha20poly1305_statebytes()
_MORE: Final = sodium.lib.crypto_secretstream_xchacha20poly1305_abytes()
_TAG_MESSAGE: Final = sodium.lib.crypto_secretstream_xchacha20poly1305_tag_message()
_TAG_FINAL: Final = sodium.lib.crypto_secretstream_xchacha20poly1305_tag_final()

Hex24 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{48}$(?!\n)")]
Hex80 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{160}$(?!\n)")]
Purpose = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z-]{0,31}$(?!\n)")]
Note = Annotated[str, msgspec.Meta(pattern=r"^[ -~]{0,256}$(?!\n)")]


class Source(Protocol):
    """What is read from: an open file, or something that looks at it on the way."""

    def read(self, size: int, /) -> bytes: ...

    def readline(self, size: int, /) -> bytes: ...


class Header(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="sealed-file"
):
    """The first line. ``notes`` are printable ASCII, for whoever finds the file."""

    format: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    purpose: Purpose
    public_key: Hex32
    key: Hex80
    stream: Hex24
    size_limit: Count
    notes: dict[Purpose, Note]


def seal(
    parts: Iterable[Bytes],
    target: BinaryIO,
    public_key: bytes,
    *,
    purpose: str,
    notes: dict[str, str],
    limit: int,
) -> LockedBuffer:
    """Write ``parts`` (at most ``limit`` bytes together) to ``target``, sealed; returns the stream key.

    With the stream key the writer can read the file once more before it forgets the key: close it then.
    Raises ``SEALED-FILE-SIZE``.
    """
    stream_key = generate_key()
    try:
        with LockedBuffer(_STATE) as state:
            stream = bytearray(_STREAM_HEADER)
            sodium.lib.crypto_secretstream_xchacha20poly1305_init_push(
                state.pointer, sodium.from_buffer(stream), stream_key.pointer
            )
            header = Header(
                purpose=purpose,
                public_key=public_key.hex(),
                key=seal_view(stream_key.view, public_key).hex(),
                stream=stream.hex(),
                size_limit=limit,
                notes=notes,
            )
            line = _line(header)
            target.write(line + b"\n")
            target.writelines(
                _push(state, chunk, line, _TAG_FINAL if last else _TAG_MESSAGE)
                for chunk, last in _chunks(parts, limit)
            )
    except BaseException:
        stream_key.close()
        raise
    return stream_key


def read_header(source: Source, purpose: str) -> tuple[Header, bytes]:
    """The header and its line, from the beginning of ``source``; nothing of it is proved yet. ``SEALED-FILE-FORM``."""
    line = source.readline(HEADER_LIMIT + 1)
    if not line.endswith(b"\n"):
        raise _form("it does not begin with the header of a sealed file")
    try:
        header = canonical.decode(line[:-1], Header, limit=HEADER_LIMIT, what="header")
    except KeysError as error:
        raise _form("its header is not one of a sealed file") from error
    if header.purpose != purpose:
        raise _form(f"it is a sealed file for another purpose ({header.purpose}, not {purpose})")
    return header, line[:-1]


def stream_key_of(header: Header, key: SealingKey) -> LockedBuffer:
    """The stream key, opened with the private key. ``SEALED-FILE-KEY`` when the file is sealed to another."""
    if header.public_key != key.public_key.hex():
        raise KeysError(
            "SEALED-FILE-KEY", "this file is sealed to another key", "take the key that belongs to it"
        )
    stream_key = LockedBuffer(KEY_SIZE)
    try:
        open_box_into(bytes.fromhex(header.key), key.public_key, key.private, stream_key.view)
    except UnsealError as error:
        stream_key.close()
        raise _damaged() from error
    return stream_key


def unseal(source: Source, header: Header, line: bytes, stream_key: LockedBuffer) -> Iterator[bytes]:
    """The content behind the header, chunk by chunk, each verified before it is given out.

    Only when the iterator ends without ``SEALED-FILE-DAMAGED`` was the file whole: what came before must not
    be used until then. At most ``header.size_limit`` bytes come out.
    """
    left = header.size_limit
    with LockedBuffer(_STATE) as state:
        stream = bytes.fromhex(header.stream)
        if (
            sodium.lib.crypto_secretstream_xchacha20poly1305_init_pull(
                state.pointer, stream, stream_key.pointer
            )
            != 0
        ):
            raise _damaged()
        tag = _TAG_MESSAGE
        while tag != _TAG_FINAL:
            box = _read_full(source, CHUNK + _MORE)
            chunk, tag = _pull(state, box, line)
            left -= len(chunk)
            if left < 0 or (tag == _TAG_MESSAGE and len(chunk) != CHUNK):
                raise _damaged()
            yield chunk
        if source.read(1):
            raise _damaged()


def _line(header: Header) -> bytes:
    line = canonical.encode(header)
    if len(line) > HEADER_LIMIT:
        raise ValueError("the notes of a sealed file are too long")
    return line


def _chunks(parts: Iterable[Bytes], limit: int) -> Iterator[tuple[bytes, bool]]:
    """Whole chunks, and a last one that is shorter."""
    waiting, total = bytearray(), 0
    for part in parts:
        total += len(part)
        if total > limit:
            raise KeysError(
                "SEALED-FILE-SIZE", f"the content is larger than {limit} bytes; nothing was sealed"
            )
        waiting += part
        while len(waiting) >= CHUNK:
            yield bytes(waiting[:CHUNK]), False
            del waiting[:CHUNK]
    yield bytes(waiting), True


def _push(state: LockedBuffer, chunk: bytes, header: bytes, tag: int) -> bytes:
    box = bytearray(len(chunk) + _MORE)
    done = sodium.lib.crypto_secretstream_xchacha20poly1305_push(
        state.pointer, sodium.from_buffer(box), sodium.ffi.NULL, chunk, len(chunk), header, len(header), tag
    )
    if done != 0:
        raise AssertionError("libsodium failed to seal a chunk")
    return bytes(box)


def _pull(state: LockedBuffer, box: bytes, line: bytes) -> tuple[bytes, int]:
    if len(box) < _MORE:
        raise _damaged()  # cut at the edge of a chunk: the one tagged FINAL is missing
    chunk, tag = bytearray(len(box) - _MORE), bytearray(1)
    done = sodium.lib.crypto_secretstream_xchacha20poly1305_pull(
        state.pointer,
        sodium.from_buffer(chunk) if chunk else sodium.ffi.NULL,
        sodium.ffi.NULL,
        sodium.from_buffer(tag),
        box,
        len(box),
        line,
        len(line),
    )
    if done != 0 or tag[0] not in (_TAG_MESSAGE, _TAG_FINAL):
        raise _damaged()
    return bytes(chunk), tag[0]


def _read_full(source: Source, size: int) -> bytes:
    parts = []
    while size and (part := source.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _form(what: str) -> KeysError:
    return KeysError("SEALED-FILE-FORM", f"this is not the file that is wanted: {what}")


def _damaged() -> KeysError:
    return KeysError(
        "SEALED-FILE-DAMAGED",
        "the sealed file is damaged, cut short or was altered; nothing of it is used",
        "take another copy of it",
    )
