"""Run folders as the training verbs leave them, written by hand: every documented file, no training."""

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from maeseg.comparison.contrasts import choose_contrasts, write_list
from maeseg.comparison.reader import read_comparison
from maeseg.comparison.results import ResultRow, append_result
from maeseg.comparison.statistics import METRICS
from maeseg.metrics.scores import ImageScores, Reliability
from maeseg.runs.validation import write_validation
from maeseg.types import BORDER

PRETRAIN_COLUMNS = ("epoch", "step", "seconds", "lr", "train_loss", "val_loss")
_MEASURED = ("loss", "accuracy", "iou")
FINETUNE_COLUMNS = (
    *PRETRAIN_COLUMNS[:4],
    *(f"train_{name}" for name in _MEASURED),
    *(f"val_{name}" for name in _MEASURED),
    "val_dice_loss",
)
SIDE = 64
IMAGES = 40


def result_row(init: str = "scratch", label_count: int = 32, seed: int = 0, **values: Any) -> ResultRow:
    """A row with plausible values, all but the named ones derived from the IoU."""
    iou = values.get("iou", 0.5)
    defaults: dict[str, Any] = {
        "labels": label_count,
        "stage": "equal steps",
        "epochs": 12,
        "steps": 120,
        "best_epoch": 9,
        "accuracy": 0.6 + iou / 2,
        "iou": iou,
        "iou_per_image": iou - 0.02,
        "dice": 2 * iou / (1 + iou),
        "dice_loss": 1 - 2 * iou / (1 + iou),
        "boundary_f1": iou / 2,
        "border": "ignore",
        "seconds": 61.5,
        "run": f"runs/{init}-{label_count}-seed{seed}",
    }
    return ResultRow(init=init, label_count=label_count, seed=seed, **(defaults | values))


def fake_iou(init: str, label_count: int, seed: int) -> float:
    """Pre-training helps most with few labels; one seed differs a little from the next."""
    head_start = 0.0 if init == "scratch" else 0.12 * (32 / label_count) ** 0.9
    deviation = 0.01 * ((7 * seed + len(init)) % 5 - 2) / 2
    return 0.42 + 0.09 * float(np.log2(label_count / 32)) + head_start + deviation


def fake_scores(iou: float) -> ImageScores:
    """Results on IMAGES images of which some are harder than others, in every run the same ones; about that IoU."""
    random = np.random.default_rng(7)
    area, hard = random.uniform(500, 1500, IMAGES), random.normal(0, 0.05, IMAGES)
    union = area.round()
    tp = (union * np.clip(iou + hard, 0.02, 0.98)).round()
    fp = ((union - tp) / 2).round()
    return ImageScores.of_foreground(tp, fp, union - tp - fp, 4096 - union, 1 - 2 * tp / (union + tp), tp / union / 2)


def fake_pretrain(run: Path, *, epochs: int = 8, finished: bool = True) -> Path:
    """A pretrain folder."""
    losses = [(0.55 + 0.4 * 0.7**epoch, 0.57 + 0.4 * 0.72**epoch) for epoch in range(epochs)]
    _start(run, "pretrain", finished, {"data": "photos/", "mask_ratio": 0.6, "encoder": "test_resnet"})
    rows = [[epoch, 10 * (epoch + 1), 2.5 * (epoch + 1), 1e-3, *pair] for epoch, pair in enumerate(losses)]
    _table(run, PRETRAIN_COLUMNS, rows)
    if finished:
        (run / "metrics.json").write_text(json.dumps({"train_loss": losses[-1][0], "val_loss": losses[-1][1]}))
    for number in range(2):
        image, _ = picture(number)
        hidden = np.kron(np.indices((4, 4)).sum(0) % 2, np.ones((SIDE // 4, SIDE // 4))).astype(bool)
        visible = np.where(hidden[..., None], 128, image).astype(np.uint8)
        blurred = np.where(hidden[..., None], image.mean((0, 1)), image).astype(np.uint8)
        _pictures(run / "examples", f"{number:02d}", image=image, visible=visible, reconstruction=blurred)
    return run


def fake_finetune(run: Path, *, iou: float = 0.5, epochs: int = 12, finished: bool = True) -> Path:
    """A finetune folder whose training ends at the given IoU."""
    _start(run, "finetune", finished, {"data": "pets", "labels": 64, "border": "ignore"})
    rows = []
    for epoch in range(epochs):
        reached = iou * (1 - 0.8 * 0.7**epoch)
        train = (1.1 - 1.1 * reached, 0.62 + reached / 2, reached + 0.03)
        val = (1.2 - 1.1 * reached, 0.6 + reached / 2, reached, 1 - 2 * reached / (1 + reached))
        rows.append((epoch, 10 * (epoch + 1), 5.0 * (epoch + 1), 1e-3, *train, *val))
    _table(run, FINETUNE_COLUMNS, rows)
    if finished:
        row = result_row(iou=iou)
        names = (*METRICS, "border", "best_epoch")
        (run / "metrics.json").write_text(json.dumps({name: getattr(row, name) for name in names}))
    for number in range(3):
        image, label = picture(number)
        shift = round(8 * (1 - iou))
        prediction = np.where(np.roll(label, (shift, 3 * shift), (0, 1)) == 1, 1, 0).astype(np.uint8)
        _pictures(run / "examples", f"{number:02d}", image=image, label=label, prediction=prediction)
    if finished:
        probability = np.linspace(0, 1, 2000)
        reliability = Reliability.of(probability, probability * (0.5 + iou) > 0.5)
        write_validation(run, [f"photo_{number}.jpg" for number in range(IMAGES)], fake_scores(iou), reliability)
    return run


def fake_compare(
    compare: Path,
    *,
    inits: Sequence[str] = ("scratch", "pretrained"),
    labels: Sequence[int] = (32, 128, 512),
    seeds: int = 3,
    iou: Callable[[str, int, int], float] = fake_iou,
    done: int | None = None,
    pretrain: Path | None = None,
    started_from: Mapping[str, str] | None = None,
    outside: Sequence[str] = (),
) -> Path:
    """A compare folder; with ``done``, only so many of its runs are finished, and the comparison is not.

    Every init but scratch and those ``outside`` was pre-trained, in 4350 seconds.
    """
    plan = [(init, count, seed) for count in labels for seed in range(seeds) for init in inits]
    sources = {init: None if init == "scratch" else str(pretrain or "gone/pretrain") for init in inits}
    options = {
        "data": "pets",
        "inits": [source or "scratch" for source in sources.values()],
        "labels": list(labels),
        "seeds": seeds,
        "border": "ignore",
    }
    pretraining: dict[str, dict[str, Any]] = {
        init: {"seconds": 4350.0, "started_from": (started_from or {}).get(init), "teachers": []}
        for init in inits
        if init not in ("scratch", *outside)
    }
    _start(
        compare, "compare", done is None, options, inits=sources, pretraining=pretraining, planned=len(plan),
        split={"train": 600, "val": IMAGES},
    )  # fmt: skip
    for init, count, seed in plan[:done]:
        row = result_row(init, count, seed, iou=iou(init, count, seed))
        fake_finetune(compare / row.run, iou=row.iou)
        append_result(compare / "results.csv", row)
    if done is None:
        _fake_contrasts(compare)
    return compare


def _fake_contrasts(compare: Path) -> None:
    (compare / "contrasts").mkdir()
    contrasts = choose_contrasts(read_comparison(compare))
    for number, each in enumerate(contrasts):
        image, label = picture(number % 3)
        worse, better = np.roll(label == 1, 6, 0).astype(np.uint8), (label == 1).astype(np.uint8)
        prediction, reference = (better, worse) if each.kind == "gain" else (worse, better)
        pictures = {"image": image, "label": label, "prediction": prediction, "reference": reference}
        _pictures(compare / "contrasts", each.pictures, **pictures)
    write_list(compare, contrasts)


def picture(number: int) -> tuple[np.ndarray, np.ndarray]:
    """An image (SIDE, SIDE, 3) of one bright ellipse, and its label with a border."""
    y, x = np.indices((SIDE, SIDE)) / SIDE - 0.5
    distance = np.hypot(x - 0.05 * number, (y + 0.04 * number) * (1.2 + 0.3 * number))
    label = np.select([distance < 0.26, distance < 0.3], [1, BORDER], 0).astype(np.uint8)
    tone = np.stack([90 + 90 * x, 120 + 60 * y, 140 - 80 * x * y], -1)
    image = np.where(distance[..., None] < 0.28, [214, 150, 90 + 30 * number], tone)
    return image.astype(np.uint8), label


def _start(run: Path, verb: str, finished: bool, options: dict[str, Any], **more: Any) -> None:
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump(options, sort_keys=False))
    info = {
        "verb": verb,
        "status": "finished" if finished else "running",
        "started": "2026-01-31T09:30:00",
        "seconds": 4350.0,
        "versions": {"maeseg": "0.1.0", "torch": "2.14.1"},
        "hardware": {"cpu": "a processor", "cores": 2, "memory_gb": 16.0, "device": "cpu"},
        "commit": "0123abc",
        "parameters": 1234567,
        **more,
    }
    (run / "run.json").write_text(json.dumps(info))


def _table(run: Path, columns: Sequence[str], rows: Iterable[Sequence[float]]) -> None:
    with (run / "metrics.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def _pictures(folder: Path, name: str, **kinds: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    for kind, values in kinds.items():
        Image.fromarray(values).save(folder / f"{name}_{kind}.png")
