"""A process that uses a keystore and then writes its own memory to a file (run by test_memory.py).

It holds no pattern to look for: the test that started it does, in another process.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from keys.keystore import Keystore
from keys.private.locked import LockedBuffer, harden_process, zero_stack
from keys.private.passphrase import from_descriptor
from keys.private.secretbox import unwrap_into, wrap
from keys.private.sign import sign, sign_file
from keys.private.unseal import open_box, open_box_into
from keys.public.seal import seal
from keys.ring_index import DestroyReason

NOW = 1_800_000_100
CHUNK = 1 << 20
PAGE = 4096


def use(keystore: Keystore, card_box: bytes) -> None:
    """Everything that a run does with keys."""
    ring = keystore.ring
    used, expired, *_ = ring.unused("shop-a")
    ring.mark_opened(used.key_id, NOW)
    key, order = ring.batch_key(used.key_id), keystore.order_keys[0].key
    assert key is not None
    with LockedBuffer(len(card_box) - 48) as slot, LockedBuffer(64) as row:
        open_box_into(card_box, key.public_key, key.private, slot.view)
        wrapped = wrap(keystore.vault_key, slot.view[:64])
        unwrap_into(keystore.vault_key, wrapped, row.view)
    open_box(seal(b"an order", order.public_key), order.public_key, order.private)
    sign(keystore.identity, b"message")
    sign_file(keystore.identity, b"content", "comment")
    ring.new_hold_keys([b"o" * 16], now=NOW, destroy_at=NOW + 1)
    keystore.issue_batch_keys("shop-a", 2, now=NOW)
    keystore.make_roll("shop-a", now=NOW)
    ring.destroy([used.key_id, expired.key_id], reason=DestroyReason.BATCH_DONE, now=NOW)


def dump(memory: int, maps: int, out: Path) -> None:
    """Write every readable page of this process to ``out``.

    Reads into one buffer made before: memory taken meanwhile would move the very map that is being read.
    """
    buffer = memoryview(bytearray(CHUNK))
    os.lseek(maps, 0, os.SEEK_SET)
    size = 0
    while got := os.readv(maps, [buffer[size:]]):
        size += got
    listing = bytes(buffer[:size]).decode("utf-8", "replace").splitlines()
    with out.open("wb", buffering=0) as file:
        for line in listing:
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) r\S+ \S+ \S+ \S+ *(.*)", line)
            if found is None or found[3] in {"[vvar]", "[vvar_vclock]", "[vsyscall]"}:
                continue
            place, end = int(found[1], 16), int(found[2], 16)
            while place < end:
                try:
                    got = os.preadv(memory, [buffer[: min(CHUNK, end - place)]], place)
                except OSError:
                    got = 0
                file.write(buffer[:got])
                place += got or PAGE  # one page that cannot be read hides none behind it


def main() -> None:
    mode, path, descriptor, box, out = sys.argv[1:]
    memory, maps = (os.open(f"/proc/self/{name}", os.O_RDONLY) for name in ("mem", "maps"))
    harden_process()
    with from_descriptor(int(descriptor)) as passphrase:
        keystore = Keystore.open(Path(path), [passphrase])
    card_box = Path(box).read_bytes()
    leaked: list[bytes] = []
    if mode == "leak":
        leaked += [bytes(keystore.vault_key.view), bytes(keystore.identity.seed)]
    use(keystore, card_box)
    if mode != "open":
        keystore.close()
    zero_stack()
    dump(memory, maps, Path(out))
    print(len(leaked))


if __name__ == "__main__":
    main()
