"""How much faster is a convnet on visible patches than the same network masked densely, and are they equal?

Everything (``contenders.py`` lists it) is timed in turns within one run, so that a ratio compares like with like on a
drifting machine.
"""

import argparse
import copy
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import segmentation_models_pytorch as smp
import timm
import torch
from contenders import Case, Job, build_encoder, build_model, computed, contenders, reconstruct_emulated
from torch import Tensor, nn

from maeseg.cli import tune_allocator
from maeseg.models.unet import DECODER_CHANNELS
from maeseg.sparse import encode_visible
from maeseg.sparse.masked_dense import encode_masked_dense
from maeseg.sparse.matmul import linear_rows


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", nargs="+", default=["resnet50"], help="timm convnets")
    parser.add_argument("--image-size", type=int, default=224, help="side in pixels, a multiple of 32")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--mask-ratio", type=float, default=0.6)
    parser.add_argument(
        "--decoder-channels", nargs=5, type=int, default=DECODER_CHANNELS, help="widths, coarse to fine"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds, after one that warms up")
    parser.add_argument("--only", default="", help="time those whose name begins so, such as encoder")
    parser.add_argument("--memory", action="store_true", help="measure peak memory too, each in a process of its own")
    parser.add_argument("--spark", type=Path, help="a checkout of SparK's code, to be timed too (resnet50 only)")
    parser.add_argument("--parity", action="store_true", help="only compare values and gradients")
    return parser.parse_args()


def cpu() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def describe(device: str) -> None:
    """Print what the figures depend on."""
    versions = f"python {platform.python_version()}, torch {torch.__version__}, timm {timm.__version__}"
    print(f"{versions}, segmentation-models-pytorch {smp.__version__}")
    if device == "cuda":
        print(torch.cuda.get_device_name())
        return
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"{cpu()} ({capability}), {os.cpu_count()} cores, {torch.get_num_threads()} threads")
    if hasattr(os, "getloadavg"):
        print(f"load average {os.getloadavg()[0]:.1f} at the start")


def seconds(job: Job, device: str) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    job()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def stem_gradient(encoder: nn.Module) -> Tensor:
    """Gradient of the first convolution's weight."""
    stem = next(module for module in encoder.modules() if isinstance(module, nn.Conv2d))
    assert stem.weight.grad is not None
    return stem.weight.grad


def compare(encoder: nn.Module, images: Tensor, visible: Tensor) -> None:
    """Print the largest differences between the engine and the emulation."""
    other = copy.deepcopy(encoder)
    ours = computed(encode_visible(encoder, images, visible))
    theirs = computed(encode_masked_dense(other, images, visible))
    for module, features in ((encoder, ours), (other, theirs)):
        module.zero_grad()
        torch.stack([feature.square().mean() for feature in features]).sum().backward()
    feature = max(float((a - b).detach().abs().max()) for a, b in zip(ours, theirs, strict=True))
    largest = max(float(b.detach().abs().max()) for b in theirs)
    gradient, expected = stem_gradient(encoder), stem_gradient(other)
    difference = float((gradient - expected).abs().max())
    relative = difference / float(expected.abs().max())
    print(
        f"  {str(images.dtype).removeprefix('torch.')}: largest difference of a feature {feature:.1e} "
        f"(values up to {largest:.1f}), of the stem's gradient {difference:.1e} ({relative:.0e} relative)"
    )


def parity(case: Case) -> None:
    """Compare values and gradients in both precisions, and the reconstruction of the complete network."""
    encoder, images, visible = build_encoder(case), case.images(), case.visible()
    for dtype in (torch.float64, torch.float32):
        compare(encoder.to(dtype), images.to(dtype), visible)
    model = build_model(case)
    with torch.no_grad():
        difference = (model(images, visible) - reconstruct_emulated(model, images, visible)).abs().max()
    print(f"  complete network: largest difference of the reconstruction {float(difference):.1e}")


def peak_memory(build: Callable[[], Job], device: str) -> float:
    """GB that two runs of a job take at most, over what was there before; a fresh process calls it."""
    tune_allocator()
    job = build()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        job(), job()
        return (torch.cuda.max_memory_allocated() - before) / 1e9
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest so far
    job(), job()
    return resident("VmHWM") - before


def resident(field: str) -> float:
    """This process's memory in GB, from Linux: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith(field))


def measure(builders: dict[str, Callable[[], Job]], repeats: int, device: str) -> tuple[dict[str, list[float]], float]:
    """Seconds of every contender, in turns, and the highest GFLOP/s that a matrix product reached meanwhile."""
    jobs = {name: build() for name, build in builders.items()}
    factor = torch.randn(2048, 2048, device=device)
    times: dict[str, list[float]] = {name: [] for name in jobs}
    peak = 0.0
    for turn in range(repeats + 1):
        for product in (torch.matmul, linear_rows):  # on a CPU, MKL and oneDNN
            peak = max(peak, 2 * 2048**3 / seconds(partial(product, factor, factor), device) / 1e9)
        for name, job in jobs.items():
            elapsed = seconds(job, device)
            if turn:  # the first round warms up
                times[name].append(elapsed)
    return times, peak


def report(times: dict[str, list[float]], memory: dict[str, float]) -> None:
    """Print medians, spreads, and ratios taken round by round."""
    print(f"{'seconds':28}{'median':>8}   {'min .. max':16}{'emulated takes':>24}{'peak GB' if memory else '':>10}")
    for name, values in times.items():
        reference = times.get(name.partition(",")[0] + ", emulated", values)
        ratios = [theirs / ours for theirs, ours in zip(reference, values, strict=True)]
        spread = f"{min(values):.3f} .. {max(values):.3f}"
        ratio = f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} .. {max(ratios):.2f})"
        took = f"{memory[name]:10.2f}" if memory else ""
        print(f"{name:28}{statistics.median(values):8.3f}   {spread:16}{ratio:>24}{took}")


def main() -> None:
    """Run the benchmark."""
    options = arguments()
    tune_allocator()  # as the command line does, for every contender alike
    describe(options.device)
    torch.manual_seed(0)
    # SparK's code, once imported, has put networks of its own under timm's names
    for encoder in sorted(options.encoder, key=lambda name: bool(options.spark) and name == "resnet50"):
        widths = tuple(options.decoder_channels)
        case = Case(encoder, options.image_size, options.batch_size, options.mask_ratio, options.device, widths)
        seen = case.visible()[0]
        share = f"{int(seen.sum())} of {seen.numel()} patches visible"
        print(f"\n{encoder}: {case.batch_size} images of {case.image_size} px, {share}, decoder {widths}")
        parity(case)
        if options.parity:
            continue
        spark = options.spark if encoder == "resnet50" else None
        builders = {name: build for name, build in contenders(case, spark).items() if name.startswith(options.only)}
        memory = {}
        if options.memory:
            for name, build in builders.items():
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    memory[name] = pool.apply(peak_memory, (build, options.device))
        times, peak = measure(builders, options.repeats, options.device)
        report(times, memory)
        print(f"median of {options.repeats} rounds; a ratio is the median of each round's own; ", end="")
        print(f"matrix product of 2048 x 2048, best: {peak:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
