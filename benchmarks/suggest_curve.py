"""Do the images that ``maeseg suggest`` names teach a network more than random ones?

    python benchmarks/suggest_curve.py --data oxford-pet:ROOT --out OUT [--weights RUN]

Labeling is simulated: all labels are there, and a network is fine-tuned on those that it was given. Both sides begin
with the same random images of a seed; one is then given more random ones, the other those that its own network of the
round before asked for. Every fine-tuning takes the same number of steps. Repeat the command to go on where it stopped.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import maeseg
from maeseg.cli import tune_allocator
from maeseg.data.bad_images import contents_of
from maeseg.data.sources.base import Source, open_source
from maeseg.data.splits import draw_split, label_subset
from maeseg.data.survey import survey
from maeseg.runs.reader import read_finished

STRATEGIES = ("random", "suggested")
FIGURES = ("accuracy", "iou", "dice_loss")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="labeled data, as finetune takes it")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs, curve.json and curve.png")
    parser.add_argument("--weights", help="what every network starts from; scratch if left out")
    parser.add_argument("--labels", type=int, nargs="+", default=[32, 80, 160, 320], help="labels after each round")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--val", type=int, default=500, help="images that validate")
    parser.add_argument("--epochs", type=int, default=4, help="of each fine-tuning")
    parser.add_argument("--steps-per-epoch", type=int, default=100)
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--collect", action="store_true", help="run nothing: make the curve of what is there")
    return parser.parse_args()


def link(folder: Path, source: Source, indices: Sequence[int]) -> str:
    """A folder of links to images; made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for index in indices:
        image = source.places(index)[0][0]
        (folder / image.name).symlink_to(image.resolve())
    return str(folder)


def next_labels(
    asked: argparse.Namespace, source: Source, train: Sequence[int], have: Sequence[int], count: int, run: Path
) -> list[int]:
    """What the network of a run wants labeled beside the images that it has."""
    folder = run.parent / "asking"
    unlabeled = [index for index in train if index not in set(have)]
    images = maeseg.suggest(
        run=str(run),
        images=link(folder / "unlabeled", source, unlabeled),
        labeled=link(folder / "labeled", source, have),
        out=str(folder / "suggested"),
        count=count - len(have),
        overwrite=True,
    )
    place = {source.places(index)[0][0].name: index for index in train}
    return [*have, *(place[path.name] for path in images)]


def simulate(asked: argparse.Namespace, strategy: str, seed: int) -> None:
    """Fine-tune on more and more labels, chosen by a strategy."""
    source = open_source(asked.data, labeled=True)
    contents = contents_of(source, survey(source))
    train = draw_split(dict(enumerate(contents)), asked.val).train
    have: list[int] = []
    previous = asked.out
    for count in asked.labels:
        run = asked.out / f"{'both' if count == asked.labels[0] else strategy}-seed{seed}" / str(count)
        listing = run.parent / f"{count}.txt"
        if not listing.exists():
            if strategy == "random" or not have:
                have = list(label_subset(train, contents, count, seed))
            else:
                have = next_labels(asked, source, train, have, count, previous)
            listing.parent.mkdir(parents=True, exist_ok=True)
            listing.write_text("\n".join(source.file(index) for index in have))
        names = set(listing.read_text().splitlines())
        have = [index for index in train if source.file(index) in names]
        maeseg.finetune(
            data=asked.data, out=str(run), weights=asked.weights, labels=str(listing), val=asked.val, seed=seed,
            epochs=asked.epochs, steps_per_epoch=asked.steps_per_epoch, precision=asked.precision, workers=0,
            lr=5e-4, resume=True,
        )  # fmt: skip
        previous = run


def collect(asked: argparse.Namespace) -> None:
    """Write the curve as JSON and as a picture."""
    curve: dict[str, dict[str, dict[str, list[float]]]] = {}
    for strategy in STRATEGIES:
        for count in asked.labels:
            name = "both" if count == asked.labels[0] else strategy
            runs = [asked.out / f"{name}-seed{seed}" / str(count) for seed in asked.seeds]
            read = [read_finished(run)[0] for run in runs]
            curve.setdefault(strategy, {})[str(count)] = {key: [each[key] for each in read] for key in FIGURES}
    (asked.out / "curve.json").write_text(json.dumps(curve, indent=1))
    figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    for strategy, color in zip(STRATEGIES, ("tab:gray", "tab:orange"), strict=True):
        scores = np.array([curve[strategy][str(count)]["iou"] for count in asked.labels])
        axes.plot(asked.labels, scores.mean(1), marker="o", color=color, label=strategy)
        axes.plot(asked.labels, scores, marker=".", linestyle="", color=color, alpha=0.5)
    axes.set(xscale="log", xlabel="labels", ylabel="IoU on validation images")
    axes.set_xticks(asked.labels, [str(count) for count in asked.labels])
    axes.minorticks_off()
    axes.legend()
    figure.savefig(asked.out / "curve.png")
    for count in asked.labels:
        ours, theirs = (np.array(curve[each][str(count)]["iou"]) for each in reversed(STRATEGIES))
        print(f"{count:5d} labels: suggested {ours.mean():.3f}, random {theirs.mean():.3f}, differences", ours - theirs)


if __name__ == "__main__":
    asked = arguments()
    tune_allocator()
    if not asked.collect:
        for seed in asked.seeds:
            for strategy in STRATEGIES:
                simulate(asked, strategy, seed)
    collect(asked)
