"""Nothing of a destroyed key is left in any file of the offline side, its temporary files, custody copy and backup.

The raw bytes of every file are searched for the private key, the old ring's ciphertext and both halves of the old
ring secret, as they are and as hex and base64; the same search must find each of them where it still is.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from keys import sealed_file
from keys.private.locked import LockedBuffer
from keys.private.ring_secret_file import FileRingSecret
from keys.private.unseal import open_box
from offline_processor.backup import PURPOSE
from tests.offline_processor.disaster import back_up
from tests.offline_processor.shop import HOLD_HOURS, HOUR, LOST_ANSWER_CARD, Shop, a_card, id_of, open_shop

if TYPE_CHECKING:
    from keys.private.unseal import SealingKey

WINDOW = 24
"""Bytes of ciphertext that mean it was found: no chance makes 24 equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """What must be gone once these keys are destroyed, by name. Only a test has it as bytes."""

    parts: dict[str, bytes]

    @classmethod
    def of(cls, shop: Shop, key: SealingKey) -> Sought:
        path = shop.root / "keystore"
        master: LockedBuffer = shop.keystore._files.master
        with FileRingSecret(path, master).read() as secret:
            stored = bytes(secret.view)
        wrapping = shop.keystore.ring._file._wrapping
        assert wrapping is not None
        return cls(
            parts={
                "private key": bytes(key.private.view),
                "old ring secret": stored,
                "what wrapped the old ring": bytes(wrapping.view),
                "old ring's ciphertext": (path / "ring").read_bytes().partition(b"\n")[2],
                "old ring secret's ciphertext": (path / "ring.secret").read_bytes().partition(b"\n")[2],
            }
        )

    def found_in(self, content: bytes) -> set[str]:
        return {name for name, part in self.parts.items() if any(form in content for form in _forms(part))}


def _forms(part: bytes) -> Iterator[bytes]:
    for start in range(0, len(part) - WINDOW + 1, WINDOW):
        piece = part[start : start + WINDOW]
        yield piece
        yield piece.hex().encode()
        for shift in range(3):  # base64 of a longer text has it in one of three alignments
            yield base64.b64encode(piece[shift:])[: 4 * ((WINDOW - shift) // 3)]


def files(*roots: Path) -> Iterator[tuple[str, bytes]]:
    for root in roots:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                yield path.name, path.read_bytes()


def traces(sought: Sought, *roots: Path) -> dict[str, set[str]]:
    """Which parts are found in which file."""
    return {name: found for name, content in files(*roots) if (found := sought.found_in(content))}


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return place


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = open_shop(tmp_path / "shop", custodians=(2, 3))
    yield made
    made.keystore.close()


def test_nothing_of_destroyed_batch_and_hold_keys_is_in_any_file(
    shop: Shop, tmp_path: Path, temporary: Path
) -> None:
    batch = shop.keystore.ring.batch_key(shop.keys_for().batch_key_id)
    assert batch is not None
    sought_batch = Sought.of(shop, batch)
    on_disk = {"ring": {"old ring's ciphertext"}, "ring.secret": {"old ring secret's ciphertext"}}
    assert traces(sought_batch, shop.root, temporary) == on_disk, "the search finds what is still there"
    shop.bundle([shop.seal(0, card=a_card(LOST_ANSWER_CARD)), shop.seal(1)])
    shop.run()
    hold = shop.hold_key_of(0)
    assert hold is not None
    assert traces(sought_batch, shop.root, temporary) == {}
    sought_hold = Sought.of(shop, hold)
    assert traces(sought_hold, shop.root, temporary) == on_disk
    shop.run_later(HOLD_HOURS * HOUR)
    assert shop.keystore.ring.hold_records() == []
    assert traces(sought_hold, shop.root, temporary) == {}
    assert traces(sought_batch, shop.root, temporary) == {}
    for name, part in sought_batch.parts.items():  # and each of them would be found
        for form in (
            part,
            part.hex().encode(),
            base64.b64encode(b"x" + part),
            base64.b64encode(b"xy" + part),
        ):
            (temporary / "leak").write_bytes(b"something before it " + form)
            assert traces(sought_batch, shop.root, temporary) == {"leak": {name}}


def test_neither_custody_copy_nor_backup_has_any_live_batch_or_hold_key(
    shop: Shop, tmp_path: Path, temporary: Path
) -> None:
    shop.bundle([shop.seal(0, card=a_card(LOST_ANSWER_CARD))])
    shop.run()
    hold = shop.hold_key_of(0)
    live = shop.keystore.ring.batch_key(shop.keys_for().batch_key_id)
    assert hold is not None
    assert live is not None
    assert shop.custody_key is not None
    opened = tmp_path / "opened"
    opened.mkdir()
    copy = shop.keystore.custody_copy(shop.now)
    (opened / "copy").write_bytes(open_copy(copy, shop.custody_key))
    backup = back_up(shop)
    (opened / "backup").write_bytes(open_backup(backup.path, shop.custody_key))
    # What is searched is the opened content: what must be in it is found.
    control = Sought(parts={"order key": bytes(shop.keystore.order_keys[0].key.private.view)})
    assert traces(control, opened) == {"copy": {"order key"}}
    assert b"SQLite format 3" in (opened / "backup").read_bytes()
    assert id_of(0).encode() in (opened / "backup").read_bytes()
    box = Sought(parts={"held card": shop.rows("SELECT box FROM held_card")[0][0]})
    assert traces(box, opened) == {}
    assert "ledger.db" in traces(box, shop.root)
    for key in (hold, live):
        assert traces(Sought.of(shop, key), opened, temporary) == {}


def open_copy(copy: bytes, custody_key: SealingKey) -> bytes:
    box = base64.b64decode(copy.splitlines()[1])
    return open_box(box, custody_key.public_key, custody_key.private)


def open_backup(path: Path, custody_key: SealingKey) -> bytes:
    with path.open("rb") as file:
        header, line = sealed_file.read_header(file, PURPOSE)
        with sealed_file.stream_key_of(header, custody_key) as stream_key:
            return b"".join(sealed_file.unseal(file, header, line, stream_key))
