"""A real browser without a window: what pages show, log, ask the network for, and how accessible they are."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--force-prefers-reduced-motion",
)


class Browser:
    """One browser for many pages."""

    def __init__(self) -> None:
        if PROGRAM is None or DRIVER is None:
            pytest.skip("no Chromium with its driver here: apt-get install -y chromium chromium-driver")
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = PROGRAM
        for flag in _FLAGS:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        self.size(1280, 900)

    def quit(self) -> None:
        """End it."""
        self.driver.quit()

    def size(self, width: int, height: int) -> None:
        """Make the window as large as that."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def media(self, kind: str = "", *, dark: bool = False) -> None:
        """Pretend to be a printer or to be dark."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": kind, "features": [scheme]})

    def open(self, page: Path, address: str = "") -> None:
        """Open a page and wait until it has read all its data."""
        self.driver.get("about:blank")
        self.logs(), self.requests()
        self.driver.get(page.as_uri() + address)
        self.until(lambda: self.js("return document.documentElement.dataset.ready") == "all", "the page is ready")

    def until(self, found: Callable[[], object], what: str) -> None:
        """Wait for something."""
        end = time.monotonic() + 60
        while not found():
            if time.monotonic() > end:
                pytest.fail(f"waited in vain: {what}; log: {self.logs()}")
            time.sleep(0.02)

    def js(self, script: str, *args: object) -> Any:
        """Run a script that returns something."""
        return self.driver.execute_script(script, *args)

    def text(self, selector: str) -> str:
        """Return what a reader sees of the first element, on one line."""
        return " ".join(self.js("return document.querySelector(arguments[0]).innerText", selector).split())

    def texts(self, selector: str) -> list[str]:
        """Return what a reader sees of each element."""
        found = "[...document.querySelectorAll(arguments[0])].filter(e => e.checkVisibility())"
        script = f"return {found}.map(e => e.innerText ?? e.textContent)"
        return [" ".join(text.split()) for text in self.js(script, selector)]

    def content(self, selector: str) -> list[str]:
        """Return the characters of each element."""
        return self.js("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)

    def click(self, selector: str, number: int = 0) -> None:
        """Click on an element with the mouse."""
        from selenium.webdriver.common.by import By

        element = self.driver.find_elements(By.CSS_SELECTOR, selector)[number]
        self.js("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def press(self, *keys: str) -> None:
        """Press keys, whatever has the focus."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver, duration=0).send_keys(*keys).perform()

    def choose(self, select: str, value: str) -> None:
        """Choose an option."""
        from selenium.webdriver.common.by import By
        from selenium.webdriver.support.ui import Select

        Select(self.driver.find_element(By.ID, select)).select_by_value(value)

    def logs(self) -> list[str]:
        """Return what was written to the console since the last call: errors, and violations of the policy."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return the addresses that were asked for since the last call, besides pages from the disk."""
        found = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(message["params"]["request"]["url"])
        return [url for url in found if not url.startswith(("file:", "about:", "chrome:", "data:,"))]

    def violations(self) -> list[str]:
        """Return what axe-core says about the page."""
        script = resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
        self.driver.execute_script(script)
        found = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "axe.run(document, {resultTypes: ['violations']}).then(r => done(r.violations), e => done([String(e)]))"
        )
        return [
            f"{v['id']}: {v['help']}: {[n['target'] for n in v['nodes']][:3]} {v['nodes'][0]['failureSummary']}"
            if isinstance(v, dict)
            else v
            for v in found
        ]
