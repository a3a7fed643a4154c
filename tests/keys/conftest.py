"""Shared fixtures of the key room's tests: one rehearsal keystore, copied for every test that wants it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from keys.keystore import Keystore
from keys.private.locked import LockedBuffer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOW = 1_800_000_000
PASSPHRASE = b"correct horse battery staple"


def locked(content: bytes) -> LockedBuffer:
    return LockedBuffer(len(content)).copy_from(content)


@pytest.fixture(scope="session")
def keystore_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keystore") / "template"
    with locked(PASSPHRASE) as passphrase:
        Keystore.create(path, [passphrase], rehearsal=True, now=NOW).close()
    return path


@pytest.fixture
def keystore_path(keystore_template: Path, tmp_path: Path) -> Path:
    path = tmp_path / "keystore"
    shutil.copytree(keystore_template, path)
    return path


@pytest.fixture
def open_keystore(keystore_path: Path) -> Callable[[], Keystore]:
    def opener() -> Keystore:
        with locked(PASSPHRASE) as passphrase:
            return Keystore.open(keystore_path, [passphrase])

    return opener


@pytest.fixture
def keystore(open_keystore: Callable[[], Keystore]) -> Iterator[Keystore]:
    with open_keystore() as opened:
        yield opened
