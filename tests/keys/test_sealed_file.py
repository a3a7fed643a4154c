"""Sealed files: any length comes back, any change is found, and PyNaCl's own bindings read the same form."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings
from nacl.public import PrivateKey, SealedBox

from keys import sealed_file
from keys.errors import KeysError
from keys.private.locked import LockedBuffer
from keys.private.unseal import SealingKey, generate_sealing_key, sealing_key
from keys.sealed_file import CHUNK, read_header, seal, stream_key_of, unseal

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 1 << 20
MORE = 17
GOLDEN_KEY = bytes(range(32))
GOLDEN_FILE = bytes.fromhex(
    "7b22666f726d6174223a312c226b6579223a223939626533316563663932336239336432343834613765353838363630"
    "636532636434663030373736623932313030343837373639306462393931633339376633343137336533323236393835"
    "613362323165643434663061366434323233663232373537393436303966613438306666333562396430343664623063"
    "3034613635633963613361306165303366313035383931646336636138386363663364222c226b696e64223a22736561"
    "6c65642d66696c65222c226e6f746573223a7b226d616465223a226f6e6365227d2c227075626c69635f6b6579223a22"
    "386634306335616462363866323536323461653562323134656137363761366563393464383239643364376235653161"
    "64316261366633653231333832383566222c22707572706f7365223a226261636b7570222c2273697a655f6c696d6974"
    "223a343039362c2273747265616d223a2236346531346336633132656536393461616663626533393765653362633234"
    "3933363638303463333362616565303632227d0ae78fcbc476743d9b838c1efa00adde6835d2e2b85cdf0e7f10aca524"
    "7c8a8e94905a6f7577c56c565db66ff59d250edf4ae2560a"
)


@pytest.fixture(scope="module")
def key() -> Iterator[SealingKey]:
    made = generate_sealing_key()
    yield made
    made.close()


def sealed(content: bytes, key: SealingKey, *, limit: int = LIMIT, pieces: int = 50_000) -> bytes:
    target = io.BytesIO()
    parts = [content[start : start + pieces] for start in range(0, len(content), pieces)]
    seal(parts, target, key.public_key, purpose="backup", notes={"made": "today"}, limit=limit).close()
    return target.getvalue()


def opened(raw: bytes, key: SealingKey, purpose: str = "backup") -> bytes:
    source = io.BytesIO(raw)
    header, line = read_header(source, purpose)
    with stream_key_of(header, key) as stream_key:
        return b"".join(unseal(source, header, line, stream_key))


def split(raw: bytes) -> tuple[bytes, list[bytes]]:
    """The header's line and the boxes."""
    line, _, body = raw.partition(b"\n")
    return line + b"\n", [body[start : start + CHUNK + MORE] for start in range(0, len(body), CHUNK + MORE)]


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 200_001])
def test_content_of_any_length_comes_back(key: SealingKey, size: int) -> None:
    content = bytes(place % 251 for place in range(size))
    raw = sealed(content, key)
    assert opened(raw, key) == content
    assert content[:64] not in raw or size < 8


@given(content=st.binary(max_size=3 * CHUNK), pieces=st.integers(1, 70_000))
def test_pieces_do_not_matter(key: SealingKey, content: bytes, pieces: int) -> None:
    assert opened(sealed(content, key, pieces=max(pieces, len(content) // 50 + 1)), key) == content


def test_writer_can_read_the_file_back_with_the_stream_key(key: SealingKey) -> None:
    target = io.BytesIO()
    with seal(
        [b"one", b"two"], target, key.public_key, purpose="backup", notes={}, limit=LIMIT
    ) as stream_key:
        target.seek(0)
        header, line = read_header(target, "backup")
        assert b"".join(unseal(target, header, line, stream_key)) == b"onetwo"


def test_golden_file_opens() -> None:
    private = LockedBuffer(32).copy_from(GOLDEN_KEY)
    with private:
        golden = sealing_key(bytes(PrivateKey(GOLDEN_KEY).public_key), private)
        assert opened(GOLDEN_FILE, golden) == b"the golden content of a sealed file"


def test_bindings_of_pynacl_read_the_same_form() -> None:
    private = PrivateKey.generate()
    locked = LockedBuffer(32).copy_from(bytes(private))
    with locked:
        key = sealing_key(bytes(private.public_key), locked)
        content = bytes(range(256)) * 600
        line, boxes = split(sealed(content, key))
    header = json.loads(line)
    stream_key = SealedBox(private).decrypt(bytes.fromhex(header["key"]))
    state = bindings.crypto_secretstream_xchacha20poly1305_state()
    bindings.crypto_secretstream_xchacha20poly1305_init_pull(
        state, bytes.fromhex(header["stream"]), stream_key
    )
    found = [bindings.crypto_secretstream_xchacha20poly1305_pull(state, box, line[:-1]) for box in boxes]
    assert b"".join(part for part, _ in found) == content
    assert [tag for _, tag in found] == [0, 0, 3]


# What is refused


@pytest.mark.parametrize(
    "change",
    [
        lambda boxes: boxes[:-1],
        lambda boxes: boxes[:1],
        lambda boxes: [],
        lambda boxes: [boxes[1], boxes[0], *boxes[2:]],
        lambda boxes: [boxes[0], *boxes],
        lambda boxes: [*boxes, boxes[-1]],
        lambda boxes: [*boxes, b"x"],
        lambda boxes: [boxes[0], boxes[-1]],
        lambda boxes: [*boxes[:-1], boxes[-1][:-1]],
    ],
    ids=["no-last", "first-only", "none", "swapped", "twice", "last-twice", "more", "middle-gone", "cut"],
)
def test_cut_reordered_or_repeated_chunks_are_found(key: SealingKey, change: object) -> None:
    line, boxes = split(sealed(bytes(2 * CHUNK + 100), key))
    assert len(boxes) == 3
    with pytest.raises(KeysError, match="SEALED-FILE-DAMAGED"):
        opened(line + b"".join(change(boxes)), key)  # type: ignore[operator]


@given(data=st.data())
def test_any_changed_byte_is_refused(key: SealingKey, data: st.DataObject) -> None:
    raw = bytearray(sealed(b"content" * 100, key))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(KeysError, match="SEALED-FILE-"):
        opened(bytes(raw), key)


@given(raw=st.binary(max_size=600))
def test_any_bytes_are_refused_in_order(key: SealingKey, raw: bytes) -> None:
    with pytest.raises(KeysError, match="SEALED-FILE-FORM"):
        opened(raw, key)


def test_file_for_another_purpose_or_key_is_refused(key: SealingKey) -> None:
    raw = sealed(b"content", key)
    with pytest.raises(KeysError, match="SEALED-FILE-FORM"):
        opened(raw, key, purpose="custody")
    stranger = generate_sealing_key()
    with pytest.raises(KeysError, match="SEALED-FILE-KEY"):
        opened(raw, stranger)
    stranger.close()


def test_content_above_the_limit_is_neither_sealed_nor_opened(
    key: SealingKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeysError, match="SEALED-FILE-SIZE"):
        sealed(bytes(101), key, limit=100)
    assert opened(sealed(bytes(100), key, limit=100), key) == bytes(100)
    # A writer that lies about its limit: what it sealed does not come out.
    chunks = sealed_file._chunks
    monkeypatch.setattr(sealed_file, "_chunks", lambda parts, limit: chunks(parts, LIMIT))
    raw = sealed(bytes(101), key, limit=100)
    with pytest.raises(KeysError, match="SEALED-FILE-DAMAGED"):
        opened(raw, key)
