"""The local page in a real browser, from the command line to the pixels."""

import base64
import io
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from helpers.browser import open_browser, wait_for
from helpers.fake_runs import fake_compare
from helpers.tiny_runs import maeseg
from maeseg.data.sources.synthetic import Synthetic
from maeseg.labels.classes import BINARY

pytestmark = pytest.mark.slow
pytest.importorskip("uvicorn", reason="the page needs maeseg[app]")

SIZE = "120 \N{MULTIPLICATION SIGN} 90 pixels"
DROP = """
const [text, name, kind] = arguments, files = new DataTransfer();
files.items.add(new File([Uint8Array.from(atob(text), (each) => each.charCodeAt(0))], name));
const event = kind === "drop"
  ? new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true })
  : new ClipboardEvent("paste", { clipboardData: files, bubbles: true, cancelable: true });
document.querySelector("main").dispatchEvent(event);
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, pretrained: Path, finetuned: Path) -> Path:
    """A run of each kind."""
    root = tmp_path_factory.mktemp("app") / "runs"
    for run in (pretrained, finetuned):
        shutil.copytree(run, root / run.name)
    fake_compare(root / "comparison", inits=("scratch", "pretrained"), labels=(32,), seeds=1)
    return root


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("image") / "creature.png"
    Synthetic(1).image(0).resize((120, 90)).save(file)
    return file


@pytest.fixture(scope="module")
def address(runs: Path) -> Iterator[str]:
    """Address of a server that the command line opens and Ctrl-C ends."""
    words = [sys.executable, "-m", "maeseg", "app", "--runs", str(runs), "--port", "0"]
    server = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert server.stderr
    try:
        before = ""  # another library may have something to say first; reading ends where the server does
        for line in server.stderr:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                break
            before += line
        else:
            pytest.fail(before)
        yield found[0]
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 130
        assert server.stderr.read() == "maeseg: stopped\n"
    finally:
        server.kill()
        server.communicate()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with open_browser(tmp_path_factory.mktemp("profile") / "new") as opened:
        yield opened


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page, newly loaded; nothing in it was refused by its own policy, and nothing came from elsewhere."""
    browser.get("about:blank")
    browser.get(address)
    wait_for(browser, lambda page: page.find_element("id", "segment-tab").is_displayed())
    yield browser
    complaints = [each["message"] for each in browser.get_log("browser")]
    assert not [each for each in complaints if "400 (Bad Request)" not in each], complaints
    asked_for = browser.execute_script("return performance.getEntriesByType('resource').map((each) => each.name)")
    assert asked_for and all(name.startswith((address, "blob:")) for name in asked_for)


def facts(page: Any, tab: str, words: str) -> str:
    """The line of facts of a tab, as soon as it says something with these words."""
    return str(
        wait_for(
            page,
            lambda page: (text := page.find_element("css selector", f"#{tab} .facts").text) and words in text and text,
        )
    )


def error_with(page: Any, words: str) -> str:
    """The line of what is wrong, as soon as it has these words."""
    return str(wait_for(page, lambda page: words in (text := page.find_element("id", "error").text) and text))


def pixels(page: Any, canvas: str) -> NDArray[np.uint8]:
    """Pixels of a canvas, (H, W, 3)."""
    text = page.execute_script("return document.getElementById(arguments[0]).toDataURL()", canvas)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text.partition(",")[2]))).convert("RGB"))


def give(page: Any, file: Path) -> None:
    page.find_element("id", "file").send_keys(str(file))


def press(page: Any, slider: str, key: str) -> None:
    from selenium.webdriver.common.keys import Keys

    page.find_element("id", slider).send_keys(getattr(Keys, key))


def test_upload_see_the_mask_and_move_the_slider(
    page: Any, finetuned: Path, image: Path, tmp_path: Path, runs: Path
) -> None:
    assert maeseg("predict", "--run", finetuned, "--images", image, "--out", tmp_path / "out") == 0
    give(page, image)
    assert facts(page, "segment", "pixels").startswith(SIZE)
    assert page.find_element("id", "image-name").text == "creature.png"
    picture, label = pixels(page, "picture"), pixels(page, "label")[..., 0]
    expected = np.asarray(Image.open(tmp_path / "out" / "labels" / "creature.png"))
    assert np.array_equal(label, expected) and {0, 255} == set(np.unique(label))
    assert page.find_element("id", "legend").text == f"foreground {100 * label.mean() / 255:.0f} %"
    asked = "return performance.getEntriesByType('resource').length"
    before = page.execute_script(asked)
    shown = {"HOME": 0.0, "END": 1.0}
    for key, share in shown.items():
        press(page, "opacity", key)
        blended = np.where(label[..., None] > 0, np.array(BINARY.colors[1]) * share + picture * (1 - share), picture)
        assert np.abs(pixels(page, "overlay") - blended).max() <= 1, key
    press(page, "opacity", "PAGE_DOWN")
    assert page.find_element("css selector", "#segment output").text == "90 %"
    assert not np.array_equal(pixels(page, "overlay"), blended)
    assert page.execute_script(asked) == before  # the browser blends
    link = page.find_element("id", "download")
    assert link.get_attribute("download") == "creature.png" and link.get_attribute("href").startswith("blob:")


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_an_image_is_dropped_or_pasted(page: Any, image: Path, kind: str) -> None:
    page.execute_script(DROP, base64.b64encode(image.read_bytes()).decode(), "dropped.png", kind)
    assert facts(page, "segment", "pixels").startswith(SIZE)
    assert page.find_element("id", "image-name").text == "dropped.png"


def test_a_fresh_mask_and_another_share(page: Any, image: Path) -> None:
    give(page, image)
    facts(page, "segment", "pixels")
    page.find_element("id", "reconstruct-tab").click()
    assert "2 of 4 patches hidden (--mask_ratio 0.6 --seed 0)" in facts(page, "reconstruct", "hidden")
    first, seen = pixels(page, "reconstruction"), pixels(page, "visible")
    hidden = (seen == 127).all(-1) | (seen == 128).all(-1)
    assert 0.4 < hidden.mean() < 0.6
    assert np.array_equal(pixels(page, "original")[~hidden], first[~hidden])
    for seed in range(1, 9):  # of four patches two are hidden in six ways
        page.find_element("id", "fresh").click()
        facts(page, "reconstruct", f"--seed {seed})")
        if not np.array_equal(pixels(page, "visible"), seen):
            break
    assert not np.array_equal(pixels(page, "visible"), seen)
    assert not np.array_equal(pixels(page, "reconstruction"), first)
    press(page, "ratio", "END")
    assert "3 of 4 patches hidden (--mask_ratio 0.99" in facts(page, "reconstruct", "3 of 4")
    assert page.find_element("css selector", "#reconstruct output").text == "99 %"


def test_an_example_is_at_hand(page: Any) -> None:
    wait_for(page, lambda page: page.find_elements("css selector", "#examples button"))[1].click()
    facts(page, "segment", "pixels")
    assert page.find_element("id", "image-name").text == "example 01"


def test_the_report_is_shown_and_the_keyboard_is_enough(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    page.find_element("id", "segment-tab").send_keys(Keys.ARROW_LEFT)  # from the first to the last
    assert page.switch_to.active_element.get_attribute("id") == "report-tab"
    assert page.find_element("id", "report").is_displayed() and not page.find_element("id", "segment").is_displayed()
    frame = page.find_element("css selector", "iframe")
    page.switch_to.frame(frame)
    wait_for(page, lambda page: "Which start pays?" in page.find_element("css selector", "body").text)
    page.switch_to.default_content()
    assert page.execute_script("return arguments[0].contentDocument", frame) is None  # a sandbox: it is of no origin
    choice = page.find_element("id", "report-run")
    choice.find_element("css selector", "option[value=finetuned]").click()
    page.switch_to.frame(frame)
    wait_for(page, lambda page: "maeseg fine-tuning" in page.find_element("css selector", "body").text)
    page.switch_to.default_content()


def test_what_cannot_be_used_gets_one_line(page: Any, image: Path, tmp_path: Path) -> None:
    script, huge = tmp_path / "cat.jpg", tmp_path / "huge.tif"
    script.write_text("#!/bin/sh\nrm -rf /\n")
    with huge.open("wb") as stream:
        stream.truncate(500 * 2**20)
    for file, words in ((script, "cat.jpg cannot be read as an image"), (huge, "huge.tif is too large (500 MB)")):
        give(page, file)
        assert "\n" not in error_with(page, words)
    give(page, image)
    facts(page, "segment", "pixels")
    assert not page.find_element("id", "error").is_displayed() and page.find_element("id", "overlay").is_displayed()
    give(page, script)
    error_with(page, "cat.jpg")
    assert not page.find_element("id", "overlay").is_displayed()  # it is of another image
