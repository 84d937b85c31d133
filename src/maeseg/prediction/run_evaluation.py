"""Evaluation of a fine-tuned run on a data set, and its JSON file."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from maeseg.data.bad_images import refuse_other_classes
from maeseg.data.class_labels import check_border
from maeseg.data.data_option import describe
from maeseg.data.sources.base import Source, open_source
from maeseg.data.volumes.source import is_volumes
from maeseg.errors import UserError, reason
from maeseg.metrics.segmentation import SegmentationMetrics
from maeseg.models.network_spec import NetworkSpec
from maeseg.models.volume_networks import AXES
from maeseg.prediction.evaluated_images import Measured, SplitName, choose_measured
from maeseg.prediction.evaluation import evaluate_segmenter
from maeseg.prediction.output_files import free_file
from maeseg.prediction.segmenter import segmenter_of
from maeseg.runs.checkpoint import read_checkpoint
from maeseg.runs.layout import EVALUATION, run_of
from maeseg.types import BorderRule, Data
from maeseg.utils.atomic_io import write_json
from maeseg.utils.progress import show_progress


@dataclass(frozen=True)
class RunEvaluation:
    """Result of an evaluation.

    Attributes:
        folder: Folder of the run.
        checkpoint: File of the network.
        data: Name of the data.
        figures: Figures over all images, their border rule and split, and facts about the images.
        per_image: Figures of each image, and its ``file``.
    """

    folder: Path
    checkpoint: Path
    data: str
    figures: dict[str, Any]
    per_image: list[dict[str, Any]]

    def save(self, out: Path | None) -> None:
        """Write the result as JSON.

        Args:
            out: The file; None for a free name in the run folder.

        Raises:
            UserError: The file cannot be written.
        """
        content = {
            **self.figures, "data": self.data, "checkpoint": str(self.checkpoint), "per_image": self.per_image,
        }  # fmt: skip
        name = f"{EVALUATION}-{self.figures['split']}-{self.figures['border']}"
        path = out or free_file(self.folder, name, content)
        try:
            write_json(path, content)
        except OSError as error:
            raise UserError(f"--out {path} cannot be written ({reason(error)}): give another file") from error


def evaluate_run(
    run: Path, data: Data, split: SplitName | None, border: BorderRule | None, checkpoint: Literal["best", "last"]
) -> RunEvaluation:
    """Measure the network of a finetune run; nothing is written.

    Args:
        run: The run folder.
        data: Data to measure on.
        split: Part of the data; None for the default of :func:`choose_measured`.
        border: Meaning of a border pixel of a label; None for that of training.
        checkpoint: The best by validation IoU, or the last.

    Raises:
        UserError: The run or the data cannot be used.
    """
    saved = read_checkpoint(run, checkpoint)
    segmenter, spec = segmenter_of(saved), saved.spec
    rule: BorderRule = border or saved.data.border
    check_border(rule, spec.classes)
    named, folder = describe(data), run_of(run)
    measured = choose_measured(folder, named, split, partial(_open_data, data, spec), spec.normalization.largest)
    progress = partial(show_progress, description=f"evaluating {measured.in_words(named)}")
    metrics = evaluate_segmenter(segmenter, measured.source, measured.indices, rule, progress)
    names = [measured.source.file(index) for index in measured.indices]
    per_image = [{"file": name, **image} for name, image in zip(names, metrics.per_image(), strict=True)]
    return RunEvaluation(folder, saved.path, named, _figures(metrics, rule, measured, named), per_image)


def _open_data(data: Data, spec: NetworkSpec, test: bool) -> Source:
    """Labeled images or volumes of a network's classes; with ``test`` the official test split."""
    channels, classes = spec.normalization.channels, spec.classes
    volumes = spec.axes == AXES
    source = open_source(data, labeled=True, test=test, channels=channels, classes=classes, volumes=volumes)
    if is_volumes(source) != volumes:
        kinds = ("images", "volumes") if volumes else ("volumes", "images")
        raise UserError(f"--data {describe(data)} has {kinds[0]}, and the network was trained on {kinds[1]}: give such")
    refuse_other_classes(source, classes)
    return source


def _figures(metrics: SegmentationMetrics, rule: BorderRule, measured: Measured, data: str) -> dict[str, Any]:
    figures: dict[str, Any] = {
        **metrics.compute(),
        "border": rule,
        "split": measured.split,
        "images": len(measured.indices),
        "trained_on": measured.trained_on,
        "measured": measured.in_words(data),
    }
    if classes := metrics.per_class():
        figures["classes"] = classes
    return figures
