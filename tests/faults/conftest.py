"""What the fault sweeps share: the compiled shim, the fork servers on top of it, and the figures at the end.

Why here: figures that scroll away are not shown.
Must not: decide how a sweep is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults import shim
from tests.faults.sweep import Fleet, fleet
from tests.tools.known import find

pytest.register_assert_rewrite("tests.faults.simulation")

_LINES = pytest.StashKey[list[str]]()

Say = Callable[[str], None]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_LINES] = []


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Say:
    """``say(line)``: print a line with the figures after all tests."""
    return request.config.stash[_LINES].append


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled shim; tests that use it need the tools gcc and libc-headers."""
    compiler = find("gcc")
    if compiler is None or find("libc-headers") is None:
        pytest.skip("missing tool: gcc")
    return shim.build(compiler, tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="session")
def servers(library: Path) -> Iterator[Fleet]:
    """Fork servers, each with worlds of its own."""
    with fleet(library) as made:
        yield made


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if lines := config.stash[_LINES]:
        terminalreporter.section("faults: what was tried and what was found")
        for line in lines:
            terminalreporter.write_line(line)
