"""An erasure is killed at every call that changes or flushes a file: whole windows go or stay, and no trace is left."""

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
    with tempfile.TemporaryDirectory(prefix="erasure-", dir=scratch()) as place:
        ended = subprocess.run(
            [sys.executable, "-m", "tests.faults.erasure_child", place, *words],
            cwd=ROOT,
            env=os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            check=True,
            timeout=600,
        )
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def test_erasure_that_is_killed_anywhere_leaves_whole_people_or_nothing_of_them(
    library: Path, say: Callable[[str], None]
) -> None:
    found = sweep(library)
    say(
        f"erasure killed before, after and inside of calls: states tried {found['states']}; {len(found['wrong'])} wrong"
    )
    assert found["wrong"] == []
    assert found["states"] > 60


def test_judge_finds_what_a_database_that_only_forgets_leaves(library: Path) -> None:
    found = sweep(library, "planted")
    assert any("holds" in what for what in found["wrong"])
