"""Files are whole or not there; a taken name is never overwritten by create_durable."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from keys.durable import create_durable, make_directory, write_durable


def test_written_file_has_its_content_and_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_durable(tmp_path / "public", b"one", 0o644)
    finally:
        os.umask(before)
    assert (tmp_path / "public").read_bytes() == b"one"
    assert (tmp_path / "public").stat().st_mode & 0o777 == 0o644
    write_durable(tmp_path / "public", b"two")
    assert (tmp_path / "public").read_bytes() == b"two"
    assert (tmp_path / "public").stat().st_mode & 0o777 == 0o600


def test_created_file_never_replaces_an_existing_one(tmp_path: Path) -> None:
    create_durable(tmp_path / "file", b"first")
    with pytest.raises(FileExistsError):
        create_durable(tmp_path / "file", b"second")
    assert (tmp_path / "file").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_creating_over_a_dangling_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        create_durable(tmp_path / "link", b"content")
    assert not (tmp_path / "elsewhere").exists()


def test_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_durable(tmp_path / "file", b"old")

    def no_space(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", no_space)
        with pytest.raises(OSError, match="No space"):
            write_durable(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_directories_are_made_with_their_parents_and_kept_when_there(tmp_path: Path) -> None:
    make_directory(tmp_path / "one" / "two")
    (tmp_path / "one" / "two" / "file").touch()
    make_directory(tmp_path / "one" / "two")
    assert (tmp_path / "one" / "two" / "file").exists()
    with pytest.raises(OSError, match="file"):
        make_directory(tmp_path / "one" / "two" / "file")
