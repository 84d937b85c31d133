import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maeseg.data.data_option import check_data, is_named
from maeseg.data.sources import registry
from maeseg.data.sources.base import open_source
from maeseg.data.sources.registry import find_opener, register_source
from maeseg.data.sources.synthetic import Synthetic
from maeseg.errors import UserError


@pytest.fixture(autouse=True)
def empty_again() -> Iterator[None]:
    yield
    registry._registered.clear()


def open_slides(root: str, *, labeled: bool, test: bool, download: bool) -> Any:
    if not root:
        raise ValueError("write slides:COUNT")
    images = [np.full((8, 8, 3), number, np.uint8) for number in range(int(root))]
    return [(image, image[..., 0] > 3) for image in images] if labeled else images


def test_a_registered_source_is_opened_by_name() -> None:
    register_source("slides", open_slides)
    assert is_named("slides") and is_named("slides:5")
    check_data("slides:5")
    source = open_source("slides:5", labeled=True)
    assert len(source) == 5 and source.labeled
    assert not open_source("slides:5", labeled=False).labeled
    with pytest.raises(UserError, match="--data slides: write slides:COUNT"):
        open_source("slides", labeled=True)


def test_an_opener_may_return_a_source() -> None:
    register_source("creatures", lambda root, *, labeled, test, download: Synthetic(7, test=test))
    source = open_source("creatures", labeled=True, test=True)
    assert isinstance(source, Synthetic) and source.file(0) == "test_00000.png"
    with pytest.raises(UserError, match="RGB, 3 channels"):
        open_source("creatures", labeled=True, channels=4)


def test_names() -> None:
    register_source("slides", open_slides)
    for name in ("synthetic", "oxford-pet", "dataset", "C", "my slides", "a:b", ""):
        with pytest.raises(UserError):
            register_source(name, open_slides)
    with pytest.raises(UserError, match="did you mean slides"):
        check_data("slide:5")
    assert not is_named("photos") and not is_named(["an object"])


def test_the_built_in_sources_are_there() -> None:
    assert is_named("synthetic") and is_named("oxford-pet:data")
    assert len(open_source("synthetic:3", labeled=True)) == 3


def test_an_installed_package_offers_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slide_reader.py").write_text("def opener(root, *, labeled, test, download):\n    return [root]\n")
    package = tmp_path / "slide_reader-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: slide-reader\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[maeseg.sources]\nwsi = slide_reader:opener\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        opener = find_opener("wsi:ROOT")
        assert opener is not None
        assert opener("ROOT", labeled=False, test=False, download=False) == ["ROOT"]
    finally:
        sys.modules.pop("slide_reader", None)
