"""Keystore and key ring survive a kill before every step of every change: all of it happened, or nothing.

A child makes the change and is gone before its Nth call to the system (a write may also be torn); the parent
opens the ring, as the next command would, and looks at what there is.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from keys.keystore import Keystore
from keys.private import strongbox
from keys.private.locked import LockedBuffer
from keys.private.ring_secret import wrapping_key
from keys.private.ring_secret_file import FileRingSecret
from keys.private.secretbox import UnwrapError
from keys.private.sign import generate_signing_key
from keys.ring import KeyRing
from keys.ring_index import DestroyReason, RingBackend, RingIndex
from tests.keys.conftest import PASSPHRASE, locked

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1_800_000_000
MASTER = bytes(range(32))
CALLS = ("write", "fsync", "rename", "link", "unlink")
DONE, KILLED = 0, 77


def issue(ring: KeyRing) -> None:
    ring.issue_batch_keys(
        "shop-a", 2, identity=generate_signing_key(), now=NOW, seal_until=NOW + 1, destroy_at=NOW + 2
    )


def hold(ring: KeyRing) -> None:
    ring.new_hold_keys([b"p" * 16, b"q" * 16], now=NOW, destroy_at=NOW + 9)


def mark(ring: KeyRing) -> None:
    ring.mark_opened(ring.unused("shop-a")[1].key_id, NOW)


def destroy(ring: KeyRing) -> None:
    doomed = [ring.unused("shop-a")[0].key_id, bytes.fromhex(ring.hold_records()[0].key_id)]
    ring.destroy(doomed, reason=DestroyReason.BATCH_DONE, now=NOW)


CHANGES: dict[str, Callable[[KeyRing], None]] = {
    "issue": issue,
    "hold": hold,
    "mark": mark,
    "destroy": destroy,
}


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """A ring with three batch keys and two hold keys, closed."""
    path = tmp_path / "before"
    path.mkdir()
    with locked(MASTER) as master:
        ring = KeyRing.create(path, master, epoch=1)
        ring.enrol_node("shop-a", b"\x07" * 32, NOW)
        ring.issue_batch_keys(
            "shop-a", 3, identity=generate_signing_key(), now=NOW, seal_until=NOW + 1, destroy_at=NOW + 2
        )
        hold(ring)
        ring.close()
    return path


class Kill:
    """Counts the calls that change or flush a file, and ends the process before the Nth of them."""

    def __init__(self, at: int, *, torn: bool = False, trace: list[str] | None = None) -> None:
        self.left = at
        self.torn = torn
        self.trace = trace
        for name in CALLS:
            setattr(os, name, self.counted(name, getattr(os, name)))

    def counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if self.trace is not None:
                self.trace.append(" ".join([name, *map(name_of, arguments)]))
            if self.left == 0:
                if self.torn and name == "write":
                    real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                os._exit(KILLED)
            self.left -= 1
            return real(*arguments, **options)

        return call


def name_of(argument: Any) -> str:
    if isinstance(argument, int):
        return Path(f"/proc/self/fd/{argument}").readlink().name
    return "" if isinstance(argument, (bytes, bytearray, memoryview)) else Path(argument).name


def in_child(directory: Path, work: Callable[[KeyRing], None] | None, at: int, *, torn: bool) -> int:
    """Open the ring in a child, do ``work``, be gone before call ``at``. Without work, opening is counted."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        master = locked(MASTER)
        if work is None:
            Kill(at, torn=torn)
            KeyRing.open(directory, master)
        else:
            ring = KeyRing.open(directory, master)
            Kill(at, torn=torn)
            work(ring)
        os._exit(DONE)
    finally:
        os._exit(1)


def content(directory: Path, backend: RingBackend = RingBackend.FILE) -> list[object]:
    """What the ring holds, its private keys included."""
    with locked(MASTER) as master:
        ring = KeyRing.open(directory, master, backend=backend)
        try:
            records = [*ring.nodes(), *ring.batch_records(), *ring.hold_records(), *ring.destroyed_records()]
            return [
                *records,
                *(bytes(ring._content.keys[key_id].private.view) for key_id in sorted(ring._content.keys)),
            ]
        finally:
            ring.close()


def kept_secrets(directory: Path, master: LockedBuffer) -> list[LockedBuffer]:
    """What every ring secret in any file of the directory unwraps for the owner of the master key."""
    found = []
    for file in directory.iterdir():
        place = FileRingSecret(directory, master)
        place._live = file
        try:
            found.append(wrapping_key(master, place.read()))
        except Exception:  # noqa: BLE001, S112  not a ring secret
            continue
    return found


@pytest.mark.parametrize("torn", [False, True], ids=["killed", "torn"])
@pytest.mark.parametrize("name", sorted(CHANGES))
def test_killed_change_happened_whole_or_not_at_all(
    before: Path, tmp_path: Path, name: str, torn: bool
) -> None:
    change = CHANGES[name]
    untouched = content(before)
    seen_before = seen_after = 0
    for at in range(100):
        directory = tmp_path / "run"
        shutil.copytree(before, directory)
        ended = in_child(directory, change, at, torn=torn)
        assert ended in (DONE, KILLED)
        now = content(directory)
        assert sorted(file.name for file in directory.iterdir()) == ["ring", "ring.secret"]
        if now == untouched:
            assert ended == KILLED
            assert seen_after == 0, "once a change is durable it stays"
            seen_before += 1
        else:
            seen_after += 1
            if name == "destroy":
                assert_old_ring_is_dead(directory, before)
                assert len(now) == len(untouched) - 2
        with locked(MASTER) as master:  # and the next command can go on
            ring = KeyRing.open(directory, master)
            change(ring)
            ring.close()
        shutil.rmtree(directory)
        if ended == DONE:
            break
    else:
        raise AssertionError("the change never ended")
    assert seen_before > 1
    assert seen_after > 1


def assert_old_ring_is_dead(directory: Path, before: Path) -> None:
    old = (before / "ring").read_bytes()
    with locked(MASTER) as master:
        secrets = kept_secrets(directory, master)
        assert len(secrets) == 1
        for secret in (*secrets, master):
            with pytest.raises(UnwrapError), strongbox.opened(secret, old, RingIndex, "old ring"):
                pass


def test_kill_during_the_repair_is_repaired_too(before: Path, tmp_path: Path) -> None:
    untouched = content(before)
    states = 0
    for at in range(100):
        broken = tmp_path / "broken"
        shutil.copytree(before, broken)
        ended = in_child(broken, destroy, at, torn=False)
        for again in range(100):
            directory = tmp_path / "run"
            copy_with_links(broken, directory)
            repaired = in_child(directory, None, again, torn=True)
            states += 1
            now = content(directory)
            assert now == untouched or len(now) == len(untouched) - 2
            if now != untouched:
                assert_old_ring_is_dead(directory, before)
            assert sorted(file.name for file in directory.iterdir()) == ["ring", "ring.secret"]
            shutil.rmtree(directory)
            if repaired == DONE:
                break
        shutil.rmtree(broken)
        if ended == DONE:
            break
    assert states > 30


def copy_with_links(source: Path, target: Path) -> None:
    """Copy a directory in which two names may be one file, and keep them one."""
    target.mkdir()
    copied: dict[int, Path] = {}
    for file in source.iterdir():
        inode = file.stat().st_ino
        if inode in copied:
            os.link(copied[inode], target / file.name)
        else:
            shutil.copy2(file, target / file.name)
            copied[inode] = target / file.name


def test_every_step_of_a_destruction_is_durable_before_the_next(
    before: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace: list[str] = []
    with locked(MASTER) as master:
        ring = KeyRing.open(before, master)
        for name in CALLS:
            monkeypatch.setattr(os, name, getattr(os, name))  # put back at the end
        Kill(-1, trace=trace)
        destroy(ring)
        ring.close()
    assert [step.strip() for step in trace] == [
        "write ring.new",
        "fsync ring.new",
        "write ring.secret.new",
        "fsync ring.secret.new",
        "link ring.secret ring.secret.old",
        "fsync before",
        "rename ring.secret.new ring.secret",
        "fsync before",
        "write ring.secret.old",
        "fsync ring.secret.old",
        "unlink ring.secret.old",
        "rename ring.new ring",
        "fsync before",
    ]


def test_killed_creation_leaves_a_whole_keystore_or_none(tmp_path: Path) -> None:
    made = 0
    for at in range(100):
        path = tmp_path / str(at) / "keystore"
        path.parent.mkdir()
        child = os.fork()
        if child == 0:
            try:
                passphrase = locked(PASSPHRASE)
                Kill(at)
                Keystore.create(path, [passphrase], rehearsal=True, now=NOW)
                os._exit(DONE)
            finally:
                os._exit(1)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with locked(PASSPHRASE) as passphrase:
            if path.exists():
                made += 1
                Keystore.open(path, [passphrase]).close()
            else:
                assert ended == KILLED
                Keystore.create(path, [passphrase], rehearsal=True, now=NOW).close()
        assert [file.name for file in path.parent.iterdir()] == ["keystore"]
        if ended == DONE:
            break
    assert at > 10
    assert made == 2  # killed before the last fsync, and not killed
