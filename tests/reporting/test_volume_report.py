"""The page of a run of volumes: figures of surfaces for the run and for each class."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("monai")

from helpers.bright_volumes import THREE
from helpers.fake_runs import fake_finetune
from maeseg.metrics.volumes import VolumeMetrics
from maeseg.reporting.training import finetuning_page
from maeseg.runs.reader import open_run
from maeseg.runs.validation import Confusion, write_validation


def measured() -> VolumeMetrics:
    """Two volumes; the second has no ``back`` in label and prediction."""
    metrics = VolumeMetrics("ignore", THREE)
    for seed, most in ((0, 2), (1, 1)):
        label_DHW = torch.randint(0, most + 1, (4, 5, 6), generator=torch.Generator().manual_seed(seed))
        predicted_DHW = label_DHW.roll(1, dims=2)
        maps_KDHW = torch.stack([predicted_DHW == number for number in range(3)]).float()
        metrics.update(maps_KDHW, label_DHW.to(torch.uint8), (1.0, 1.0, 2.0))
    return metrics


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder, metrics = fake_finetune(tmp_path / "run"), measured()
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(facts | {"classes": THREE.to_dict()}))
    figures = {**metrics.compute(), "border": "ignore", "best_epoch": 3, "classes": metrics.per_class()}
    (folder / "metrics.json").write_text(json.dumps(figures))
    confusion = Confusion(THREE.names, metrics.confusion_KK)
    write_validation(folder, ["a", "b"], metrics.images, metrics.reliability, confusion)
    for file in (folder / "examples").iterdir():
        file.unlink()
    return folder


def test_the_page_has_the_figures_of_surfaces(run: Path) -> None:
    page, figures = finetuning_page(open_run(run)), measured().compute()
    assert f"{figures['hausdorff95_mm']:.3f}" in dict(page.tiles).values()
    assert page.classes is not None
    table = page.classes.table
    assert len(table.head) == 9
    rows = {row[0]: row[1:] for row in table.rows}
    expected = measured().per_class()["front"]
    assert rows["front"][-2:] == [f"{expected[name]:.3f}" for name in ("surface_dice", "hausdorff95_mm")]
    assert rows["background"][-1] == rows["background"][-2] != rows["front"][-1]


@pytest.mark.parametrize("classes", [{"front": 3}, {"front": {"hausdorff95_mm": "far"}}, [1], None])
def test_figures_of_classes_that_are_none_are_left_out(run: Path, classes: object) -> None:
    figures = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(figures | {"classes": classes}))
    page = finetuning_page(open_run(run))
    assert page.classes is not None
    assert "far" not in str(page.classes.table.rows)
