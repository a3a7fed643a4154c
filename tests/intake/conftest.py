"""Real intake processes over real HTTP."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.intake.node import Node


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One running intake with enough keys, shared by a module's tests."""
    running = Node(tmp_path_factory.mktemp("intake") / "node").configure().enrol(20).start()
    yield running
    running.stop()


@pytest.fixture
def new_node(tmp_path: Path) -> Iterator[Callable[[], Node]]:
    """Make nodes of one's own; whatever runs is stopped at the end."""
    nodes: list[Node] = []

    def make() -> Node:
        nodes.append(Node(tmp_path / f"node-{len(nodes)}"))
        return nodes[-1]

    yield make
    for made in nodes:
        made.stop()


@pytest.fixture
def run_intake() -> Callable[..., tuple[int, str, str]]:
    """Run ``intake ARGUMENTS`` as a user would: exit code, standard output, standard error."""

    def run(*arguments: object, typed: str = "") -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "intake", *map(str, arguments)],
            input=typed,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=Path(__file__).parents[2],
        )
        return done.returncode, done.stdout, done.stderr

    return run
