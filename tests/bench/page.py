"""What a customer waits for: weight of the pages, and time until they can be used, on a desk and on a slow phone.

Why here: a checkout that encrypts in the browser must not be a heavy one.
Must not: print; `tests.bench` does. Nor call a page ready before its form is open.
"""

from __future__ import annotations

import io
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tests.end_to_end.browser import Browser, open_browser
from tests.end_to_end.commands import Shell
from tests.end_to_end.places import ROOT
from tests.intake.node import Node
from tests.intake.orders import good_order, new_key

_ROUNDS = 3
_BLOCKING_MS = 50  # what a task may take before somebody notices
_WATCH = """
    globalThis.longTasks = [];
    new PerformanceObserver((list) => {
      for (const {startTime, duration} of list.getEntries()) globalThis.longTasks.push([startTime, duration]);
    }).observe({type: "longtask", buffered: true});
"""
# Modules run before DOMContentLoaded ends, so a form that a script opens is open then.
_FIGURES = """
    (() => {
      const [page] = performance.getEntriesByType("navigation");
      const [paint] = performance.getEntriesByName("first-contentful-paint");
      return paint && page.loadEventEnd &&
        [paint.startTime, page.domContentLoadedEventEnd, globalThis.longTasks];
    })()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """``slower``: by how much its processor is slower than this machine's; ``kbit`` a second, ``round_trip`` in ms."""

    name: str
    slower: int
    kbit: int = 0
    round_trip: int = 0


DEVICES = (
    Device(name="this machine", slower=1),
    # What Lighthouse calls slow 4G, on a phone of the middle class.
    Device(name="slow phone", slower=4, kbit=1600, round_trip=150),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFigures:
    """``sent``: bytes over the wire with headers, ``size`` unpacked. Times in ms from the click; median of the rounds.

    ``ready_ms``: painted, its program has run, and no task has kept it busy since; ``blocked_ms``: beyond 50 ms a task.
    """

    page: str
    device: str
    requests: int
    sent: int
    size: int
    paint_ms: float
    ready_ms: float
    blocked_ms: float


def run() -> list[PageFigures]:
    """Every page on every device. ``NoBrowserError`` where this machine has no Chromium."""
    with tempfile.TemporaryDirectory(prefix="bench-page-") as directory:
        place = Path(directory)
        shell = Shell(console=Console(file=io.StringIO()), folder=ROOT, logs=place)
        node = Node(place / "node").configure().enrol(3).start()
        try:
            with open_browser(shell, place / "browser", place / "browser.log") as browser:
                return list(_figures(browser, node))
        finally:
            node.stop()


def _figures(browser: Browser, node: Node) -> Iterator[PageFigures]:
    taken = node.post(good_order(), new_key()).json
    status = f"/thanks#{taken['order_id']}.{taken['access_token']}"
    for name, path, sign in (
        ("shop front", "/", ".records button"),
        ("checkout", "/checkout", "#pay:enabled"),
        ("thanks and status", status, "#keep:not([hidden])"),
    ):
        for device in DEVICES:
            rounds = [_load(browser, node, path, sign, device) for _ in range(_ROUNDS)]
            paint, ready, blocked = (statistics.median(one[place] for one in rounds) for place in range(3))
            requests, sent, size = rounds[0][3:]
            yield PageFigures(
                page=name,
                device=device.name,
                requests=requests,
                sent=sent,
                size=size,
                paint_ms=paint,
                ready_ms=ready,
                blocked_ms=blocked,
            )


def _load(
    browser: Browser, node: Node, path: str, sign: str, device: Device
) -> tuple[float, float, float, int, int, int]:
    """One visit by somebody who was never here before."""
    browser.open_tab()
    browser.call("Network.setCookie", name="basket", value="EUR:LP-0001*1", url=node.url)
    browser.call("Page.addScriptToEvaluateOnNewDocument", source=_WATCH)
    browser.call("Emulation.setCPUThrottlingRate", rate=device.slower)
    if device.kbit:
        rate = device.kbit * 1000 / 8
        line = {"latency": device.round_trip, "downloadThroughput": rate, "uploadThroughput": rate / 2}
        browser.call("Network.emulateNetworkConditions", offline=False, **line)
    browser.get(f"{node.url}{path}")
    browser.wait(f"document.querySelector({sign!r}) !== null", sign)
    browser.listen(1.0)
    paint, loaded, tasks = browser.wait(_FIGURES, "the first paint")
    if browser.complaints:
        raise AssertionError(f"{path}: {browser.complaints}")
    told = [(event.get("method"), event.get("params", {})) for event in browser.events]
    finished = [event["encodedDataLength"] for method, event in told if method == "Network.loadingFinished"]
    received = [event["dataLength"] for method, event in told if method == "Network.dataReceived"]
    ready = max([paint, loaded, *(start + duration for start, duration in tasks)])
    blocked = sum(max(0.0, duration - _BLOCKING_MS) for _, duration in tasks)
    return paint, ready, blocked, len(finished), int(sum(finished)), sum(received)
