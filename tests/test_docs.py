"""What the documentation says can be done: its commands run, its links lead somewhere, its options are the code's."""

import importlib.util
import re
import shlex
import shutil
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from PIL import Image

import maeseg as library
from helpers.class_folders import write_folder
from helpers.tiny_runs import maeseg
from maeseg.cli import parse
from maeseg.commands.registry import COMMANDS
from maeseg.data.sources.synthetic import Synthetic
from maeseg.utils.parsing import options_of

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
TRAINING = ["--epochs", "1", "--batch_size", "4", "--workers", "0", "--accelerator", "cpu"]
SMALLER = {
    "pretrain": ["--encoder", "test_resnet", "--decoder_channels", "[16, 8, 8, 8, 8]", "--image_size", "64", *TRAINING],
    "finetune": TRAINING,
    "suggest": ["--count", "4"],
    "compare": ["--labels", "[4]", "--seeds", "1", "--steps_per_epoch", "1", *TRAINING],
}
"""Options that make a command of the documentation a matter of seconds; the last one given counts."""


def commands(page: Path, block: str) -> list[list[str]]:
    """The maeseg commands in a page's blocks of a kind."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = "\n".join(text for kind, text in blocks if kind == block).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("maeseg ")]


def lay_out(folder: Path) -> None:
    """Tiny images where the documentation has the user's."""
    source = Synthetic(12, 64)
    for name in ("photos", "labeled/images", "labeled/masks", "new"):
        (folder / name).mkdir(parents=True)
    for index in range(12):
        image, label = source.image(index), source.label(index).point(lambda value: value * 255)
        image.save(folder / "photos" / f"{index}.png")
        image.save(folder / "labeled" / "images" / f"{index}.png")
        label.save(folder / "labeled" / "masks" / f"{index}.png")
    Image.new("RGB", (80, 60), "gray").save(folder / "new" / "a.jpg")


def look_at_page(words: list[str]) -> None:
    """What the server would offer, as a server never ends."""
    testclient = pytest.importorskip("starlette.testclient", reason="the page needs maeseg[app]")
    from maeseg.webapp.site import make_site

    _, options = parse(["app", *words])
    offered = testclient.TestClient(make_site(Path(options["runs"])), base_url="http://127.0.0.1").get("/runs").json()
    assert offered["segment"] and offered["reconstruct"] and offered["report"]


def run_all(words: list[list[str]]) -> None:
    for _, command, *options in words:
        if command == "app":
            look_at_page(options)
            continue
        assert maeseg(command, *options, *SMALLER.get(command, [])) == 0, f"maeseg {command} {shlex.join(options)}"


@pytest.mark.slow
def test_the_tutorials_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    words = commands(DOCS / "tutorial.md", "console")
    named = {command for _, command, *_ in words}
    assert named >= {"pretrain", "compare", "report", "finetune", "evaluate", "predict", "suggest", "app"}
    run_all(words)
    assert (tmp_path / "predictions" / "labels" / "a.png").exists()
    assert (tmp_path / "runs" / "comparison" / "report.html").exists()
    assert (tmp_path / "suggested" / "contact_sheet.png").exists()


@pytest.mark.slow
def test_the_commands_for_classes_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "labeled")
    (tmp_path / "labeled" / "classes.yaml").rename("classes.yaml")
    shutil.copytree(tmp_path / "labeled" / "images", tmp_path / "new")
    assert maeseg("pretrain", "--data", "new", "--out", "runs/pretrained", *SMALLER["pretrain"]) == 0
    run_all(commands(DOCS / "classes.md", "console"))
    assert (tmp_path / "predictions" / "probabilities" / "00" / "car.png").exists()


@pytest.mark.slow
def test_the_readmes_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    words = [each for each in commands(ROOT / "README.md", "") if not any("ROOT" in word for word in each)]
    assert len(words) >= 5
    run_all(words)


def test_the_readmes_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    tiny: dict[str, Any] = {"epochs": 1, "batch_size": 4, "workers": 0, "accelerator": "cpu"}
    network = {"encoder": "test_resnet", "decoder_channels": [16, 8, 8, 8, 8]}
    names: dict[str, Any] = {
        "maeseg": SimpleNamespace(
            pretrain=lambda **options: library.pretrain(**{**options, **network, **tiny, "image_size": 64}),
            finetune=partial(library.finetune, **tiny),
            load=library.load,
            MaskedAutoencoder=library.MaskedAutoencoder,
        ),
        "images": torch.rand(2, 3, 64, 64),
    }
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(block.replace("import maeseg\n", ""), names)
    assert np.asarray(names["mask"]).shape == (60, 80)
    assert isinstance(names["unet"], smp.Unet)


def test_the_readme_is_a_front_door() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 900
    assert sum(line.startswith("| ") for line in text.splitlines()) <= 8 + 1  # one table, with its head


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
            assert page.parent != DOCS or (page.parent / link).resolve().is_relative_to(DOCS), (
                f"{link} is not in the site"
            )


def options_page() -> ModuleType:
    specification = importlib.util.spec_from_file_location("options_page", DOCS / "options_page.py")
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_options_page_has_every_option() -> None:
    text = options_page().on_page_markdown((DOCS / "options.md").read_text(encoding="utf-8"))
    for name, command in COMMANDS.items():
        section = text.partition(f"## {name}\n")[2].partition("\n## ")[0]
        listed = re.findall(r"^\| `--(\w+)` \| .* \| (.+) \|$", section, re.MULTILINE)
        assert [option for option, _ in listed] == list(options_of(command)), name
        assert all(meaning.strip() for _, meaning in listed)


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    mkdocs = pytest.importorskip("mkdocs.commands.build", reason="the site needs maeseg[docs]")
    from mkdocs.config import load_config

    mkdocs.build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True))
    page = (tmp_path / "options.html").read_text(encoding="utf-8")
    assert "mask_ratio" in page and "<!-- options -->" not in page
    pages = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")]
    assert not any(re.search(r'(?:src|href)="https?://(?:fonts|cdn|unpkg)', page) for page in pages)
