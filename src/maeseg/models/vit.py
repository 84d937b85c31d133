"""Vision transformers of timm, unmodified, on visible patches alone (MAE, He et al. 2022, section 3).

A transformer without its masked tokens is exact and costs its visible share: there is no neighborhood to keep.

Axes: B batch, C channels, H W pixels, Y X patch grid, L = Y * X patches, N visible patches, D width of a token.
"""

from collections.abc import Sequence
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
from maeseg.models.positions import sine_cosine_positions

OPTIONS = {"num_classes": 0, "global_pool": "", "dynamic_img_size": True}
"""Options of ``timm.create_model`` for a transformer without a classifier, for images of any size."""

MASK_RATIO = 0.75
"""Share of patches to hide unless another one is asked for (MAE, section 4.1)."""

TAPS = 4
"""Number of blocks whose tokens the DPT decoder reads."""


@dataclass(frozen=True)
class Tokens:
    """Tokens of the visible patches.

    Attributes:
        taps: Tokens (B, prefix + N, D) after some of the blocks.
        last: Tokens (B, prefix + N, D) after the last block and its norm.
    """

    taps: list[Tensor]
    last: Tensor


def build_vit(name: str, size: tuple[int, int], channels: int = 3) -> Any:
    """Build a transformer of timm with random weights, and positions of sines and cosines as MAE has them.

    Args:
        name: timm's name.
        size: Height and width of the images, which its positions are for; it takes other sizes too.
        channels: Channels of the images.

    Raises:
        UserError: timm cannot build it, or it cannot run on visible patches alone.
    """
    try:
        vit = timm.create_model(name, img_size=size, in_chans=channels, **OPTIONS)
    except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError) as error:
        raise UserError(
            f"--encoder {name!r} cannot be built as a vision transformer ({first_line(error)}): choose another, such "
            "as vit_tiny_patch16_224"
        ) from error
    check_vit(vit, name)
    begin_positions(vit)
    return vit


def check_vit(vit: Any, name: str) -> None:
    """Raise a UserError unless a network of timm is a transformer whose tokens are patches, each of its own pixels."""
    advice = "choose another --encoder, such as vit_tiny_patch16_224"
    if not isinstance(vit, VisionTransformer | Eva):
        raise UserError(
            f"--encoder {name!r} is a {type(vit).__name__}, not a VisionTransformer or Eva of timm: {advice}"
        )
    embed = vit.patch_embed
    if not isinstance(embed, PatchEmbed) or not isinstance(getattr(embed, "proj", None), nn.Conv2d):
        raise UserError(f"--encoder {name!r} has a {type(embed).__name__} that mixes patches: {advice}")
    if len(vit.blocks) < TAPS:
        raise UserError(f"--encoder {name!r} has {len(vit.blocks)} blocks, fewer than {TAPS}: {advice}")


def begin_positions(vit: Any) -> None:
    """Give learned positions the values of sines and cosines, and the prefix tokens zeros, as MAE does."""
    if vit.pos_embed is None or vit.embed_dim % 4:
        return
    values_1LD = sine_cosine_positions(vit.embed_dim, tuple(vit.patch_embed.grid_size))
    with torch.no_grad():
        vit.pos_embed.zero_()
        vit.pos_embed[:, vit.pos_embed.shape[1] - values_1LD.shape[1] :] = values_1LD


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
    kept_BN = visible_indices(visible_BYX)
    # a masked value, even one that is not finite, has no part in the result or in a gradient
    visible_BCHW = images_BCHW.where(visible_pixels(visible_BYX, side), 0.0)
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
    kept_BN1 = visible_indices(visible_BYX)[..., None]
    filled_BLD = token_D.to(tokens_BND.dtype).expand(B, visible_BYX[0].numel(), D)
    return filled_BLD.scatter(1, kept_BN1.expand(-1, -1, D), tokens_BND)


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
