"""A Chromium driven through a pipe, with nothing but the standard library: a customer's eyes and fingers.

Why here: `make run` has no test tools installed, and the page must be met in a real browser where there is one.
Must not: reach into a page's program: it reads what is shown, presses keys and clicks, and notes what was sent.
"""

from __future__ import annotations

import base64
import json
import os
import re
import select
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.end_to_end.commands import JobFailedError, Service, Shell
from tests.tools.known import search_path

_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1100,900",
    "--no-default-browser-check",
    "--lang=en-GB",
    # Nothing but this machine has a name.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)
_START_PATIENCE, _PATIENCE, _END_PATIENCE, _STEP = 30.0, 60.0, 5.0, 0.02
_CHUNK = 1 << 16
_SENT_LIMIT = 1 << 20
_KEYS = {"Enter": (13, "\r"), "Tab": (9, "")}


class NoBrowserError(Exception):
    """There is no Chromium here, or it does not start; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A request of the browser. ``text``: headers and body, as far as the browser tells them."""

    url: str
    text: str = field(repr=False)


@dataclass(slots=True, kw_only=True)
class Browser:
    """One tab of one browser, as a new customer. ``complaints``: broken policies, script errors, failed requests."""

    service: Service
    commands: int
    answers: int
    version: str = ""
    sent: list[Sent] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    _session: str = ""
    _count: int = 0
    _rest: bytes = b""
    _heard: deque[dict[str, Any]] = field(default_factory=deque)

    def open_tab(self) -> None:
        """A tab without any memory, whose requests and complaints are noted; what another one did is forgotten."""
        self._session = ""
        for noted in (self.sent, self.complaints, self.events):
            noted.clear()
        product = str(self.call("Browser.getVersion")["product"])
        self.version = product.removeprefix("Headless").replace("/", " ")
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Network.enable", maxPostDataSize=_SENT_LIMIT)
        for domain in ("Page", "Runtime", "Log", "Audits"):
            self.call(f"{domain}.enable")

    def call(self, method: str, /, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol; the browser's refusal fails the job."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _PATIENCE
        while True:
            answer = self._next(deadline)
            if answer is None:
                raise JobFailedError(
                    f"the browser does not answer {method}; see {self.service.log}\n{self.service.last_words()}"
                )
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise JobFailedError(f"the browser refused {method}: {answer['error'].get('message')}")
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def listen(self, seconds: float = 0.2) -> None:
        """Take in what the browser says by itself."""
        deadline = time.monotonic() + seconds
        while (message := self._next(deadline)) is not None:
            self._note(message)

    def look(self, expression: str) -> Any:
        """What an expression gives in the page as it stands; None while another page is coming."""
        try:
            found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        except JobFailedError:
            return None
        return found["result"].get("value")

    def wait(self, expression: str, what: str) -> Any:
        """What ``expression`` gives once it is true; ``what`` a customer would be waiting for."""
        deadline = time.monotonic() + _PATIENCE
        while not (found := self.look(expression)):
            if time.monotonic() > deadline:
                said = self.look("document.querySelector('main')?.innerText") or ""
                raise JobFailedError(f"in the browser: {what} did not come. The page says: {said[:500]}")
            time.sleep(_STEP)
        return found

    def get(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.wait(f"location.href === {json.dumps(url)} && document.readyState === 'complete'", url)

    def click(self, selector: str) -> None:
        """Bring it into view and press it in its middle."""
        place = self.wait(
            f"(() => {{ const it = document.querySelector({json.dumps(selector)});"
            " if (!it || it.matches(':disabled')) return null;"
            " it.scrollIntoView({block: 'center', behavior: 'instant'}); const box = it.getBoundingClientRect();"
            " return box.width && [box.x + box.width / 2, box.y + box.height / 2]; })()",
            f"{selector}, to be clicked,",
        )
        for kind in ("mousePressed", "mouseReleased"):
            x, y = place
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, selector: str, text: str) -> None:
        """Put the focus there and press the keys, one after another."""
        self.wait(
            f"(() => {{ const it = document.querySelector({json.dumps(selector)});"
            " if (!it || it.matches(':disabled')) return false; it.focus(); return document.activeElement === it; })()",
            f"{selector}, to be filled in,",
        )
        for character in text:
            self.call("Input.dispatchKeyEvent", type="keyDown", key=character, text=character)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=character)

    def press(self, name: str) -> None:
        code, text = _KEYS[name]
        key = {"key": name, "code": name, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **key)
        self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def _next(self, deadline: float) -> dict[str, Any] | None:
        """The next message; None when there is none until ``deadline``, or never again."""
        while not self._heard:
            patience = max(0.0, deadline - time.monotonic())
            if not select.select([self.answers], [], [], patience)[0]:
                return None
            chunk = os.read(self.answers, _CHUNK)
            if not chunk:
                return None
            *messages, self._rest = (self._rest + chunk).split(b"\0")
            self._heard += [json.loads(message) for message in messages]
        return self._heard.popleft()

    def _note(self, message: dict[str, Any]) -> None:
        method, told = message.get("method", ""), message.get("params", {})
        match method:
            case "Network.requestWillBeSent":
                request = told["request"]
                text = json.dumps(request["headers"]) + request.get("postData", "")
                self.sent.append(Sent(url=request["url"], text=text))
            case "Log.entryAdded" if told["entry"]["level"] == "error":
                self.complaints.append(f"{told['entry']['source']}: {told['entry']['text']}")
            case "Runtime.exceptionThrown":
                self.complaints.append(f"script: {told['exceptionDetails']['text']}")
            case "Audits.issueAdded" if re.search("Policy|Integrity|MixedContent", told["issue"]["code"]):
                self.complaints.append(f"policy: {told['issue']['code']}")
        self.events.append(message)


@contextmanager
def open_browser(shell: Shell, home: Path, log: Path) -> Iterator[Browser]:
    """Start it with an empty home and nothing of anybody; browser and home are gone at the end."""
    program = next(filter(None, (shutil.which(name, path=search_path()) for name in _NAMES)), None)
    if program is None:
        raise NoBrowserError("no Chromium is installed here (Debian: apt-get install chromium)")
    home.mkdir(parents=True)
    root = ("--no-sandbox",) if os.geteuid() == 0 else ()  # Chromium refuses to have one as root
    theirs_in, commands = os.pipe()
    answers, theirs_out = os.pipe()
    try:
        with shell.background(
            program,
            *_FLAGS,
            *root,
            f"--user-data-dir={home}",
            log=log,
            pipes=(theirs_in, theirs_out),
            home=home,
        ) as service:
            os.close(theirs_in)
            os.close(theirs_out)
            browser = Browser(service=service, commands=commands, answers=answers)
            try:
                _wake(browser)
                browser.open_tab()
                yield browser
            finally:
                _part(browser)
    finally:
        os.close(commands)
        os.close(answers)
        shutil.rmtree(home, ignore_errors=True)


def _part(browser: Browser) -> None:
    """Ask it to end by itself: one that is killed leaves things behind in /tmp."""
    with suppress(BrokenPipeError, subprocess.TimeoutExpired):
        os.write(browser.commands, b'{"id":0,"method":"Browser.close"}\0')
        browser.service.process.wait(timeout=_END_PATIENCE)


def _wake(browser: Browser) -> None:
    """Wait for its first answer, as long as a slow machine takes to start it."""
    try:
        os.write(browser.commands, b'{"id":0,"method":"Browser.getVersion"}\0')
        answer = browser._next(time.monotonic() + _START_PATIENCE)
    except BrokenPipeError:
        answer = None
    if answer is None:
        raise NoBrowserError(f"the Chromium here does not start; see {browser.service.log}")
