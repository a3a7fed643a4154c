"""A shop and its offline side, set up by the same typed commands as the main job's.

Why here: the tests of this folder share it.
Must not: share state between tests; every one has spool, medium and copies of the keys of its own.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from tests.end_to_end import story
from tests.end_to_end.commands import Shell, namespace_prefix
from tests.end_to_end.places import ROOT, Places, fresh, write_settings

WORKERS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Both sides, enrolled with each other; the intake is not started."""

    shell: Shell
    places: Places
    url: str


def quiet_shell(places: Places, screen: io.StringIO | None = None) -> Shell:
    """A shell whose screen nobody watches."""
    console = Console(file=screen or io.StringIO(), width=140, highlight=False, markup=False)
    return Shell(console=console, folder=ROOT, logs=places.logs, prefix=namespace_prefix())


@pytest.fixture(scope="session")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """Both sides with their keys and each other's fingerprints, once for all tests."""
    with fresh(tmp_path_factory.mktemp("enrolled") / "var") as places:
        shell = quiet_shell(places)
        with story.open_circuit(shell, places):
            story.set_up(shell, places, workers=WORKERS)
        return places


@pytest.fixture
def system(enrolled: Places, tmp_path: Path) -> Iterator[System]:
    with fresh(tmp_path / "var") as places:
        for name in ("online", "offline", "medium"):
            shutil.copytree(enrolled.var / name, places.var / name, dirs_exist_ok=True)
        places.listening.unlink()
        shell, port = quiet_shell(places), story.free_port()
        with story.open_circuit(shell, places):
            write_settings(places, port=port, workers=WORKERS)
            yield System(shell=shell, places=places, url=f"http://127.0.0.1:{port}")
