"""Small files that claim or unpack to gigabytes: none takes them, whichever command reads it."""

from pathlib import Path

import pytest

from fuzz import harness
from helpers.bombs import BOMBS

MEGABYTES = 300
"""Memory that a command may take beyond what it had; each bomb claims at least five times as much."""

READ = {
    "PNG, chunk of 3 GB",
    "PNG, color profile",
    "PNG, iTXt",
    "PNG, zTXt",
    "PNG, zTXt with EXIF",
    "TIFF, ImageJ planes",
    "TIFF, OME planes, image",
    "TIFF, OME planes, label",
}
"""Bombs in parts of a file that are not needed: the image is read without them."""


FAST = ("YAML aliases, --config", "TIFF, deflate strip", "checkpoint, wide network", "safetensors, wide network")
"""Bombs that every run of the tests tries; the others are slow tests."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in BOMBS])
def test_a_bomb_takes_no_memory(
    name: str, finetuned: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "SECONDS", 60)  # a busy machine
    bomb = BOMBS[name](finetuned, pretrained, tmp_path)
    ending = harness.run(bomb.words, bomb.leaves)
    assert not ending.wrong
    assert ending.code == (0 if name in READ else 2), ending.line
    assert ending.megabytes < MEGABYTES
