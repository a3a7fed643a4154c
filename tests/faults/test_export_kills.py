"""An export is killed at every call that changes or flushes a file: nothing is out unlogged, lost, or out twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.sweep import scratch
from tests.tools.known import ROOT

pytestmark = [pytest.mark.faults, pytest.mark.needs_tool("gcc", "libc-headers")]


def sweep(library: Path, *words: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="export-", dir=scratch()) as place:
        ended = subprocess.run(
            [sys.executable, "-m", "tests.faults.export_child", place, *words],
            cwd=ROOT,
            env=os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            check=True,
            timeout=600,
        )
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@pytest.mark.parametrize("how", ["unnamed", "named"])
def test_export_that_is_killed_anywhere_is_logged_whole_and_once(
    library: Path, say: Callable[[str], None], how: str
) -> None:
    found = sweep(library, how)
    say(f"export killed ({how} files): states tried {found['states']}; {len(found['wrong'])} wrong")
    assert found["wrong"] == []
    assert found["states"] > 40


def test_judge_finds_a_file_that_goes_out_before_its_log_entry(library: Path) -> None:
    assert any("not in the log" in what for what in sweep(library, "planted")["wrong"])
