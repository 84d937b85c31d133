"""A network of volumes whose answer is known, run folders of volumes, and NIfTI files."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from maeseg.data.normalization import Normalization
from maeseg.labels.classes import BINARY, Classes
from maeseg.models.network_spec import NetworkSpec
from maeseg.prediction.backends import TorchBackend
from maeseg.prediction.segmenter import Segmenter
from maeseg.runs.checkpoint import FACTS
from maeseg.runs.training_facts import TrainingFacts

THREE = Classes(("background", "front", "back"), (0, 1, 4), ((0, 0, 0), (255, 0, 0), (0, 255, 0)))


class BrightIsForeground(nn.Module):
    """The logit is the normalized intensity, times 4; with classes, the last one is the brightest.

    Attributes:
        sizes: Shape of every batch it was given.
    """

    def __init__(self, maps: int = 1) -> None:
        super().__init__()
        self.scale = nn.Parameter(4 * torch.arange(1, maps + 1).float())
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, volumes_BCDHW: Tensor) -> Tensor:
        self.sizes.append(tuple(volumes_BCDHW.shape))
        return volumes_BCDHW[:, :1] * self.scale.view(-1, 1, 1, 1)


def volume_spec(
    size: tuple[int, int, int] = (8, 8, 8), spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    classes: Classes = BINARY,
) -> NetworkSpec:  # fmt: skip
    """Description of a network of volumes of one channel."""
    return NetworkSpec("segmentation", "resenc", (), size, Normalization((0.0,), (1.0,)), classes, spacing=spacing)


def bright_segmenter(spec: NetworkSpec) -> Segmenter:
    """Segmenter of bright voxels."""
    return Segmenter(TorchBackend(BrightIsForeground(spec.classes.maps), spec))


def ball(shape: tuple[int, int, int], center: tuple[float, float, float], radius: float) -> NDArray[np.uint8]:
    """A ball of 1 in a volume of 0."""
    grid = np.indices(shape) - np.array(center).reshape(3, 1, 1, 1)
    squared: NDArray[np.float64] = np.square(grid).sum(0)
    return (squared <= radius**2).astype(np.uint8)


def write_nifti(path: Path, values: NDArray[np.generic], affine: NDArray[np.float64] | None = None) -> None:
    """Save an array as it is, with an affine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image: Any = nibabel.Nifti1Image
    nibabel.save(image(values, np.eye(4) if affine is None else affine), path)


def stored(path: Path) -> NDArray[Any]:
    """Values of a NIfTI file on its own axes."""
    return np.asanyarray(opened(path).dataobj)


def opened(path: Path) -> Any:
    """NIfTI file as nibabel opens it."""
    return nibabel.load(path)


def write_run(run: Path, network: nn.Module, facts: TrainingFacts) -> Path:
    """Write the folder of a finished training run that ``predict``, ``evaluate`` and ``reconstruct`` read."""
    (run / "checkpoints").mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"verb": facts.verb, "status": "finished"}))
    for name in ("best", "last"):
        content = {FACTS: facts.to_dict(), "state_dict": network.state_dict(), "epoch": 0}
        torch.save(content, run / "checkpoints" / f"{name}.ckpt")
    return run
