"""How much faster is a convnet on visible patches than the same network masked densely, and are they equal?

Everything is timed in turns within one run, so that a ratio compares like with like on a drifting machine:

    encoder, visible patches   maeseg.sparse.encode_visible
    encoder, emulated          the dense network, masked by hooks (as the public SparK code does)
    encoder, dense             the dense network on whole images, no masking
    step, visible patches      a whole pre-training step: encoder, U-Net decoder, loss, backward, AdamW
    step, emulated             the same step with the emulated encoder

each forward and backward in training mode, float32, channels-last.
"""

import argparse
import copy
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from maeseg.masking import random_visible
from maeseg.models.densify import EPSILON, ScaleNorm
from maeseg.models.masked_autoencoder import MaskedAutoencoder
from maeseg.models.unet import build_unet
from maeseg.patches import reconstruction_loss
from maeseg.sparse import encode_visible
from maeseg.sparse.reference import Visible, encode_masked_dense

PATCH = 32
Encode = Callable[[nn.Module, Tensor, Tensor], list[Tensor]]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="resnet50", help="a timm convnet")
    parser.add_argument("--image-size", type=int, default=224, help="side in pixels, a multiple of 32")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--mask-ratio", type=float, default=0.6)
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds, after one that warms up")
    parser.add_argument("--no-step", action="store_true", help="time the encoder alone")
    parser.add_argument("--parity", action="store_true", help="only compare values and gradients")
    return parser.parse_args()


def cpu() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def describe() -> None:
    """Print what the figures depend on."""
    versions = f"python {platform.python_version()}, torch {torch.__version__}, timm {timm.__version__}"
    print(f"{versions}, segmentation-models-pytorch {smp.__version__}")
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"{cpu()} ({capability}), {os.cpu_count()} cores, {torch.get_num_threads()} threads")
    if hasattr(os, "getloadavg"):
        print(f"load average {os.getloadavg()[0]:.1f} at the start")


def encode_dense(encoder: nn.Module, images_BCHW: Tensor, visible_BYX: Tensor) -> list[Tensor]:
    """Encode whole images."""
    return list(encoder(images_BCHW))


def reconstruct_emulated(model: MaskedAutoencoder, images_BCHW: Tensor, visible_BYX: Tensor) -> Tensor:
    """What ``model(images, visible)`` computes, with the emulated encoder and dense normalisation."""
    visible = Visible(visible_BYX)
    maps = encode_masked_dense(model.encoder, images_BCHW, visible_BYX)[1:]
    filled = [images_BCHW]
    for norm, token_C, features in zip(model.densify.norms, model.densify.tokens, maps, strict=True):
        assert isinstance(norm, ScaleNorm)
        hidden = visible.hidden(*features.shape[2:])
        mean_square_C = features.square().sum((0, 2, 3)) / (~hidden).sum()  # masked positions are zero
        scaled = features * (norm.weight * (mean_square_C + EPSILON).rsqrt()).view(1, -1, 1, 1)
        filled.append(torch.where(hidden, token_C.view(1, -1, 1, 1), scaled))
    predicted: Tensor = model.head(model.decoder(filled))
    return predicted


def mean_of_all(features: list[Tensor]) -> Tensor:
    """A loss that every feature has a part in; the first feature is the input itself."""
    return torch.stack([feature.square().mean() for feature in features[1:]]).sum()


def encoder_job(encode: Encode, encoder: nn.Module, images: Tensor, visible: Tensor) -> Callable[[], None]:
    """Forward and backward of an encoder."""

    def job() -> None:
        encoder.zero_grad()
        mean_of_all(encode(encoder, images, visible)).backward()

    return job


def step_job(
    reconstruct: Callable[[MaskedAutoencoder, Tensor, Tensor], Tensor],
    model: MaskedAutoencoder,
    images: Tensor,
    visible: Tensor,
) -> Callable[[], None]:
    """A whole pre-training step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def job() -> None:
        optimizer.zero_grad()
        reconstruction_loss(reconstruct(model, images, visible), images, visible, PATCH).backward()
        optimizer.step()

    return job


def seconds(job: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def stem_gradient(encoder: nn.Module) -> Tensor:
    """Gradient of the first convolution's weight."""
    stem = next(module for module in encoder.modules() if isinstance(module, nn.Conv2d))
    assert stem.weight.grad is not None
    return stem.weight.grad


def compare(encoder: nn.Module, images: Tensor, visible: Tensor) -> None:
    """Print the largest differences between the engine and the emulation."""
    other = copy.deepcopy(encoder)
    ours = encode_visible(encoder, images, visible)
    theirs = encode_masked_dense(other, images, visible)
    for module, features in ((encoder, ours), (other, theirs)):
        module.zero_grad()
        mean_of_all(features).backward()
    feature = max(float((a - b).detach().abs().max()) for a, b in zip(ours, theirs, strict=True))
    largest = max(float(b.detach().abs().max()) for b in theirs)
    gradient, expected = stem_gradient(encoder), stem_gradient(other)
    difference = float((gradient - expected).abs().max())
    relative = difference / float(expected.abs().max())
    print(
        f"  {str(images.dtype).removeprefix('torch.')}: largest difference of a feature {feature:.1e} "
        f"(values up to {largest:.1f}), of the stem's gradient {difference:.1e} ({relative:.0e} relative)"
    )


def parity(images: Tensor, visible: Tensor) -> None:
    """Compare values and gradients in both precisions."""
    for name in ("resnet18", "resnet50"):
        print(f"{name}, engine against emulation:")
        encoder = build_unet(name).encoder
        for dtype in (torch.float64, torch.float32):
            compare(encoder.to(dtype), images.to(dtype), visible)


def report(times: dict[str, list[float]], repeats: int) -> None:
    """Print medians, spreads, and ratios taken round by round."""
    print(f"\n{'seconds':28}{'median':>8}   {'min .. max':16}{'emulated takes':>16}")
    for name, values in times.items():
        reference = times.get(name.partition(",")[0] + ", emulated", values)
        ratios = [theirs / ours for theirs, ours in zip(reference, values, strict=True)]
        spread = f"{min(values):.3f} .. {max(values):.3f}"
        ratio = f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} .. {max(ratios):.2f})"
        print(f"{name:28}{statistics.median(values):8.3f}   {spread:16}  {ratio}")
    print(f"median of {repeats} rounds; a ratio is the median of each round's own")


def main() -> None:
    """Run the benchmark."""
    options = arguments()
    describe()
    torch.manual_seed(0)
    side = options.image_size
    images = torch.randn(options.batch_size, 3, side, side).to(memory_format=torch.channels_last)
    visible = random_visible(options.batch_size, (side // PATCH, side // PATCH), options.mask_ratio)
    seen = f"{int(visible[0].sum())} of {visible[0].numel()} patches visible"
    print(f"{options.batch_size} images of {side} px, {seen}")
    if options.parity:
        return parity(images, visible)

    unet = build_unet(options.encoder).to(memory_format=torch.channels_last)
    print(f"{options.encoder}, engine against emulation:")
    compare(copy.deepcopy(unet.encoder), images, visible)
    jobs = {
        f"encoder, {name}": encoder_job(encode, copy.deepcopy(unet.encoder), images, visible)
        for name, encode in (
            ("visible patches", encode_visible),
            ("emulated", encode_masked_dense),
            ("dense", encode_dense),
        )
    }
    if not options.no_step:
        model = MaskedAutoencoder(unet).to(memory_format=torch.channels_last)
        ours, theirs = model(images, visible), reconstruct_emulated(model, images, visible)
        difference = float((ours - theirs).detach().abs().max())
        print(f"  whole network: largest difference of the reconstruction {difference:.1e}")
        for name, reconstruct in (
            ("visible patches", MaskedAutoencoder.__call__),
            ("emulated", reconstruct_emulated),
        ):
            jobs[f"step, {name}"] = step_job(reconstruct, copy.deepcopy(model), images, visible)

    factor = torch.randn(2048, 2048)
    times: dict[str, list[float]] = {name: [] for name in jobs}
    peak = 0.0
    for turn in range(options.repeats + 1):
        peak = max(peak, 2 * 2048**3 / seconds(lambda: factor @ factor) / 1e9)
        for name, job in jobs.items():
            elapsed = seconds(job)
            if turn:  # the first round warms up
                times[name].append(elapsed)
    report(times, options.repeats)
    print(f"matrix product of 2048 x 2048, best: {peak:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
