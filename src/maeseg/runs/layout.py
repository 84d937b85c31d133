"""Names of the files of a run folder, the interface between training, evaluation and report.

``config.yaml``      every option; running it again repeats the run
``run.json``         command, status, versions, hardware, reproducibility, wall time
``metrics.csv``      a row per epoch
``metrics.json``     the final figures
``validation.csv``   fine-tuning: scores of each validation image
``calibration.csv``  fine-tuning: predicted probabilities against labels
``validation-equal-steps.csv``  the same before a comparison lengthened the run
``confusion.csv``    fine-tuning with a class list: pixels by true and predicted class
``checkpoints/``     ``last.ckpt``; fine-tuning: ``best.ckpt`` (by validation IoU); ``previous.ckpt`` until the end
``nonfinite.json``   steps whose loss or gradient was not finite, if there were any
``examples/``        pictures of the same images in every run
``tensorboard/``     events
``cache/``           decoded images of ``--cache disk``, until the end
``images.csv``       every image by name and content with its split, and those that the initial weights were trained on
``skipped.csv``      images that were left out because they cannot be read, if there were any
``results.csv``      comparison: a row per run, and a second one for a run that was lengthened
``runs/``            comparison: a run folder for each run
``contrasts/``       comparison: pictures on which two networks differ most, and their list
``report.html``      the report
``evaluation-*.json``  figures of ``maeseg evaluate``

The module opens no file.
"""

from pathlib import Path

CONFIG = "config.yaml"
FACTS = "run.json"
EPOCHS = "metrics.csv"
FIGURES = "metrics.json"
VALIDATION = "validation.csv"
VALIDATION_BEFORE = "validation-equal-steps.csv"
CALIBRATION = "calibration.csv"
CONFUSION = "confusion.csv"
CHECKPOINTS = "checkpoints"
LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
CACHE = "cache"
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

_FILES = (
    CONFIG, FACTS, EPOCHS, FIGURES, VALIDATION, VALIDATION_BEFORE, CALIBRATION, CONFUSION, NONFINITE, IMAGES, SKIPPED,
    RESULTS, REPORT, f"{EVALUATION}-*.json",
)  # fmt: skip
_FILES_IN: dict[str, tuple[str, ...]] = {
    CHECKPOINTS: (LAST, PREVIOUS, BEST),
    CACHE: ("*.images",),
    EXAMPLES: ("[0-9][0-9]_*.png", "legend.png"),
    TENSORBOARD: ("events.out.tfevents.*",),
    CONTRASTS: (CONTRAST_LIST, "*-against-*_*.png"),
}


def is_written_by_maeseg(file: Path) -> bool:
    """Test by name for a file of a run.

    Args:
        file: Path relative to the run folder.
    """
    folder = file.parent.as_posix()
    names = _FILES if folder == "." else _FILES_IN.get(folder, ())
    return any(map(Path(file.name).match, names))


def has_run(folder: Path) -> bool:
    """Test for a run folder."""
    return (folder / FACTS).is_file()


def run_of(weights: Path) -> Path:
    """Run folder of weights that are a run folder or a checkpoint file in one."""
    is_checkpoint = weights.parent.name == CHECKPOINTS or weights.is_file()
    return weights.parent.parent if is_checkpoint else weights
