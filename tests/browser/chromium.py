"""Debian's Chromium, driven through the visible page: keys pressed, words read, pictures taken.

Why here: what customers meet is judged where they meet it.
Must not: reach into a page's program; only what a person or an assistive program could see and do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.source import ROOT

SECONDS = 15
AXE = ROOT / "tests" / "browser" / "node_modules" / "axe-core" / "axe.min.js"


@dataclass(slots=True)
class Browser:
    """One browser. ``pictures``: where screenshots go."""

    driver: Chrome
    pictures: Path
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @classmethod
    def start(cls, chromium: Path, chromedriver: Path, place: Path) -> Browser:
        options = ChromeOptions()
        options.binary_location = str(chromium)
        for argument in (
            "--headless=new",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--lang=en-GB",
            f"--user-data-dir={place / 'profile'}",
            # Nothing but this machine has a name.
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
        ):
            options.add_argument(argument)
        if os.geteuid() == 0:
            options.add_argument("--no-sandbox")  # Chromium refuses to have one as root
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = Chrome(options=options, service=ChromeService(executable_path=str(chromedriver)))
        driver.set_page_load_timeout(30)
        pictures = place / "pictures"
        pictures.mkdir(parents=True, exist_ok=True)
        return cls(driver=driver, pictures=pictures)

    def fresh(self) -> None:
        """As a new customer: no cookie, nothing remembered, one tab, a desktop's window."""
        self.listen()
        self.requests.clear()
        self.complaints.clear()
        first, *others = self.driver.window_handles
        for other in others:
            self.driver.switch_to.window(other)
            self.driver.close()
        self.driver.switch_to.window(first)
        self.scripts(allowed=True)
        self.size(1200, 900)
        self.dark(False)
        self.command("Network.clearBrowserCookies")
        self.command("Network.clearBrowserCache")
        self.driver.get("about:blank")

    def forget(self, origin: str) -> None:
        self.command("Storage.clearDataForOrigin", origin=origin, storageTypes="all")

    def command(self, command: str, /, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(command, parameters)

    def scripts(self, *, allowed: bool) -> None:
        self.command("Emulation.setScriptExecutionDisabled", value=not allowed)

    def size(self, width: int, height: int, *, mobile: bool = False) -> None:
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )

    def dark(self, is_dark: bool) -> None:
        """As on a screen whose owner prefers dark pages."""
        value = "dark" if is_dark else "light"
        self.command(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": value}]
        )

    def get(self, url: str) -> None:
        self.driver.get(url)

    def one(self, selector: str) -> WebElement:
        return WebDriverWait(self.driver, SECONDS).until(
            lambda driver: driver.find_element(By.CSS_SELECTOR, selector)
        )

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, what: str, selector: str = "main") -> str:
        """The element's visible text once it holds ``what``."""

        def holds(driver: Chrome) -> str:
            found = " ".join(one.text for one in driver.find_elements(By.CSS_SELECTOR, selector))
            return found if what in found else ""

        return WebDriverWait(self.driver, SECONDS, ignored_exceptions=[Exception]).until(
            holds, f"{what!r} did not come up in {selector}"
        )

    def until(self, is_so: Callable[[], bool], otherwise: str) -> None:
        WebDriverWait(self.driver, SECONDS, ignored_exceptions=[Exception]).until(
            lambda _: is_so(), otherwise
        )

    def wait_for_path(self, path: str) -> None:
        WebDriverWait(self.driver, SECONDS).until(
            lambda driver: driver.current_url.split("#")[0].endswith(path), f"never came to {path}"
        )

    @property
    def focused(self) -> WebElement:
        return self.driver.switch_to.active_element

    def press(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def tab_to(self, selector: str, *, limit: int = 120) -> WebElement:
        """Press Tab until the element has the focus."""
        for _ in range(limit):
            if self.driver.execute_script("return document.activeElement.matches(arguments[0])", selector):
                return self.focused
            self.press(Keys.TAB)
        raise AssertionError(f"the Tab key does not reach {selector}")

    def fill(self, values: dict[str, str]) -> None:
        for identity, value in values.items():
            element = self.one(f"#{identity}")
            if element.tag_name == "select":
                element.send_keys(value)
            else:
                element.clear()
                element.send_keys(value)

    def autofill(self, identity: str, **known: Any) -> None:
        """What happens when the browser's offer at this field is accepted; ``known``: its owner's card or address."""
        root = self.command("DOM.getDocument")["root"]["nodeId"]
        field = self.command("DOM.querySelector", nodeId=root, selector=f"#{identity}")["nodeId"]
        place = self.command("DOM.describeNode", nodeId=field)["node"]["backendNodeId"]
        self.command("Autofill.trigger", fieldId=place, **known)

    def tap(self, element: WebElement) -> None:
        """With a finger, in its middle."""
        place = self.driver.execute_script(
            "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'});"
            "const box = arguments[0].getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]",
            element,
        )
        touch = [{"x": place[0], "y": place[1]}]
        self.command("Input.dispatchTouchEvent", type="touchStart", touchPoints=touch)
        self.command("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def value(self, identity: str) -> str:
        return str(self.one(f"#{identity}").get_property("value"))

    def picture(self, name: str, *, whole: bool = True) -> Path:
        path = self.pictures / f"{name}.png"
        if whole:
            height = int(self.driver.execute_script("return document.documentElement.scrollHeight"))
            width = int(self.driver.execute_script("return window.innerWidth"))
            self.size(width, max(height, 400))
        self.driver.save_screenshot(str(path))
        return path

    def listen(self) -> None:
        """Take over what the browser has logged: every request, and every complaint about a policy or a script."""
        logged: Callable[[str], list[dict[str, str]]] = self.driver.get_log
        for entry in logged("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
        for entry in logged("browser"):
            self.complaints.append(entry["message"])

    def accessibility(self) -> list[str]:
        """What axe-core objects to on the page as it stands."""
        self.driver.execute_script(AXE.read_text("utf-8"))
        found = self.driver.execute_async_script(
            "const done = arguments[0];"
            "axe.run(document, {resultTypes: ['violations']}).then((found) => done(found.violations))"
        )
        return [f"{one['id']}: {node['html'][:160]}" for one in found for node in one["nodes"]]
