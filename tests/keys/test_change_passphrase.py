"""A holder changes their own passphrase: keys, ring and the other holder do not notice, and a crash loses nothing."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from keys import keyfile, master_key
from keys.errors import KeysError
from keys.keyfile import Cost
from keys.keystore import Keystore
from tests.keys.conftest import NOW, PASSPHRASE, locked
from tests.keys.terminal import Terminal
from tests.keys.test_ceremony import ceremony
from tests.keys.test_crash import DONE, KILLED, Kill

if TYPE_CHECKING:
    from pathlib import Path

SECOND = b"the second holder's words"
NEW = b"entirely different words now"


@pytest.fixture
def dual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A keystore of two holders, and a configuration without passphrase files."""
    monkeypatch.setattr(keyfile, "INTERACTIVE", Cost(1, 8 * 1024 * 1024))
    (tmp_path / "offline.toml").write_text('[keystore]\npath = "keystore"\n', encoding="ascii")
    with locked(PASSPHRASE) as first, locked(SECOND) as second:
        Keystore.create(tmp_path / "keystore", [first, second], rehearsal=True, now=NOW).close()
    return tmp_path / "keystore"


def opens(path: Path, *passphrases: bytes) -> bool:
    held = [locked(each) for each in passphrases]
    try:
        Keystore.open(path, held).close()
    except KeysError as error:
        if error.rule != "KEY-PASSPHRASE":
            raise
        return False
    finally:
        for each in held:
            each.close()
    return True


def content(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def change(path: Path, holder: int, old: bytes, new: bytes) -> None:
    with locked(old) as before, locked(new) as after:
        master_key.change_passphrase(path, holder, before, after)


@pytest.mark.parametrize("holder", ["first", "second"])
def test_holder_changes_their_own_alone_at_the_terminal(dual: Path, holder: str) -> None:
    old = PASSPHRASE if holder == "first" else SECOND
    before = content(dual)
    config = dual.parent / "offline.toml"
    with Terminal("change-passphrase", "--config", config, "--holder", holder) as terminal:
        for prompt, typed in (("Old pass", old), ("New pass", NEW), ("once more", NEW)):
            terminal.expect(prompt)
            terminal.expect(": ")
            terminal.send(typed.decode())
        assert terminal.end() == 0, terminal.shown
        assert "Older copies of the disk" in terminal.main_screen()
        assert NEW not in terminal.shown
    after = content(dual)
    file = "master.key" if holder == "first" else "master.second.key"
    assert [name for name in after if after[name] != before[name]] == [file]
    assert set(after) == set(before)
    if holder == "first":
        assert opens(dual, NEW, SECOND)
        assert not opens(dual, PASSPHRASE, SECOND)
    else:
        assert opens(dual, PASSPHRASE, NEW)
        assert not opens(dual, PASSPHRASE, SECOND)


def test_nothing_of_the_old_file_is_left(dual: Path) -> None:
    with (dual / "master.key").open("rb") as handle:  # an open file outlives its name
        before = handle.read()
        change(dual, 1, PASSPHRASE, NEW)
        handle.seek(0)
        assert before.split(b"\n")[1][:40] not in handle.read()
    assert (dual / "master.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("holder", "old", "new", "rule"),
    [
        (1, SECOND, NEW, "KEY-PASSPHRASE"),
        (2, PASSPHRASE, NEW, "KEY-PASSPHRASE"),
        (1, PASSPHRASE, PASSPHRASE, "KEY-PASSPHRASE-SAME"),
    ],
)
def test_refused_change_leaves_every_byte(dual: Path, holder: int, old: bytes, new: bytes, rule: str) -> None:
    before = content(dual)
    with pytest.raises(KeysError) as refusal:
        change(dual, holder, old, new)
    assert refusal.value.rule == rule
    assert content(dual) == before


def run(path: Path, *more: object, old: bytes = PASSPHRASE, new: bytes = NEW) -> Any:
    """The command without a terminal, with both passphrases on descriptors."""
    ends = []
    for secret in (old, new):
        reading, writing = os.pipe()
        os.write(writing, secret + b"\n")
        os.close(writing)
        ends.append(reading)
    try:
        return ceremony(
            *("change-passphrase", "--config", path.parent / "offline.toml", *more),
            *("--passphrase-fd", ends[0], "--new-passphrase-fd", ends[1]),
            pass_fds=tuple(ends),
        )
    finally:
        for end in ends:
            os.close(end)


def test_who_of_two_must_be_said_and_a_short_one_is_refused(dual: Path) -> None:
    before = content(dual)
    for arguments, new, rule in (
        ((), NEW, "KEYSTORE-PASSPHRASES"),
        (("--holder", "first"), b"too short", "KEY-PASSPHRASE-SHORT"),
    ):
        ended = run(dual, *arguments, new=new)
        assert ended.returncode == 2
        assert rule in ended.stderr
    assert content(dual) == before
    assert run(dual, "--holder", "first").returncode == 0
    assert opens(dual, NEW, SECOND)


def test_one_passphrase_changes_and_there_is_no_second_holder(keystore_path: Path) -> None:
    (keystore_path.parent / "offline.toml").write_text('[keystore]\npath = "keystore"\n', encoding="ascii")
    refused = run(keystore_path, "--holder", "second")
    assert "KEYSTORE-PASSPHRASES" in refused.stderr
    assert run(keystore_path).returncode == 0
    assert opens(keystore_path, NEW)
    assert not opens(keystore_path, PASSPHRASE)


def test_keystore_that_is_in_use_keeps_its_passphrase(keystore_path: Path) -> None:
    (keystore_path.parent / "offline.toml").write_text('[keystore]\npath = "keystore"\n', encoding="ascii")
    with locked(PASSPHRASE) as passphrase, Keystore.open(keystore_path, [passphrase]):
        assert "KEYSTORE-BUSY" in run(keystore_path).stderr
    assert opens(keystore_path, PASSPHRASE)


@pytest.mark.parametrize("torn", [False, True])
def test_change_that_is_killed_anywhere_leaves_one_passphrase_that_opens(dual: Path, torn: bool) -> None:
    opened: list[bool] = []
    for at in range(100):
        path = dual.with_name(str(at))
        shutil.copytree(dual, path)
        child = os.fork()
        if child == 0:
            try:
                old, new = locked(PASSPHRASE), locked(NEW)
                Kill(at, torn=torn)
                master_key.change_passphrase(path, 1, old, new)
                os._exit(DONE)
            finally:
                os._exit(1)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert ended in {DONE, KILLED}
        opened.append(opens(path, NEW, SECOND))
        assert opened[-1] != opens(path, PASSPHRASE, SECOND)
        assert set(content(path)) == set(content(dual)), "nothing is left of the other"
        if ended == DONE:
            break
    assert opened[0] is False
    assert opened[-1] is True
    assert opened == sorted(opened)
