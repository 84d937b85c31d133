"""Names of the files of a run folder, the interface between training, evaluation and report.

``config.yaml``      every option; running it again repeats the run
``run.json``         command, status, versions, hardware, reproducibility, wall time
``metrics.csv``      a row per epoch
``metrics.json``     the final figures
``validation.csv``   fine-tuning: scores of each validation image
``calibration.csv``  fine-tuning: predicted probabilities against labels
``confusion.csv``    fine-tuning with a class list: pixels by true and predicted class
``checkpoints/``     ``last.ckpt``; fine-tuning: ``best.ckpt`` (by validation IoU); ``previous.ckpt`` until the end
``nonfinite.json``   steps whose loss or gradient was not finite, if there were any
``examples/``        pictures of the same images in every run
``tensorboard/``     events
``images.csv``       every image by name and content with its split, and those that the initial weights were trained on
``skipped.csv``      images that were left out because they cannot be read, if there were any
``results.csv``      comparison: a row per run
``runs/``            comparison: a run folder for each run
``contrasts/``       comparison: pictures on which two networks differ most, and their list
``report.html``      the report
``evaluation-*.json``  figures of ``maeseg evaluate``

The module opens no file.
"""

from pathlib import Path

from maeseg.utils.atomic_io import UNFINISHED

CONFIG = "config.yaml"
FACTS = "run.json"
EPOCHS = "metrics.csv"
FIGURES = "metrics.json"
VALIDATION = "validation.csv"
CALIBRATION = "calibration.csv"
CONFUSION = "confusion.csv"
CHECKPOINTS = "checkpoints"
LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
NONFINITE = "nonfinite.json"
EXAMPLES = "examples"
TENSORBOARD = "tensorboard"
IMAGES = "images.csv"
SKIPPED = "skipped.csv"
RESULTS = "results.csv"
RUNS = "runs"
CONTRASTS = "contrasts"
CONTRAST_LIST = "contrasts.csv"
"""Name of the list in ``contrasts/``."""
REPORT = "report.html"
EVALUATION = "evaluation"
"""Prefix of the files that ``maeseg evaluate`` writes."""

_WRITTEN_BY_MAESEG = (
    CONFIG, FACTS, EPOCHS, FIGURES, VALIDATION, CALIBRATION, CONFUSION, CHECKPOINTS, NONFINITE, EXAMPLES, TENSORBOARD,
    IMAGES, SKIPPED, RESULTS, RUNS, CONTRASTS, REPORT, f"{EVALUATION}-*.json",
)  # fmt: skip


def is_written_by_maeseg(path: Path) -> bool:
    """Test by name for a file or folder of a run; a folder that has a foreign one is never deleted."""
    name = Path(path.name.removesuffix(UNFINISHED))
    return any(map(name.match, _WRITTEN_BY_MAESEG))


def has_run(folder: Path) -> bool:
    """Test for a run folder."""
    return (folder / FACTS).is_file()


def run_of(weights: Path) -> Path:
    """Run folder of weights that are a run folder or a checkpoint file in one."""
    is_checkpoint = weights.parent.name == CHECKPOINTS or weights.is_file()
    return weights.parent.parent if is_checkpoint else weights
