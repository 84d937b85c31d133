"""The real command line on tiny networks and few images."""

import re
from pathlib import Path

import torch
from torch import Tensor

from maeseg.cli import main
from maeseg.data.bad_images import contents_of
from maeseg.data.sources.base import Source
from maeseg.data.splits import Split, draw_split
from maeseg.data.survey import survey

DATA = "synthetic:24"
WIDTHS = [32, 16, 16, 8, 8]
NETWORK = ("--encoder", "test_resnet", "--image_size", "64", "--decoder_channels", str(WIDTHS))
VAL = 5  # images that validate; 19 train
TRAINING = ("--data", DATA, "--val", str(VAL), "--batch_size", "8", "--workers", "0", "--accelerator", "cpu")


def maeseg(*words: object) -> int:
    """Run a command line; returns its exit code."""
    return main([str(word) for word in words])


def contents(source: Source) -> tuple[str, ...]:
    """Digest of each image's content."""
    return contents_of(source, survey(source))


def split_of(source: Source, val: int | float = VAL, test: int | float = 0) -> Split:
    """The split of a source that has no groups or parts."""
    return draw_split(dict(enumerate(contents(source))), val, test)


def pretrain(out: Path, *more: object) -> int:
    """Pre-train for two epochs, unless told otherwise."""
    return maeseg("pretrain", "--out", out, *NETWORK, *TRAINING, "--epochs", 2, *more)


def finetune(out: Path, weights: Path, *more: object) -> int:
    """Fine-tune for two epochs, unless told otherwise."""
    return maeseg("finetune", "--out", out, "--weights", weights, *TRAINING, "--epochs", 2, *more)


def files_in(folder: Path) -> set[str]:
    """Every file below a folder but its manifest; TensorBoard's, named after time and machine, by what they are."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    found = {name for name in found if ".maeseg" not in name.split("/")}
    return {re.sub(r"events\.out\..*", "events", name) for name in found}


def weights_of(run: Path, name: str = "last") -> dict[str, Tensor]:
    """The state dict in a run's checkpoint."""
    weights: dict[str, Tensor] = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
    return weights


def same_weights(one: Path, other: Path, name: str = "last") -> bool:
    """Whether two runs' checkpoints hold the same bits."""
    first, second = weights_of(one, name), weights_of(other, name)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def curves(run: Path) -> list[list[str]]:
    """metrics.csv as rows of cells, without the column of seconds."""
    rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    place = rows[0].index("seconds")
    return [row[:place] + row[place + 1 :] for row in rows]
