"""Which images are suggested for labeling, and what comes with them."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import entropy as reference_entropy
from torch import Tensor

from helpers.red_network import write_red_onnx
from helpers.tiny_runs import maeseg
from maeseg.data.sources.synthetic import Synthetic
from maeseg.prediction.contact_sheet import short
from maeseg.prediction.suggestion import UNSURE, choose, entropy


def points(count: int, seed: int = 0) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_entropy_is_shannons_in_bits() -> None:
    probability = torch.rand(7, 9, generator=torch.Generator().manual_seed(0))
    probability[0, :3] = torch.tensor([0.0, 1.0, 0.5])
    both = np.stack([probability.numpy(), 1 - probability.numpy()]).astype(np.float64)
    np.testing.assert_allclose(entropy(probability[None, None])[0], reference_entropy(both, base=2, axis=0), atol=1e-6)
    assert torch.equal(entropy(torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3))[0, 0], torch.tensor([0.0, 1.0, 0.0]))


def test_entropy_of_several_classes_is_1_where_all_are_as_likely() -> None:
    probability = torch.randn(2, 5, 7, 9, generator=torch.Generator().manual_seed(0)).softmax(1)
    np.testing.assert_allclose(entropy(probability), reference_entropy(probability, base=5, axis=1), atol=1e-6)
    assert entropy(torch.full((1, 4, 1, 1), 0.25)).item() == 1


def greedy(features: Tensor, pool: list[int], labeled: Tensor, count: int) -> list[int]:
    """k-center greedy, written down again: the farthest from all that is chosen or labeled, one after the other."""
    chosen: list[int] = []
    centers = list(labeled)
    if not centers:
        chosen, centers = [pool[0]], [features[pool[0]]]
    while len(chosen) < count:
        left = [place for place in pool if place not in chosen]
        nearest = {place: min(float((features[place] - center).norm()) for center in centers) for place in left}
        best = max(left, key=lambda place: nearest[place])
        chosen.append(best)
        centers.append(features[best])
    return chosen


@pytest.mark.parametrize("labeled", [0, 1, 4])
def test_the_farthest_of_the_unsure_are_chosen(labeled: int) -> None:
    features, known = points(40), points(labeled, seed=1)
    uncertainties = torch.rand(40, generator=torch.Generator().manual_seed(2))
    pool = sorted(range(40), key=lambda place: -float(uncertainties[place]))[: UNSURE * 4]
    assert choose(features, uncertainties, known, 4) == greedy(features, pool, known, 4)


def test_all_can_be_chosen_each_once_even_where_images_are_the_same() -> None:
    features = points(1).expand(8, -1)
    assert sorted(choose(features, torch.full((8,), 0.5), features[:0], 8)) == list(range(8))
    assert sorted(choose(features, torch.full((8,), 0.5), features[:1], 8)) == list(range(8))


def test_a_long_name_keeps_its_end() -> None:
    assert short(Path("a/b.png")) == "a/b.png"
    assert short(Path("x" * 40 + "/cat_7.jpg")).endswith("/cat_7.jpg") and len(short(Path("x" * 60))) == 28


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    folder, source = tmp_path / "pool", Synthetic(10, 64)
    (folder / "deeper").mkdir(parents=True)
    for index in range(10):
        source.image(index).resize((70, 50)).save(folder / ("deeper" if index % 2 else "") / f"{index}.png")
    return folder


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "suggestions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_suggestions_come_with_labels_to_correct(finetuned: Path, pool: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert maeseg("suggest", "--run", finetuned, "--images", pool, "--count", 6, "--out", tmp_path / name) == 0
    found = rows(tmp_path / "one")
    assert found == rows(tmp_path / "two")
    assert [row["rank"] for row in found] == [str(rank) for rank in range(1, 7)]
    assert len({row["file"] for row in found}) == 6
    for row in found:
        assert 0 <= float(row["uncertainty"]) <= 1
        assert (pool / row["file"]).is_file()
        with Image.open(tmp_path / "one" / "labels" / Path(row["file"]).with_suffix(".png")) as picture:
            label = np.asarray(picture)
        assert label.shape == (50, 70) and set(np.unique(label)) <= {0, 255}
    assert len(list((tmp_path / "one" / "labels").rglob("*.png"))) == 6
    with Image.open(tmp_path / "one" / "contact_sheet.png") as sheet:
        width, height = sheet.size
    assert width > 900 and height > 400  # five columns, two rows


def test_what_is_labeled_already_is_not_suggested_again(finetuned: Path, pool: Path, tmp_path: Path) -> None:
    known = tmp_path / "known"
    known.mkdir()
    for index in range(7):  # copies: as near to a labeled image as can be
        path = next(pool.rglob(f"{index}.png"))
        (known / path.name).write_bytes(path.read_bytes())
    words = ("--run", finetuned, "--images", pool, "--labeled", known, "--count", 3, "--out", tmp_path / "out")
    assert maeseg("suggest", *words) == 0
    assert {Path(row["file"]).stem for row in rows(tmp_path / "out")} == {"7", "8", "9"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--count", 11), "--count 11: "),
        (("--count", 0), "--count 0: "),
        (("--labeled", "nowhere"), "nowhere"),
        (("--run", "PRETRAINED"), "give a finetune run"),
    ],
)
def test_bad_input(
    words: tuple[object, ...], said: str, finetuned: Path, pretrained: Path, pool: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    given = [pretrained if word == "PRETRAINED" else word for word in words]
    assert maeseg("suggest", "--run", finetuned, "--images", pool, "--out", tmp_path / "out", *given) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_exported_network_has_no_features(refused: Callable[..., str], pool: Path, tmp_path: Path) -> None:
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason="ONNX needs maeseg[onnx]")
    file = write_red_onnx(tmp_path / "red.onnx")
    said = refused("suggest", "--run", file, "--images", pool, "--out", tmp_path / "out", "--count", 2)
    assert "red.onnx is run by ONNX Runtime, and has no PyTorch network: give the finetune run" in said
