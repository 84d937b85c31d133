"""The examples run, on tiny networks and few images."""

import json
import math
import runpy
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
ENCODER = "test_resnet"
TINY_RUN = {"encoder": ENCODER, "decoder_channels": [16, 8, 8, 8, 8], "workers": 0, "accelerator": "cpu"}


def run_example(name: str, *args: Any, **options: Any) -> Any:
    """Call the main function of an example."""
    return runpy.run_path(str(EXAMPLES / name))["main"](*args, **options)


def test_every_example_has_a_test() -> None:
    assert {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")} == {
        "lightning_trainer.py",
        "own_dataset.py",
        "own_decoder.py",
        "own_training_loop.py",
        "quickstart.ipynb",
    }


@pytest.mark.parametrize("name", ["own_training_loop.py", "own_decoder.py"])
def test_training_loops(name: str) -> None:
    losses = run_example(name, steps=2, size=64, encoder=ENCODER)
    assert all(math.isfinite(loss) for loss in losses)


@pytest.mark.slow
# Lightning's hints on workers, and that its logged figures go nowhere; its combined loader with PyTorch 2.14
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.:FutureWarning")
@pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning")
def test_lightning_trainer() -> None:
    losses = run_example("lightning_trainer.py", epochs=1, size=64, encoder=ENCODER, accelerator="cpu")
    assert all(math.isfinite(loss) for loss in losses)


def test_own_dataset(tmp_path: Path) -> None:
    figures = run_example("own_dataset.py", str(tmp_path), count=24, epochs=1, **TINY_RUN)
    assert 0 <= figures["iou"] <= 1
    assert "data: dataset:Discs\n" in (tmp_path / "pretrained" / "config.yaml").read_text()
    assert "data: discs:24\n" in (tmp_path / "finetuned" / "config.yaml").read_text()


@pytest.mark.slow
def test_quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((EXAMPLES / "quickstart.ipynb").read_text(encoding="utf-8"))
    settings, *cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    namespace: dict[str, Any] = {}
    exec(settings, namespace)
    tiny = {"DATA": "synthetic:24", "NETWORK": {"encoder": ENCODER, "image_size": 64}}
    tiny["TRAINING"] = {"epochs": 1, "batch_size": 4, "workers": 0, "accelerator": "cpu"}
    assert tiny.keys() <= namespace.keys()
    namespace.update(tiny)
    for cell in cells:
        exec(cell, namespace)
    assert namespace["figures"].keys() == {"pretrained", "scratch"}
    assert namespace["class_map"].ndim == 2
    assert not any(cell.get("outputs") for cell in notebook["cells"])
