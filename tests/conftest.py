"""What every test room shares: foreign tools by name, and an honest account of what was skipped.

Why here: a skipped test must never look like a passed one; CI fails on any.
Must not: hold fixtures of one room.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.tools.known import TABLE, find

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MISSING = "missing tool: "

# How long one example takes to draw or to run says something about the machine, not about the code.
settings.register_profile(
    "rooms", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("rooms")

# Whoever starts this in the background, or for longer than its terminal, has it ignore these, and so would every child
# that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def tool() -> Callable[[str], Path]:
    """``tool("minisign")`` is the program's path; where this machine lacks it, the test is skipped and reported."""

    def path_of(name: str) -> Path:
        found = find(name)
        if found is None:
            pytest.skip(_MISSING + name)
        return found

    return path_of


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for marker in item.iter_markers("needs_tool"):
            for name in marker.args:
                if name not in TABLE:
                    raise pytest.UsageError(
                        f"{item.nodeid} needs {name!r}, which tests/tools/known.py does not list"
                    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs_tool"):
        for name in marker.args:
            if find(name) is None:
                pytest.skip(_MISSING + name)


def _skipped_for_tools(config: pytest.Config) -> list[tuple[str, str]]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return []
    found = []
    for report in reporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        _, marked, name = reason.partition(_MISSING)
        if marked:
            found.append((name.strip(), report.nodeid))
    return sorted(found)


def _must_not_skip() -> bool:
    return any(os.environ.get(name, "").lower() in {"1", "true"} for name in ("CI", "FAIL_ON_SKIP"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    # Workers of a parallel run hold no reports; only the process that reports judges.
    passed = session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
    if passed and _must_not_skip() and _skipped_for_tools(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    skipped = _skipped_for_tools(config)
    if not skipped:
        return
    terminalreporter.section(
        "tests not run on this machine", red=_must_not_skip(), yellow=not _must_not_skip()
    )
    for name in sorted({name for name, _ in skipped}):
        terminalreporter.write_line(f"{name} is missing. To get it: {TABLE[name].get_it}")
        for missing, nodeid in skipped:
            if missing == name:
                terminalreporter.write_line(f"    {nodeid}")
    if _must_not_skip():
        terminalreporter.write_line("CI must run every test: this run fails.", red=True)
