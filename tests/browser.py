"""A real browser for the tests of pages: their conftest takes `chrome` and `page` from here."""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from required import lacking


@pytest.fixture(scope="session")
def chrome() -> Iterator[Any]:
    """A real headless Chromium that keeps its console and network logs."""
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if importlib.util.find_spec("selenium") is None:
        lacking("browser", "needs the package selenium")
    if binary is None or driver is None:
        lacking("browser", "needs Chromium and its driver")
    webdriver = importlib.import_module("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-background-networking",
        "--disable-dev-shm-usage",
        "--disable-gpu",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


class Page:
    """One page in the browser, with what it said and asked for while it was open."""

    def __init__(self, chrome: Any) -> None:
        self.chrome = chrome

    def open(self, address: Path | str, width: int = 1200) -> Page:
        self.resize(width)
        for log in ("browser", "performance"):
            self.chrome.get_log(log)
        self.chrome.get(address.as_uri() if isinstance(address, Path) else address)
        # On a busy machine the driver has been seen to return in the midst of a page.
        support = importlib.import_module("selenium.webdriver.support.ui")
        loaded = "return document.readyState === 'complete'"
        support.WebDriverWait(self.chrome, 30).until(lambda chrome: chrome.execute_script(loaded))
        return self

    def resize(self, width: int) -> None:
        self.chrome.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )

    def js(self, code: str, *arguments: Any) -> Any:
        return self.chrome.execute_script(code, *arguments)

    def all(self, selector: str) -> list[Any]:
        return list(self.chrome.find_elements("css selector", selector))

    def one(self, selector: str) -> Any:
        return self.chrome.find_element("css selector", selector)

    def console(self) -> list[str]:
        return [entry["message"] for entry in self.chrome.get_log("browser")]

    def requests(self) -> list[str]:
        messages = [
            json.loads(entry["message"])["message"] for entry in self.chrome.get_log("performance")
        ]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]

    def violations(self, dark: bool = False) -> list[str]:
        """Return what axe-core finds wrong for people who use a page in other ways, all open."""
        if importlib.util.find_spec("axe_core_python") is None:
            lacking("browser", "needs the package axe-core-python")
        folder = Path(importlib.import_module("axe_core_python").__file__ or "").parent
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.js("document.querySelectorAll('details').forEach(d => { d.open = true; });")
        self.js((folder / "axe.min.js").read_text())
        found = self.chrome.execute_async_script(
            "const done = arguments[0];"
            "requestAnimationFrame(() => axe.run().then((r) => done(r.violations)));"
        )
        self.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        return [
            f"{one['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
            for one in found
            for node in one["nodes"][:3]
        ]

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than the window, with all details open."""
        return int(
            self.js(
                "document.querySelectorAll('details').forEach(d => { d.open = true; });"
                "return document.documentElement.scrollWidth - window.innerWidth;"
            )
        )


@pytest.fixture
def page(chrome: Any) -> Page:
    return Page(chrome)
