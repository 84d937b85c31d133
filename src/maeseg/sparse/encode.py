"""Encoding of visible patches with an unmodified convnet, or Hiera: exact, at the cost of the visible share.

Axes: B batch, C channels, (D) H W pixels, (Z) Y X patch grid.
"""

import traceback
from contextlib import nullcontext

from torch import Tensor, nn

from maeseg.errors import UserError
from maeseg.sparse.mask_units import hiera_in, reading_tiles
from maeseg.sparse.masked_dense import encode_masked_dense
from maeseg.sparse.rules_batch_norm import normalized
from maeseg.sparse.rules_neighborhood import gather_visible
from maeseg.sparse.tiles import PaddedTiles, Tiles, is_map, pack, unpack, wrap
from maeseg.sparse.visible_grid import VisibleGrid


def encode_visible(encoder: nn.Module, images_BCHW: Tensor, visible_BYX: Tensor) -> list[Tensor]:
    """Encode the visible patches of a batch with an unmodified convnet.

    The result equals that of the masked dense network: every convolution and pooling reads zero at masked positions,
    and every statistic is over visible positions (SparK, Tian et al. 2023, section 3.1). Masked positions are never
    computed. The encoder is not changed and still runs densely on ordinary tensors. A Hiera leaves out its masked mask
    units, so that its attention is over visible positions alone.

    Args:
        encoder: A network that returns a list of feature maps, such as
            ``timm.create_model("resnet18", features_only=True)`` or an encoder of segmentation-models-pytorch.
        images_BCHW: Images, or volumes (B, C, D, H, W); a masked pixel is never read.
        visible_BYX: Bool grid (B, Y, X), or of volumes (B, Z, Y, X), True = visible; H / Y = W / X is the patch side, a
            multiple of the encoder's stride.

    Returns:
        The encoder's feature maps (B, C, H / stride, W / stride), or of volumes (B, C, D / stride, H / stride,
        W / stride), zero where masked.

    Raises:
        UserError: If the grid does not fit, nothing is visible, or the encoder uses an operation that cannot be
            exact on visible patches.
    """
    return [unpack(feature) for feature in encode_tiles(encoder, pack(images_BCHW, visible_BYX))]


def encode_tiles(encoder: nn.Module, tiles: Tiles) -> list[Tiles]:
    """Run an encoder on tiles; see :func:`encode_visible`."""
    hiera = hiera_in(encoder)
    try:
        with reading_tiles(hiera) if hiera else nullcontext():
            features = list(encoder(tiles))
    except UserError as error:
        if path := failing_module(encoder, error):
            raise UserError(f"{path}: {error}") from error
        raise
    return [as_map(encoder, feature, tiles) for feature in features]


def encode_densely(encoder: nn.Module, images_BCHW: Tensor, visible_BYX: Tensor) -> list[Tiles]:
    """Encode complete images, masked before each operation: the tiles of :func:`encode_tiles`, up to rounding.

    Only for a convnet that :func:`encode_tiles` accepts: nothing else is refused here.

    Raises:
        UserError: The encoder is Hiera, whose attention would read masked positions.
    """
    if hiera_in(encoder):
        raise UserError("Hiera computes visible patches alone: set sparse to True")
    maps = encode_masked_dense(encoder, images_BCHW, visible_BYX)
    grid = VisibleGrid(visible_BYX, images_BCHW.device)
    return [tiles_of(each_BCHW, grid) for each_BCHW in maps]


def tiles_of(maps_BCHW: Tensor, grid: VisibleGrid) -> Tiles:
    """Gather the visible tiles of a feature, which may have no channels."""
    side = maps_BCHW.shape[2] // grid.shape[0]
    if maps_BCHW.shape[1] == 0:
        return wrap(maps_BCHW.new_empty(grid.tiles, 0, *[side] * len(grid.shape)), grid)
    return gather_visible(maps_BCHW, grid, side)


def as_map(encoder: nn.Module, feature: Tensor, tiles: Tiles) -> Tiles:
    """Bring a feature into the order (B, C, H, W), or (B, C, D, H, W).

    Some encoders return channels-last features; segmentation-models-pytorch returns a map without channels for a
    stride that an encoder skips.

    Raises:
        UserError: If the feature is not a map.
    """
    grid = tiles.tile_grid
    feature = normalized(feature)
    if isinstance(feature, Tiles) and feature.tile_dims == f"B{grid.spatial}C":
        feature = feature.permute(0, -1, *range(1, feature.dim() - 1))
    if not isinstance(feature, Tiles) and feature.dim() == len(grid.map_dims) and feature.shape[1] == 0:
        return tiles_of(feature, grid)
    if not is_map(feature) or isinstance(feature, PaddedTiles):
        raise UserError(
            f"{type(encoder).__name__} returns a feature of shape {tuple(feature.shape)} that is not a map of "
            "patches: choose another encoder, such as resnet18"
        )
    assert isinstance(feature, Tiles)
    return feature


def failing_module(encoder: nn.Module, error: Exception) -> str:
    """Path and class of the innermost module whose forward raised, such as ``stages.3.attn (Attention)``.

    Found in the frames of the error's traceback, so that a forward without an error records nothing.
    """
    paths = {id(module): path for path, module in encoder.named_modules()}
    found = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = frame.f_locals.get("self")
        if isinstance(module, nn.Module) and paths.get(id(module)):
            found = f"{paths[id(module)]} ({type(module).__name__})"
    return found
