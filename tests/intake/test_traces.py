"""traceparent: what has the exact form is carried, anything else is as if it had not been sent."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake.traces import FRESH_SIZE, trace_of
from tests.intake.node import Node

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FRESH = bytes(range(FRESH_SIZE))
ANSWER = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]")


@pytest.mark.parametrize(
    ("header", "is_sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-ff", True),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", True),
    ],
)
def test_a_callers_trace_is_carried_on(header: str, is_sampled: bool) -> None:
    trace = trace_of(header.encode(), FRESH)
    assert (trace.trace_id, trace.parent_id, trace.is_sampled) == (TRACE, SPAN, is_sampled)
    assert trace.span_id == FRESH[16:].hex()
    assert trace.response == f"00-{TRACE}-{trace.span_id}-0{int(is_sampled)}".encode()


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01 ",
        f"00-{TRACE}-{SPAN}-01\n",
        f"cc-{TRACE}-{SPAN}-01more",
        f"cc-{TRACE}-{SPAN}-01-" + "x" * 600,
    ],
)
def test_what_is_no_trace_begins_a_new_one(header: str) -> None:
    assert trace_of(header.encode(), FRESH) == trace_of(None, FRESH)


@given(st.binary(max_size=80) | st.from_regex(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.{0,3}"))
def test_any_header_gives_an_answer_of_the_one_form(header: bytes) -> None:
    assert ANSWER.fullmatch(trace_of(header, FRESH).response)


def test_the_trace_is_in_answers_of_every_kind(node: Node) -> None:
    sent = f"00-{TRACE}-{SPAN}-01"
    for path in ("/livez", "/nothing", "/orders", "/checkout", "/metrics"):
        answer = node.get(path, traceparent=sent)
        assert answer.headers["traceresponse"].startswith(f"00-{TRACE}-"), path
        assert SPAN not in answer.headers["traceresponse"]
    spans = {node.get("/livez").headers["traceresponse"] for _ in range(5)}
    assert len(spans) == 5
