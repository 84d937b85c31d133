"""A pre-training encoder's time against mask ratio, batch size and image size: a table and a figure.

On visible patches the time falls with what is visible; masked densely it does not.
"""

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from contenders import Case, contenders
from matplotlib.figure import Figure
from pretrain_step import describe, measure

from maeseg.cli import tune_allocator

SWEEPS: dict[str, Sequence[Any]] = {
    "mask_ratio": (0.3, 0.5, 0.6, 0.75, 0.9),
    "batch_size": (2, 4, 8, 16),
    "image_size": (96, 128, 160, 224),
}
NAMES = ("encoder, visible patches", "encoder, emulated", "encoder, dense")


def main() -> None:
    """Run the sweep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="resnet50")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--figure", type=Path, help="write a PNG")
    options = parser.parse_args()
    tune_allocator()
    describe(options.device)
    torch.manual_seed(0)
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    for axes, (option, values) in zip(figure.subplots(1, len(SWEEPS)), SWEEPS.items(), strict=True):
        medians: dict[str, list[float]] = {name: [] for name in NAMES}
        for value in values:
            case = replace(Case(options.encoder, device=options.device), **{option: value})
            builders = {name: build for name, build in contenders(case).items() if name in NAMES}
            times, _ = measure(builders, options.repeats, options.device)
            for name in NAMES:
                medians[name].append(statistics.median(times[name]))
            print(f"{option} {value}: " + ", ".join(f"{name} {medians[name][-1]:.3f} s" for name in NAMES))
        for name in NAMES:
            axes.plot(values, medians[name], marker="o", label=name.removeprefix("encoder, "))
        axes.set_xlabel(option.replace("_", " "))
        axes.set_ylabel("seconds, forward + backward")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    axes.legend()
    if options.figure:
        figure.savefig(options.figure, dpi=120)


if __name__ == "__main__":
    main()
