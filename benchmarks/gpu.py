"""Everything about pre-training on a GPU in one run of minutes: time, memory, kernels and waits of encoders and steps.

    python benchmarks/gpu.py [--spark PATH] [--json FILE]
    python benchmarks/gpu.py --device cpu --small              # to try the script

Mixed precision in bfloat16, channels-last, TF32 where single precision remains, cudnn.benchmark. A job named "graph"
has its encoder as a CUDA graph, as with --compile. Each job is warmed up; times are medians in milliseconds, and all
jobs of an encoder are timed in turns. Kernels and waits are counted by torch.profiler in one call; a wait is a
synchronization of the CPU with the device. SparK's code is run in the same mixed precision, with its own decoder.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from contenders import Case, Job, encode_dense, encoder_job, graph_job, spark_job, step_job
from torch.profiler import ProfilerActivity, profile

from maeseg.errors import UserError
from maeseg.sparse import encode_visible
from maeseg.sparse.masked_dense import encode_masked_dense

ENCODERS = ("resnet50", "resnet18", "convnext_tiny")
SPARK_ENCODER = "resnet50"
PACKAGES = ("torch", "triton", "timm", "segmentation-models-pytorch", "maeseg")
WAITS = {
    "cuda": ("cudaStreamSynchronize", "cudaEventSynchronize"),
    "cpu": ("aten::_local_scalar_dense", "aten::nonzero"),
}
REFERENCE = {"encoder": "encoder, dense", "step": "step, SparK"}


@dataclass
class Figures:
    """What was measured of a job; None for what cannot be on the device.

    Attributes:
        milliseconds: Median time of a call.
        fastest: Shortest time of a call.
        slowest: Longest time of a call.
        gigabytes: Peak of the device's memory in a call, weights included.
        kernels: Kernels that a call launches, those of a CUDA graph not counted; on a CPU calls of operators.
        waits: Times that the CPU waits for the device; on a CPU calls that would wait for one.
    """

    milliseconds: float
    fastest: float
    slowest: float
    gigabytes: float | None
    kernels: int
    waits: int


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument("--encoder", nargs="+", default=list(ENCODERS), help="timm convnets")
    parser.add_argument("--image-size", type=int, default=224, help="side in pixels, a multiple of 32")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--mask-ratio", type=float, default=0.6)
    parser.add_argument("--repeats", type=int, default=10, help="timed rounds")
    parser.add_argument("--small", action="store_true", help="one tiny encoder, few small images, one round")
    parser.add_argument("--spark", type=Path, help="a checkout of SparK's code, to be timed too (resnet50 only)")
    parser.add_argument("--json", type=Path, default=Path("bench-gpu.json"), help="file to write")
    return parser.parse_args()


def environment(device: str) -> dict[str, str]:
    """Versions and names that the figures depend on."""
    found = {"python": platform.python_version(), "device": device}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except ImportError:
            found[package] = "unknown"
    if device == "cuda":
        found |= {"device": torch.cuda.get_device_name(), "cuda": str(torch.version.cuda)}
    return found


def jobs_of(case: Case, checkout: Path | None) -> dict[str, Callable[[], Job]]:
    """Builders of what is timed of an encoder, by name."""
    builders: dict[str, Callable[[], Job]] = {
        "encoder, visible patches": lambda: encoder_job(encode_visible, case),
        "encoder, masked dense": lambda: encoder_job(encode_masked_dense, case),
        "encoder, dense": lambda: encoder_job(encode_dense, case),
        "step, complete image": lambda: step_job(case),
        "step, 4 x 4 window": lambda: step_job(case, window=4),
        "step, masked dense": lambda: step_job(case, emulated=True),
    }
    if case.device == "cuda":
        builders["encoder, graph"] = lambda: graph_job(case)
        builders["step, 4 x 4 window, graph"] = lambda: step_job(case, window=4, graph=True)
    if checkout:  # last: it registers networks of its own under timm's names
        builders["step, SparK"] = lambda: spark_job(checkout, case)
    return builders


def in_bfloat16(job: Job, device: str) -> Job:
    """Run a job in mixed precision."""

    def run() -> None:
        with torch.autocast(device, torch.bfloat16):
            job()

    return run


def wait(device: str) -> None:
    """Wait for the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def milliseconds(job: Job, device: str) -> float:
    """Wall time of one call."""
    wait(device)
    start = time.perf_counter()
    job()
    wait(device)
    return 1000 * (time.perf_counter() - start)


def peak_memory(job: Job, device: str) -> float | None:
    """GB of the device's memory at most in a call."""
    if device != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    job()
    wait(device)
    return torch.cuda.max_memory_allocated() / 1e9


def count(job: Job, device: str) -> tuple[int, int]:
    """Kernels that a call launches (on a CPU calls of operators), and times that the CPU waits for the device."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    wait(device)
    with profile(activities=activities) as profiler:
        job()
    events = profiler.events() or []
    names = [event.name for event in events]
    waits = sum(name.startswith(WAITS[device]) for name in names)
    if device != "cuda":
        return sum(name.startswith("aten::") for name in names), waits
    launches = ("cudaLaunchKernel", "cuLaunchKernel")
    return sum(name.startswith(launches) for name in names), waits


def measure(builders: dict[str, Callable[[], Job]], repeats: int, device: str) -> dict[str, Figures]:
    """Measure every job; memory with no other job alive, times in turns."""
    memory = {}
    for name, build in builders.items():
        try:
            job = in_bfloat16(build(), device)
            job()
        except UserError as error:  # a CUDA graph that cannot be captured
            print(f"{name}: {error}")
            continue
        memory[name] = peak_memory(job, device)
        del job
        if device == "cuda":
            torch.cuda.empty_cache()
    jobs = {name: in_bfloat16(build(), device) for name, build in builders.items() if name in memory}
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(repeats + 2):
        for name, job in jobs.items():
            elapsed = milliseconds(job, device)
            if turn > 1:  # the first rounds compile and allocate
                times[name].append(elapsed)
    return {
        name: Figures(statistics.median(times[name]), min(times[name]), max(times[name]), memory[name],
                      *count(job, device))
        for name, job in jobs.items()
    }  # fmt: skip


def ratio(name: str, figures: dict[str, Figures]) -> float | None:
    """Time of the reference relative to that of a job; None without one."""
    reference = figures.get(REFERENCE[name.partition(",")[0]])
    return reference.milliseconds / figures[name].milliseconds if reference else None


def report(figures: dict[str, Figures]) -> None:
    """Print a table."""
    print(f"{'':26}{'ms':>9}   {'min .. max':20}{'reference / ms':>15}{'peak GB':>9}{'kernels':>9}{'waits':>7}")
    for name, each in figures.items():
        spread, times = f"{each.fastest:.1f} .. {each.slowest:.1f}", ratio(name, figures)
        relative = "-" if times is None else f"{times:.2f}x"
        memory = "-" if each.gigabytes is None else f"{each.gigabytes:.2f}"
        print(
            f"{name:26}{each.milliseconds:9.1f}   {spread:20}{relative:>15}{memory:>9}{each.kernels:9d}{each.waits:7d}"
        )


def main() -> None:
    """Run the benchmark."""
    options = arguments()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("benchmarks/gpu.py: no CUDA device is available; to try the script, give --device cpu --small")
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    case = Case(ENCODERS[0], options.image_size, options.batch_size, options.mask_ratio, options.device)
    encoders, repeats = options.encoder, options.repeats
    if options.small:
        encoders, repeats = ["test_resnet"], 1
        case = replace(case, image_size=64, batch_size=2, decoder_channels=(16, 8, 8, 8, 8))
    about = environment(options.device)
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    results: dict[str, Any] = {}
    start = time.perf_counter()
    for encoder in sorted(encoders, key=SPARK_ENCODER.__eq__):  # SparK's code comes last
        each = replace(case, encoder=encoder)
        print(f"\n{encoder}: {each.batch_size} images of {each.image_size} px, mask ratio {each.mask_ratio}, bfloat16")
        figures = measure(jobs_of(each, options.spark if encoder == SPARK_ENCODER else None), repeats, options.device)
        report(figures)
        results[encoder] = {name: {**asdict(row), "ratio": ratio(name, figures)} for name, row in figures.items()}
    options.json.write_text(json.dumps({"environment": about, "case": asdict(case), "results": results}, indent=1))
    print(
        f"\nreference: the dense encoder; SparK's step. {time.perf_counter() - start:.0f} s; figures in {options.json}"
    )


if __name__ == "__main__":
    main()
