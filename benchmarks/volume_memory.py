"""Peak memory of the prediction of a large volume, imports included.

    python benchmarks/volume_memory.py [--shape 512 512 400] [--window 64 64 64] [--classes 3] [--gb 4]

A generated NIfTI file is segmented by ``predict_folder`` in a separate process, with a network of one convolution, so
that the arrays of the prediction are measured and not a network's feature maps. Ends with 1 above the limit.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
import torch
from torch import nn

from maeseg.cli import tune_allocator
from maeseg.data.normalization import Normalization
from maeseg.labels.classes import Classes
from maeseg.models.network_spec import NetworkSpec
from maeseg.prediction.backends import TorchBackend
from maeseg.prediction.segmenter import Segmenter

SPACING = (0.8, 0.8, 1.0)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 400), help="voxels of the volume")
    parser.add_argument("--window", type=int, nargs=3, default=(64, 64, 64), help="size that the network takes")
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument(
        "--spacing", type=float, nargs=3, default=SPACING, help=f"of the network; the volume's: {SPACING}"
    )
    parser.add_argument("--gb", type=float, default=4.0, help="limit in GB, 10^9 bytes")
    parser.add_argument("--probabilities", action="store_true", help="write them too")
    parser.add_argument("--predict", type=Path, help=argparse.SUPPRESS)  # the separate process
    return parser.parse_args()


def write_volume(path: Path, shape: tuple[int, int, int]) -> None:
    """Write a volume of 16 bits: a ball with a ball inside, and a pattern."""
    values = np.empty(shape, np.int16)
    axes = [(np.arange(side) - side / 2) / side for side in shape]
    plane = axes[1][:, None] ** 2 + axes[2] ** 2
    for depth, place in enumerate(axes[0]):
        squared = plane + place**2
        values[depth] = 300 * (squared < 0.16) + 600 * (squared < 0.03) + depth % 7
    nibabel.save(nibabel.Nifti1Image(values, np.diag([*SPACING, 1.0])), path)


def predict(given: argparse.Namespace) -> None:
    """Segment the volume, and print seconds and peak memory as JSON."""
    names = tuple(f"class {number}" for number in range(given.classes))
    colors = tuple((number, number, number) for number in range(given.classes))
    classes = Classes(names, tuple(range(given.classes)), colors)
    spec = NetworkSpec(
        "segmentation", "resenc", (), tuple(given.window), Normalization((0.0,), (1.0,)), classes,
        spacing=tuple(given.spacing),
    )  # fmt: skip
    torch.manual_seed(0)
    network = nn.Conv3d(1, given.classes, 1)
    segmenter, begin = Segmenter(TorchBackend(network, spec)), time.perf_counter()
    segmenter.predict_folder(given.predict, given.predict.parent / "out", probabilities=given.probabilities)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": round(time.perf_counter() - begin, 1), "peak_gb": round(peak / 1e9, 3)}))


def main() -> int:
    """Write the volume, segment it in another process, and compare with the limit."""
    given = arguments()
    if given.predict:
        tune_allocator()
        predict(given)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "large.nii.gz"
        write_volume(file, tuple(given.shape))
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--predict", str(file)], stdout=subprocess.PIPE, check=True
        )
    found = json.loads(done.stdout)
    print(f"{' x '.join(map(str, given.shape))} voxels, {given.classes} classes: {found}")
    return int(found["peak_gb"] > given.gb)


if __name__ == "__main__":
    sys.exit(main())
