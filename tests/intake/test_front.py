"""What stands before the application: other origins, and the numbers that all workers count together."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from intake.errors import IntakeError
from intake.limits import LimitsConfig
from intake.surroundings import check_settings
from intake.tallies import Tallies, layout_of, make_tallies
from tests.intake.answers import problem
from tests.intake.node import Node
from tests.intake.orders import good_order, new_key

NewNode = Callable[[], Node]
ORIGIN = "https://shop.example"
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "idempotency-key,content-type",
}


@pytest.fixture(scope="module")
def open_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with two workers whose API the pages of one origin may use."""
    node = Node(tmp_path_factory.mktemp("front") / "node")
    running = node.configure(workers=2, more=f'cors_origins = ["{ORIGIN}"]\n').enrol(20).start()
    yield running
    running.stop()


def cors(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("access-control-")}


def test_a_page_of_a_listed_origin_can_order_and_look(open_node: Node) -> None:
    allowed = open_node.request("OPTIONS", "/orders", headers={"Origin": ORIGIN, **PREFLIGHT})
    assert allowed.status == 200
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-credentials" not in allowed.headers
    assert "idempotency-key" in allowed.headers["access-control-allow-headers"]
    taken = open_node.post(good_order(), new_key(), Origin=ORIGIN)
    assert taken.status == 202
    assert taken.headers["access-control-allow-origin"] == ORIGIN
    assert "location" in taken.headers["access-control-expose-headers"]
    assert "Origin" in taken.headers["vary"]
    refused = open_node.post(b"{", new_key(), Origin=ORIGIN)
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (400, ORIGIN)
    shown = open_node.get(taken.headers["location"], Origin=ORIGIN)
    assert (shown.status, shown.headers["access-control-allow-origin"]) == (404, ORIGIN)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://shop.example",
        f"{ORIGIN}.evil.example",
        f"{ORIGIN}:8443",
        ORIGIN.upper(),
    ],
)
def test_a_page_of_another_origin_gets_no_permission(open_node: Node, origin: str) -> None:
    answer = open_node.request("OPTIONS", "/orders", headers={"Origin": origin, **PREFLIGHT})
    assert (answer.status, cors(answer.headers)) == (405, {})
    assert cors(open_node.get("/keys", Origin=origin).headers) == {}


def test_no_origin_has_permission_by_default_or_for_pages(node: Node, open_node: Node) -> None:
    assert cors(node.request("OPTIONS", "/orders", headers={"Origin": ORIGIN, **PREFLIGHT}).headers) == {}
    assert cors(node.get("/keys", Origin=ORIGIN).headers) == {}
    for path in ("/", "/basket", "/checkout", "/metrics", "/readyz"):
        assert cors(open_node.get(path, Origin=ORIGIN).headers) == {}, path


@pytest.mark.parametrize(
    "wrong",
    [
        "*",
        "https://*.example",
        "https://shop.example/",
        "shop.example",
        "null",
        "https://a@b.example",
        "ftp://a",
        "HTTPS://A",
        "",
    ],
)
def test_a_setting_that_is_no_origin_is_refused(wrong: str) -> None:
    with pytest.raises(IntakeError) as refusal:
        check_settings(LimitsConfig(), [wrong])
    assert refusal.value.rule == "CONFIG-VALUE"


def samples(node: Node, **headers: str) -> dict[str, float]:
    text = node.get("/metrics", **headers).body.decode()
    return {
        sample.name
        + "".join(f" {label}={value}" for label, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_worker_answers_for_all_of_them(open_node: Node) -> None:
    before = samples(open_node)
    for _ in range(12):  # each by a connection of its own, so that both workers get some
        assert open_node.post(good_order(), new_key()).status == 202
    assert open_node.post(b"[]", new_key()).status == 422
    for after in [samples(open_node) for _ in range(4)]:
        taken = "intake_requests_total method=POST route=/orders status=202"
        assert after[taken] - before.get(taken, 0) == 12
        count = "intake_request_seconds_count route=/orders"
        assert after[count] - before.get(count, 0) == 13
        assert (
            after["intake_refusals_total rule=INTAKE-FIELDS"]
            - before.get("intake_refusals_total rule=INTAKE-FIELDS", 0)
            == 1
        )
        assert after["intake_request_seconds_bucket le=+Inf route=/orders"] == after[count]
        assert after["intake_ready"] == 1
        assert after["intake_batch_keys_left"] == 20


def test_a_worker_that_dies_takes_no_count_with_it(new_node: NewNode) -> None:
    node = new_node().configure().enrol().start()
    assert node.post(good_order(), new_key()).status == 202
    assert node.process is not None
    while "intake_requests_total method=POST route=/orders status=202" not in samples(node):
        time.sleep(0.01)  # it is counted once it is answered
    children = Path(f"/proc/{node.process.pid}/task/{node.process.pid}/children").read_text()
    for child in children.split():
        os.kill(int(child), signal.SIGKILL)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            if node.post(good_order(), new_key()).status == 202:
                break
        except OSError:
            time.sleep(0.1)
    assert samples(node)["intake_requests_total method=POST route=/orders status=202"] == 2


def test_no_client_can_make_a_series(open_node: Node) -> None:
    names = set(samples(open_node))
    for number in range(30):
        open_node.request(f"M{number}", f"/orders/{number:032x}")
        open_node.get(f"/{number}?a={number}", Accept=f"text/{number}", User_Agent=str(number))
    new = {name for name in set(samples(open_node)) - names if "_bucket" not in name}
    assert len(new) <= 12, new
    assert not any(re.search(r"\b\d{2,}\b", name.partition("status=")[0]) for name in new)


def test_numbers_are_shown_only_to_a_program_of_this_machine(open_node: Node) -> None:
    assert open_node.get("/metrics").headers["cache-control"] == "no-store"
    problem(open_node.get("/metrics", X_Forwarded_For="198.51.100.1"), 404, "INTAKE-NOT-FOUND")
    problem(open_node.request("POST", "/metrics"), 405, "INTAKE-METHOD")
    openmetrics = open_node.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.body.endswith(b"# EOF\n")


def test_workers_have_places_of_their_own_and_what_is_not_known_is_other() -> None:
    layout = layout_of(routes=["/a", "/b"], rules=["A-RULE"], limits=["x"])
    memory = make_tallies()
    tallies = Tallies(memory, layout)
    tallies.request("/a", "GET", 200, 0.003)
    tallies.request("/made-up", "BREW", 299, 99)
    tallies.refusal("MADE-UP")
    tallies.limited("x")
    sums = tallies.sums()
    assert sums[layout.request(0, "GET", 200)] == 1
    assert sums[layout.request(2, "other", 0)] == 1
    assert sums[layout.rule(1)] == sums[layout.limit(0)] == 1
    assert sum(sums[layout.times(0) : layout.times(0) + 14]) == 1
    pid = os.fork()
    if pid == 0:
        other = Tallies(memory, layout)
        other.limited("x")
        os._exit(0 if other.sums()[layout.limit(0)] == 2 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    tallies.limited("x")
    assert tallies.sums()[layout.limit(0)] == 3
