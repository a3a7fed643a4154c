"""The raw blocks of a disk after a destruction with the file backend: what overwriting a file in place does, and not.

An ext4 of our own on a loop device; the whole image is searched, free blocks and journal included.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from keys.private.sign import generate_signing_key
from keys.ring import KeyRing
from keys.ring_index import DestroyReason
from tests.keys.conftest import locked

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = 1_800_000_000
MASTER = bytes(range(32))

pytestmark = pytest.mark.needs_tool("mounts", "mkfs.ext4")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", path], check=True, capture_output=True)
    return path


@pytest.fixture
def disk(image: Path, tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "mounted"
    place.mkdir()
    mounted = subprocess.run(["mount", "-o", "loop", image, place], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("missing tool: mounts")
    yield place
    subprocess.run(["umount", place], check=True)


def blocks(image: Path, disk: Path) -> bytes:
    """Every byte of the disk, after all that the system still holds has been written."""
    subprocess.run(["sync", "-f", disk], check=True)
    return image.read_bytes()


def test_old_ring_secret_is_in_no_block_of_the_disk(image: Path, disk: Path) -> None:
    keystore = disk / "keystore"
    keystore.mkdir()
    with locked(MASTER) as master:
        ring = KeyRing.create(keystore, master, epoch=1)
        ring.enrol_node("shop-a", b"\x07" * 32, NOW)
        entries = ring.issue_batch_keys(
            "shop-a", 3, identity=generate_signing_key(), now=NOW, seal_until=NOW + 1, destroy_at=NOW + 2
        )
        old_secret = (keystore / "ring.secret").read_bytes()[-48:]
        old_ring = (keystore / "ring").read_bytes()[-48:]
        (keystore / "removed").write_bytes(b"REMOVED WITHOUT BEING OVERWRITTEN")
        assert old_secret in blocks(image, disk), "the search finds what is still there"
        (keystore / "removed").unlink()
        ring.destroy([entries[0].key_id], reason=DestroyReason.BATCH_DONE, now=NOW)
        left = blocks(image, disk)
        assert old_secret not in left
        assert b"REMOVED WITHOUT BEING OVERWRITTEN" in left, "removing alone does not do it"
        # The old ring stays in free blocks for a while; nothing there is or was that opens it.
        assert (keystore / "ring.secret").read_bytes()[-48:] in left
        print("old ring's ciphertext in a free block:", old_ring in left)
        ring.close()
