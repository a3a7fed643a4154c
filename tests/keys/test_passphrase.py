"""Passphrases come from a terminal without echo, a descriptor or a private file, and never as an object."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keys.errors import KeysError
from keys.private.passphrase import check_new, from_descriptor, from_file, read_passphrase
from tests.keys.conftest import locked

ROOT = Path(__file__).parents[2]


def write(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("content", [b"twelve or more\n", b"twelve or more"])
def test_file_gives_its_one_line(tmp_path: Path, content: bytes) -> None:
    with from_file(write(tmp_path / "pass", content)) as passphrase:
        assert bytes(passphrase.view) == b"twelve or more"


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"one\ntwo\n", b"one\n\n", b"carriage return\r\n", b"nul\0", b"tab\t", b"x" * 1025],
)
def test_file_with_anything_else_than_a_passphrase_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(KeysError) as refusal:
        from_file(write(tmp_path / "pass", content))
    assert refusal.value.rule == "KEY-PASSPHRASE-FORM"


def test_longest_passphrase_is_a_kibibyte(tmp_path: Path) -> None:
    with from_file(write(tmp_path / "pass", b"x" * 1024 + b"\n")) as passphrase:
        assert passphrase.size == 1024


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660])
def test_file_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(KeysError) as refusal:
        from_file(write(tmp_path / "pass", b"twelve or more\n", mode))
    assert refusal.value.rule == "KEY-FILE-MODE"
    assert "chmod 600" in refusal.value.remedy


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(KeysError) as refusal:
        from_file(tmp_path / "pipe")
    assert refusal.value.rule == "KEY-FILE-MODE"
    with pytest.raises(KeysError) as refusal:
        from_file(tmp_path / "none")
    assert refusal.value.rule == "KEY-PASSPHRASE-SOURCE"
    assert "chmod 600" in refusal.value.remedy


def test_descriptor_gives_one_line_and_keeps_the_rest() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"first passphrase\nsecond passphrase\nrest")
    with from_descriptor(reading) as first, from_descriptor(reading) as second:
        assert bytes(first.view) == b"first passphrase"
        assert bytes(second.view) == b"second passphrase"
    assert os.read(reading, 100) == b"rest"
    os.close(reading)
    os.close(writing)


def test_closed_descriptor_is_refused() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    with pytest.raises(KeysError) as refusal:
        from_descriptor(reading)
    assert refusal.value.rule == "KEY-PASSPHRASE-SOURCE"


@pytest.mark.parametrize(
    ("new", "good"), [(b"eleven char", False), (b"twelve chars", True), ("zwölf Zeiche".encode(), True)]
)
def test_new_passphrase_has_twelve_characters(new: bytes, good: bool) -> None:
    with locked(new) as passphrase:
        if good:
            check_new(passphrase)
            return
        with pytest.raises(KeysError) as refusal:
            check_new(passphrase)
    assert refusal.value.rule == "KEY-PASSPHRASE-SHORT"


def test_existing_short_passphrase_is_still_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "pass", b"short\n")
    with read_passphrase(file=path) as passphrase:
        assert bytes(passphrase.view) == b"short"
    with pytest.raises(KeysError) as refusal:
        read_passphrase(file=path, new=True)
    assert refusal.value.rule == "KEY-PASSPHRASE-SHORT"


ASK = """
from keys.private.passphrase import read_passphrase
try:
    with read_passphrase(new=True) as passphrase:
        print("length", passphrase.size)
except Exception as error:
    print(error.rule)
"""


def on_a_terminal(*answers: bytes) -> bytes:
    """Run ASK on a terminal of its own, type ``answers``, and return all that the terminal showed."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-c", ASK])  # noqa: S606  the child of a terminal
    shown = b""
    waiting = list(answers)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # the child has ended
            break
        if waiting and shown.endswith(b": "):
            os.write(terminal, waiting.pop(0) + b"\n")
    os.waitpid(child, 0)
    os.close(terminal)
    return shown


def test_terminal_shows_nothing_of_what_is_typed() -> None:
    shown = on_a_terminal(b"secret passphrase", b"secret passphrase")
    assert b"length 17" in shown
    assert b"secret" not in shown


def test_short_new_one_is_refused_before_it_is_asked_for_again() -> None:
    shown = on_a_terminal(b"short", b"short")
    assert b"KEY-PASSPHRASE-SHORT" in shown
    assert b"once more" not in shown


def test_two_different_answers_are_refused() -> None:
    assert b"KEY-PASSPHRASE-TWICE" in on_a_terminal(b"secret passphrase", b"secret passphrasf")


def test_missing_second_passphrase_is_asked_for_by_its_own_name() -> None:
    asked = (
        "from keys.private.passphrase import read_passphrase\n"
        "try:\n    read_passphrase(prompt='Passphrase of the keystore (second holder)', second=True)\n"
        "except Exception as error:\n    print(error.message, error.remedy)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=ROOT,
        start_new_session=True,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for part in ("second passphrase", "second holder", "--second-passphrase-fd", "second_passphrase_file"):
        assert part in said
