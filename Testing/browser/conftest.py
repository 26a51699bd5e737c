"""Headless Chromium that records console lines and requests, and pages as the commands write them."""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
from pathlib import Path

import pytest

AXE = Path(os.environ.get("MEDFM_AXE", Path(__file__).parents[2] / "out" / "browser" / "axe.min.js"))
"""`make browser-tools` gets it from the npm package axe-core."""

QUIET = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1280,1000", "--lang=en-US",
)  # fmt: skip


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A driver of Debian's Chromium."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("there is no Chromium with ChromeDriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (*QUIET, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield made
    made.quit()


class Page:
    """A page in the browser.

    Args:
        driver: of selenium.
        path: the file.
    """

    def __init__(self, driver, path: Path):
        self.driver, self.path = driver, path
        driver.get_log("browser"), driver.get_log("performance")
        driver.get(path.as_uri())

    def all(self, selector: str) -> list:
        """Elements of a CSS selector."""
        from selenium.webdriver.common.by import By

        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str):
        """The only element of a CSS selector."""
        (found,) = self.all(selector)
        return found

    def run(self, script: str, *arguments):
        """Return what a script returns."""
        return self.driver.execute_script(script, *arguments)

    def press(self, *keys: str) -> None:
        """Press keys, one after the other, wherever the focus is."""
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def wait(self, script: str, seconds: float = 5.0) -> None:
        """Wait until a script returns something true."""
        until = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < until, script
            time.sleep(0.02)

    def canvas(self) -> str:
        """The pixels of the slice viewer."""
        return self.run("return document.querySelector('#viewer canvas').toDataURL()")

    def console(self) -> list[str]:
        """Lines of the console since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses that were asked for, but for the page itself and data in it."""
        asked = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                asked.append(message["params"]["request"]["url"])
        assert any(url.startswith(self.path.as_uri()) for url in asked)  # the log works
        own = (self.path.as_uri(), "data:", "about:", "chrome:", "chrome-")  # the browser's own start page among them
        return [url for url in asked if not url.startswith(own)]

    def faults(self) -> list[str]:
        """Serious and critical faults that axe-core finds."""
        if not AXE.is_file():
            pytest.skip("axe-core is not here; `make browser-tools` gets it")
        self.driver.execute_script(AXE.read_text(encoding="utf-8"))
        found = self.driver.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
        assert len(found["passes"]) > 5
        return [
            f"{fault['id']} ({fault['impact']}): {fault['help']}: {fault['nodes'][0]['html'][:160]}"
            for fault in found["violations"] if fault["impact"] in ("serious", "critical")
        ]  # fmt: skip

    def printed(self) -> bytes:
        """The page as PDF on A4, as the browser's print dialog makes it."""
        options = {"paperWidth": 8.27, "paperHeight": 11.69, "printBackground": True, "preferCSSPageSize": True}
        return base64.b64decode(self.driver.execute_cdp_cmd("Page.printToPDF", options)["data"])


@pytest.fixture
def open_page(chromium):
    """Open a file in the browser."""
    return lambda path: Page(chromium, path)
