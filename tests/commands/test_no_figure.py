"""Labels in which no pixel counts, and networks whose prediction is not finite, through the command line."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from helpers.red_network import write_red_onnx
from helpers.tiny_runs import NETWORK, TRAINING, files_in, maeseg

Refused = Callable[..., str]


@pytest.fixture
def bordered(tmp_path: Path) -> Path:
    """Eight labeled images whose validation labels, two of them, are all border."""
    folder, half = tmp_path / "bordered", np.zeros((64, 64), np.uint8)
    half[:, 32:] = 1
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(8):
        rng = np.random.default_rng(number)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(folder / "images" / f"{number}.png")
        Image.fromarray(np.full_like(half, 255) if number < 2 else half).save(folder / "masks" / f"{number}.png")
    (folder / "val.txt").write_text("0\n1\n")
    (folder / "train.txt").write_text("2\n3\n4\n5\n6\n7\n")
    (folder / "data.yaml").write_text("path: .\nignore: 255\ntrain: train.txt\nval: val.txt\n")
    return folder / "data.yaml"


@pytest.mark.parametrize("command", ["finetune", "compare"])
def test_validation_labels_of_border_only_are_refused_before_training(
    command: str, bordered: Path, refused: Refused, tmp_path: Path
) -> None:
    alone = ("--workers", 0, "--accelerator", "cpu", "--batch_size", 2, "--epochs", 1, "--border", "ignore")
    plan = ("--inits", "[scratch]", "--labels", "[4]", "--seeds", "[0]") if command == "compare" else ()
    line = refused(command, "--out", tmp_path / "out", "--data", bordered, *NETWORK, *alone, *plan)
    assert "2 validation images contain border only" in line
    assert not (tmp_path / "out").exists()


def test_an_evaluation_of_border_only_has_no_figure(
    finetuned: Path, bordered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2, 8):
        for kind in ("images", "masks"):
            (bordered.parent / kind / f"{number}.png").unlink()
    bordered.write_text("path: .\nignore: 255\n")
    words = ("--run", finetuned, "--data", bordered, "--border", "ignore", "--out", tmp_path / "figures.json")
    assert maeseg("evaluate", *words) == 0
    cells = [line.split("│") for line in capsys.readouterr().out.splitlines() if "│" in line]
    shown = {cell[1].strip(): cell[2].strip() for cell in cells}
    found = json.loads((tmp_path / "figures.json").read_text())
    for name in ("accuracy", "iou", "iou_per_image", "dice", "dice_loss", "boundary_f1"):
        assert found[name] is None and shown[name] == "none"
    assert [image["iou"] for image in found["per_image"]] == [None, None]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A folder of one image, with an empty label."""
    for kind, mode in (("images", "RGB"), ("masks", "L")):
        (tmp_path / "photo" / kind).mkdir(parents=True)
        Image.new(mode, (64, 64)).save(tmp_path / "photo" / kind / "dark.png")
    return tmp_path / "photo"


def broken_run(finetuned: Path, out: Path, name: str, value: float) -> Path:
    """A copy of a run whose checkpoint has one value in all tensors of a name."""
    run = shutil.copytree(finetuned, out, ignore=shutil.ignore_patterns("tensorboard", "examples"))
    file = run / "checkpoints" / "best.ckpt"
    content = torch.load(file, weights_only=True)
    state = content["state_dict"]
    keys = [key for key in state if key.endswith(name)]
    assert keys
    for key in keys:
        state[key] = torch.full_like(state[key], value)
    torch.save(content, file)
    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("segmentation_head.0.weight", math.nan, "segmentation_head.0.weight has values that are not finite"),
        ("running_var", -1.0, "dark.png: the network's prediction is not finite"),
    ],
)
def test_a_checkpoint_that_predicts_nan_is_refused_by_every_command(
    name: str, value: float, named: str, finetuned: Path, photo: Path, refused: Refused, tmp_path: Path
) -> None:
    run, images = broken_run(finetuned, tmp_path / "run", name, value), photo / "images"
    for words in (
        ("predict", "--images", images, "--out", tmp_path / "out"),
        ("evaluate", "--data", photo, "--out", tmp_path / "figures.json"),
        ("suggest", "--images", images, "--count", 1, "--out", tmp_path / "suggested"),
    ):
        assert named in refused(*words, "--run", run)
    assert not (tmp_path / "figures.json").exists()
    assert not [name for name in files_in(tmp_path / "out") if name.endswith(".png")]


def test_an_onnx_file_that_predicts_nan_is_refused(photo: Path, refused: Refused, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX needs maeseg[onnx]")
    onnx = pytest.importorskip("onnx", reason="ONNX needs maeseg[onnx]")
    model = onnx.load(write_red_onnx(tmp_path / "red.onnx"))
    scale = next(each for each in model.graph.initializer if each.name == "scale")
    scale.CopyFrom(onnx.numpy_helper.from_array(np.array([np.nan], np.float32), "scale"))
    onnx.save(model, tmp_path / "red.onnx")
    words = ("predict", "--run", tmp_path / "red.onnx", "--images", photo / "images", "--out", tmp_path / "out")
    assert "dark.png: the network's prediction is not finite" in refused(*words)


@pytest.mark.slow
def test_a_channel_of_huge_values_is_refused(refused: Refused, tmp_path: Path) -> None:
    rng, folder = np.random.default_rng(0), tmp_path / "bands"
    for kind in ("images", "masks", "huge"):
        (folder / kind).mkdir(parents=True)
    for number in range(8):
        values = rng.random((64, 64, 4), np.float32)
        np.save(folder / "images" / f"{number}.npy", values)
        Image.fromarray((values[..., 0] > 0.5).astype(np.uint8)).save(folder / "masks" / f"{number}.png")
    run, few = tmp_path / "run", ("--data", folder, *TRAINING[4:], "--batch_size", 2, "--val", 2, "--epochs", 1)
    assert maeseg("finetune", "--out", run, *NETWORK, *few, "--channels", 4) == 0
    values[..., 2] = 1e35
    tifffile.imwrite(folder / "huge" / "a.tif", values, photometric="minisblack", planarconfig="contig")
    images = ("--run", run, "--images", folder / "huge")
    assert "a.tif holds 4096 values" in refused("predict", *images, "--out", tmp_path / "out")
    assert "a.tif holds 4096 values" in refused("suggest", *images, "--count", 1, "--out", tmp_path / "suggested")
    np.save(folder / "images" / "0.npy", values)
    assert "0.npy holds 4096 values" in refused("evaluate", "--run", run, "--data", folder, "--split", "all")
