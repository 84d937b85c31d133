"""Masked-dense execution: the dense network on complete images, masked before each operation.

It is faster than the engine on some devices, and its reference: written independently, it defines "a convnet on visible
patches" (SparK, Tian et al. 2023, section 3.1). A convolution or pooling reads zero at every masked position, and every
statistic is over visible positions. Outside the image an operation pads as it does densely, so with everything visible
this is the dense network. It costs as much as the dense network, like the public SparK code. It refuses no operation,
so it is exact for those encoders alone that the engine accepts.

Every tensor is a complete map; values at masked positions are computed and never read. Maps are recognized by their
size: height and width that fit the grid of patches.

Axes: B batch, C channels, H W positions at some stage, Y X patch grid, R visible positions of the batch.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

NEIGHBORHOOD = (F.conv2d, F.max_pool2d, F.avg_pool2d, F.pad)
GLOBAL_POOLING = (F.adaptive_avg_pool2d, F.adaptive_max_pool2d)
REDUCTIONS = (
    Tensor.mean, torch.mean, Tensor.sum, torch.sum, Tensor.var, torch.var, Tensor.std, torch.std, Tensor.amax,
    torch.amax, Tensor.amin, torch.amin,
)  # fmt: skip
NORMS = (Tensor.norm, torch.norm, torch.linalg.vector_norm)  # their order comes before the dimensions


class Visible:
    """Visible grid at the resolutions of a network; each is computed once.

    Args:
        grid_BYX: Bool grid, True = visible; it is counted where it is.
        device: Device of the maps; that of the grid if None.

    Attributes:
        counts_B: Number of visible patches of each image.
    """

    def __init__(self, grid_BYX: Tensor, device: torch.device | None = None) -> None:
        self.counts_B: list[int] = grid_BYX.flatten(1).sum(1).tolist()
        self.grid_BYX = grid_BYX.to(device or grid_BYX.device, non_blocking=True)
        self._hidden: dict[tuple[int, int], Tensor] = {}
        self._rows: dict[tuple[int, int], Tensor] = {}

    def fits(self, size: Sequence[int]) -> bool:
        """Return True if a map of this height and width consists of square patches."""
        (H, W), (_, Y, X) = size, self.grid_BYX.shape
        return not H % Y and not W % X and H // Y == W // X

    def hidden(self, H: int, W: int) -> Tensor:
        """Mask at the size of the maps, bool (B, 1, H, W), True where masked."""
        if (H, W) not in self._hidden:
            _, Y, X = self.grid_BYX.shape
            if not self.fits((H, W)):
                raise ValueError(f"maps of {H} x {W} do not fit a grid of {Y} x {X} patches")
            cells = ~self.grid_BYX[:, None, :, None, :, None]  # (B, 1, Y, 1, X, 1)
            enlarged = cells.expand(-1, 1, Y, H // Y, X, W // X)
            self._hidden[H, W] = enlarged.reshape(-1, 1, H, W)
        return self._hidden[H, W]

    def zeroed(self, maps_BCHW: Tensor) -> Tensor:
        """Return the maps with zero where masked."""
        return maps_BCHW.masked_fill(self.hidden(*maps_BCHW.shape[2:]), 0)

    def rows(self, H: int, W: int) -> Tensor:
        """Indices (R,) of the visible positions among the B * H * W."""
        if (H, W) not in self._rows:
            count = sum(self.counts_B) * (H // self.grid_BYX.shape[1]) ** 2
            self._rows[H, W] = (~self.hidden(H, W)).flatten().nonzero_static(size=count).squeeze(1)
        return self._rows[H, W]

    def gather(self, maps: Tensor, at: int) -> Tensor:
        """Gather the visible positions, (R, ...); height and width are dimensions ``at`` and ``at + 1``."""
        H, W = maps.shape[at : at + 2]
        return maps.movedim((at, at + 1), (1, 2)).flatten(0, 2).index_select(0, self.rows(H, W))

    def scatter(self, rows: Tensor, maps: Tensor, at: int) -> Tensor:
        """Scatter rows to maps of the size of ``maps``, zero where masked: the inverse of :meth:`gather`."""
        sizes = maps.movedim((at, at + 1), (1, 2)).shape[:3]
        zeros = rows.new_zeros(sizes.numel(), *rows.shape[1:])
        full = zeros.index_copy(0, self.rows(sizes[1], sizes[2]), rows).view(*sizes, *rows.shape[1:])
        return full.movedim((1, 2), (at, at + 1))

    def images(self, maps: Tensor, at: int) -> list[Tensor]:
        """Gather the visible positions of each image as a column: height n, width 1, at dimensions ``at``, ``at + 1``.

        Columns of equal height are one tensor (B, ...); otherwise each image has its own. An image without visible
        patches is a single zero.
        """
        share = maps.shape[at] // self.grid_BYX.shape[1] * (maps.shape[at + 1] // self.grid_BYX.shape[2])
        counts = [count * share for count in self.counts_B]
        rows = self.gather(maps, at)
        if len(set(counts)) == 1:
            columns = [rows.unflatten(0, (len(counts), -1))]
        else:
            parts = rows.split(counts)
            columns = [(part if len(part) else rows.new_zeros(1, *rows.shape[1:])).unsqueeze(0) for part in parts]
        return [column.unsqueeze(2).movedim((1, 2), (at, at + 1)) for column in columns]


class MaskedDense(TorchFunctionMode):
    """Mode in which the operations of a dense network never read masked positions.

    Args:
        visible: Visible grid.
    """

    def __init__(self, visible: Visible) -> None:
        super().__init__()
        self.visible = visible

    def is_map(self, maps: Any, at: int = 2) -> bool:
        """Return True if a tensor has a height and width that fit the grid."""
        batch = len(self.visible.grid_BYX)
        return maps.dim() >= 4 and maps.shape[0] == batch and self.visible.fits(maps.shape[at : at + 2])

    def per_image(self, function: Callable[[Tensor], Tensor], maps: Tensor, at: int) -> Tensor:
        """Apply a function to the visible positions of each image."""
        return torch.cat([function(column) for column in self.visible.images(maps, at)])

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in NEIGHBORHOOD:
            return self.neighborhood(func, *args, **kwargs)
        if func is F.batch_norm and self.is_map(args[0]) and (kwargs.get("training") or True in args[5:6]):
            normalized = func(self.visible.gather(args[0], 2), *args[1:], **kwargs)
            return self.visible.scatter(normalized, args[0], 2)
        if func is F.group_norm:
            columns = [func(column, *args[1:], **kwargs) for column in self.visible.images(args[0], 2)]
            rows = torch.cat([column.squeeze(3).movedim(2, 1).flatten(0, 1) for column in columns])
            seen = rows if len(columns) == 1 else rows[self.shown(columns)]
            return self.visible.scatter(seen, args[0], 2)
        if func in GLOBAL_POOLING:
            if args[1] not in (1, (1, 1)):
                raise ValueError(f"adaptive pooling to {args[1]} is not global")
            return self.per_image(lambda column: func(column, 1), args[0], 2)
        if func in REDUCTIONS or func in NORMS:
            place = 1 if func in NORMS else 0
            dims = kwargs.get("dim", args[1 + place] if len(args) > 1 + place else None)
            reduced = sorted(dim % args[0].dim() for dim in dims) if isinstance(dims, (tuple, list)) else []
            for at in reduced:  # height and width are adjacent
                if at + 1 in reduced and at > 0 and self.is_map(args[0], at):
                    return self.per_image(lambda column: func(column, *args[1:], **kwargs), args[0], at)
        return func(*args, **kwargs)

    def shown(self, columns: Sequence[Tensor]) -> Tensor:
        """Bool for each row of the columns: False for the zero of an image without visible patches."""
        shows = [torch.tensor(count > 0) for count in self.visible.counts_B]
        return torch.cat([show.expand(column.shape[2]) for show, column in zip(shows, columns, strict=True)])

    def neighborhood(self, func: Any, maps: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Set masked positions to zero before padding, or before the operation itself, reads them."""
        pointwise = func is F.conv2d and args[0].shape[2:] == (1, 1)
        masked = getattr(maps, "masked_before_padding", False)
        output: Tensor = func(maps if pointwise or masked else self.visible.zeroed(maps), *args, **kwargs)
        if func is F.pad:
            output.masked_before_padding = True  # type: ignore[attr-defined]
        return output


def encode_masked_dense(encoder: nn.Module, images_BCHW: Tensor, visible_BYX: Tensor) -> list[Tensor]:
    """Encode as :func:`maeseg.sparse.encode_visible` does, up to rounding, at the cost of the dense network.

    Batch and running statistics are over the visible positions; so are, per image, those of GroupNorm and of every
    reduction over height and width (squeeze-and-excite, global pooling, response normalization).

    Args:
        encoder: A network that returns a list of feature maps; it is not changed.
        images_BCHW: Images; masked pixels have no influence.
        visible_BYX: Bool grid, True = visible.

    Returns:
        The encoder's feature maps (B, C, H / stride, W / stride), zero where masked.

    Raises:
        ValueError: If the grid does not fit the maps.
    """
    visible = Visible(visible_BYX, images_BCHW.device)
    with MaskedDense(visible):
        features = list(encoder(images_BCHW))
    # Some encoders return channels-last features: then dimensions 2 and 3 do not fit the grid.
    maps = [f if visible.fits(f.shape[2:]) else f.permute(0, 3, 1, 2) for f in features]
    return [visible.zeroed(features_BCHW) for features_BCHW in maps]
