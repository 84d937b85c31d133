"""Vision transformers of timm, unmodified, on visible patches alone (MAE, He et al. 2022, section 3).

A transformer without its masked tokens is exact and costs its visible share: there is no neighborhood to keep.

Axes: B batch, C channels, H W pixels, Y X patch grid, L = Y * X patches, N visible patches, D width of a token.
"""

import functools
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import timm
import torch
from timm.layers import PatchEmbed, apply_keep_indices_nlc
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from maeseg.errors import UserError, first_line
from maeseg.masking.patches import visible_pixels
from maeseg.models.positions import fill_positions
from maeseg.models.shapes import without_values

OPTIONS: Mapping[str, Any] = {"num_classes": 0, "global_pool": "", "dynamic_img_size": True}
"""Options of ``timm.create_model`` for a transformer without a classifier, for images of any size."""

MASK_RATIO = 0.75
"""Share of patches to hide unless another one is asked for (MAE, section 4.1)."""

TAPS = 4
"""Number of blocks whose tokens the DPT decoder reads."""

ADVICE = "choose another --encoder, such as vit_tiny_patch16_224"


@dataclass(frozen=True)
class Tokens:
    """Tokens of the visible patches.

    Attributes:
        taps: Tokens (B, prefix + N, D) after some of the blocks.
        last: Tokens (B, prefix + N, D) after the last block and its norm.
    """

    taps: list[Tensor]
    last: Tensor


def build_vit(name: str, size: tuple[int, ...], channels: int = 3) -> Any:
    """Build a transformer of timm with random weights, and positions of sines and cosines as MAE has them.

    Args:
        name: timm's name.
        size: Height and width of the images, which its positions are for; it takes other sizes too.
        channels: Channels of the images.

    Raises:
        UserError: timm cannot build it, or it cannot run on visible patches alone.
    """
    with explain_refusal(name):
        vit = timm.create_model(name, img_size=size, in_chans=channels, **OPTIONS)
    check_vit(vit, name)
    begin_positions(vit)
    return vit


@contextmanager
def explain_refusal(name: str) -> Iterator[None]:
    """Raise a UserError in place of timm's error for a transformer that it cannot build."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError) as error:
        raise UserError(
            f"--encoder {name!r} cannot be built as a vision transformer ({first_line(error)}): {ADVICE}"
        ) from error


def check_vit(vit: Any, name: str) -> None:
    """Raise a UserError unless a network of timm is a transformer whose tokens are patches, each of its own pixels."""
    if not isinstance(vit, VisionTransformer | Eva):
        raise UserError(
            f"--encoder {name!r} is a {type(vit).__name__}, not a VisionTransformer or Eva of timm: {ADVICE}"
        )
    embed = vit.patch_embed
    if not isinstance(embed, PatchEmbed) or not isinstance(getattr(embed, "proj", None), nn.Conv2d):
        raise UserError(f"--encoder {name!r} has a {type(embed).__name__} that mixes patches: {ADVICE}")
    if len(vit.blocks) < TAPS:
        raise UserError(f"--encoder {name!r} has {len(vit.blocks)} blocks, fewer than {TAPS}: {ADVICE}")


def begin_positions(vit: Any) -> None:
    """Begin learned positions with sines and cosines, as MAE does."""
    if vit.pos_embed is not None and vit.embed_dim % 4 == 0:
        fill_positions(vit.pos_embed, grid_of(vit))


def grid_of(vit: Any) -> tuple[int, int]:
    """Patches along height and width (Y, X) that a transformer's positions are for."""
    rows, columns = vit.patch_embed.grid_size
    return rows, columns


@functools.lru_cache(maxsize=64)
def transformer_outline(name: str) -> Any:
    """Build a transformer without values; the result is cached and shared: do not modify it.

    Raises:
        UserError: timm cannot build it, or it cannot run on visible patches alone.
    """
    with warnings.catch_warnings(action="ignore"), without_values(), explain_refusal(name):
        vit = timm.create_model(name, **OPTIONS)
    check_vit(vit, name)
    return vit


def transformer_in(encoder: Any) -> Any:
    """The transformer of timm that an encoder is, or holds as segmentation-models-pytorch wraps it; None otherwise."""
    inner = getattr(encoder, "model", encoder)
    return inner if isinstance(inner, VisionTransformer | Eva) else None


def patch_side(vit: Any) -> int:
    """Side of a transformer's patches in pixels."""
    return int(max(vit.patch_embed.patch_size))


def tap_blocks(vit: Any) -> list[int]:
    """Blocks whose tokens the DPT decoder reads, evenly spread; as segmentation-models-pytorch has them."""
    return [int(len(vit.blocks) / TAPS * number) - 1 for number in range(1, TAPS + 1)]


def encode_tokens(vit: Any, images_BCHW: Tensor, visible_BYX: Tensor, taps: Sequence[int] = ()) -> Tokens:
    """Run a transformer on the visible patches alone.

    Positions are added first, masked patches are left out then. With every patch visible, the result is that of the
    transformer itself.

    Args:
        vit: A ``VisionTransformer`` or ``Eva`` of timm, built with ``dynamic_img_size=True``.
        images_BCHW: Images, normalized; a masked pixel is never read.
        visible_BYX: Bool grid, True = visible, with the same number of visible patches in each image.
        taps: Numbers of blocks whose tokens are kept.

    Raises:
        UserError: The grid does not fit, or images have different numbers of visible patches, or none.
    """
    side = patch_side(vit)
    check_grid(images_BCHW, visible_BYX, side)
    device = images_BCHW.device
    kept_BN = visible_indices(visible_BYX).to(device)
    # a masked value, even one that is not finite, has no part in the result or in a gradient
    visible_BCHW = images_BCHW.where(visible_pixels(visible_BYX.to(device), side), 0.0)
    tokens_BLD, rope = _embed(vit, visible_BCHW)
    tokens_BND = keep_tokens(tokens_BLD, kept_BN, vit.num_prefix_tokens)
    ropes = _ropes(vit, tokens_BND, rope, kept_BN)
    tokens_BND = vit.norm_pre(tokens_BND)
    kept = []
    for number, block in enumerate(vit.blocks):
        tokens_BND = block(tokens_BND, **ropes[number])
        if number in taps:
            kept.append(tokens_BND)
    return Tokens(kept, vit.norm(tokens_BND))


def check_grid(images_BCHW: Tensor, visible_BYX: Tensor, side: int) -> None:
    """Raise a UserError unless a visible grid is of the images, in patches of a side."""
    (B, _, H, W), grid = images_BCHW.shape, tuple(visible_BYX.shape)
    if grid != (B, H // side, W // side) or H % side or W % side:
        raise UserError(
            f"a visible grid of {' x '.join(map(str, grid))} does not fit {B} images of {H} x {W} pixels and the "
            f"transformer's patches of {side}: give {B} x {H // side} x {W // side}"
        )


def visible_indices(visible_BYX: Tensor) -> Tensor:
    """Indices (B, N) of the visible patches, row by row.

    Raises:
        UserError: Images have different numbers of them, or none.
    """
    visible_BL = visible_BYX.flatten(1)
    counts = visible_BL.sum(1).unique().tolist()
    if len(counts) != 1 or not counts[0]:
        raise UserError(
            f"the images of a batch have {' and '.join(map(str, counts))} visible patches: give each image the same "
            "number, at least one"
        )
    return visible_BL.byte().argsort(dim=1, descending=True, stable=True)[:, : counts[0]]


def keep_tokens(tokens_BLD: Tensor, kept_BN: Tensor, prefix: int) -> Tensor:
    """Prefix tokens, and those of some patches: (B, prefix + N, D)."""
    patches_BLD = tokens_BLD[:, prefix:]
    kept_BND = patches_BLD.gather(1, kept_BN[..., None].expand(-1, -1, patches_BLD.shape[2]))
    return torch.cat([tokens_BLD[:, :prefix], kept_BND], dim=1)


def spread_tokens(tokens_BND: Tensor, visible_BYX: Tensor, token_D: Tensor) -> Tensor:
    """Tokens (B, L, D) of all patches: those of the visible ones, without prefix, and elsewhere a mask token."""
    B, _, D = tokens_BND.shape
    kept_BN1 = visible_indices(visible_BYX).to(tokens_BND.device)[..., None]
    filled_BLD = token_D.to(tokens_BND.dtype).expand(B, visible_BYX[0].numel(), D)
    return filled_BLD.scatter(1, kept_BN1.expand(-1, -1, D), tokens_BND)


def segmentation_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a pre-training network by the names of a DPT, which wraps its encoder."""
    return {re.sub(r"^encoder\.", "encoder.model.", key): value for key, value in weights.items()}


def _embed(vit: Any, images_BCHW: Tensor) -> tuple[Tensor, Tensor | None]:
    """Tokens (B, prefix + L, D) with their positions, and rotary positions if there are any."""
    embedded = vit._pos_embed(vit.patch_embed(images_BCHW))
    return embedded if isinstance(vit, Eva) else (embedded, None)


def _ropes(vit: Any, tokens_BND: Tensor, rope: Tensor | None, kept_BN: Tensor) -> list[dict[str, Tensor]]:
    """Rotary positions of the visible patches for each block, as timm's ``Eva`` arranges them for dropped patches."""
    if rope is None:
        return [{} for _ in vit.blocks]
    kept = apply_keep_indices_nlc(tokens_BND, rope, kept_BN)
    if vit.rope_mixed:  # (B, blocks, heads, N, d), one for each block
        return [{"rope": each} for each in kept.transpose(0, 1)]
    return [{"rope": kept.unsqueeze(1)} for _ in vit.blocks]  # (B, 1, N, d)
