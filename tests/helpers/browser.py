"""Debian's Chromium, driven as a person would: it needs the packages chromium and chromium-driver."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,900",
)  # fmt: skip
PATIENCE = 120.0  # seconds; a loaded machine takes its time


@contextmanager
def open_browser(profile: Path, *flags: str) -> Iterator[Any]:
    """A browser with a new profile; skips the test where there is none.

    Args:
        profile: An empty folder for what it writes.
        flags: More of Chromium's flags.
    """
    webdriver = pytest.importorskip("selenium.webdriver", reason="the browser test needs selenium")
    from selenium.webdriver.chrome.service import Service

    programs = [shutil.which("chromium"), shutil.which("chromedriver")]
    if None in programs:
        pytest.skip("no Chromium: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(programs[0])
    for flag in (*FLAGS, *flags, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, Service(str(programs[1])))
    try:
        browser.set_script_timeout(PATIENCE)
        yield browser
    finally:
        browser.quit()


def wait_for(browser: Any, what: Callable[[Any], Any]) -> Any:
    """Wait until something is true of the page; returns it."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, PATIENCE, 0.1).until(what)
