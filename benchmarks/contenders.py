"""Timed operations: an encoder alone and a full pre-training step, each on visible patches and in other ways.

    encoder, visible patches   maeseg.sparse.encode_visible
    encoder, emulated          the dense network, masked by hooks (as the public SparK code does)
    encoder, dense             the dense network on unmasked images
    step, visible patches      a full pre-training step: encoder, U-Net decoder, loss, backward, AdamW
    step, 4 x 4 window         the same with a decoder restricted to a window of 4 x 4 patches
    encoder or step, graph     the same on visible patches as a CUDA graph (--compile), on a GPU only
    step, emulated             the same step with the emulated encoder
    step, SparK                SparK's own code with its own decoder, from a checkout of it

each forward and backward in training mode, float32, channels-last.
"""

import importlib
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import timm.layers
import torch
from torch import Tensor, nn

from maeseg.masking.patches import reconstruction_loss
from maeseg.masking.visible import random_visible, random_window
from maeseg.models.densify import EPSILON, ScaleNorm
from maeseg.models.masked_autoencoder import MaskedAutoencoder
from maeseg.models.unet import DECODER_CHANNELS, build_unet
from maeseg.sparse import encode_visible
from maeseg.sparse.masked_dense import Visible, encode_masked_dense
from maeseg.training.compiling import Compiling
from maeseg.training.encoder_graph import ForwardEncoder, capture_encoder, replacing_encoder

PATCH = 32
Job = Callable[[], object]
Encode = Callable[[nn.Module, Tensor, Tensor], list[Tensor]]


@dataclass(frozen=True)
class Case:
    """One size of the problem.

    Args:
        encoder: A timm convnet.
        image_size: Side in pixels, a multiple of 32.
        batch_size: Images per step.
        mask_ratio: Share of patches hidden.
        device: Where.
        decoder_channels: Widths of the U-Net's decoder, coarse to fine.
    """

    encoder: str = "resnet50"
    image_size: int = 224
    batch_size: int = 8
    mask_ratio: float = 0.6
    device: str = "cpu"
    decoder_channels: tuple[int, ...] = DECODER_CHANNELS

    def images(self) -> Tensor:
        """Noise (B, 3, H, W)."""
        images = torch.randn(self.batch_size, 3, self.image_size, self.image_size, device=self.device)
        return images.contiguous(memory_format=torch.channels_last)

    def visible(self) -> Tensor:
        """A visible grid (B, Y, X) on the CPU, where counting it waits for no device."""
        side = self.image_size // PATCH
        return random_visible(self.batch_size, (side, side), self.mask_ratio)


def encode_dense(encoder: nn.Module, images_BCHW: Tensor, visible_BYX: Tensor) -> list[Tensor]:
    """Encode unmasked images."""
    return list(encoder(images_BCHW))


def computed(features: list[Tensor]) -> list[Tensor]:
    """The features that an encoder computes: the first is the input, and one without channels stands for none."""
    return [feature for feature in features[1:] if feature.shape[1]]


def reconstruct_emulated(model: MaskedAutoencoder, images_BCHW: Tensor, visible_BYX: Tensor) -> Tensor:
    """What ``model(images, visible)`` computes, with the emulated encoder and dense normalization."""
    visible = Visible(visible_BYX, images_BCHW.device)
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


def build_encoder(case: Case) -> nn.Module:
    """The encoder of a U-Net, in training mode."""
    encoder: nn.Module = build_unet(case.encoder).encoder
    return encoder.to(case.device).to(memory_format=torch.channels_last).train()


def build_model(case: Case) -> MaskedAutoencoder:
    """The masked autoencoder."""
    return (
        MaskedAutoencoder.from_unet(build_unet(case.encoder, case.decoder_channels))
        .to(case.device)
        .to(memory_format=torch.channels_last)
    )


def encoder_job(encode: Encode, case: Case) -> Job:
    """Forward and backward of an encoder, from gradients that are given: the cost of a loss is no encoder's."""
    encoder, images, visible = build_encoder(case), case.images(), case.visible()
    with torch.no_grad():
        features = computed(encode(encoder, images, visible))
    gradients = [torch.randn_like(feature) / feature.numel() for feature in features]

    def job() -> None:
        encoder.zero_grad()
        torch.autograd.backward(computed(encode(encoder, images, visible)), gradients)

    return job


def capture(model: MaskedAutoencoder, images: Tensor, visible: Tensor) -> ForwardEncoder | None:
    """The encoder as a CUDA graph, in the mixed precision of the benchmark."""
    with torch.autocast("cuda", torch.bfloat16):
        return capture_encoder(model.train(), images.clone(), visible, Compiling("always"))


def graph_job(case: Case) -> Job:
    """Forward and backward of an encoder on visible patches as a CUDA graph, mask tokens included."""
    model, images, visible = build_model(case), case.images(), case.visible()
    forward = capture(model, images, visible)
    assert forward
    with torch.no_grad():
        gradients = [torch.randn_like(each) / each.numel() for each in computed(forward(images, visible))]

    def job() -> None:
        model.zero_grad()
        torch.autograd.backward(computed(forward(images, visible)), gradients)

    return job


def step_job(case: Case, window: int | None = None, emulated: bool = False, graph: bool = False) -> Job:
    """Full pre-training step."""
    model, images, visible = build_model(case), case.images(), case.visible()
    forward = capture(model, images, visible) if graph else None
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    side = case.image_size // PATCH

    def job() -> None:
        optimizer.zero_grad()
        if emulated:
            predicted = reconstruct_emulated(model, images, visible)
            loss = reconstruction_loss(predicted, images, visible.to(case.device, non_blocking=True), PATCH)
        else:
            part = random_window((side, side), window or side)
            with replacing_encoder(model, forward):
                predicted = model(images, visible, part)
            seen = part.crop(visible).to(case.device, non_blocking=True)
            loss = reconstruction_loss(predicted, part.crop(images, PATCH), seen, PATCH)
        loss.backward()
        optimizer.step()

    return job


def spark_job(checkout: Path, case: Case) -> Job:
    """A pre-training step of SparK's own code, at its own default decoder."""
    # It imports names that timm has moved since.
    moved = types.ModuleType("timm.models.layers")
    vars(moved).update(vars(timm.layers))
    sys.modules["timm.models.layers"] = moved
    sys.path.insert(0, str(checkout / "pretrain"))
    models, decoder, spark = (importlib.import_module(name) for name in ("models", "decoder", "spark"))
    encoder: Any = models.build_sparse_encoder(case.encoder, input_size=case.image_size, sbn=False)
    network = spark.SparK(encoder, decoder.LightDecoder(encoder.downsample_raito, sbn=False), case.mask_ratio)
    network = network.to(case.device).to(memory_format=torch.channels_last).train()
    images = case.images()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5)

    def job() -> None:
        optimizer.zero_grad()
        network(images).backward()
        optimizer.step()

    return job


def contenders(case: Case, checkout: Path | None = None) -> dict[str, Callable[[], Job]]:
    """Builders of everything that is timed, by name."""
    builders: dict[str, Callable[[], Job]] = {
        "encoder, visible patches": partial(encoder_job, encode_visible, case),
        "encoder, emulated": partial(encoder_job, encode_masked_dense, case),
        "encoder, dense": partial(encoder_job, encode_dense, case),
        "step, visible patches": partial(step_job, case),
        "step, 4 x 4 window": partial(step_job, case, window=4),
        "step, emulated": partial(step_job, case, emulated=True),
    }
    if checkout:  # last: it registers networks of its own under timm's names
        builders["step, SparK"] = partial(spark_job, checkout, case)
    return builders
