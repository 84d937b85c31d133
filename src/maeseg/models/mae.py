"""A vision transformer trained to reconstruct masked patches, with the decoder of MAE (He et al. 2022, section 3).

Axes: B batch, C channels, H W pixels, Y X patch grid, L = Y * X patches, N visible patches, D width of a token,
P = patch * patch * C values per patch.
"""

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from maeseg.errors import UserError
from maeseg.masking.visible import GridWindow
from maeseg.models.masked_network import MaskedNetwork
from maeseg.models.positions import fill_positions, resample_positions
from maeseg.models.vit import (
    MASK_RATIO,
    build_vit,
    encode_tokens,
    grid_of,
    patch_side,
    segmentation_names,
    spread_tokens,
)

DECODER_WIDTH, DECODER_DEPTH = 512, 8
"""Width of a token and number of blocks (MAE, section 4.1)."""

HEADS = 16
"""Attention heads of each block (MAE's published code)."""


class MAEDecoder(nn.Module):
    """The decoder of MAE: a transformer on visible tokens and mask tokens, used in pre-training alone.

    The names in its state dict are those of MAE's published code, whose positions are fixed.

    Args:
        encoder_width: Width of the encoder's tokens.
        grid: Patches along height and width (Y, X).
        values: Values P of a patch.
        width: Width of the decoder's tokens, a multiple of 16.
        depth: Number of blocks.
        prefix: Number of prefix tokens of the encoder, such as its class token; their position is zero.

    Raises:
        UserError: The width is not a multiple of 16.
    """

    def __init__(
        self, encoder_width: int, grid: tuple[int, int], values: int, width: int = DECODER_WIDTH,
        depth: int = DECODER_DEPTH, prefix: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        check_decoder(width, depth)
        self.grid, self.prefix = grid, prefix
        self.decoder_embed = nn.Linear(encoder_width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        positions_1LD = torch.empty(1, prefix + grid[0] * grid[1], width)
        self.decoder_pos_embed = nn.Parameter(positions_1LD, requires_grad=False)
        fill_positions(self.decoder_pos_embed, grid)
        self.decoder_blocks = nn.ModuleList(Block(width, HEADS, qkv_bias=True) for _ in range(depth))
        self.decoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_pred = nn.Linear(width, values)
        self.apply(_initialize)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, tokens_BND: Tensor, visible_BYX: Tensor) -> Tensor:
        """Predict all patches.

        Args:
            tokens_BND: Tokens of the encoder (B, prefix + N, D), the visible patches row by row.
            visible_BYX: Bool grid, True = visible.

        Returns:
            Patches (B, L, P), row by row; within a patch rows first, channels last.
        """
        embedded_BND = self.decoder_embed(tokens_BND)
        patches_BLD = spread_tokens(embedded_BND[:, self.prefix :], visible_BYX, self.mask_token)
        all_BLD = torch.cat([embedded_BND[:, : self.prefix], patches_BLD], dim=1)
        grid = (visible_BYX.shape[1], visible_BYX.shape[2])
        all_BLD = all_BLD + resample_positions(self.decoder_pos_embed, self.grid, grid, self.prefix)
        for block in self.decoder_blocks:
            all_BLD = block(all_BLD)
        predicted_BLP: Tensor = self.decoder_pred(self.decoder_norm(all_BLD[:, self.prefix :]))
        return predicted_BLP


class ViTMaskedAutoencoder(MaskedNetwork):
    """A masked autoencoder as published: the encoder sees the visible patches alone, a small decoder all of them.

    Args:
        encoder: timm's name of a ``VisionTransformer``, or of an ``Eva``.
        size: Height and width of the images, multiples of the patch; others are taken too, at resampled positions.
        decoder_width: Width of the decoder's tokens, a multiple of 16.
        decoder_depth: Number of the decoder's blocks.
        channels: Channels C of the images.

    Attributes:
        encoder: The transformer of timm.
        decoder: The ``MAEDecoder``.
        patch_size: Side of a patch in pixels.

    Raises:
        UserError: timm has no such transformer, or it cannot run on visible patches, or the width does not fit.
    """

    mask_ratio = MASK_RATIO

    def __init__(
        self, encoder: str, size: tuple[int, ...] = (224, 224), *, decoder_width: int = DECODER_WIDTH,
        decoder_depth: int = DECODER_DEPTH, channels: int = 3,
    ) -> None:  # fmt: skip
        super().__init__()
        check_decoder(decoder_width, decoder_depth)
        vit = build_vit(encoder, size, channels)
        self.encoder, self.name, self.channels, self.patch_size = vit, encoder, channels, patch_side(vit)
        self.decoder = MAEDecoder(
            vit.embed_dim, grid_of(vit), channels * self.patch_size**2, decoder_width,
            decoder_depth, vit.num_prefix_tokens,
        )  # fmt: skip

    def forward(self, images_BCHW: Tensor, visible_BYX: Tensor, window: GridWindow | None = None) -> Tensor:
        """Reconstruct images from their visible patches.

        Args:
            images_BCHW: Images, normalized; a masked pixel is never read.
            visible_BYX: Bool grid, True = seen, with the same number of visible patches in each image.
            window: None: the decoder needs every token.

        Returns:
            Predicted pixels (B, C, H, W), in the units of ``loss``.

        Raises:
            UserError: The grid does not fit, or a window is given.
        """
        if window:
            raise UserError("the decoder of MAE needs the tokens of all patches: leave out the window")
        predicted_BLP = self.forward_patches(images_BCHW, visible_BYX)
        return self.as_images(predicted_BLP, (visible_BYX.shape[1], visible_BYX.shape[2]))

    def forward_patches(self, images_BCHW: Tensor, visible_BYX: Tensor) -> Tensor:
        """Predict all patches (B, L, P) as MAE's published code arranges them; see ``MAEDecoder.forward``."""
        predicted_BLP: Tensor = self.decoder(encode_tokens(self.encoder, images_BCHW, visible_BYX).last, visible_BYX)
        return predicted_BLP

    def for_segmentation(self) -> tuple[dict[str, Tensor], frozenset[str]]:
        """See ``MaskedNetwork``; MAE's decoder has no place there."""
        return segmentation_names(self.state_dict()), frozenset()

    def as_images(self, patches_BLP: Tensor, grid: tuple[int, int]) -> Tensor:
        """Put patches (B, L, P), in MAE's order, into images (B, C, H, W)."""
        (Y, X), side = grid, self.patch_size
        cells = patches_BLP.reshape(len(patches_BLP), Y, X, side, side, self.channels)
        # (B, Y, X, p, q, C) -> (B, C, Y, p, X, q) -> (B, C, H, W)
        return cells.permute(0, 5, 1, 3, 2, 4).reshape(len(patches_BLP), self.channels, Y * side, X * side)


def check_decoder(width: int, depth: int) -> None:
    """Raise a UserError unless a decoder of MAE can have a width and a depth."""
    if width < HEADS or width % HEADS:
        near = max(round(width / HEADS), 1) * HEADS
        raise UserError(f"--decoder_width {width} is not a multiple of the {HEADS} attention heads: use {near}")
    if depth < 1:
        raise UserError(f"--decoder_depth {depth} has no block: give at least 1")


def _initialize(module: nn.Module) -> None:
    """Initial weights of MAE's published code."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
