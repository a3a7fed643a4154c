"""The OpenAPI document against the served intake: schemathesis finds no answer that is not described."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.intake import schema_run
from tests.intake.answers import stored
from tests.intake.node import Node


def test_every_answer_is_as_the_openapi_document_says(
    new_node: Callable[[], Node], record_property: Callable[[str, object], None]
) -> None:
    node = new_node().configure().enrol(20).start()
    code, cases, said = schema_run.run(node, examples=40, phases="examples,coverage,fuzzing", timeout=120)
    record_property("schemathesis cases", cases)
    print(f"schemathesis: {cases} cases, exit code {code}")
    assert code == 0, said
    assert cases > 400
    # It got behind the door, too: orders were taken, and each of them is durable.
    taken = re.search(
        r'intake_requests_total\{method="POST",route="/orders",status="202"\} (\d+)',
        node.get("/metrics").body.decode(),
    )
    assert taken is not None
    assert int(taken[1]) > 10
    assert len(stored(node)) > 1
