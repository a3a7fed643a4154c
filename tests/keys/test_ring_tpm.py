"""The ring secret in a TPM 2.0: what an old disk, another machine, a crash or a silent chip can and cannot do.

The TPM is swtpm, driven with tpm2-tools as a real one would be.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.errors import KeysError
from keys.keystore import Keystore
from keys.private import strongbox
from keys.private import tpm as chip
from keys.private.locked import LockedBuffer
from keys.private.ring_secret import wrapping_key
from keys.private.ring_secret_tpm import TpmRingSecret, discard
from keys.private.secretbox import UnwrapError
from keys.private.sign import generate_signing_key
from keys.private.unseal import open_box
from keys.public.seal import seal
from keys.ring import KeyRing
from keys.ring_index import DestroyReason, RingBackend, RingIndex
from tests.keys import tpm
from tests.keys.conftest import PASSPHRASE, locked
from tests.keys.test_crash import DONE, KILLED, Kill, content, destroy, hold, issue, mark
from tests.keys.test_memory import dumped, found_in
from tests.tools.known import find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = 1_800_000_000
MASTER = bytes(range(32))
BACKENDS = [RingBackend.FILE, RingBackend.TPM]

pytestmark = pytest.mark.needs_tool("swtpm", "tpm2_nvwrite")


@pytest.fixture(scope="module")
def one_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tpm.Tpm]:
    running = tpm.start(tmp_path_factory.mktemp("tpm") / "state", program())
    yield running
    running.stop()


def program() -> Path:
    found = find("swtpm")
    assert found is not None
    return found


@pytest.fixture
def machine(one_machine: tpm.Tpm, monkeypatch: pytest.MonkeyPatch) -> tpm.Tpm:
    monkeypatch.setenv("TPM2TOOLS_TCTI", one_machine.address)
    return one_machine


@pytest.fixture
def other_machine(tmp_path: Path, machine: tpm.Tpm) -> Iterator[tpm.Tpm]:
    running = tpm.start(tmp_path / "other-tpm", program())
    yield running
    running.stop()


@pytest.fixture
def before(tmp_path: Path, machine: tpm.Tpm) -> Path:
    """A ring with three batch keys and two hold keys, closed, its secret in the machine's TPM."""
    path = tmp_path / "before"
    make(path, RingBackend.TPM)
    return path


def make(path: Path, backend: RingBackend) -> None:
    path.mkdir()
    with locked(MASTER) as master:
        ring = KeyRing.create(path, master, epoch=1, backend=backend)
        ring.enrol_node("shop-a", b"\x07" * 32, NOW)
        ring.issue_batch_keys(
            "shop-a", 3, identity=generate_signing_key(), now=NOW, seal_until=NOW + 1, destroy_at=NOW + 2
        )
        hold(ring)
        ring.close()


def with_ring(path: Path, work: Callable[[KeyRing], Any], backend: RingBackend = RingBackend.TPM) -> Any:
    with locked(MASTER) as master:
        ring = KeyRing.open(path, master, backend=backend)
        try:
            return work(ring)
        finally:
            ring.close()


def refused(work: Callable[[], object]) -> str:
    with pytest.raises(KeysError) as refusal:
        work()
    assert refusal.value.remedy
    return refusal.value.rule


def stored(path: Path) -> bytes:
    with locked(MASTER) as master, TpmRingSecret(path, master).read() as secret:
        return bytes(secret.view)


def handle_of(path: Path) -> int:
    with locked(MASTER) as master:
        return TpmRingSecret(path, master)._handle()


# What it is for


def test_keys_are_destroyed_and_the_rest_is_there_after_reopening(before: Path) -> None:
    first = stored(before)
    held = content(before, RingBackend.TPM)
    for work in (issue, hold, mark):
        with_ring(before, work)
    assert stored(before) == first, "only a destruction writes to the chip"
    with_ring(before, destroy)
    assert stored(before) != first
    assert len(content(before, RingBackend.TPM)) == len(held) + 4 * 2 - 2
    assert sorted(file.name for file in before.iterdir()) == ["ring", "ring.tpm"]


def test_secret_is_on_the_disk_in_no_form(before: Path) -> None:
    secret = stored(before)
    with locked(MASTER) as master, locked(secret) as kept, wrapping_key(master, kept) as wrapping:
        sought = [secret, bytes(wrapping.view), secret.hex().encode(), bytes(wrapping.view).hex().encode()]
    (before / "leak").write_bytes(b"x" + sought[0])
    found = [file.name for file in before.iterdir() if any(form in file.read_bytes() for form in sought)]
    assert found == ["leak"], "the search finds what is there"


@pytest.mark.parametrize("backend", BACKENDS)
def test_older_copy_of_the_disk_opens_a_destroyed_key_only_with_the_file_backend(
    tmp_path: Path, machine: tpm.Tpm, backend: RingBackend
) -> None:
    disk, image = tmp_path / "disk", tmp_path / "image"
    make(disk, backend)
    card = b"4242 4242 4242 4242, 123"
    key_id, public_key = with_ring(
        disk, lambda ring: (ring.unused("shop-a")[0].key_id, ring.unused("shop-a")[0].public_key), backend
    )
    box = seal(card, bytes.fromhex(public_key))
    shutil.copytree(disk, image)
    with_ring(disk, lambda ring: ring.destroy([key_id], reason=DestroyReason.BATCH_DONE, now=NOW), backend)

    def attack(ring: KeyRing) -> bytes:
        key = ring.batch_key(key_id)
        assert key is not None
        return open_box(box, key.public_key, key.private)

    # The attacker has the image, the machine with its TPM, and what stands for the passphrase: the master key.
    if backend is RingBackend.FILE:
        assert with_ring(image, attack, backend) == card, "why the evidence says: not assured by hardware"
    else:
        assert refused(lambda: with_ring(image, attack, backend)) == "RING-TPM-OLD"
        shutil.copy(image / "ring", disk / "ring.new")  # and mixed with what is on the disk now
        assert with_ring(disk, lambda ring: ring.batch_key(key_id), backend) is None


def test_neither_the_chip_nor_the_disk_opens_the_ring_alone(before: Path) -> None:
    secret = stored(before)
    ring = (before / "ring").read_bytes()
    guess = bytes(32)
    for master, content_of_chip in ((guess, secret), (MASTER, guess), (secret, MASTER), (MASTER, secret)):
        with (
            locked(master) as key,
            locked(content_of_chip) as kept,
            wrapping_key(key, kept) as wrapping,
            contextlib.ExitStack() as expected,
        ):
            if (master, content_of_chip) != (MASTER, secret):
                expected.enter_context(pytest.raises(UnwrapError))
            with strongbox.opened(wrapping, ring, RingIndex, "ring") as (index, _):
                assert len(index.batch_keys) == 3
    with pytest.raises(KeysError), locked(bytes(32)) as wrong:
        KeyRing.open(before, wrong, backend=RingBackend.TPM)
    handle = handle_of(before)
    with locked(bytes(32)) as wrong_auth, LockedBuffer(32) as into:
        assert refused(lambda: chip.read(handle, wrong_auth, into)) == "RING-TPM-AUTH"
        assert refused(lambda: chip.write(handle, wrong_auth, into)) == "RING-TPM-AUTH"
        assert bytes(into.view) == bytes(32)
    assert stored(before) == secret


def test_nothing_secret_is_an_argument_or_a_variable_of_the_programs(
    before: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real = subprocess.Popen

    def watched(arguments: list[str], **options: Any) -> Any:
        assert "env" not in options
        seen.append(" ".join(arguments))
        return real(arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", watched)
    old = stored(before)
    with_ring(before, destroy)
    with locked(MASTER) as master:
        auth = bytes(TpmRingSecret(before, master)._auth().view)
    said = "\n".join(seen)
    assert said.count("tpm2_nvwrite") == 1
    assert hex(handle_of(before)) in said, "the record of arguments is a real one"
    for secret in (old, stored(before), auth):
        assert secret.hex() not in said


# Crashes


class KillAtCommands(Kill):
    """Also ends the process before, while and after each command to the TPM."""

    def __init__(self, at: int) -> None:
        super().__init__(at)
        run, popen = chip._run, subprocess.Popen

        def started(*arguments: Any, **options: Any) -> Any:
            process = popen(*arguments, **options)
            self.step()  # the program goes on without us
            return process

        def ran(*arguments: Any, **options: Any) -> Any:
            self.step()
            answer = run(*arguments, **options)
            self.step()
            return answer

        setattr(subprocess, "Popen", started)  # noqa: B010  this child only
        setattr(chip, "_run", ran)  # noqa: B010

    def step(self) -> None:
        if self.left == 0:
            os._exit(KILLED)
        self.left -= 1


def killed(work: Callable[[], object], at: int) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        KillAtCommands(at)
        work()
        os._exit(DONE)
    finally:
        os._exit(1)


def destroy_in_place(path: Path) -> None:
    with_ring(path, destroy)


def test_destruction_that_is_killed_anywhere_happened_whole_or_not_at_all(
    before: Path, tmp_path: Path
) -> None:
    untouched, secret = content(before, RingBackend.TPM), stored(before)
    seen = []
    for at in range(100):
        directory = tmp_path / "run"
        shutil.copytree(before, directory)
        with locked(MASTER) as master, locked(secret) as first:
            TpmRingSecret(directory, master).replace(first)  # the chip as it was, too
        ended = killed(lambda directory=directory: destroy_in_place(directory), at)  # type: ignore[misc]
        assert ended in (DONE, KILLED)
        time.sleep(0.1)  # a program that was left behind comes to its end
        tidy()
        now = content(directory, RingBackend.TPM)
        assert sorted(file.name for file in directory.iterdir()) == ["ring", "ring.tpm"]
        if now == untouched:
            assert stored(directory) == secret
        else:
            assert len(now) == len(untouched) - 2
            assert stored(directory) != secret
            assert refused(lambda: content(before, RingBackend.TPM)) == "RING-TPM-OLD"
        seen.append(now == untouched)
        with_ring(directory, destroy)  # and the next command goes on
        shutil.rmtree(directory)
        if ended == DONE:
            break
    assert seen == sorted(seen, reverse=True), "once it has happened it stays"
    assert seen.count(True) > 5
    assert seen.count(False) > 5


def tidy() -> None:
    """A program that lost its reader leaves a session in the chip; the kernel's /dev/tpmrm0 would clear it away."""
    subprocess.run(["tpm2_flushcontext", "--loaded-session"], check=True, capture_output=True)


def test_creation_that_is_killed_anywhere_leaves_no_index_behind(machine: tpm.Tpm, tmp_path: Path) -> None:
    there_before = chip.indices()
    left = set()
    for at in range(100):
        path = tmp_path / str(at)
        ended = killed(lambda path=path: make(path, RingBackend.TPM), at)  # type: ignore[misc]
        time.sleep(0.1)
        if ended == DONE:
            discard(path)
            break
        tidy()
        left.add(len(chip.indices() - there_before))
        discard(path)
        assert chip.indices() == there_before
        assert not (path / "ring.tpm").exists()
    assert at > 10
    assert left == {0, 1}
    assert chip.indices() == there_before


@given(
    raw=st.binary(max_size=300)
    | st.builds(lambda n: b'{"format":1,"handle":%d,"kind":"ring-tpm"}\nx' % n, st.integers(0, 2**32))
)
def test_whatever_an_unfinished_keystore_holds_is_discarded(
    raw: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("unfinished")
    (path / "ring.tpm").write_bytes(raw)
    with locked(MASTER) as master:
        assert refused(TpmRingSecret(path, master).read) == "KEYSTORE-DAMAGED"
    with pytest.MonkeyPatch.context() as patch:
        undefined: list[int] = []
        patch.setattr(chip, "indices", lambda: {0x01800005, 0x01C00002, 0x81000001})
        patch.setattr(chip, "undefine", undefined.append)
        discard(path)
        assert undefined in ([], [0x01800005])
    assert not (path / "ring.tpm").exists()


# What stands in the way


def test_moved_disk_is_told_apart(
    before: Path, other_machine: tpm.Tpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TPM2TOOLS_TCTI", other_machine.address)
    assert refused(lambda: content(before, RingBackend.TPM)) == "RING-TPM-MISSING"
    with locked(bytes(32)) as auth:
        chip.define(handle_of(before), 32, auth)
        assert refused(lambda: content(before, RingBackend.TPM)) == "RING-TPM-AUTH"
        with locked(MASTER) as master, TpmRingSecret(before, master)._auth() as right:
            chip.undefine(handle_of(before))
            chip.define(handle_of(before), 32, right)
    assert refused(lambda: content(before, RingBackend.TPM)) == "RING-TPM-MISSING"  # never written


def test_chip_that_stops_answering_is_not_waited_for(
    before: Path, machine: tpm.Tpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = content(before, RingBackend.TPM)
    with locked(MASTER) as master:
        ring = KeyRing.open(before, master, backend=RingBackend.TPM)
        monkeypatch.setattr(chip, "TIMEOUT", 1.0)
        machine.fall_silent()
        try:
            began = time.monotonic()
            assert refused(lambda: destroy(ring)) == "RING-TPM-SILENT"
            assert refused(lambda: content(before, RingBackend.TPM)) == "RING-TPM-SILENT"
            assert time.monotonic() - began < 5
            assert refused(lambda: issue(ring)) == "KEYSTORE-STATE"
        finally:
            machine.answer_again()
        ring.close()
    monkeypatch.setattr(chip, "TIMEOUT", 30.0)
    time.sleep(0.5)
    assert len(content(before, RingBackend.TPM)) in (len(held), len(held) - 2)
    with_ring(before, destroy)


def test_no_chip_and_no_programs_are_told_apart(before: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPM2TOOLS_TCTI", "swtpm:host=127.0.0.1,port=1")
    assert refused(lambda: content(before, RingBackend.TPM)) == "RING-TPM-NONE"
    monkeypatch.setenv("TPM2TOOLS_TCTI", "device:/dev/no-such-tpm")
    assert refused(lambda: content(before, RingBackend.TPM)) == "RING-TPM-NONE"
    monkeypatch.setenv("PATH", str(before))
    assert refused(lambda: content(before, RingBackend.TPM)) == "RING-TPM-TOOLS"


def test_full_chip_and_an_owner_with_a_password_are_told_apart(
    tmp_path: Path, other_machine: tpm.Tpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TPM2TOOLS_TCTI", other_machine.address)
    with locked(bytes(32)) as auth:

        def fill() -> None:
            for handle in range(0x01800000, 0x018000FF):
                chip.define(handle, 2048, auth)

        assert refused(fill) == "RING-TPM-FULL"
        assert refused(lambda: chip.define(0x01800000, 32, auth)) == "RING-TPM-TAKEN"
    filled = chip.indices()
    while True:
        try:
            make(tmp_path / "full", RingBackend.TPM)
        except KeysError as error:
            assert error.rule == "RING-TPM-FULL"  # noqa: PT017  the loop ends with it
            break
        (tmp_path / "full").rename(tmp_path / f"full-{time.monotonic_ns()}")
    assert len(chip.indices()) >= len(filled)
    discard(tmp_path / "full")
    chip.undefine(max(filled))
    subprocess.run(["tpm2_changeauth", "-c", "o", "word"], check=True, capture_output=True)
    assert refused(lambda: make(tmp_path / "owned", RingBackend.TPM)) == "RING-TPM-OWNER"
    assert refused(lambda: chip.undefine(min(filled))) == "RING-TPM-OWNER"


def test_damaged_handle_file_is_told(before: Path) -> None:
    (before / "ring.tpm").write_bytes((before / "ring.tpm").read_bytes().replace(b":1,", b":2,"))
    assert refused(lambda: content(before, RingBackend.TPM)) == "KEYSTORE-DAMAGED"
    (before / "ring.tpm").unlink()
    assert refused(lambda: content(before, RingBackend.TPM)) == "KEYSTORE-DAMAGED"


def test_index_of_another_size_is_refused(before: Path) -> None:
    handle = handle_of(before)
    with locked(MASTER) as master, TpmRingSecret(before, master)._auth() as auth:
        for size in (16, 48):
            chip.undefine(handle)
            chip.define(handle, size, auth)
            with LockedBuffer(size) as small:
                chip.write(handle, auth, small)
            if size < 32:
                assert refused(lambda: content(before, RingBackend.TPM)) == "RING-TPM-FAILED"
            else:
                assert refused(lambda: content(before, RingBackend.TPM)) == "RING-TPM-OLD"


def test_replacement_takes_a_fraction_of_a_second(before: Path) -> None:
    with locked(MASTER) as master:
        ring = KeyRing.open(before, master, backend=RingBackend.TPM)
        began = time.monotonic()
        for key in ring.unused("shop-a"):
            ring.destroy([key.key_id], reason=DestroyReason.EXPIRED, now=NOW)
        each = (time.monotonic() - began) / 3
        ring.close()
    print(f"one destruction with swtpm: {each * 1000:.0f} ms")
    assert each < 1


# A whole keystore


def test_keystore_in_a_tpm_lives_and_dies_with_it(
    tmp_path: Path, machine: tpm.Tpm, other_machine: tpm.Tpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    there_before = chip.indices()
    disk, image = tmp_path / "keystore", tmp_path / "image"
    with locked(PASSPHRASE) as passphrase:

        def opened(path: Path) -> Keystore:
            return Keystore.open(path, [passphrase])

        with Keystore.create(
            disk, [passphrase], rehearsal=True, now=NOW, ring_backend=RingBackend.TPM
        ) as keystore:
            keystore.ring.enrol_node("shop-a", b"\x07" * 32, NOW)
            used, kept = keystore.issue_batch_keys("shop-a", 2, now=NOW)
        assert len(chip.indices() - there_before) == 1
        shutil.copytree(disk, image)
        with opened(
            image
        ) as keystore:  # while the key lives, a copy of the disk opens it: nothing is claimed yet
            assert keystore.ring.batch_key(used.key_id) is not None
        with opened(disk) as keystore:
            keystore.ring.destroy([used.key_id], reason=DestroyReason.BATCH_DONE, now=NOW)
        assert refused(lambda: opened(image)) == "RING-TPM-OLD"
        with opened(disk) as keystore:
            assert keystore.ring_backend is RingBackend.TPM
            assert keystore.ring.batch_key(used.key_id) is None
            assert keystore.ring.batch_key(kept.key_id) is not None
        monkeypatch.setenv("TPM2TOOLS_TCTI", other_machine.address)
        assert refused(lambda: opened(disk)) == "RING-TPM-MISSING"


def test_creation_that_fails_gives_its_index_back(
    tmp_path: Path, machine: tpm.Tpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    there_before = chip.indices()

    def create() -> None:
        with locked(PASSPHRASE) as passphrase:
            path = tmp_path / "keystore"
            Keystore.create(path, [passphrase], rehearsal=True, now=NOW, ring_backend=RingBackend.TPM).close()

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fails)
        with pytest.raises(OSError, match="disk"):
            create()
    assert chip.indices() == there_before
    assert list(tmp_path.iterdir()) == []
    for at in (25, 35):
        assert killed(create, at) == KILLED
        time.sleep(0.1)
        tidy()
    assert len(chip.indices() - there_before) <= 1
    create()
    assert len(chip.indices() - there_before) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["keystore"]


def fails(*arguments: object) -> None:
    raise OSError(5, "disk")


def test_what_goes_to_the_chip_and_comes_back_is_left_nowhere_in_memory(
    tmp_path: Path, machine: tpm.Tpm
) -> None:
    path = tmp_path / "keystore"
    with locked(PASSPHRASE) as passphrase:
        with Keystore.create(
            path, [passphrase], rehearsal=True, now=NOW, ring_backend=RingBackend.TPM
        ) as keystore:
            keystore.ring.enrol_node("shop-a", b"\x07" * 32, NOW)
            entry = keystore.issue_batch_keys("shop-a", 4, now=NOW)[0]
            sought = {"master key": bytes(keystore._files.master.view)}
            place = TpmRingSecret(path, keystore._files.master)
            with place.read() as old, place._auth() as auth:
                sought |= {"old secret": bytes(old.view), "authorisation": bytes(auth.view)}
        (tmp_path / "box").write_bytes(seal(os.urandom(128), bytes.fromhex(entry.public_key)))
        memory = dumped("open", path, tmp_path)
        with locked(sought["master key"]) as master, TpmRingSecret(path, master).read() as new:
            sought["new secret"] = bytes(new.view)
    assert sought["new secret"] != sought["old secret"], "it destroyed keys, with the chip"
    assert found_in(memory, sought) == {"master key"}, "which is open, and found by this search"
