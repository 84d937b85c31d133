"""Images that loaders give in a second, for pre-training and for fine-tuning: from files, and from decoded images.

    python benchmarks/loading.py --data oxford-pet:ROOT
    python benchmarks/loading.py --data oxford-pet:ROOT --before CHECKOUT    # an earlier version of maeseg too

Each contender runs in processes of its own, in turns; a process warms up with one epoch and measures the next. Printed
are medians of the ratio to the first contender, with their range. Quote these, not images per second.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SIZE, BATCHES = (128, 128), {"pretrain": 32, "finetune": 16}
ROOT = Path(__file__).resolve().parent.parent


def measure(data: str, task: str, workers: int, cached: bool, images: int) -> float:
    """Images per second of the second epoch."""
    import torch

    from maeseg.data.loaders import PretrainData, SegmentData
    from maeseg.data.sources.base import open_source
    from maeseg.data.splits import Split

    torch.set_num_threads(1)
    source: Any = open_source(data, labeled=task == "finetune")
    chosen = tuple(range(min(images, len(source))))
    if cached:
        source = decoded(source, chosen)
    loaded: Any
    if task == "pretrain":
        loaded = PretrainData(source, Split(chosen, chosen[:1]), SIZE, BATCHES[task], workers, 0)
    else:
        loaded = SegmentData(source, chosen, chosen[:1], SIZE, BATCHES[task], workers, 0, None)
    sampler = loaded.sampler()
    loader = loaded.train_loader(sampler)
    for epoch in range(2):
        sampler.begin(epoch)
        began = time.perf_counter()
        count = sum(len(batch if task == "pretrain" else batch[0]) for batch in loader)
    return count / (time.perf_counter() - began)


def decoded(source: Any, chosen: tuple[int, ...]) -> Any:
    """The source with its images in memory."""
    from maeseg.data.image_cache import ImageCache
    from maeseg.data.part import Part
    from maeseg.data.survey import survey

    part = Part(source, chosen, survey(source, chosen).facts)
    cache = ImageCache([part])
    cache.fill(workers=0)
    return cache.over(part).source


def measure_in_a_process(options: argparse.Namespace, root: Path, task: str, workers: int, cached: bool) -> float:
    """Images per second of a version of maeseg."""
    words = [sys.executable, __file__, "--data", options.data, "--images", str(options.images), "--one", task]
    words += ["--workers", str(workers), *(["--cached"] if cached else [])]
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def compare(options: argparse.Namespace, task: str, workers: int) -> None:
    """Measure every contender in turns, and print its ratios to the first one."""
    contenders = {"decoded in memory": (ROOT, True), "from files": (ROOT, False)}
    if options.before:
        contenders = {"before": (options.before, False), **contenders}
    else:
        contenders = dict(reversed(contenders.items()))
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(options.repeats):
        for name, (root, cached) in contenders.items():
            found[name].append(measure_in_a_process(options, root, task, workers, cached))
    first = next(iter(found.values()))
    for name, rates in found.items():
        ratios = [rate / base for rate, base in zip(rates, first, strict=True)]
        spread = f"{min(ratios):.2f} .. {max(ratios):.2f}"
        rate = statistics.median(rates)
        print(f"{task:9} {workers} workers  {name:18} {statistics.median(ratios):5.2f}  ({spread})  {rate:7.0f} /s")


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="labeled images, as for maeseg finetune")
    parser.add_argument("--before", type=Path, help="checkout of an earlier version")
    parser.add_argument("--images", type=int, default=640, help="images of an epoch")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", choices=BATCHES, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--cached", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(measure(options.data, options.one, options.workers, options.cached, options.images))
        return
    print(f"{options.images} images of {options.data} at {SIZE[0]} x {SIZE[1]}, load average {os.getloadavg()[0]:.1f}")
    for task in BATCHES:
        for workers in (0, 2):
            compare(options, task, workers)


if __name__ == "__main__":
    main()
