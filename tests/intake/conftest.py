"""Real intake processes over real HTTP."""

from __future__ import annotations

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
