"""Time of a transformer's encoder on the visible patches alone, beside the dense one (MAE, He et al. 2022).

Forward and backward in training mode, float32, timed in turns within one run, on a CPU by processor time: a ratio
compares like with like on a busy machine. With transformers installed, its ViTMAE of the same sizes is timed too.
"""

import argparse
import importlib.util
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import timm
import torch
from pretrain_step import describe
from torch import Tensor
from volume_step import seconds

from maeseg.masking.visible import random_visible
from maeseg.models.mae import ViTMaskedAutoencoder
from maeseg.models.vit import build_vit, encode_tokens, patch_side

Job = Callable[[], object]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="vit_small_patch16_224", help="a VisionTransformer of timm")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--mask-ratios", type=float, nargs="+", default=[0.25, 0.5, 0.75, 0.9])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds, after one that warms up")
    return parser.parse_args()


def encoder_job(vit: Any, images: Tensor, ratio: float) -> Job:
    """Forward and backward of the encoder on the visible patches; at ratio 0 that of timm itself."""
    side = patch_side(vit)
    grid = (images.shape[2] // side, images.shape[3] // side)
    visible = random_visible(len(images), grid, ratio) if ratio else None

    def job() -> None:
        vit.zero_grad()
        tokens = vit.forward_features(images) if visible is None else encode_tokens(vit, images, visible).last
        tokens.square().mean().backward()

    return job


def theirs(vit: Any, images: Tensor, ratio: float) -> Job:
    """Forward and backward of the encoder of transformers' ViTMAE, of the same sizes."""
    from transformers import ViTMAEConfig, ViTMAEModel

    config = ViTMAEConfig(
        hidden_size=vit.embed_dim, num_hidden_layers=len(vit.blocks), num_attention_heads=vit.blocks[0].attn.num_heads,
        intermediate_size=vit.blocks[0].mlp.fc1.out_features, image_size=images.shape[2], patch_size=patch_side(vit),
        mask_ratio=ratio,
    )  # fmt: skip
    network = ViTMAEModel(config).to(images.device).train()

    def job() -> None:
        network.zero_grad()
        network(images).last_hidden_state.square().mean().backward()

    return job


def step_job(network: ViTMaskedAutoencoder, images: Tensor) -> Job:
    """Forward and backward of pre-training with MAE's decoder."""

    def job() -> None:
        network.zero_grad()
        network.loss(images).backward()

    return job


def main() -> None:
    """Run the benchmark."""
    options = arguments()
    describe(options.device)
    torch.manual_seed(0)
    size = (options.image_size, options.image_size)
    images = torch.randn(options.batch_size, 3, *size, device=options.device)
    vit = build_vit(options.encoder, size).to(options.device).train()
    network = ViTMaskedAutoencoder(options.encoder, size).to(options.device).train()
    jobs = {"encoder, dense": encoder_job(vit, images, 0)}
    jobs |= {f"encoder, mask ratio {ratio}": encoder_job(vit, images, ratio) for ratio in options.mask_ratios}
    if importlib.util.find_spec("transformers"):
        jobs["encoder, ViTMAE, mask ratio 0.75"] = theirs(vit, images, 0.75)
    jobs["step, MAE's decoder, mask ratio 0.75"] = step_job(network, images)
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(options.repeats + 1):
        for name, job in jobs.items():
            elapsed = partial(seconds, job, options.device)()
            if turn:  # the first round warms up
                times[name].append(elapsed)
    print(f"{options.encoder}, {options.batch_size} images of {size[0]} px, timm {timm.__version__}")
    for name, values in times.items():
        ratios = [dense / own for dense, own in zip(times["encoder, dense"], values, strict=True)]
        spread = f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{name:38}{statistics.median(values):8.3f} s   dense takes {spread}")


if __name__ == "__main__":
    main()
