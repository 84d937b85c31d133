"""How much faster are the encoders of volumes on visible blocks than the same networks masked densely?

Forward and backward in training mode, float32, timed in turns within one run: a ratio compares like with like on a
drifting machine. On a CPU the time is that of the processor, which other processes on the machine lengthen little.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from pretrain_step import describe
from torch import Tensor, nn

from maeseg.cli import tune_allocator
from maeseg.masking.visible import random_visible
from maeseg.models.volume_networks import VOLUME_NETWORKS, build_volume_network, volume_stride
from maeseg.sparse import encode_visible
from maeseg.sparse.masked_dense import encode_masked_dense

Job = Callable[[], object]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", nargs="+", choices=VOLUME_NETWORKS, default=["resenc", "vnet"])
    parser.add_argument("--image-size", type=int, nargs=3, default=(64, 64, 64), help="sides in voxels")
    parser.add_argument("--patch-size", type=int, nargs="+", default=[8, 16], help="sides of a patch in voxels")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--mask-ratio", type=float, default=0.7)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds, after one that warms up")
    parser.add_argument("--parity", action="store_true", help="only compare values and gradients")
    return parser.parse_args()


def seconds(job: Job, device: str) -> float:
    """Processor time of one call, or on a GPU wall time."""
    if device == "cuda":
        start = time.perf_counter()
        job()
        torch.cuda.synchronize()
        return time.perf_counter() - start
    start = time.process_time()
    job()
    return time.process_time() - start


def job_of(encode: Callable[..., Any], encoder: nn.Module, *inputs: Tensor) -> Job:
    """Forward and backward of an encoder, of half the sum of squares."""

    def job() -> None:
        encoder.zero_grad()
        maps = encode(encoder, *inputs)
        torch.autograd.backward(maps, [each.detach() for each in maps])

    return job


def parity(encoder: nn.Module, volumes: Tensor, visible: Tensor) -> None:
    """Print the largest differences between the engine and masked dense execution, in float64."""
    found: list[tuple[list[Tensor], list[Tensor]]] = []
    for encode in (encode_visible, encode_masked_dense):
        copied = copy.deepcopy(encoder).double()
        torch.manual_seed(1)  # dropout
        maps = encode(copied, volumes.double(), visible)
        torch.autograd.backward(maps, [each.detach() for each in maps])
        gradients = [weight.grad for weight in copied.parameters() if weight.grad is not None]
        found.append(([each.detach() for each in maps], gradients))
    for name, ours, theirs in zip(("map", "gradient"), *found, strict=True):
        largest = max(float(each.abs().max()) for each in theirs)
        difference = max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))
        print(f"  float64: largest difference of a {name} {difference:.0e}, values up to {largest:.2g}")


def compare(name: str, patch: int, options: argparse.Namespace) -> None:
    """Time one encoder at one patch side, and print medians and ratios."""
    torch.manual_seed(0)
    grid = [side // patch for side in options.image_size]
    visible = random_visible(options.batch_size, grid, options.mask_ratio)
    volumes = torch.randn(options.batch_size, options.channels, *options.image_size, device=options.device)
    volumes = volumes.contiguous(memory_format=torch.channels_last_3d)
    encoder: nn.Module = build_volume_network(name, options.channels).encoder.to(options.device).train()
    share = f"{int(visible[0].sum())} of {visible[0].numel()} blocks of {patch} visible"
    some = torch.tensor([1, 0, 1, 1, 0, 1, 0, 1]).view(1, 2, 2, 2).bool()
    print(f"\n{name}: {options.batch_size} volumes of {' x '.join(map(str, options.image_size))}, {share}")
    parity(encoder, volumes[:1, :, : 2 * patch, : 2 * patch, : 2 * patch], some)
    if options.parity:
        return
    jobs = {
        "visible": job_of(encode_visible, encoder, volumes, visible),
        "masked dense": job_of(encode_masked_dense, encoder, volumes, visible),
        "plain dense": job_of(lambda network, images: network(images), encoder, volumes),
    }
    times: dict[str, list[float]] = {kind: [] for kind in jobs}
    for turn in range(options.repeats + 1):
        for kind, job in jobs.items():
            elapsed = seconds(job, options.device)
            if turn:  # the first round warms up
                times[kind].append(elapsed)
    for kind, values in times.items():
        ratios = [other / own for other, own in zip(values, times["visible"], strict=True)]
        ratio = f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} .. {max(ratios):.2f})"
        print(f"  {kind:14}{statistics.median(values):8.3f} s   {ratio}", flush=True)


def main() -> None:
    """Run the benchmark."""
    options = arguments()
    tune_allocator()  # as the command line does, for every contender alike
    describe(options.device)
    for name in options.encoder:
        for patch in options.patch_size:
            if patch % volume_stride(name):
                print(f"\n{name}: a patch of {patch} is not a multiple of its stride {volume_stride(name)}")
                continue
            compare(name, patch, options)
    print(f"\nmedian of {options.repeats} rounds; a ratio to the visible blocks is the median of each round's own")


if __name__ == "__main__":
    main()
