"""From visible tiles to the dense maps that a decoder expects (SparK, Tian et al. 2023, section 3.2).

Axes: B batch, C channels, (D) H W pixels, N visible tiles, T tile side.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from maeseg.sparse import Tiles, unpack

MOMENTUM = 0.1
EPSILON = 1e-5


class ScaleNorm(nn.Module):
    """Divide each channel by its root mean square over the batch's visible positions, times a learned weight.

    Deviation from SparK, which takes BatchNorm here: without a shift, the layer is a factor per channel, which can
    be folded exactly into the decoder's first convolutions (:meth:`factor_C`). The U-Net that is fine-tuned is then
    a plain one, with the same layers as from scratch, and computes on visible patches what it computed in
    pre-training.

    Args:
        channels: Number of channels C.
    """

    mean_square: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.register_buffer("mean_square", torch.ones(channels))

    def forward(self, tiles: Tiles) -> Tiles:
        """Normalize tiles (N, C, T, T); running statistics outside training."""
        mean_square_C = self.mean_square
        if self.training:
            mean_square_C = by_channel_mean_square(tiles)
            with torch.no_grad():
                self.mean_square.lerp_(mean_square_C.detach().to(self.mean_square.dtype), MOMENTUM)
        scale_C = self.weight * (mean_square_C + EPSILON).rsqrt()
        scaled: Tiles = tiles * scale_C.view(-1, *[1] * (tiles.dim() - 2)).to(tiles.dtype)  # type: ignore[assignment]
        return scaled

    def factor_C(self) -> Tensor:
        """The factor per channel that the layer applies outside training."""
        return self.weight.detach() * (self.mean_square + EPSILON).rsqrt()


def by_channel_mean_square(tiles: Tiles) -> Tensor:
    """Mean square of each channel over all visible positions (C,), in at least single precision."""
    values = tiles.as_subclass(torch.Tensor)
    if values.dtype in (torch.float16, torch.bfloat16):
        values = values.float()
    return values.square().mean((0, *range(2, values.dim())))


class Densify(nn.Module):
    """Normalize the features of each scale, put them on the grid, fill masked places with that scale's mask token.

    Args:
        channels: Channels of each scale.
        normalized: False to leave the features as they are, for a decoder that no factors can be folded into.
    """

    def __init__(self, channels: Sequence[int], normalized: bool = True) -> None:
        super().__init__()
        self.norms = nn.ModuleList(ScaleNorm(c) if normalized else nn.Identity() for c in channels)
        self.tokens = nn.ParameterList(nn.Parameter(torch.empty(c).normal_(std=0.02)) for c in channels)

    def forward(self, features: Sequence[Tiles]) -> list[Tensor]:
        """Tiles of every scale -> maps (B, C, H, W) of every scale."""
        return [
            unpack(norm(tiles), token) for norm, token, tiles in zip(self.norms, self.tokens, features, strict=True)
        ]

    def factors(self) -> list[Tensor]:
        """The factor per channel (C,) of each normalized scale outside training, fine to coarse."""
        return [norm.factor_C() for norm in self.norms if isinstance(norm, ScaleNorm)]


class ScaledDecoder(nn.Module):
    """A decoder that reads feature maps times the factors that :class:`Densify` applied in pre-training.

    For decoders in whose convolutions the factors cannot be folded.

    Args:
        decoder: Called with a list of maps, the image first, then fine to coarse.
        factors: Factor per channel (C,) of each of the maps after the image.
    """

    def __init__(self, decoder: nn.Module, factors: Sequence[Tensor]) -> None:
        super().__init__()
        self.decoder = decoder
        for level, factor_C in enumerate(factors):
            self.register_buffer(f"factor_{level}", factor_C.clone().view(1, -1, 1, 1))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Image (B, C, H, W) and feature maps -> the decoder's map."""
        image_BCHW, *maps = features
        scaled = [each_BCHW * self.get_buffer(f"factor_{level}") for level, each_BCHW in enumerate(maps)]
        decoded: Tensor = self.decoder([image_BCHW, *scaled])
        return decoded
