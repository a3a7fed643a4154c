"""One browser, one intake and the road between them for all tests of a module."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import Browser
from tests.browser.road import Road
from tests.intake.node import Node
from tests.tools.known import PAGE_JS, find

COMPLAINT = re.compile("Content Security Policy|Trusted ?(?:Type|HTML|Script)|[Ii]ntegrity|Uncaught")
Ask = Callable[[list[dict[str, Any]]], list[Any]]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    running = Node(tmp_path_factory.mktemp("shop") / "node").configure().enrol(30).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def one_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    chromium, chromedriver = find("chromium"), find("chromedriver")
    assert chromium
    assert chromedriver
    browser = Browser.start(chromium, chromedriver, tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.driver.quit()


@pytest.fixture(scope="module")
def one_road(node: Node) -> Iterator[Road]:
    road = Road(target=node.port).open()
    yield road
    road.close()


@pytest.fixture
def road(one_road: Road, node: Node) -> Road:
    one_road.forget()
    one_road.target = node.port
    return one_road


@pytest.fixture
def browser(one_browser: Browser, road: Road) -> Iterator[Browser]:
    """As a new customer; at the end nothing was asked of anybody else, and no policy was broken."""
    one_browser.fresh()
    one_browser.forget(road.url)
    one_browser.listen()
    one_browser.requests.clear()
    one_browser.complaints.clear()
    yield one_browser
    one_browser.listen()
    foreign = [url for url in one_browser.requests if not url.startswith((road.url, "about:", "chrome:"))]
    assert foreign == []
    # A request that fails is no complaint: some tests cut the line.
    assert [text for text in one_browser.complaints if COMPLAINT.search(text)] == []


@pytest.fixture
def ask(tool: Callable[[str], Path]) -> Ask:
    """Ask the pages' scripts, outside a page."""
    tool("page_js")
    program = tool("node")

    def asked(questions: list[dict[str, Any]]) -> list[Any]:
        done = subprocess.run(
            [program, str(PAGE_JS / "ask.mjs")],
            input=json.dumps(questions),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        answers: list[Any] = json.loads(done.stdout)
        return answers

    return asked
