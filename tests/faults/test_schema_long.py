"""schemathesis with many cases and with chains of requests, against workers that share their counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.intake import schema_run
from tests.intake.node import Node

pytestmark = pytest.mark.faults
_EXAMPLES = int(os.environ.get("SCHEMA_EXAMPLES", "250"))


def test_thousands_of_cases_find_no_answer_that_is_not_described(tmp_path: Path) -> None:
    node = Node(tmp_path / "node").configure(workers=2).enrol(20).start()
    try:
        code, cases, said = schema_run.run(
            node, examples=_EXAMPLES, phases="examples,coverage,fuzzing,stateful", timeout=1500
        )
    finally:
        node.stop()
    print(f"schemathesis: {cases} cases, exit code {code}")
    assert code == 0, said
    assert cases > 4 * _EXAMPLES
