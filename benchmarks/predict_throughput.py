"""Throughput of ``maeseg.predict`` in images per second, against a plain loop of segmentation-models-pytorch.

    python benchmarks/predict_throughput.py --images FOLDER [--run RUN]

Both sides load the same network from the same run and write a label of every image, untiled, at its own size, no
overlays; the time includes all of that. Each runs in a separate process, maeseg with the allocator settings of the
command line. They are timed in turns, so that the ratio is not biased by a drift of the machine's speed.
"""

import argparse
import contextlib
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from pretrain_step import describe

import maeseg
from maeseg.cli import tune_allocator
from maeseg.data.image_files import list_files
from maeseg.runs.checkpoint import read_checkpoint, restore_unet
from maeseg.types import PredictPrecision

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
Job = Callable[[Path, Path, Path], object]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs, at any depth")
    parser.add_argument("--count", type=int, help="take the first so many of them")
    parser.add_argument("--run", type=Path, help="a finetune run; by default one that was trained for a single step")
    parser.add_argument("--encoder", default="resnet18", help="of that one: a timm convnet")
    parser.add_argument("--image-size", type=int, default=224, help="of that one: side in pixels")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds, after one that warms up")
    return parser.parse_args()


def plain_loop(run: Path, images: Path, out: Path) -> None:
    """What one writes with segmentation-models-pytorch and an evening: every image after the other."""
    saved = read_checkpoint(run, "best")
    unet, (height, width) = restore_unet(saved).eval(), saved.spec.size
    out.mkdir()
    for name in list_files(images):
        with Image.open(images / name) as opened:
            image = opened.convert("RGB")
        resized = np.array(image.resize((width, height), Image.Resampling.BILINEAR))
        normalized = ((torch.from_numpy(resized) / 255 - MEAN) / STD).permute(2, 0, 1)
        with torch.inference_mode():
            probability = unet(normalized[None]).sigmoid()
            probability = F.interpolate(probability, (image.height, image.width), mode="bilinear")[0, 0]
        label = (probability > 0.5).to(torch.uint8) * 255
        Image.fromarray(label.numpy()).save((out / name.name).with_suffix(".png"))


def ours(precision: PredictPrecision, run: Path, images: Path, out: Path) -> None:
    """What ``maeseg predict`` does."""
    maeseg.predict(run=str(run), images=str(images), out=str(out), tile=0, overlays=False, precision=precision)


CONTENDERS: dict[str, tuple[Job, Callable[[], object] | None]] = {
    "plain loop": (plain_loop, None),
    "maeseg": (partial(ours, "32-true"), tune_allocator),
    "maeseg, bf16-mixed": (partial(ours, "bf16-mixed"), tune_allocator),
}
"""What predicts a folder, and what its process does first."""


def seconds(job: Job, run: Path, images: Path, out: Path) -> float:
    """Wall time of one call, in the process that makes it."""
    start = time.perf_counter()
    job(run, images, out)
    return time.perf_counter() - start


def gather(images: Path, count: int | None, folder: Path) -> int:
    """Link the images into one folder, under numbers: what both sides read. Returns how many they are."""
    names = list(islice(list_files(images), count))
    for number, name in enumerate(names):
        (folder / f"{number:06d}{name.suffix}").symlink_to((images / name).resolve())
    return len(names)


def labels_in(folder: Path) -> dict[str, Path]:
    """Every label that was written, by its name."""
    return {file.name: file for file in folder.rglob("*.png")}


def agreement(one: Path, other: Path) -> float:
    """Share of pixels that have the same label, over all images."""
    theirs = labels_in(other)
    same = [
        np.asarray(Image.open(file)) == np.asarray(Image.open(theirs[name])) for name, file in labels_in(one).items()
    ]
    return float(sum(each.sum() for each in same) / sum(each.size for each in same))


def measure(run: Path, repeats: int, folder: Path) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of every contender, in turns, and how far the labels of each agree with the first one's."""
    times: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    agrees: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        spawn = multiprocessing.get_context("spawn")
        processes = {
            name: stack.enter_context(spawn.Pool(1, initializer=prepare)) for name, (_, prepare) in CONTENDERS.items()
        }
        for turn in range(repeats + 1):
            outputs = {name: folder / f"{turn}-{place}" for place, name in enumerate(CONTENDERS)}
            for name, (job, _) in CONTENDERS.items():
                elapsed = processes[name].apply(seconds, (job, run, folder / "images", outputs[name]))
                if turn:  # the first round warms up
                    times[name].append(elapsed)
            if not turn:
                agrees = {name: agreement(output, outputs["plain loop"]) for name, output in outputs.items()}
    return times, agrees


def report(times: dict[str, list[float]], agrees: dict[str, float], count: int) -> None:
    """Print medians, spreads, and ratios taken round by round."""
    print(f"\n{'images a second':22}{'median':>8}   {'min .. max':16}{'times the plain loop':>24}{'same labels':>14}")
    for name, values in times.items():
        rates = [count / value for value in values]
        ratios = [theirs / ours for theirs, ours in zip(times["plain loop"], values, strict=True)]
        spread = f"{min(rates):.2f} .. {max(rates):.2f}"
        ratio = f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} .. {max(ratios):.2f})"
        print(f"{name:22}{statistics.median(rates):8.2f}   {spread:16}{ratio:>24}{agrees[name]:>14.4%}")


def main() -> None:
    """Run the benchmark."""
    options = arguments()
    describe("cpu")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "images").mkdir()
        count = gather(options.images, options.count, folder / "images")
        run = options.run or folder / "run"
        if not options.run:
            maeseg.finetune(
                data="synthetic:8", out=str(run), encoder=options.encoder, image_size=options.image_size, epochs=1,
                steps_per_epoch=1, batch_size=4, workers=0, accelerator="cpu",
            )  # fmt: skip
        pixels = [np.prod(Image.open(file).size) for file in (folder / "images").iterdir()]
        size = read_checkpoint(run, "best").spec.size
        print(f"{count} images of {np.median(pixels) / 1e6:.2f} megapixels (median), network at {size}")
        times, agrees = measure(run, options.repeats, folder)
    report(times, agrees, count)
    print(f"median of {options.repeats} rounds; a ratio is the median of each round's own")


if __name__ == "__main__":
    main()
